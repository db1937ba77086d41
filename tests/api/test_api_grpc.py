"""gRPC over a real socket: pages, commands, limits, deadlines, tokens, health."""

from __future__ import annotations

import random
import struct
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from grpclib.client import Channel
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from grpclib.health.v1.health_grpc import HealthStub
from grpclib.health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from scripted import HELLO, ScriptedEngine, Served, served

from ffd.api.address import parse_address
from ffd.api.limits import ApiLimits
from ffd.api.problem import DetailsCodec, from_grpc
from ffd.core.commands import Cancel, NodesMarked, SetPriority, Submit
from ffd.core.model import AttemptId, Rows
from ffd.core.pages import HoldPage
from ffd.errors import FfdError, Refusal, Unavailable
from ffd.plugins.ports import Principal
from ffd.proto.ffd.v1 import tasks_pb2
from ffd.proto.ffd.v1 import workflows_pb2 as pb
from ffd.proto.ffd.v1.cluster_grpc import ClusterStub
from ffd.proto.ffd.v1.cluster_pb2 import SnapshotRequest
from ffd.proto.ffd.v1.tasks_grpc import TasksStub
from ffd.proto.ffd.v1.workflows_grpc import WorkflowsStub

pytestmark = pytest.mark.anyio
ATTEMPT = AttemptId(1, "train", 0, 2)


def channel(found: Served) -> Channel:
    return Channel(path=parse_address(found.unix).path, status_details_codec=DetailsCodec())


async def refusal_of(call: Any) -> FfdError:
    with pytest.raises(GRPCError) as error:
        await call
    return from_grpc(error.value)


# ------------------------------------------------------------------------------------------------------------ pages


async def test_submit_and_read_back(tmp_path: Path) -> None:
    async with served(tmp_path) as found, found.client() as client:
        result = await client.submit(HELLO, params={}, labels={"a": "b"}, priority=7)
        assert (result.handle, result.project, result.duplicate) == ("hello.1", "default", False)
        assert await client.get("hello") == found.engine.pages[1]
        assert await client.spec("hello.1") == {"name": "hello", "tasks": []}
        assert (await client.why("1", "t", 3)).subject == "1/t[3]"
        assert (await client.why("1", "t")).subject == "1/t[-1]"
        (command,) = found.engine.asked
        assert isinstance(command, Submit)
        assert (command.priority, command.labels, command.spec.name) == (7, {"a": "b"}, "hello")
        assert command.by


async def test_lists_go_page_by_page(tmp_path: Path) -> None:
    async with served(tmp_path) as found, found.client() as client:
        for number in range(25):
            found.engine.add(f"w{number}", state="failed" if number % 2 else "running")
        first = await client.list(limit=10)
        second = await client.list(limit=10, before=first[-1].id)
        assert [page.id for page in first + second] == list(range(25, 5, -1))
        assert {page.state for page in await client.list(states=["failed"])} == {"failed"}
        found.engine.add_task(1, "a", items=3)
        found.engine.add_task(1, "b")
        assert [page.name for page in await client.tasks("w0", after="a")] == ["b"]
        assert [page.name async for page in client.all_tasks("w0")] == ["a", "b"]
        assert [page.item for page in await client.items("w0", "a", after=0)] == [1, 2]
        assert [page.item for page in await client.items("w0", "a")] == [0, 1, 2]


async def test_a_page_that_is_too_large_is_refused_by_its_limit(tmp_path: Path) -> None:
    async with served(tmp_path, limits=ApiLimits(page_count=5)) as found, found.client() as client:
        found.engine.add()
        with pytest.raises(Refusal) as refusal:
            await client.list(limit=6)
        assert (refusal.value.code, refusal.value.field) == ("limit", "limits.page_count")


