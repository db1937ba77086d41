"""The verbs `config view` and `ctx ls|use|set|rm`: what is configured, by whom, and daemons under names."""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

import click

from ffd.cli import address, output, terminal
from ffd.cli.output import Column
from ffd.cli.session import Session, Verb, pass_session
from ffd.errors import Refusal

TOKEN_CHARS = 16_384


class Setting(NamedTuple):
    """One line of `config view`."""

    key: str
    value: str
    origin: str


@click.group()
def config() -> None:
    """Show the configuration and where it comes from."""


@config.command(cls=Verb)
@click.option("--origin", is_flag=True, help="Say where each value comes from.")
@output.output_option
@pass_session
def view(session: Session, origin: bool, form: str) -> None:
    """Show what flags, FFD_*, ./.ffd/config.toml, context and built-in values add up to. A token is never shown."""
    found = session.config
    rows = [
        Setting(key, _shown(key, value.text), value.origin if value else "")
        for key, value in zip(found._fields, found, strict=True)
    ]
    if form in ("json", "jsonl", "yaml"):
        data = {row.key: {"value": row.value, "origin": row.origin} if origin else row.value for row in rows}
        output.emit_object(data, form, str, "")
        return
    columns = [Column("KEY", lambda row: row.key), Column("VALUE", lambda row: row.value)]
    if origin or form == "wide":
        columns.append(Column("ORIGIN", lambda row: row.origin))
    output.emit_list(rows, columns, form, lambda row: str(row.key))


def _shown(key: str, text: str) -> str:
    return "(set)" if key == "token" and text else text


# --------------------------------------------------------------------------------------------------------- contexts


@click.group()
def ctx() -> None:
    """Keep daemons under names, and choose one."""


@ctx.command("ls")
@output.output_option
def ls(form: str) -> None:
    """List contexts; the current one has a star."""
    file = address.read_user_file()
    rows: list[dict[str, Any]] = [
        {
            "name": name,
            "current": name == file.current,
            "address": values.get("address", ""),
            "project": values.get("project", ""),
            "token": _shown("token", values.get("token", "")),
        }
        for name, values in sorted(file.contexts.items())
    ]
    columns = [
        Column("CURRENT", lambda row: "*" if row["current"] else ""),
        Column("NAME", lambda row: str(row["name"])),
        Column("ADDRESS", lambda row: str(row["address"])),
        Column("PROJECT", lambda row: str(row["project"])),
        Column("TOKEN", lambda row: str(row["token"]), wide=True),
    ]
    output.emit_list(rows, columns, form, lambda row: str(row["name"]), "no contexts; ffd ctx set makes one")


@ctx.command("use")
@click.argument("name")
def use(name: str) -> None:
    """Make a context the current one; "" = none."""
    file = address.read_user_file()
    if name and name not in file.contexts:
        raise Refusal(f'no context "{name}"', code="not_found", hint="ffd ctx ls shows what there is")
    address.write_user_file(file._replace(current=name))


@ctx.command("set")
@click.argument("name")
@click.option("--address", "where", metavar="ADDR", default=None, help="Where its daemon listens.")
@click.option("--project", metavar="PROJECT", default=None, help='The project to work in; "" = none.')
@click.option("--token-stdin", is_flag=True, help="Read a token from stdin: an argument would show in process lists.")
def set_(name: str, where: str | None, project: str | None, token_stdin: bool) -> None:
    """Make a context, or change one. What is not given stays."""
    if address.CONTEXT_NAME.fullmatch(name) is None:
        raise click.BadParameter("expected letters, digits, dots, hyphens and underscores", param_hint="NAME")
    file = address.read_user_file()
    values = dict(file.contexts.get(name, {}))
    if where is not None:
        from ffd.api.address import parse_address

        values["address"] = str(parse_address(where))
    if project is not None:
        values["project"] = project
    if token_stdin:
        values["token"] = sys.stdin.read(TOKEN_CHARS).strip()
    if "address" not in values:
        raise click.UsageError("a new context needs --address")
    kept = {key: address.check_text(key, value) for key, value in values.items() if value}
    address.write_user_file(file._replace(contexts={**file.contexts, name: kept}, current=file.current or name))


@ctx.command("rm")
@click.argument("name")
def rm(name: str) -> None:
    """Forget a context and its token."""
    file = address.read_user_file()
    if name not in file.contexts:
        raise Refusal(f'no context "{name}"', code="not_found", hint="ffd ctx ls shows what there is")
    left = {key: values for key, values in file.contexts.items() if key != name}
    address.write_user_file(address.UserFile("" if file.current == name else file.current, left))
    terminal.say(f"context {name} removed")
