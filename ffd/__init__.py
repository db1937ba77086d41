"""ffd, the FlowForge daemon: one writer decides; everybody else reports.

Inside a task this package is the SDK (`ffd.current()`, `ffd.set_output()` ..., for asyncio `ffd.aio`), loaded on first
use so that `import ffd` stays light for everybody else.
"""

from __future__ import annotations

TYPE_CHECKING = False  # type checkers take the name as True; importing `typing` would cost more than all the rest
if TYPE_CHECKING:
    from ffd.sdk import (
        Context,
        Superseded,
        aio,
        barrier,
        current,
        get_input,
        load_checkpoint,
        log,
        params,
        progress,
        save_checkpoint,
        set_output,
        should_stop,
        stop_reason,
    )

__version__ = "0.1.0"

__all__ = [
    "Context",
    "Superseded",
    "aio",
    "barrier",
    "current",
    "get_input",
    "load_checkpoint",
    "log",
    "params",
    "progress",
    "save_checkpoint",
    "set_output",
    "should_stop",
    "stop_reason",
]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'ffd' has no attribute {name!r}")
    import importlib

    value = (
        importlib.import_module("ffd.sdk.aio") if name == "aio" else getattr(importlib.import_module("ffd.sdk"), name)
    )
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