async def test_pages_that_would_be_large_are_cut_and_put_together_again(tmp_path: Path) -> None:
    large = {"x": "y" * 1_000}
    async with served(tmp_path, limits=ApiLimits(reply_bytes=2_500)) as found, found.client() as client:
        for number in range(7):
            found.engine.add(f"w{number}", params=large)
        for number in range(7):
            found.engine.add_task(7, f"t{number}", items=7, outputs=large)
        assert [page.id for page in await client.list(limit=6)] == [7, 6, 5, 4, 3, 2]
        assert [page.name for page in await client.tasks("w6", limit=0)] == [f"t{number}" for number in range(7)]
        assert [page.name async for page in client.all_tasks("w6")] == [f"t{number}" for number in range(7)]
        assert len(await client.items("w6", "t0", after=2)) == 4
        async with channel(found) as connection:
            reply = await WorkflowsStub(connection).List(pb.ListRequest())
            assert (len(reply.workflows), reply.more) == (2, True)
    async with served(tmp_path, limits=ApiLimits(reply_bytes=1)) as found, found.client() as client:
        found.engine.add("w", params=large)
        assert len(await client.list()) == 1  # at least one, whatever its size


async def test_unknown_workflows_and_tasks_are_not_found(tmp_path: Path) -> None:
    async with served(tmp_path) as found, found.client() as client:
        found.engine.add()
        for call in (client.get("nope"), client.cancel("nope"), client.tasks("nope"), client.items("hello", "nope")):
            with pytest.raises(Refusal) as refusal:
                await call
            assert refusal.value.code == "not_found"
        with pytest.raises(Refusal) as refusal:
            await client.get("x" * 5_000)
        assert refusal.value.field == "limits.name_chars"


# ---------------------------------------------------------------------------------------------------------- control


async def test_control_commands_carry_who_what_and_the_key(tmp_path: Path) -> None:
    async with served(tmp_path) as found, found.client() as client:
        found.engine.add("llm", "research/llm")
        done = await client.cancel("llm", now=True, key="k1")
        assert (done.workflow, done.handle, done.duplicate) == (1, "llm.1", False)
        assert (await client.cancel("llm", now=True, key="k1")).duplicate
        with pytest.raises(Refusal) as refusal:
            await client.cancel("llm", now=False, key="k1")
        assert refusal.value.code == "conflict"
        await client.set_priority("llm", 900)
        await client.suspend("llm")
        await client.resume("llm")
        await client.retry("llm")
        asked = found.engine.asked
        assert [type(command).__name__ for command in asked] == ["Cancel", "SetPriority", "Suspend", "Resume", "Retry"]
        assert isinstance(asked[0], Cancel) and asked[0].now and asked[0].project == "research/llm"
        assert isinstance(asked[1], SetPriority) and asked[1].priority == 900
        assert all(command.key and command.payload_digest and command.by for command in asked)


async def test_errors_of_the_engine_arrive_as_they_were_raised(tmp_path: Path) -> None:
    async with served(tmp_path) as found, found.client(timeout_ms=100) as client:
        found.engine.add()
        found.engine.fail = Refusal("no", code="storage_full", hint="free some", field="f")
        with pytest.raises(Refusal) as refusal:
            await client.cancel("hello")
        error = refusal.value
        assert (error.message, error.code, error.hint, error.field) == ("no", "storage_full", "free some", "f")
        found.engine.fail = Unavailable("standing by", hint="not an address")
        with pytest.raises(Unavailable, match="standing by"):
            await client.cancel("hello")


async def test_stop_is_for_administrators(tmp_path: Path) -> None:
    async with served(tmp_path) as found, found.client() as client:
        await client.stop_daemon()
        assert found.stops == ["stop"]
    async with served(tmp_path, auth=Fixed(Principal("u", projects=("*",)))) as found, found.client() as client:
        with pytest.raises(Refusal) as refusal:
            await client.stop_daemon()
        assert (refusal.value.code, found.stops) == ("forbidden", [])


