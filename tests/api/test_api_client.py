"""The client against daemons that come and go: nothing lost, nothing twice, errors that say who must act."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path

import anyio
import pytest
from scripted import HELLO, ScriptedEngine, served

from ffd.api import submission
from ffd.api.client import Client, DocumentRefusal, Submission, SubmitResult
from ffd.api.limits import ApiLimits
from ffd.api.link import Link
from ffd.api.listen import Tls
from ffd.core.pages import DaemonPage
from ffd.errors import Refusal, Unavailable
from ffd.plugins.auth.tokens import TokenAuth, new_token
from ffd.proto.ffd.v1 import workflows_pb2 as pb
from ffd.proto.ffd.v1.workflows_grpc import WorkflowsStub

pytestmark = pytest.mark.anyio


# ------------------------------------------------------------------------------------------------------- the document


async def test_a_refused_document_lists_all_its_faults(tmp_path: Path) -> None:
    source = b"name: x\ntasks:\n  a: {runn: echo}\n  b: {run: echo, needs: [zzz]}\n"
    async with served(tmp_path) as found, found.client() as client:
        with pytest.raises(DocumentRefusal) as refusal:
            await client.submit(source, filename="x.yaml")
        lines = [fault.line for fault in refusal.value.faults]
        assert lines == sorted(lines) and {3, 4} <= set(lines)
        assert all(fault.message and fault.path for fault in refusal.value.faults)
        assert refusal.value.message.startswith("x.yaml:3:")
        assert found.engine.asked == []


async def test_more_faults_than_trailers_carry_are_counted(tmp_path: Path) -> None:
    tasks = "".join(f"  t{n}: {{run: echo, {'x' * 400}{n}: 1}}\n" for n in range(150))
    async with served(tmp_path) as found, found.client() as client:
        with pytest.raises(DocumentRefusal) as refusal:
            await client.submit(f"tasks:\n{tasks}".encode())
        assert len(refusal.value.faults) > 10
        assert "more faults" in refusal.value.faults[-1].message


async def test_params_typed_and_as_text(tmp_path: Path) -> None:
    source = b"params: {n: 1, lr: 0.5, name: {type: string, required: true}, l: [1]}\ntasks: {a: {run: echo}}\n"
    async with served(tmp_path) as found, found.client() as client:
        await client.submit(source, params={"l": [2]}, params_text={"n": "7", "name": "7"})
        assert found.engine.asked[0].params == {"n": 7, "lr": 0.5, "name": "7", "l": [2]}  # type: ignore[union-attr]
        for params, text in (({"nn": 1}, {"name": "x"}), ({}, {"n": "seven", "name": "x"}), ({}, {})):
            with pytest.raises(Refusal) as refusal:
                await client.submit(source, params=params, params_text=text)
            assert refusal.value.field.startswith("params")
        with pytest.raises(Refusal, match="twice"):
            await client.submit(source, params={"name": "a"}, params_text={"name": "b"})
        with pytest.raises(Refusal) as refusal:
            await client.submit(source, params={"name": "x" * 300_000})
        assert refusal.value.field == "limits.params_bytes"


async def test_a_dry_run_checks_everything_and_starts_nothing(tmp_path: Path) -> None:
    async with served(tmp_path) as found, found.client() as client:
        assert await client.submit(HELLO, dry_run=True) == SubmitResult(0, "", "default")
        with pytest.raises(DocumentRefusal):
            await client.submit(b"tasks: {}", dry_run=True)
        assert found.engine.asked == []


async def test_the_project_is_the_callers_the_documents_the_contexts(tmp_path: Path) -> None:
    owned = b"project: team/doc\n" + HELLO
    async with served(tmp_path) as found, found.client(project="team/context") as client:
        assert (await client.submit(owned, project="team/flag")).project == "team/flag"
        assert (await client.submit(owned)).project == "team/doc"
        assert (await client.submit(HELLO)).project == "team/context"
        with pytest.raises(Refusal) as refusal:
            await client.submit(HELLO, project="../etc")
        assert refusal.value.field == "project"


async def test_one_key_one_effect(tmp_path: Path) -> None:
    async with served(tmp_path) as found, found.client() as client:
        first = await client.submit(HELLO, key="k")
        again = await client.submit(HELLO, key="k")
        assert (again.workflow, again.duplicate) == (first.workflow, True)
        with pytest.raises(Refusal) as refusal:
            await client.submit(HELLO, key="k", params_text={}, labels={"a": "b"})
        assert (refusal.value.code, refusal.value.field) == ("conflict", "key")
        assert len(found.engine.asked) == 1


async def test_many_documents_in_one_call(tmp_path: Path) -> None:
    async with served(tmp_path) as found, found.client() as client:
        documents = [b"name: w%d\ntasks: {a: {run: echo}}" % number for number in range(1_200)]
        results = await client.submit_many([*documents, b"tasks: 3", Submission(source=HELLO, project="a/b")])
        handles = [result.handle for result in results if isinstance(result, SubmitResult)]
        assert handles == [f"w{number}.{number + 1}" for number in range(1_200)] + ["hello.1201"]
        assert isinstance(results[1_200], DocumentRefusal)
        assert await client.submit_many([]) == []


async def test_more_streams_than_usual_fit_one_connection(tmp_path: Path) -> None:
    async with served(tmp_path) as found, found.client() as client:
        found.engine.commit({"kind": "X", "workflow": 1})
        watchers = [client.watch(token="0.0") for _ in range(150)]  # HTTP/2's usual limit is 100
        assert all([(await anext(pages)).events for pages in watchers])
        assert (await client.status()).role == "leader"
        for pages in watchers:
            await pages.aclose()


async def test_a_repeated_document_is_compiled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[int] = []
    real = submission.compile_source

    def count(data: bytes, filename: str, format: str) -> object:
        compiled.append(len(data))
        return real(data, filename, format)

    monkeypatch.setattr(submission, "compile_source", count)
    small, large, huge = (HELLO + b"#" * size for size in (0, 20_000, 90_000))  # large and huge: in a thread
    limits = ApiLimits(compile_cache_bytes=50_000, compile_threads_count=1)
    async with served(tmp_path, limits=limits) as found, found.client() as client:
        async with anyio.create_task_group() as group:
            for source in (small, large) * 5:
                group.start_soon(client.submit, source)
        assert sorted(compiled) == [len(small), len(large)]
        await client.submit(small, filename="other.yaml")  # a filename may name the workflow
        for _ in range(2):
            await client.submit(huge)  # never kept
        assert compiled[2:] == [len(small), len(huge), len(huge)]
        for number in range(3):
            await client.submit(large + b"%d" % number)  # the oldest make room
        await client.submit(small)
        assert len(compiled) == 9


# ------------------------------------------------------------------------------------------------------- connections


async def test_a_daemon_that_was_never_there_fails_at_once(tmp_path: Path) -> None:
    for address in (f"unix:{tmp_path}/none.sock", "grpc://127.0.0.1:1"):
        async with await Client.connect(address, timeout_ms=600_000) as client:
            with pytest.raises(Unavailable, match="cannot reach") as error:
                await client.status()
            assert "ffd daemon run" in error.value.hint
            with pytest.raises(Unavailable):
                await anext(client.watch())
    with pytest.raises(Refusal, match="not an address"):
        await Client.connect("nowhere")


async def test_what_is_not_a_daemon_is_said_so(tmp_path: Path) -> None:
    async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_unix_server(other, str(tmp_path / "s"))
    async with await Client.connect(f"unix:{tmp_path}/s") as client:
        with pytest.raises(Unavailable, match="cannot reach a daemon"):
            await client.status()
    server.close()
    await server.wait_closed()


async def test_calls_outlive_a_restart(tmp_path: Path) -> None:
    engine = ScriptedEngine(tmp_path)
    async with anyio.create_task_group() as group:
        async with served(tmp_path, engine=engine) as found:
            client = await Client.connect(found.unix)
            await client.submit(HELLO, key="k")

        waiting = anyio.Event()

        async def call() -> None:
            waiting.set()
            assert (await client.submit(HELLO, key="k")).duplicate
            group.cancel_scope.cancel()

        group.start_soon(call)
        await waiting.wait()
        async with served(tmp_path, engine=engine):
            await anyio.sleep_forever()
    await client.aclose()


async def test_a_watcher_resumes_behind_its_last_token(tmp_path: Path) -> None:
    engine = ScriptedEngine(tmp_path)
    engine.add()
    seen: list[int] = []
    received = anyio.Event()

    async def watch(client: Client) -> None:
        async with aclosing(client.watch("hello", token="0.0")) as pages:
            async for page in pages:
                seen.extend(event.number for event in page.events)
                received.set()

    async with served(tmp_path, engine=engine) as found:
        client = await Client.connect(found.unix)
    async with anyio.create_task_group() as group:
        async with served(tmp_path, engine=engine):
            await client.status()
            group.start_soon(watch, client)
            for _ in range(3):
                engine.commit({"kind": "TaskOpened", "workflow": 1, "task": "a"})
            while len(seen) < 3:
                received = anyio.Event()
                await received.wait()
        engine.commit({"kind": "TaskEnded", "workflow": 1, "task": "a"})  # while the daemon is away
        async with served(tmp_path, engine=engine):
            engine.commit({"kind": "WorkflowEnded", "workflow": 1})
            while len(seen) < 5:
                received = anyio.Event()
                await received.wait()
    assert seen == [1, 2, 3, 4, 5]
    assert engine.watchers_count == 0
    await client.aclose()


async def test_a_watcher_without_a_token_is_told_of_the_gap(tmp_path: Path) -> None:
    engine = ScriptedEngine(tmp_path)
    async with served(tmp_path, engine=engine) as found:
        client = await Client.connect(found.unix)
        pages = client.watch()
        async with anyio.create_task_group() as group:

            async def stop() -> None:
                await engine.watching.wait()
                await found.server.aclose(0)

            group.start_soon(stop)
            page = await anext(pages)
        assert page.gap and page.token == ""
        await pages.aclose()
        await client.aclose()


async def test_a_slow_reader_is_told_of_the_gap(tmp_path: Path) -> None:
    async with served(tmp_path) as found, found.client() as client:
        found.engine.add()
        for _ in range(3):
            found.engine.commit({"kind": "X", "workflow": 1})
        found.engine.gap_before = 2
        async with aclosing(client.watch("hello", token="0.0")) as pages:
            first, second = await anext(pages), await anext(pages)
        assert (first.gap, first.events, first.token) == (True, (), "2.9")
        assert [event.number for event in second.events] == [3]


async def test_the_leader_is_followed(tmp_path: Path) -> None:
    leader, standby = ScriptedEngine(tmp_path), ScriptedEngine(tmp_path)
    for name in ("leader", "standby"):
        (tmp_path / name).mkdir()
    async with (
        served(tmp_path / "leader", engine=leader) as leading,
        served(tmp_path / "standby", engine=standby) as standing,
        standing.client() as client,
    ):
        standby.fail = Unavailable("standing by", hint=leading.unix)
        assert (await client.submit(HELLO)).handle == "hello.1"
        assert (len(leader.asked), len(standby.asked)) == (1, 0)


async def test_an_encrypted_connection_never_follows_to_a_plain_one() -> None:
    from ffd.api.address import parse_address

    link = Link(parse_address("grpcs://a.example:1"), "secret", 1_000)
    link._follow("grpc://b.example:1")
    assert str(link._address) == "grpcs://a.example:1"
    link._follow("grpcs://b.example:1")
    assert str(link._address) == "grpcs://b.example:1"
    link._follow("call again when it is back")
    assert str(link._address) == "grpcs://b.example:1"


async def test_tls_and_tokens(tmp_path: Path, certificate: Tls, monkeypatch: pytest.MonkeyPatch) -> None:
    token, sha = new_token()
    tokens = tmp_path / "tokens.toml"
    tokens.touch(mode=0o600)
    tokens.write_text(f"[[token]]\nname = 'ci'\nsha256 = '{sha}'\nprojects = ['a/b']\n")
    options = {"auth": TokenAuth(tokens), "listen": ("grpcs://127.0.0.1:0",), "tls": certificate, "http": ()}
    async with served(tmp_path, **options) as found:  # type: ignore[arg-type]
        async with found.client(token=token) as client:
            with pytest.raises(Unavailable, match="not trusted"):
                await client.status()
        monkeypatch.setenv("SSL_CERT_FILE", certificate.cert_file)
        async with found.client(token=token) as client:
            assert (await client.submit(HELLO, project="a/b")).handle == "hello.1"
            assert found.engine.asked[0].by == "ci"
        for wrong in ("", "ffd_wrong"):
            async with found.client(token=wrong) as client:
                with pytest.raises(Refusal) as refusal:
                    await client.status()
                assert refusal.value.code == "unauthenticated"


async def test_a_swallowed_cancellation_leaves_no_trace(tmp_path: Path) -> None:
    """grpclib wakes callers by cancelling their task; a timeout of the caller's must still work afterwards."""
    async with served(tmp_path) as found, found.client(timeout_ms=20) as client:
        found.engine.hold = anyio.Event()
        with pytest.raises(Unavailable):
            await client.submit(HELLO)
        task = asyncio.current_task()
        assert task is not None and task.cancelling() == 0
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await anyio.sleep_forever()


