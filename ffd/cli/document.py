"""Verbs about documents alone: lint, explain, graph, schema. They need no daemon; `explain` asks one when it is there.

Never here: the rules of documents (`core.document`), reading files (`source`).
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from ffd import __version__
from ffd.cli import embedded, exits, output, terminal
from ffd.cli.session import Session, Verb, pass_session
from ffd.cli.source import Source, counted, read_source, rendered, say_faults
from ffd.errors import FfdError

if TYPE_CHECKING:
    from ffd.core.document import Compiled, Fault, Summary
    from ffd.core.pages import NodePage
    from ffd.core.spec import Spec

SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
FILES = click.argument("files", nargs=-1, required=True, metavar="FILE...")


def _compile(source: Source) -> Compiled:
    from ffd.api.source import compile_source

    return compile_source(source.data, source.filename)


@click.command()
@FILES
@click.option("-o", "--output", "form", type=click.Choice(("text", "json", "sarif")), default="text", show_default=True)
def lint(files: tuple[str, ...], form: str) -> int:
    """Check documents and show every fault with its place. Exit code 3 when there is one. FILE - is stdin."""
    results = [(source, _compile(source)) for source in map(read_source, files)]
    if form == "text":
        for source, compiled in results:
            _lint_text(source, compiled)
    elif form == "json":
        data = [_entry(source, fault, level) for source, fault, level in _all(results)]
        output.write(output.encode(data, indent=2) + "\n")
    else:
        output.write(output.encode(sarif(results), indent=2) + "\n")
    return exits.INVALID if any(compiled.faults for _, compiled in results) else exits.OK


def _lint_text(source: Source, compiled: Compiled) -> None:
    """Faults are what was asked for, so they are data; the verdict is talk."""
    for text in rendered(source, compiled.faults):
        output.write(terminal.sanitise(text) + "\n")
    for text in rendered(source, compiled.warnings):
        output.write(terminal.sanitise(f"warning: {text}") + "\n")
    verdict = counted(len(compiled.faults), "fault") if compiled.faults else "valid"
    terminal.say(f"{source.filename}: {verdict}")


def _all(results: list[tuple[Source, Compiled]]) -> list[tuple[Source, Fault, str]]:
    found = []
    for source, compiled in results:
        found += [(source, fault, "error") for fault in compiled.faults]
        found += [(source, fault, "warning") for fault in compiled.warnings]
    return found


def _entry(source: Source, fault: Fault, level: str) -> dict[str, Any]:
    return {"file": source.filename, "level": level, **output.plain(fault)}


def sarif(results: list[tuple[Source, Compiled]]) -> dict[str, Any]:
    """SARIF 2.1.0, as code-scanning services read it."""
    found = [
        {
            "ruleId": fault.code,
            "level": level,
            "message": {"text": f"{fault.message}. {fault.hint}" if fault.hint else fault.message},
            "locations": [
                {
                    "physicalLocation": {
                        "artifactLocation": {"uri": quote(source.filename)},
                        "region": {"startLine": max(fault.line, 1), "startColumn": max(fault.column, 1)},
                    },
                    "logicalLocations": [{"fullyQualifiedName": fault.path}],
                }
            ],
        }
        for source, fault, level in _all(results)
    ]
    rules = [{"id": code} for code in sorted({str(result["ruleId"]) for result in found})]
    driver = {"name": "ffd lint", "version": __version__, "rules": rules}
    return {"$schema": SARIF_SCHEMA, "version": "2.1.0", "runs": [{"tool": {"driver": driver}, "results": found}]}


@click.command()
def schema() -> None:
    """Print the JSON Schema of documents, for editors: # yaml-language-server: $schema=FILE."""
    from ffd.core.document import json_schema

    output.write(output.encode(json_schema(), indent=2) + "\n")


@click.command()
@click.argument("file")
def graph(file: str) -> int:
    """Draw a document's tasks and what they need, as text. FILE - is stdin."""
    from ffd.core.document import render_graph

    spec = _spec(read_source(file))
    if spec is None:
        return exits.INVALID
    ascii_only = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
    output.write(terminal.sanitise(render_graph(spec, ascii_only=ascii_only)).rstrip("\n") + "\n")
    return exits.OK


@click.command(cls=Verb)
@click.argument("file")
@click.option("-o", "--output", "form", type=click.Choice(("text", "json", "yaml")), default="text", show_default=True)
@pass_session
def explain(session: Session, file: str, form: str) -> int:
    """Show a document as it is understood, and what it asks for; where a daemon is, also whether it fits there.

    What is at its default is left out, but for -o json and yaml. FILE - is stdin.
    """
    import msgspec

    from ffd.cli import fits
    from ffd.core.document import summary

    spec = _spec(read_source(file))
    if spec is None:
        return exits.INVALID
    figures, verdict = summary(spec), fits.verdict(spec, _nodes(session))
    if form == "text":
        lines = [*_figures(figures), f"fits: {verdict}"]
        output.write(output.to_yaml(readable(msgspec.to_builtins(spec))))
        output.write("\n" + "".join(f"{terminal.cell(line)}\n" for line in lines))
        return exits.OK
    parts = {"document": readable(output.plain(spec)), "summary": output.plain(figures), "fits": verdict}
    output.write(output.encode(parts, indent=2) + "\n" if form == "json" else output.to_yaml(parts))
    return exits.OK


def _figures(figures: Summary) -> list[str]:
    """What a document asks for, in words."""
    least = "" if figures.is_exact else "at least "
    finally_tasks = f" and {figures.finally_count} finally" if figures.finally_count else ""
    lines = [
        f"tasks: {figures.tasks_count}{finally_tasks}",
        f"edges: {figures.edges_count}, at most {counted(figures.depth_count, 'task')} deep",
        f"items: {least}{figures.items_count}",
        f"GPUs, if all ran at once: {least}{figures.gpus_count}",
    ]
    if figures.largest_gang_replicas_count > 1 or figures.largest_gang_gpus_count:
        replicas = counted(figures.largest_gang_replicas_count, "replica")
        gpus = counted(figures.largest_gang_gpus_count, "GPU")
        lines.append(f"largest gang: {figures.largest_gang_task}, {replicas}, {gpus}")
    return lines


def _spec(source: Source) -> Spec | None:
    """The document's Spec, or None with its faults told."""
    compiled = _compile(source)
    say_faults(source, compiled.faults)
    return compiled.spec


def readable(value: Any) -> Any:
    """Plain data of a Spec with templates as people write them, without empty maps and line numbers."""
    if isinstance(value, list | tuple):
        return [readable(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    parts = value.get("parts") if set(value) <= {"type", "parts"} else value.get("$cel")
    if isinstance(parts, list | tuple):
        return "".join(f"${{{{ {part} }}}}" if index % 2 else str(part) for index, part in enumerate(parts))
    return {key.rstrip("_"): readable(entry) for key, entry in value.items() if entry != {} and key != "line"}


def _nodes(session: Session) -> list[NodePage] | None:
    """The nodes of the daemon, or None when there is none to ask."""
    if not embedded.is_listening(session.config.address.text):
        return None
    try:
        return session.call(lambda client: client.nodes())
    except FfdError as error:
        terminal.say(f"warning: {error.message}")
        return None