async def test_a_snapshot_comes_in_pieces_and_is_for_administrators(tmp_path: Path) -> None:
    everything = Principal(name="u", projects=("*",))
    async with served(tmp_path, limits=ApiLimits(reply_bytes=10_000)) as found:
        found.engine.rows = Rows(
            workflows={k: b"w" * k for k in range(1, 300)}, tasks={(k, "t"): b"t" * 900 for k in range(50)},
            items={(1, "t", k): bytes(k % 200) for k in range(2_000)}, specs={"d": b"s" * 50_000}, meta={"nodes": b"n"},
        )  # fmt: skip
        async with found.client() as client:
            head, rows = await client.snapshot()
            assert (head.version, head.number, head.at_ms, head.policy) == ("0.1.0", 7, 1_000, b"policy")
            assert rows == found.engine.rows
    async with served(tmp_path / "two", auth=Fixed(everything)) as found, found.client() as client:
        with pytest.raises(Refusal, match="needs an administrator"):
            await client.snapshot()


async def test_who_does_not_read_a_snapshot_is_let_go_of(tmp_path: Path) -> None:
    """It would hold a copy of all that is live, and keep others from theirs."""
    async with served(tmp_path, limits=ApiLimits(request_ms=200, reply_bytes=100_000)) as found:
        found.engine.rows = Rows(specs={str(k): b"s" * 100_000 for k in range(150)})
        async with channel(found) as slow:
            stream = await ClusterStub(slow).Snapshot.open().__aenter__()
            await stream.send_message(SnapshotRequest(), end=True)
            await stream.recv_initial_metadata()
            async with found.client() as client:
                head, rows = await client.snapshot()
                assert head.number == 7 and rows == found.engine.rows


async def test_nodes_and_gpus(tmp_path: Path) -> None:
    async with served(tmp_path, limits=ApiLimits(reply_bytes=10)) as found, found.client() as client:
        found.engine.nodes_count = 3
        assert [page.name for page in await client.nodes()] == ["n1", "n2", "n3"], "one by one: more do not fit a reply"
    async with served(tmp_path / "pages", limits=ApiLimits(page_count=2)) as found, found.client() as client:
        found.engine.nodes_count = 4
        assert [page.name for page in await client.nodes()] == ["n1", "n2", "n3", "n4"], "two by two"
    async with served(tmp_path / "rest") as found, found.client() as client:
        assert [page.model for page in await client.gpus()] == ["H100"]
        assert (await client.node("n1")).holds[0].workflow == "a.1"
        assert (await client.preview_drain(["n1"])).stops[0].grace_ms == -1
        assert (await client.preview_drain(labels={"a": "b"}, grace_ms=0)).stops[0].grace_ms == 0
        assert found.engine.asked == []
        assert await client.cordon(["n1"], why="x") == NodesMarked(("n1",))
        assert await client.uncordon(["n1"]) == NodesMarked(("n1",))
        assert await client.drain(["n1"], key="k") == NodesMarked(("n1",), stopping_count=3)
        assert await client.drain(["n1"], key="k") == NodesMarked(("n1",), stopping_count=3, duplicate=True)
        assert [type(command).__name__ for command in found.engine.asked] == ["Cordon", "Uncordon", "Drain"]
        assert [page.project for page in await client.queue("other")] == ["other"]
    async with served(tmp_path, auth=Fixed(Principal("u", projects=("*",)))) as found, found.client() as client:
        for call in (
            client.cordon(["n1"]),
            client.uncordon(["n1"]),
            client.drain(["n1"]),
            client.preview_drain(["n1"]),
        ):
            with pytest.raises(Refusal) as refusal:
                await call
            assert refusal.value.code == "forbidden"


# ----------------------------------------------------------------------------------------------------------- projects


class Fixed:
    """Everybody is this principal."""

    def __init__(self, principal: Principal) -> None:
        self._principal = principal

    async def authenticate(self, token: str, peer: str) -> Principal:
        return self._principal