# ------------------------------------------------------------------------------------------------------------ stopping


async def test_a_stopping_server_lets_calls_finish_and_ends_streams(tmp_path: Path) -> None:
    engine = ScriptedEngine(tmp_path)
    engine.hold = anyio.Event()
    results: list[object] = []

    async with (
        served(tmp_path, engine=engine) as found,
        found.client(timeout_ms=1) as patient,
        found.client() as client,
    ):

        async def submit() -> None:
            results.append((await client.submit(HELLO)).handle)

        async def watch() -> None:
            try:
                await anext(patient.watch())
            except Unavailable as error:
                results.append(error.message)
                assert engine.hold is not None
                engine.hold.set()  # the call is still under way

        async with anyio.create_task_group() as group:
            group.start_soon(submit)
            group.start_soon(watch)
            await engine.watching.wait()
            group.start_soon(found.server.aclose)
        assert results == ["the daemon is stopping", "hello.1"]
        assert engine.watchers_count == 0
        with pytest.raises(Unavailable):
            await patient.status()


async def test_a_call_that_never_ends_does_not_stop_the_stop(tmp_path: Path) -> None:
    engine = ScriptedEngine(tmp_path)
    engine.hold = anyio.Event()
    async with served(tmp_path, engine=engine) as found, found.client() as client:
        errors: list[Exception] = []

        async def submit() -> None:
            try:
                await client._link.call(WorkflowsStub, "Submit", pb.SubmitRequest(source=HELLO))
            except Unavailable as error:
                errors.append(error)

        async with anyio.create_task_group() as group:
            group.start_soon(submit)
            await engine.holding.wait()
            client._link._reached = False  # so that it does not wait for another daemon
            await found.server.aclose(grace_ms=0)
        assert "at unix:" in str(errors[0])


async def test_a_cancelled_stop_still_closes_everything(tmp_path: Path) -> None:
    async with served(tmp_path) as found:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await found.server.aclose()
        assert found.server.addresses == []
        assert not (tmp_path / "ffd.sock").exists()


async def test_servers_are_independent(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    async with served(tmp_path / "a") as a, served(tmp_path / "b") as b, a.client() as to_a, b.client() as to_b:
        a.engine.page = DaemonPage(version="a", role="leader")
        b.engine.page = DaemonPage(version="b", role="standby")
        assert ((await to_a.status()).version, (await to_b.status()).version) == ("a", "b")
        await a.server.aclose()
        assert (await to_b.status()).role == "standby"
