"""Which daemon, as whom, for which project, and who said so: flag > FFD_* > ./.ffd/config.toml > context > built-in.

`./.ffd/config.toml` is looked for upwards from the working directory and may hold `address`, `project`, `state` and
`context`, never a token. Contexts live in the user's `config.toml` (0600), written by `ffd ctx`. A context that was
named by `--context` or FFD_CONTEXT goes before the file. The token of a context goes to that context's address only, so
that a file in a checkout cannot send it elsewhere. Never here: settings of the daemon (`ffd.settings`), connecting.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from ffd.cli.terminal import say
from ffd.errors import Refusal

BUILT_IN = "built-in"
PROJECT_KEYS = ("address", "context", "project", "state")
CONTEXT_KEYS = ("address", "project", "token")
ENVIRONMENT = {
    "address": "FFD_ADDRESS",
    "context": "FFD_CONTEXT",
    "project": "FFD_PROJECT",
    "state": "FFD_STATE",
    "token": "FFD_TOKEN",
}
CONTEXT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


class Value(NamedTuple):
    """A value and who said so. False when nobody said anything."""

    text: str
    origin: str = BUILT_IN

    def __bool__(self) -> bool:
        return bool(self.text)


class Config(NamedTuple):
    """All that a verb needs to find its daemon. "" = not set."""

    address: Value
    project: Value
    state: Value
    token: Value
    context: Value

    @property
    def chosen(self) -> bool:
        """Somebody named an address: then no other daemon will do, an embedded one neither."""
        return self.address.origin != BUILT_IN


class UserFile(NamedTuple):
    """The user's own configuration."""

    current: str
    contexts: dict[str, dict[str, str]]


def user_path() -> Path:
    """Where the user's contexts are kept."""
    return _home("XDG_CONFIG_HOME", ".config") / "ffd" / "config.toml"


def default_state() -> Path:
    """Where a daemon of this user keeps what must survive, when nobody says otherwise."""
    return _home("XDG_STATE_HOME", ".local/state") / "ffd"


def default_address() -> str:
    """Where this user's own daemon listens when nobody says otherwise."""
    from ffd.api import address

    return address.default_address({key: value for key, value in os.environ.items() if key != "FFD_ADDRESS"})


def state_address(state: str) -> str:
    """The socket of the daemon that serves this state directory."""
    return f"unix:{os.path.abspath(state)}/ffd.sock"


def _home(variable: str, below: str) -> Path:
    value = os.environ.get(variable, "")
    return Path(value) if os.path.isabs(value) else Path.home() / below


# ------------------------------------------------------------------------------------------------------- resolution


def resolve(flags: dict[str, str]) -> Config:
    """The Config for this call. `flags` by key (`address`, `project`, `state`, `context`), "" = not given."""
    project_file, path = read_project_file(Path.cwd())
    user = read_user_file()
    chosen = _first(_flag("context", flags), _env("context"))
    context = chosen or _first(Value(project_file.get("context", ""), str(path)), Value(user.current, str(user_path())))
    named = _context_values(user, context)

    def pick(key: str, built_in: str) -> Value:
        from_file = Value(project_file.get(key, ""), str(path))
        from_context = Value(named.get(key, ""), f"context {context.text}" if context else "")
        lower = (from_context, from_file) if chosen else (from_file, from_context)
        return _first(_flag(key, flags), _env(key), *lower) or Value(built_in)

    state = pick("state", str(default_state()))
    built_in = default_address() if state.origin == BUILT_IN else state_address(state.text)
    address = pick("address", built_in)
    token = _env("token")
    if not token and named.get("token") and named.get("address") == address.text:
        token = Value(named["token"], f"context {context.text}")
    return Config(address, pick("project", ""), state, token, context)


def _flag(key: str, flags: dict[str, str]) -> Value:
    return Value(flags.get(key, ""), f"flag --{key}")