async def test_a_user_sees_its_own_projects_alone(tmp_path: Path) -> None:
    auth = Fixed(Principal("u", projects=("mine", "ours")))
    async with served(tmp_path, auth=auth) as found, found.client() as client:
        for name, project in (("a", "mine"), ("b", "secret"), ("c", "ours"), ("a", "secret")):
            found.engine.add(name, project)
        assert [page.name for page in await client.list()] == ["c", "a"]
        assert await client.list(project="secret") == []
        assert (await client.get("a")).project == "mine"  # not the newer one of another project
        for call in (client.get("b"), client.get("2"), client.cancel("b.2"), client.story("b")):
            with pytest.raises(Refusal) as refusal:
                await call
            assert refusal.value.code == "not_found"
            assert "near" not in refusal.value.hint
        with pytest.raises(Refusal) as refusal:
            await client.submit(HELLO, project="secret")
        assert refusal.value.code == "forbidden"
        assert (await client.submit(HELLO, project="ours")).project == "ours"
        (others,) = await client.queue()
        assert (others.position, others.project, others.head, others.gang, others.waiting_count) == (1, "", "", "", 2)
        assert await client.queue("default") == [], "not its own"
        detail = await client.node("n1")
        assert detail.holds == (HoldPage(replica_count=4, gpus=(0, 1, 2, 3)),), "who holds it is not told"
        assert (await client.why("a", what_if=("gpus=1",))).hints == ("gpus=1", "seen: ['mine', 'ours']")
        with pytest.raises(Refusal) as refusal:
            await anext(client.watch())
        assert refusal.value.code == "forbidden"


# ------------------------------------------------------------------------------------------------------------- limits


async def test_a_large_message_is_refused_by_its_announced_size(tmp_path: Path) -> None:
    """Only the prefix is sent: the server answers without having seen, or waited for, a byte of the rest."""
    async with served(tmp_path, limits=ApiLimits(message_bytes=1_000)) as found, channel(found) as connection:
        stub = WorkflowsStub(connection)
        with pytest.raises(GRPCError) as error:
            async with stub.Submit.open() as stream:
                await stream.send_request()
                await stream._stream.send_data(struct.pack(">?I", False, 2**31))
                await stream.recv_message()
        assert error.value.status is Status.RESOURCE_EXHAUSTED
        assert from_grpc(error.value).field == "limits.message_bytes"
        refusal = await refusal_of(stub.Submit(pb.SubmitRequest(source=b"x" * 1_001)))
        assert refusal.field == "limits.message_bytes"


async def test_broken_messages_are_refused_not_a_crash(tmp_path: Path) -> None:
    async with served(tmp_path) as found, channel(found) as connection:
        stub = WorkflowsStub(connection)
        frames = {
            "not a": struct.pack(">?I", False, 3) + b"\xff\xff\xff",
            "compressed": struct.pack(">?I", True, 3) + b"abc",
            "cut short": struct.pack(">?I", False, 100) + b"abc",
            "no message": b"",
        }
        for words, frame in frames.items():
            with pytest.raises(GRPCError) as error:
                async with stub.Get.open() as stream:
                    await stream.send_request()
                    await stream._stream.send_data(frame, end_stream=True)
                    await stream.recv_message()
            assert words in from_grpc(error.value).message
        assert (await refusal_of(stub.Submit(pb.SubmitRequest(params_json=b"{")))).field == "params"


async def test_what_is_not_grpc_harms_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    garbage = random.Random(1).randbytes(3_000)
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    async with served(tmp_path) as found, found.client() as client:
        for bad in (b"GET / HTTP/1.1\r\n\r\n", garbage, preface + garbage, preface):
            async with await anyio.connect_unix(parse_address(found.unix).path) as connection:
                await connection.send(bad)
        assert (await client.status()).role == "leader"
    assert "Traceback" not in caplog.text


