"""What one step of the core decided: an ordered to-do list for the shell. Persist first, then act.

Made by `core.step`; read by `daemon.controller`, the simulation and tests.
"""

from __future__ import annotations

import msgspec

from ffd.core.commands import Answer
from ffd.core.effects import AnyEffect
from ffd.core.events import AnyEvent
from ffd.core.model import Listing, Rows
from ffd.errors import FfdError


class Decision(msgspec.Struct):
    """`events`, `rows` and `listings` go into one commit. Only when that is durable: perform `effects` in order and
    give `answers`: (index of the input, answer | refusal | None). None answers a report of the SDK that was accepted.

    Empty events mean nothing to commit; effects and answers may still be there (a refusal, a repeated key, Again)."""

    events: list[AnyEvent]
    effects: list[AnyEffect]
    answers: list[tuple[int, Answer | FfdError | None]]
    rows: Rows
    listings: list[Listing]
