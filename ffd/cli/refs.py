"""How people name things: `REF`, `REF/task`, `REF/task[item]`, with `.rank` or `#attempt:rank` behind. Parsing only.

Which workflow a REF means (`name.N`, `name`, `@latest`, a number, a prefix) is the daemon's to say.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import click

_TARGET = re.compile(
    r"(?P<workflow>[^/\s]+)"
    r"(?:/(?P<task>[a-z][a-z0-9_]{0,62})"
    r"(?:\[(?P<item>\d{1,9})\])?(?:#(?P<attempt>\d{1,9}))?(?:[.:](?P<rank>\d{1,9}))?)?/?"
)


class Target(NamedTuple):
    """What was named. `task` "" = the whole workflow; `item` and `rank` -1, `attempt` 0 = not named."""

    workflow: str
    task: str = ""
    item: int = -1
    attempt: int = 0
    rank: int = -1


def parse(text: str) -> Target:
    """The Target that `text` names; click.BadParameter says what forms there are."""
    match = _TARGET.fullmatch(text)
    if match is None:
        raise click.BadParameter(
            f'"{text}" names nothing: expected REF, REF/task, REF/task[item] or REF/task[item].rank'
        )
    return Target(
        match["workflow"],
        match["task"] or "",
        -1 if match["item"] is None else int(match["item"]),
        int(match["attempt"] or 0),
        -1 if match["rank"] is None else int(match["rank"]),
    )


def shown(workflow: str, task: str = "", item: int = -1, attempt: int = 0, rank: int = -1) -> str:
    """The text that `parse` reads back."""
    if not task:
        return workflow
    text = f"{workflow}/{task}"
    text += f"[{item}]" if item >= 0 else ""
    text += f"#{attempt}" if attempt else ""
    return text + (f":{rank}" if rank >= 0 and attempt else f".{rank}" if rank >= 0 else "")


class TargetType(click.ParamType[Target]):
    """A click argument type for Target; `only_workflow` refuses a task behind it."""

    name = "REF"

    def __init__(self, only_workflow: bool = False) -> None:
        self.only_workflow = only_workflow

    def convert(self, value: str | Target, param: click.Parameter | None, ctx: click.Context | None) -> Target:
        target = parse(value) if isinstance(value, str) else value
        if self.only_workflow and target.task:
            raise click.BadParameter(f'"{value}" names a task; this verb takes a whole workflow: {target.workflow}')
        return target


WORKFLOW = TargetType(only_workflow=True)
TARGET = TargetType()