async def test_a_large_document_goes_in_pieces(tmp_path: Path) -> None:
    document = HELLO + b"#" * 3_000_000
    async with served(tmp_path, limits=ApiLimits(message_bytes=300_000)) as found, found.client() as client:
        assert (await client.submit(document)).handle == "hello.1"
    async with served(tmp_path, limits=ApiLimits(document_bytes=2_000_000)) as found, found.client() as client:
        with pytest.raises(Refusal) as refusal:
            await client.submit(document)
        assert refusal.value.field == "limits.document_bytes"


async def test_a_stream_of_parts_must_begin_with_its_header(tmp_path: Path) -> None:
    header, piece = pb.SubmitPart(header=pb.SubmitRequest()), pb.SubmitPart(source=HELLO)
    async with served(tmp_path) as found, channel(found) as connection:
        stub = WorkflowsStub(connection)
        for parts in ([piece], [header, header], [], [pb.SubmitPart(header=pb.SubmitRequest(source=HELLO))]):
            assert (await refusal_of(stub.SubmitStream(parts))).field == "part"
        assert (await stub.SubmitStream([header, piece])).accepted.handle == "hello.1"


async def test_deadlines_are_honoured(tmp_path: Path) -> None:
    engine = ScriptedEngine(tmp_path)
    engine.hold = anyio.Event()
    async with served(tmp_path, engine=engine, limits=ApiLimits(request_ms=20)) as found, channel(found) as connection:
        stub = WorkflowsStub(connection)
        with pytest.raises(GRPCError) as error:
            await stub.Submit(pb.SubmitRequest(source=HELLO))  # has no deadline of its own
        assert error.value.status is Status.DEADLINE_EXCEEDED
        assert "limits.request_ms" in str(error.value.message)
        async with found.client(timeout_ms=20) as client:
            with pytest.raises(Unavailable, match="did not answer"):
                await client.submit(HELLO)


async def test_too_many_streams_are_refused_by_name(tmp_path: Path) -> None:
    limits = ApiLimits(watchers_count=1)
    async with (
        served(tmp_path, limits=limits) as found,
        found.client() as client,
        channel(found) as connection,
        anyio.create_task_group() as group,
    ):
        metadata = {"authorization": f"Bearer {found.task_token(ATTEMPT)}"}
        barrier = tasks_pb2.BarrierRequest(rank=1, name="b")
        group.start_soon(partial(TasksStub(connection).Barrier, barrier, metadata=metadata))
        await found.engine.watching.wait()  # who waits at a barrier does not count
        found.engine.add()
        first = client.watch(token="0.0")
        found.engine.commit({"kind": "X", "workflow": 1})
        await anext(first)
        with pytest.raises(Refusal) as refusal:
            await anext(client.watch(token="0.0"))
        assert refusal.value.field == "limits.watchers_count"
        await first.aclose()
        group.cancel_scope.cancel()


async def test_too_many_connections_are_closed(tmp_path: Path) -> None:
    async with served(tmp_path, limits=ApiLimits(connections_count=1)) as found, found.client() as client:
        await client.status()
        async with found.client() as other:
            with pytest.raises(Unavailable):
                await other.status()
        await client.status()


# -------------------------------------------------------------------------------------------------------------- tasks


