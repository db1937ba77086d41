"""The shim: the few lines of POSIX shell between the daemon and a task's command, and how it is spawned.

It notes its pid in the replica's record before it runs the command, and the exit code after it; so a daemon that was
away learns both. It costs one start of /bin/sh (half a millisecond with dash). Called by `local`. Never here: what the
command is.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence

RECORD_FD = 9  # under this number the replica inherits its record, and with it the lock that proves it lives
UNNOTED = 125  # the shim's own exit code when it could not note its pid

# $1: limit of open files ("" = leave it), $2: working directory, then the command with its absolute path (so that no
# word of it can be a builtin).
# - Without its `pid` line nothing runs: a full disk must not let a replica run unknown.
# - Signals go to the whole group. The shim outlives them to note how the command ended; for the command, signals that
#   are caught here have their default again.
# - Its own standard error is no place of the user's: the shell would tell there how the command died. The command gets
#   standard output for both, which is the log.
SHIM = f"""\
trap : HUP INT QUIT TERM USR1 USR2 ALRM
echo "pid $$" >&{RECORD_FD} || exit {UNNOTED}
[ -z "$1" ] || ulimit -S -n "$1"
cd -- "$2" 2>&1 || {{ echo "exit 126" >&{RECORD_FD}; exit 126; }}
unset OLDPWD
shift 2
(exec "$@" 2>&1)
code=$?
echo "exit $code" >&{RECORD_FD}
exit $code
"""

_DEFAULTS = sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})


def spawn(
    label: str, command: Sequence[str], cwd: str, env: Mapping[str, str], log: str, record_fd: int, open_files: str = ""
) -> int:
    """Start `command` under a shim in a session of its own: no input, both outputs appended to `log`, the record
    inherited, no other descriptor; signals as a login shell has them. `label` is what `ps` shows. Returns the shim's
    pid: it leads session and group. OSError when it cannot be started; then nothing lives."""
    actions = [
        (os.POSIX_SPAWN_DUP2, record_fd, RECORD_FD),  # first: a daemon without standard streams may have it as 0
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
        (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
    ]
    argv = ["/bin/sh", "-c", SHIM, label, open_files, cwd, *command]
    return os.posix_spawn(argv[0], argv, env, file_actions=actions, setsid=True, setsigdef=_DEFAULTS, setsigmask=())