def _env(key: str) -> Value:
    return Value(os.environ.get(ENVIRONMENT[key], ""), f"environment {ENVIRONMENT[key]}")


def _first(*values: Value) -> Value:
    """The first that says something, else an empty Value of nobody."""
    return next(filter(None, values), Value(""))


def _context_values(user: UserFile, context: Value) -> dict[str, str]:
    if not context:
        return {}
    if context.text not in user.contexts:
        raise Refusal(
            f'no context "{context.text}" in {user_path()} ({context.origin})',
            hint=_near(context.text, user.contexts) or "ffd ctx ls shows what there is, ffd ctx set makes one",
        )
    return user.contexts[context.text]


# ------------------------------------------------------------------------------------------------------------ files


def read_project_file(start: Path) -> tuple[dict[str, str], Path]:
    """The nearest `.ffd/config.toml` at or above `start`, and its path; ({}, start) when there is none.

    One that belongs to somebody else is passed over with a word: it must not choose our daemon."""
    for folder in (start, *start.parents):
        path = folder / ".ffd" / "config.toml"
        try:
            owner = path.stat().st_uid
        except OSError:
            continue
        if owner not in (0, os.getuid()):
            say(f"warning: {path} belongs to user {owner}: not read")
            continue
        return _checked(_parse(path), PROJECT_KEYS, str(path), ""), path
    return {}, start


def read_user_file() -> UserFile:
    """The user's contexts; empty when the file does not exist. Refusal (invalid) names what is wrong."""
    path = user_path()
    if not path.exists():
        return UserFile("", {})
    tables = _parse(path)
    contexts = tables.pop("contexts", {})
    head = _checked(tables, ("context",), str(path), "")
    if not isinstance(contexts, dict) or not all(isinstance(value, dict) for value in contexts.values()):
        raise Refusal(f"{path}: contexts: expected tables, as [contexts.lab]", field=str(path))
    return UserFile(
        head.get("context", ""),
        {name: _checked(values, CONTEXT_KEYS, str(path), f"contexts.{name}.") for name, values in contexts.items()},
    )


def write_user_file(file: UserFile) -> None:
    """Replace the user's file as a whole, readable by the user only. Comments in it are not kept."""
    lines = ["# Written by `ffd ctx`; comments are not kept.", f"context = {_quoted(file.current)}"]
    for name in sorted(file.contexts):
        lines += ["", f"[contexts.{_quoted(name)}]"]
        lines += [f"{key} = {_quoted(value)}" for key, value in sorted(file.contexts[name].items())]
    path = user_path()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = path.with_name(f".config.toml.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as stream:
        stream.write("\n".join(lines) + "\n")
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(fresh, path)


def _quoted(text: str) -> str:
    """A TOML basic string. Control characters were refused before, by `check_text`."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def check_text(key: str, text: str) -> str:
    """`text`, unless it holds what a configuration value never holds; Refusal (invalid) otherwise."""
    if not text.isprintable():
        raise Refusal(f"{key}: control characters do not belong there", field=key)
    return text


def _near(text: str, known: Iterable[str]) -> str:
    import difflib  # only for those who mistyped

    found = difflib.get_close_matches(text, known, n=1)
    return f"did you mean {found[0]}?" if found else ""


def _parse(path: Path) -> dict[str, Any]:
    import tomllib  # only where there is a file

    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Refusal(f"{path}: {error.strerror}", field=str(path)) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Refusal(f"{path}: not TOML: {error}", field=str(path)) from None


def _checked(values: dict[str, Any], known: tuple[str, ...], origin: str, prefix: str) -> dict[str, str]:
    for key, value in values.items():
        if key not in known:
            hint = _near(key, known) or f"known: {', '.join(known)}"
            raise Refusal(f"{origin}: {prefix}{key}: unknown key", hint=hint, field=origin)
        if not isinstance(value, str):
            raise Refusal(f"{origin}: {prefix}{key}: expected a text", field=origin)
    return values
