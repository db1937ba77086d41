"""What runs inside a task: inputs, outputs, checkpoints, progress, logs, the notice to stop, barriers.

    import ffd
    rows = ffd.get_input("tokenize.rows")
    state = ffd.load_checkpoint() or {"step": 0}
    while state["step"] < 1000 and not ffd.should_stop():
        ...
        ffd.progress(state["step"], 1000, loss=loss)
        ffd.save_checkpoint(state)
    ffd.set_output("loss", loss)

Blocking calls here, the same for asyncio in `ffd.aio`. Light on purpose: asyncio comes with the first call that talks
to the daemon, grpclib and protobuf in the SDK's own thread; nothing of the core or the daemon is ever imported.

Read: task (the calls) -> session (which one) -> live (with a daemon: the rules) -> link (retries) -> transport (gRPC);
outside (no daemon); files (what is kept while the daemon is away); call (`call:` tasks).
"""

from ffd.sdk.errors import Superseded
from ffd.sdk.task import (
    Context,
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

__all__ = [
    "Context",
    "Superseded",
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
