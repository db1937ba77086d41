"""The SDK in whole processes: what importing it costs, forks, threads, signals, the end of the process."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from sdk_fakes import PATIENCE_S, Daemon, Task

ROOT = Path(__file__).parents[2]


def python(code: str, task: Task | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        env={"PYTHONPATH": str(ROOT), **(task.env if task else {}), **env},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )


def answer(code: str, task: Task | None = None, **env: str) -> object:
    """What the code printed, as JSON; it must have ended well and said nothing else."""
    done = python(code, task, **env)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


HEAVY = (
    "asyncio", "concurrent.futures", "grpclib", "google.protobuf", "msgspec", "textual", "kubernetes_asyncio",
    "aiohttp", "ssl", "ffd.core", "ffd.daemon", "ffd.api", "ffd.plugins", "ffd.proto", "ffd.settings", "ffd.cli",
)  # fmt: skip


def test_importing_the_sdk_is_light() -> None:
    loaded = answer("import json, sys, ffd.sdk; print(json.dumps(sorted(sys.modules)))")
    assert isinstance(loaded, list)
    assert [name for name in HEAVY if name in loaded] == []


def test_importing_ffd_is_trivial() -> None:
    loaded = answer("import sys; before = set(sys.modules); import ffd; import json; "
                    "print(json.dumps([n for n in sys.modules if n.startswith('ffd')]))")  # fmt: skip
    assert loaded == ["ffd"]


def test_using_it_loads_nothing_of_the_core(daemon: Daemon, task: Task) -> None:
    daemon.start()
    loaded = answer("import json, sys, ffd; ffd.set_output('loss', 1); print(json.dumps(sorted(sys.modules)))", task)
    assert isinstance(loaded, list)
    assert [name for name in loaded if name.startswith(("ffd.core", "ffd.daemon", "ffd.api", "ffd.plugins"))] == []
    assert "grpclib" in loaded
    assert daemon.outputs == {"loss": 1}


def test_every_public_name_is_there_and_no_other() -> None:
    names = answer("import json, ffd; print(json.dumps([n for n in ffd.__all__ if n in dir(ffd) and getattr(ffd, n)]))")
    assert isinstance(names, list)
    assert {"current", "get_input", "set_output", "should_stop", "barrier", "Superseded", "aio"} <= set(names)
    done = python("import ffd; ffd.artifact")
    assert "module 'ffd' has no attribute 'artifact'" in done.stderr


def test_the_last_progress_arrives_although_the_process_ends_at_once(daemon: Daemon, task: Task) -> None:
    daemon.start()
    done = python("import ffd\nfor step in range(100): ffd.progress(step, 99, loss=0.5)", task)
    assert (done.returncode, done.stderr) == (0, "")
    assert daemon.progress[-1] == (99, 99, {"loss": 0.5})
    assert len(daemon.progress) < 50


def test_a_process_without_a_daemon_to_reach_ends_well(daemon: Daemon, task: Task) -> None:
    task.env["FFD_SDK_DEADLINE_S"] = "0"
    done = python("import ffd; ffd.progress(1); ffd.set_output('loss', 1); print(ffd.save_checkpoint({'s': 1}))", task)
    assert (done.returncode, done.stdout) == (0, "False\n")
    assert done.stderr.splitlines() == [
        "ffd: the daemon is away: outputs are kept in $FFD_OUTPUT, which counts when the task exits",
        "ffd: the daemon is away: the checkpoint is kept here, and sent when it is back",
        "ffd: the last checkpoint did not reach the daemon",
    ]
    assert task.output_lines() == ["loss=1"]


def test_a_forked_child_has_its_own_session_and_leaves_the_parents_alone(daemon: Daemon, task: Task) -> None:
    daemon.start()
    code = """
        import os, sys, ffd
        ffd.set_output("before", 1)
        child = os.fork()
        ffd.set_output("child" if child == 0 else "parent", 1)
        if child == 0:
            sys.exit(0)
        assert os.waitpid(child, 0)[1] == 0
        ffd.set_output("after", 1)
        print(1)
    """
    assert answer(code, task) == 1
    assert daemon.outputs == {"before": 1, "child": 1, "parent": 1, "after": 1}


def test_a_child_that_drops_its_parents_connection_does_not_cut_it(daemon: Daemon, task: Task) -> None:
    daemon.start()
    code = """
        import asyncio, gc, os, warnings
        from ffd.sdk.transport import Transport
        async def main():
            wire = Transport(os.environ["FFD_ADDRESS"], os.environ["FFD_TOKEN"], 0)
            await wire.set_output("before", "1", 30)
            child = os.fork()
            if child == 0:
                warnings.simplefilter("ignore")  # what a finaliser warns of it would not do if that raised
                wire._channel = None
                gc.collect()
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
            await wire.set_output("after", "1", 5)
            await wire.close()
            print(1)
        asyncio.run(main())
    """
    assert answer(code, task) == 1
    assert daemon.outputs == {"before": 1, "after": 1}
    assert daemon.connections == 1


def test_a_fork_while_the_network_code_is_being_imported(daemon: Daemon, task: Task) -> None:
    daemon.start()
    code = """
        import os, sys, threading, ffd
        begun = threading.Event()
        class Watch:
            @staticmethod
            def find_spec(name, path=None, target=None):
                if name == "grpclib.client":
                    begun.set()
        sys.meta_path.insert(0, Watch)
        ffd.progress(1)
        begun.wait()
        child = os.fork()
        if child == 0:
            ffd.set_output("child", 1)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        print(1)
    """
    assert answer(code, task) == 1
    assert daemon.outputs == {"child": 1}


def test_many_threads_at_once_share_one_session(daemon: Daemon, task: Task) -> None:
    daemon.start()
    code = """
        import threading, ffd
        from ffd.sdk.session import current_session
        seen = []
        def work(n):
            ffd.set_output(f"out_{n}", n)
            seen.append(current_session())
        threads = [threading.Thread(target=work, args=(n,)) for n in range(16)]
        [t.start() for t in threads]
        [t.join() for t in threads]
        print(len(set(map(id, seen))))
    """
    assert answer(code, task) == 1
    assert daemon.outputs == {f"out_{n}": n for n in range(16)}


def run_until_ready(code: str, task: Task) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-u", "-W", "error", "-c", textwrap.dedent(code)],
        env={"PYTHONPATH": str(ROOT), **task.env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_sigterm_is_a_notice_for_a_task_that_asks_for_it(daemon: Daemon, task: Task) -> None:
    daemon.start()
    code = """
        import signal, ffd
        assert not ffd.should_stop()
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        print("ready")
        signal.sigwait([signal.SIGUSR1])
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        print(ffd.should_stop(), ffd.stop_reason())
        ffd.save_checkpoint({"step": 1})
    """
    process = run_until_ready("import signal; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])\n"
                              + textwrap.dedent(code), task)  # fmt: skip
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGUSR1)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, out, err) == (0, "True terminated\n", "")
    assert json.loads(daemon.checkpoint) == {"step": 1}


def test_the_notice_that_comes_with_sigterm_tells_the_reason(task: Task) -> None:
    task.env["FFD_STOP_FILE"] = task.stop_path
    code = """
        import os, signal, ffd
        ffd.should_stop()
        with open(os.environ["FFD_STOP_FILE"], "w") as file:
            file.write("preempted")
        os.kill(os.getpid(), signal.SIGTERM)
        print(int(ffd.stop_reason() == "preempted"))
    """
    assert answer(code, task) == 1


def test_sigterm_still_ends_a_task_that_does_not_ask(daemon: Daemon, task: Task) -> None:
    code = "import signal, ffd; ffd.current(); print('ready'); signal.pause()"
    process = run_until_ready(code, task)
    process.terminate()
    process.communicate(timeout=PATIENCE_S)
    assert process.returncode == -signal.SIGTERM


def test_a_forked_child_can_be_terminated_from_its_first_moment(daemon: Daemon, task: Task) -> None:
    code = """
        import os, signal, ffd
        os.register_at_fork(after_in_child=lambda: os.kill(os.getpid(), signal.SIGTERM))
        ffd.should_stop()
        child = os.fork()
        if child == 0:
            signal.pause()
        print(os.WTERMSIG(os.waitpid(child, 0)[1]))
    """
    assert answer(code, task) == signal.SIGTERM


def test_a_fork_leaves_the_parents_signals_as_they_were(daemon: Daemon, task: Task) -> None:
    code = """
        import os, signal, ffd
        ffd.should_stop()
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
        os.kill(os.getpid(), signal.SIGTERM)
        print(int(ffd.should_stop()))
    """
    assert answer(code, task) == 1


@pytest.mark.parametrize("value", ["http://host:1", "unix:", "grpc://host", "grpc://host:port", "grpcs://:1", "host:1"])
def test_a_wrong_address_is_refused_by_name(task: Task, value: str) -> None:
    done = python("import ffd; ffd.set_output('loss', 1)", task, FFD_ADDRESS=value)
    assert "FFD_ADDRESS" in done.stderr
    assert done.returncode == 1