async def test_a_task_token_speaks_for_its_attempt_alone(tmp_path: Path) -> None:
    async with served(tmp_path) as found, channel(found) as connection:
        stub = TasksStub(connection)
        metadata = {"authorization": f"Bearer {found.task_token(ATTEMPT)}"}
        inputs = await stub.GetInputs(tasks_pb2.GetInputsRequest(), metadata=metadata)
        assert (inputs.handle, inputs.outputs_json) == ("hello.1", b'{"up":{"x":2}}')
        checkpoint = await stub.GetCheckpoint(tasks_pb2.GetCheckpointRequest(), metadata=metadata)
        assert checkpoint.value_json == b'{"step":4}'
        await stub.SetOutput(tasks_pb2.SetOutputRequest(outputs_json=b'{"loss":0.5}'), metadata=metadata)
        await stub.SaveCheckpoint(tasks_pb2.SaveCheckpointRequest(value_json=b'{"step":5}'), metadata=metadata)
        progress = tasks_pb2.ReportProgressRequest(rank=1, step=3, total=10, metrics_json=b'{"loss":0.25}')
        await stub.ReportProgress(progress, metadata=metadata)
        await stub.EmitMetrics(tasks_pb2.EmitMetricsRequest(metrics_json=b'{"lr":1}'), metadata=metadata)
        await stub.UpdateStatus(tasks_pb2.UpdateStatusRequest(status="loading"), metadata=metadata)
        beat = await stub.Heartbeat(tasks_pb2.HeartbeatRequest(), metadata=metadata)
        assert beat.stop_reason == "preempted"
        barrier = await stub.Barrier(tasks_pb2.BarrierRequest(name="loaded"), metadata=metadata)
        assert (barrier.arrived_count, barrier.released) == (2, True)
        told = found.engine.told
        assert [report.attempt for report in told[:2]] == [ATTEMPT, ATTEMPT]
        assert told[2:] == [
            (ATTEMPT, 1, {"loss": 0.25, "step": 3, "total": 10}),
            (ATTEMPT, 0, {"lr": 1}),
            (ATTEMPT, 0, {"status": "loading"}),
        ]


async def test_task_calls_are_checked(tmp_path: Path) -> None:
    async with served(tmp_path, limits=ApiLimits(metrics_count=2)) as found, channel(found) as connection:
        stub, workflows = TasksStub(connection), WorkflowsStub(connection)
        good = {"authorization": f"Bearer {found.task_token(ATTEMPT)}"}
        beat, emit = tasks_pb2.HeartbeatRequest(), tasks_pb2.EmitMetricsRequest
        assert (await refusal_of(stub.Heartbeat(beat))).code == "unauthenticated"
        assert (
            await refusal_of(stub.Heartbeat(beat, metadata={"authorization": "Bearer a.b.c"}))
        ).code == "unauthenticated"
        assert (await refusal_of(workflows.List(pb.ListRequest(), metadata=good))).code == "forbidden"
        assert (await refusal_of(stub.SetOutput(tasks_pb2.SetOutputRequest(), metadata=good))).field == "outputs"
        too_many = emit(metrics_json=b'{"a":1,"b":2,"c":3}')
        assert (await refusal_of(stub.EmitMetrics(too_many, metadata=good))).field == "limits.metrics_count"
        words = emit(metrics_json=b'{"a":"high"}')
        assert (await refusal_of(stub.EmitMetrics(words, metadata=good))).field == "metrics"
        assert (await refusal_of(stub.Heartbeat(tasks_pb2.HeartbeatRequest(rank=-1), metadata=good))).field == "rank"
        found.engine.superseded.add(ATTEMPT)
        assert (await refusal_of(stub.Heartbeat(beat, metadata=good))).code == "superseded"


# ------------------------------------------------------------------------------------------------------------- health


async def test_health_follows_the_daemons_role(tmp_path: Path) -> None:
    async with served(tmp_path) as found, channel(found) as connection:
        stub = HealthStub(connection)
        answer = await stub.Check(HealthCheckRequest(service="ffd.v1.Workflows"))
        assert answer.status == HealthCheckResponse.SERVING
        found.engine.page = type(found.engine.page)(version="0", role="standby")
        assert (await stub.Check(HealthCheckRequest())).status == HealthCheckResponse.NOT_SERVING
        assert (await refusal_of(stub.Check(HealthCheckRequest(service="x")))).code == "not_found"
        assert (await refusal_of(stub.Watch(HealthCheckRequest()))).code == "unsupported"
