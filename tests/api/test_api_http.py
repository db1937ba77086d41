"""HTTP over a real socket: the route table, problems, hosts and origins, event streams."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import jsonschema
import pytest
from scripted import HELLO, ScriptedEngine, Served, served

from ffd.api.authz import VERBS
from ffd.api.limits import ApiLimits
from ffd.api.openapi import describe
from ffd.api.routes import ROUTES
from ffd.core.commands import Cordon, Drain, Uncordon
from ffd.core.model import AttemptId
from ffd.core.pages import DaemonPage
from ffd.errors import Refusal, Unavailable
from ffd.plugins.ports import Principal

pytestmark = pytest.mark.anyio
W = "/api/v1/workflows"
YAML = {"Content-Type": "application/yaml"}


class Http:
    """A client of one served API."""

    def __init__(self, found: Served, session: aiohttp.ClientSession) -> None:
        self.found = found
        self.session = session

    async def ask(self, method: str, path: str, status: int = 200, **more: Any) -> Any:
        """The decoded body of a reply that must have this status."""
        async with self.session.request(method, self.found.http + path, **more) as reply:
            body = await reply.read()
            assert reply.status == status, body
            self.headers = reply.headers
            return json.loads(body) if "json" in reply.content_type else body

    async def refused(self, status: int, method: str, path: str, **more: Any) -> Any:
        problem = await self.ask(method, path, status, **more)
        assert self.headers["Content-Type"] == "application/problem+json"
        assert problem["status"] == status and problem["title"] and problem["detail"] and problem["type"]
        return problem


@asynccontextmanager
async def http(tmp_path: Path, **more: Any) -> AsyncIterator[Http]:
    async with served(tmp_path, **more) as found, aiohttp.ClientSession() as session:
        yield Http(found, session)


# ---------------------------------------------------------------------------------------------------------- workflows


async def test_submit_as_yaml_json_and_in_an_envelope(tmp_path: Path) -> None:
    async with http(tmp_path) as api:
        reply = await api.ask("POST", W + "?project=a/b&priority=7", 201, data=HELLO, headers=YAML)
        assert (reply["handle"], reply["project"]) == ("hello.1", "a/b")
        assert api.headers["Location"] == "/api/v1/workflows/hello.1"
        document = {"name": "j", "tasks": {"a": {"run": "echo"}}}
        assert (await api.ask("POST", W, 201, json=document))["handle"] == "j.2"
        envelope = {"source": "params: {n: 1}\ntasks: {a: {run: echo}}", "params": {"n": 3}, "labels": {"x": "y"}}
        await api.ask("POST", W, 201, json=envelope)
        asked = api.found.engine.asked
        assert [command.priority for command in asked] == [7, None, None]  # type: ignore[union-attr]
        assert (asked[2].params, asked[2].labels) == ({"n": 3}, {"x": "y"})  # type: ignore[union-attr]
        assert (await api.ask("POST", W + "?dry_run=true", 200, data=HELLO, headers=YAML))["workflow"] == 0
        assert len(asked) == 3


async def test_an_idempotency_key_has_one_effect(tmp_path: Path) -> None:
    async with http(tmp_path) as api:
        headers = {**YAML, "Idempotency-Key": "k"}
        first = await api.ask("POST", W, 201, data=HELLO, headers=headers)
        again = await api.ask("POST", W, 200, data=HELLO, headers=headers)
        assert (again["workflow"], again["duplicate"]) == (first["workflow"], True)
        problem = await api.refused(409, "POST", W, data=HELLO + b"#", headers=headers)
        assert (problem["code"], problem["field"]) == ("conflict", "key")


async def test_faults_of_a_document_are_in_the_problem(tmp_path: Path) -> None:
    async with http(tmp_path) as api:
        source = b"tasks:\n  a: {runn: echo}\n  b: {run: echo, needs: [c]}\n"
        problem = await api.refused(422, "POST", W + "?filename=x.yaml", data=source, headers=YAML)
        assert (problem["line"], problem["code"]) == (2, "invalid")
        assert problem["column"] > 0 and problem["path"].startswith("tasks.a") and problem["hint"]
        assert {2, 3} <= {fault["line"] for fault in problem["faults"]}
        assert problem["detail"].startswith("x.yaml:2:")
        await api.refused(422, "POST", W, data=b"{", headers={"Content-Type": "application/json"})
        await api.refused(422, "POST", W, data=b"\xff\xfe", headers=YAML)


async def test_pages_and_their_next(tmp_path: Path) -> None:
    async with http(tmp_path) as api:
        engine = api.found.engine
        for number in range(5):
            engine.add(f"w{number}", state="failed" if number % 2 else "running")
        first = await api.ask("GET", W + "?limit=3")
        last = await api.ask("GET", f"{W}?limit=3&before={first['next']}")
        assert [page["id"] for page in first["workflows"] + last["workflows"]] == [5, 4, 3, 2, 1]
        assert last["next"] is None
        both = await api.ask("GET", W + "?state=failed&state=running&limit=1")
        assert both["workflows"][0]["id"] == 5
        engine.add_task(1, "a", items=3)
        engine.add_task(1, "b")
        tasks = await api.ask("GET", W + "/w0/tasks?limit=1")
        assert ([page["name"] for page in tasks["tasks"]], tasks["next"]) == (["a"], "a")
        items = await api.ask("GET", W + "/w0.1/tasks/a/items?limit=2&after=0")
        assert ([page["item"] for page in items["items"]], items["next"]) == ([1, 2], 2)
        assert (await api.ask("GET", W + "/1"))["handle"] == "w0.1"
        assert (await api.ask("GET", W + "/1/spec"))["name"] == "w0"
        assert (await api.ask("GET", W + "/1/why?task=a&item=2"))["subject"] == "1/a[2]"
        for query in ("what_if=quota.gpus=%2B8&what_if=gpus=4", "what_if=quota.gpus=+8&what_if=gpus=4"):
            hints = (await api.ask("GET", W + f"/1/why?{query}"))["hints"]
            assert hints[:2] == ["quota.gpus=+8", "gpus=4"]
        engine.attempt_event("ItemAdmitted", AttemptId(1, "a", 0, 1))
        attempts = await api.ask("GET", W + "/1/tasks/a/attempts")
        assert attempts == {"attempts": [{"workflow": 1, "task": "a", "item": 0, "attempt": 1}]}


async def test_a_page_that_would_be_large_is_cut(tmp_path: Path) -> None:
    async with http(tmp_path, limits=ApiLimits(reply_bytes=2_500)) as api:
        for number in range(5):
            api.found.engine.add(f"w{number}", params={"x": "y" * 1_000})
        page = await api.ask("GET", W)
        assert ([each["id"] for each in page["workflows"]], page["next"]) == ([5, 4], 4)


async def test_control(tmp_path: Path) -> None:
    async with http(tmp_path) as api:
        api.found.engine.add()
        for verb in ("cancel", "suspend", "resume", "retry"):
            assert (await api.ask("POST", f"{W}/hello.1:{verb}"))["handle"] == "hello.1"
        await api.ask("POST", W + "/1:cancel", json={"now": True})
        await api.ask("DELETE", W + "/1?now=true")
        await api.ask("POST", W + "/1:priority", json={"priority": 3})
        asked: Any = api.found.engine.asked
        kinds = [type(command).__name__ for command in asked]
        assert kinds == ["Cancel", "Suspend", "Resume", "Retry", "Cancel", "Cancel", "SetPriority"]
        assert [asked[place].now for place in (0, 4, 5)] == [False, True, True]


async def test_unknown_things_are_problems(tmp_path: Path) -> None:
    async with http(tmp_path) as api:
        api.found.engine.add()
        assert (await api.refused(404, "GET", W + "/nope"))["code"] == "not_found"
        assert (await api.refused(404, "GET", "/api/v9/workflows"))["code"] == "not_found"
        await api.refused(405, "PUT", W)
        assert set(api.headers["Allow"].split(",")) == {"GET", "POST"}
        assert (await api.refused(400, "GET", W + "?limitt=3"))["field"] == "query"
        assert (await api.refused(400, "GET", W + "?limit=many"))["field"] == "query"
        assert (await api.refused(400, "GET", W + "?limit=1&limit=2"))["field"] == "limit"
        assert (await api.refused(429, "GET", W + "?limit=100000"))["field"] == "limits.page_count"
        assert (await api.refused(404, "GET", W + "/1/tasks/nope/items"))["field"] == "task"


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"now": 3}', b'{"noww": true}', b"\xff", b"[" * 100_000])
async def test_a_wrong_body_is_a_problem(tmp_path: Path, body: bytes) -> None:
    async with http(tmp_path) as api:
        api.found.engine.add()
        headers = {"Content-Type": "application/json"}
        assert (await api.refused(400, "POST", W + "/1:cancel", data=body, headers=headers))["field"] == "body"
        assert api.found.engine.asked == []


async def test_only_json_and_documents_are_read(tmp_path: Path) -> None:
    """What a web page can send without asking first (forms, plain text) is never read."""
    async with http(tmp_path) as api:
        api.found.engine.add()
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
            headers = {"Content-Type": kind}
            await api.refused(415, "POST", W + "/1:cancel", data=b"{}", headers=headers)
            await api.refused(415, "POST", W, data=HELLO, headers=headers)
        squeezed = {**YAML, "Content-Encoding": "deflate"}
        await api.refused(415, "POST", W, data=zlib.compress(HELLO), headers=squeezed)
        assert api.found.engine.asked == []


async def test_bodies_are_limited_by_name(tmp_path: Path) -> None:
    async with http(tmp_path, limits=ApiLimits(document_bytes=1_000, message_bytes=100)) as api:
        api.found.engine.add()
        large = b"x" * 2_000

        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(20):
                yield b"x" * 100

        for data in (large, chunks()):
            problem = await api.refused(413, "POST", W, data=data, headers=YAML)
            assert problem["field"] == "limits.document_bytes"
        headers = {"Content-Type": "application/json"}
        for data in (b"x" * 101, chunks()):
            problem = await api.refused(413, "POST", W + "/1:cancel", data=data, headers=headers)
            assert problem["field"] == "limits.message_bytes"


async def test_errors_of_the_engine_are_problems(tmp_path: Path) -> None:
    async with http(tmp_path, limits=ApiLimits(request_ms=20)) as api:
        engine = api.found.engine
        engine.add()
        engine.fail = Unavailable("standing by", hint="grpc://leader:1")
        problem = await api.refused(503, "GET", W)
        assert (problem["hint"], api.headers["Retry-After"]) == ("grpc://leader:1", "1")
        engine.fail = Refusal("full", code="storage_full")
        await api.refused(507, "GET", W)
        engine.fail, engine.hold = None, anyio.Event()
        assert "limits.request_ms" in (await api.refused(503, "POST", W + "/1:suspend"))["detail"]


async def test_what_is_not_http_shows_no_traceback(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with http(tmp_path) as api:
        port = int(api.found.http.rpartition(":")[2])
        for bad in (b"GET / HTTP/1.1\r\nX: \x00\r\n\r\n", b"\x16\x03\x01 hello\r\n\r\n"):
            async with await anyio.connect_tcp("127.0.0.1", port) as connection:
                await connection.send(bad)
                assert b"400" in await connection.receive()
        await api.ask("GET", "/healthz")
    assert "Traceback" not in caplog.text


# ------------------------------------------------------------------------------------------------------ who may call


async def test_only_our_own_names_are_answered(tmp_path: Path) -> None:
    """DNS rebinding: a page of evil.example that resolves to 127.0.0.1 sends its own name as Host."""
    async with http(tmp_path, allowed_hosts=("ffd.example",)) as api:
        for host in ("evil.example", "evil.example:80", "", "localhost.evil.example", "a:b:c"):
            problem = await api.refused(403, "GET", "/healthz", headers={"Host": host})
            assert problem["field"] == "Host"
        for host in ("localhost", "localhost:80", "127.0.0.1:1", "[::1]:80", "FFD.example", "10.1.2.3"):
            await api.ask("GET", "/healthz", headers={"Host": host})


async def test_other_origins_are_refused(tmp_path: Path) -> None:
    async with http(tmp_path) as api:
        own = api.found.http
        await api.ask("GET", W, headers={"Origin": own})
        for origin in ("https://evil.example", "null", "http://127.0.0.1:1", own + ".evil.example"):
            assert (await api.refused(403, "GET", W, headers={"Origin": origin}))["field"] == "Origin"


async def test_every_route_asks_for_its_permission(tmp_path: Path) -> None:
    nobody = Nobody()
    async with http(tmp_path, auth=nobody) as api:
        for route in ROUTES:
            path = route.path.replace("{id:.+}", "a.1/t").replace("{id}", "a.1").replace("{task}", "t")
            status = 200 if VERBS[route.verb] == "public" else 401
            await api.ask(route.method, path, status)
            if status == 401:
                assert api.headers["WWW-Authenticate"] == "Bearer"
        assert api.found.engine.asked == []


class Nobody:
    """Knows nobody."""

    async def authenticate(self, token: str, peer: str) -> Principal:
        raise Refusal("who are you?", code="unauthenticated")


async def test_metrics_of_a_task_come_with_its_token(tmp_path: Path) -> None:
    attempt = AttemptId(1, "train", 0, 2)
    async with http(tmp_path) as api:
        headers = {"Authorization": f"Bearer {api.found.task_token(attempt)}"}
        body = {"rank": 2, "step": 5, "total": 9, "metrics": {"loss": 0.5}, "status": "ok"}
        await api.ask("POST", "/v1/metrics", 204, json=body, headers=headers)
        assert api.found.engine.told == [(attempt, 2, {"loss": 0.5, "status": "ok", "step": 5, "total": 9})]
        assert (await api.refused(403, "GET", W, headers=headers))["code"] == "forbidden"
        await api.refused(401, "POST", "/v1/metrics", json=body)
        api.found.engine.superseded.add(attempt)
        assert (await api.refused(409, "POST", "/v1/metrics", json=body, headers=headers))["code"] == "superseded"


# ------------------------------------------------------------------------------------------------------ the daemon


async def test_what_the_daemon_says_of_itself(tmp_path: Path) -> None:
    async with http(tmp_path) as api:
        assert await api.ask("GET", "/healthz") == {"status": "ok"}
        assert await api.ask("GET", "/readyz") == {"status": "ready"}
        assert await api.ask("GET", "/metrics") == b"ffd_up 1\n"
        assert (await api.ask("GET", "/api/v1/nodes"))["nodes"][0]["name"] == "n1"
        assert len((await api.ask("GET", "/api/v1/queue"))["queue"]) == 2
        assert (await api.ask("GET", "/api/v1/status"))["role"] == "leader"
        schema = await api.ask("GET", "/schema/v1.json")
        jsonschema.Draft7Validator.check_schema(schema)
        for page in (DaemonPage(version="0", role="standby"), DaemonPage(version="0", role="leader", degraded="full")):
            api.found.engine.page = page
            await api.ask("GET", "/healthz")
            assert "not ready" in (await api.refused(503, "GET", "/readyz"))["detail"]


async def test_nodes_are_shown_and_marked(tmp_path: Path) -> None:
    nodes = "/api/v1/nodes"
    async with http(tmp_path) as api:
        assert (await api.ask("GET", nodes))["next"] is None
        assert (await api.ask("GET", nodes + "?after=n1"))["nodes"] == []
        assert len((await api.ask("GET", nodes + "/n1"))["holds"]) == 3
        assert (await api.ask("GET", "/api/v1/gpus"))["gpus"][0]["model"] == "H100"
        marked = {"nodes": ["n7"], "stopping_count": 0, "duplicate": False}
        assert await api.ask("POST", nodes + "/n7:cordon", json={"why": "disk"}) == marked
        assert await api.ask("POST", nodes + "/n7:uncordon") == marked
        reply = await api.ask("POST", nodes + ":drain", json={"nodes": ["n1", "n2"], "grace_ms": 5})
        assert reply == {"marked": {"nodes": ["n1", "n2"], "stopping_count": 3, "duplicate": False}, "preview": None}
        await api.ask("POST", nodes + ":cordon", json={"labels": {"rack": "r7"}})
        cordon, uncordon, drain, rack = api.found.engine.asked
        assert (type(cordon), cordon.nodes, cordon.why, cordon.project) == (Cordon, ("n7",), "disk", "")
        assert type(uncordon) is Uncordon
        assert (type(drain), drain.grace_ms) == (Drain, 5)
        assert (rack.nodes, rack.labels) == ((), {"rack": "r7"})
        reply = await api.ask("POST", nodes + "/n1:drain", json={"preview": True, "grace_ms": 9})
        assert (reply["marked"], reply["preview"]["stops"][0]["grace_ms"]) == (None, 9)
        assert len(api.found.engine.asked) == 4, "a preview asks for no change"
        assert (await api.refused(400, "POST", nodes + "/n1:drain", json={"grace_ms": -1}))["field"] == "grace_ms"
        labels = {f"k{number}": "v" for number in range(65)}
        problem = await api.refused(429, "POST", nodes + ":cordon", json={"labels": labels})
        assert problem["field"] == "limits.labels_count"


async def test_marking_a_node_is_idempotent_and_for_administrators(tmp_path: Path) -> None:
    async with http(tmp_path) as api:
        for is_again in (False, True):
            reply = await api.ask("POST", "/api/v1/nodes/n1:drain", headers={"Idempotency-Key": "k"})
            assert reply["marked"]["duplicate"] is is_again
        await api.refused(409, "POST", "/api/v1/nodes/n2:drain", headers={"Idempotency-Key": "k"})
        assert len(api.found.engine.asked) == 1
    async with http(tmp_path / "other", auth=Known(Principal("u", projects=("*",)))) as api:
        for verb in ("cordon", "uncordon", "drain"):
            assert (await api.refused(403, "POST", f"/api/v1/nodes/n1:{verb}"))["code"] == "forbidden"
        assert (await api.ask("GET", "/api/v1/nodes/n1"))["holds"]
        assert api.found.engine.asked == []


class Known:
    """Everybody is this principal."""

    def __init__(self, principal: Principal) -> None:
        self._principal = principal

    async def authenticate(self, token: str, peer: str) -> Principal:
        return self._principal


async def test_openapi_describes_every_route(tmp_path: Path) -> None:
    async with http(tmp_path) as api:
        described = await api.ask("GET", "/openapi.json")
    assert described == json.loads(json.dumps(describe(ROUTES)))
    operations = {(method, path) for path, methods in described["paths"].items() for method in methods}
    assert len(operations) == len(ROUTES)
    identities = [operation["operationId"] for methods in described["paths"].values() for operation in methods.values()]
    assert len(set(identities)) == len(identities)
    schemas = described["components"]["schemas"]
    text = json.dumps(described)
    for reference in {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}:
        assert reference in schemas
    submit = described["paths"][W]["post"]
    assert {"application/yaml", "application/json"} == set(submit["requestBody"]["content"])
    assert {"name": "Idempotency-Key", "in": "header", "schema": {"type": "string"}} in submit["parameters"]
    assert "security" not in described["paths"]["/healthz"]["get"]


async def test_replies_are_as_openapi_says(tmp_path: Path) -> None:
    async with http(tmp_path) as api:
        api.found.engine.add("a", state="running", params={"x": 1})
        api.found.engine.add_task(1, "t")
        api.found.engine.commit({"kind": "X", "workflow": 1})
        described = describe(ROUTES)
        for path, methods in described["paths"].items():
            for method, operation in methods.items():
                content = operation["responses"].get("200", {}).get("content", {})
                if method != "get" or "application/json" not in content:
                    continue
                known = path.replace("{id}", "team" if "tenants" in path else "a.1").replace("{task}", "t")
                found = await api.ask("GET", known + _options(path))
                schema = {**content["application/json"]["schema"], "components": described["components"]}
                jsonschema.Draft202012Validator(schema).validate(found)


def _options(path: str) -> str:
    return "?task=t" if path.endswith("/logs") else ""


# ------------------------------------------------------------------------------------------------------------ streams


class Events:
    """Reads Server-Sent Events; comments are counted."""

    def __init__(self, reply: aiohttp.ClientResponse) -> None:
        self._lines = reply.content
        self.comments: list[str] = []

    async def next(self) -> dict[str, Any]:
        event: dict[str, Any] = {}
        while True:
            line = (await self._lines.readline()).decode().rstrip("\n")
            if line.startswith(":"):
                self.comments.append(line)
            elif line:
                name, _, value = line.partition(": ")
                event[name] = json.loads(value) if name == "data" else value
            elif event:
                return event


@asynccontextmanager
async def stream(api: Http, path: str, last: str = "") -> AsyncIterator[Events]:
    headers = {"Accept": "text/event-stream", **({"Last-Event-ID": last} if last else {})}
    async with api.session.get(api.found.http + path, headers=headers) as reply:
        assert (reply.status, reply.content_type) == (200, "text/event-stream")
        yield Events(reply)


async def test_events_are_streamed_and_resumed(tmp_path: Path) -> None:
    async with http(tmp_path) as api:
        engine = api.found.engine
        engine.add()
        engine.commit({"kind": "A", "workflow": 1}, {"kind": "B", "workflow": 1})
        async with stream(api, W + "/hello/events?token=0.0") as events:
            first = await events.next()
            assert (first["event"], first["id"]) == ("commit", "1.9")
            assert [event["kind"] for event in first["data"]["events"]] == ["A", "B"]
        engine.commit({"kind": "C", "workflow": 1})
        engine.commit({"kind": "WorkflowEnded", "workflow": 1})
        async with stream(api, W + "/hello/events", last=first["id"]) as events:
            kinds = [(await events.next())["data"]["events"][0]["kind"] for _ in range(2)]
            assert kinds == ["C", "WorkflowEnded"]
            assert (await events.next())["event"] == "end"
        page = await api.ask("GET", W + "/hello/events?token=0.0")
        assert (page["token"], len(page["events"])) == ("1.9", 2)


async def test_a_gap_is_an_event(tmp_path: Path) -> None:
    async with http(tmp_path) as api:
        api.found.engine.add()
        for _ in range(3):
            api.found.engine.commit({"kind": "X", "workflow": 1})
        api.found.engine.gap_before = 2
        async with stream(api, "/api/v1/events?token=0.0") as events:
            assert (await events.next())["event"] == "gap"
            assert (await events.next())["id"] == "3.9"


async def test_a_readers_departure_is_noticed(tmp_path: Path) -> None:
    async with http(tmp_path) as api:
        async with stream(api, "/api/v1/events"):
            await api.found.engine.watching.wait()
        while api.found.engine.watchers_count:
            await anyio.lowlevel.checkpoint()


async def test_an_idle_stream_shows_that_it_lives(tmp_path: Path) -> None:
    async with http(tmp_path, limits=ApiLimits(heartbeat_ms=1)) as api, stream(api, "/api/v1/events") as events:
        reading = asyncio.ensure_future(events.next())
        while events.comments.count(": alive") < 2:
            await anyio.lowlevel.checkpoint()
        reading.cancel()
        assert events.comments[0] == ": open"


async def test_streams_refuse_before_they_begin_and_end_with_the_server(tmp_path: Path) -> None:
    accept = {"Accept": "text/event-stream"}
    async with http(tmp_path, limits=ApiLimits(watchers_count=1)) as api:
        api.found.engine.add()
        await api.refused(404, "GET", W + "/nope/events", headers=accept)
        await api.refused(400, "GET", W + "/hello/logs?cursor=x", headers=accept)
        async with stream(api, "/api/v1/events") as events:
            problem = await api.refused(429, "GET", "/api/v1/events", headers=accept)
            assert problem["field"] == "limits.watchers_count"
            async with anyio.create_task_group() as group:
                group.start_soon(api.found.server.aclose)
                last = await events.next()
        assert (last["event"], last["data"]["code"]) == ("error", "unavailable")


async def test_logs_are_read_and_streamed(tmp_path: Path) -> None:
    engine = ScriptedEngine(tmp_path)
    engine.add()
    engine.add_task(1, "train", replicas=2)
    attempt = AttemptId(1, "train", 0, 1)
    engine.attempt_event("ItemAdmitted", attempt)
    engine.logs.grow(attempt, 0, b"one\n\x1b[31m\xff\n")
    engine.logs.grow(attempt, 1, b"other\n")
    async with http(tmp_path, engine=engine) as api:
        piece = await api.ask("GET", W + "/hello/logs?task=train&offset=4")
        assert (piece["text"], piece["offset"], piece["eof"]) == ("\x1b[31m\ufffd\n", 4, True)
        assert (await api.refused(400, "GET", W + "/hello/logs"))["field"] == "task"
        assert (await api.refused(413, "GET", W + "/hello/logs?task=train&limit_bytes=99999999"))["field"] == (
            "limits.log_read_bytes"
        )
        seen: dict[int, str] = {0: "", 1: ""}
        async with stream(api, "/api/v1/tasks/hello.1/train/logs/stream") as events:
            while not all(seen.values()):
                event = await events.next()
                for lines in event["data"]["lines"]:
                    seen[lines["rank"]] += lines["text"]
        assert seen == {0: "one\n\x1b[31m\ufffd\n", 1: "other\n"}
        engine.logs.grow(attempt, 1, b"more\n")
        engine.attempt_event("AttemptEnded", attempt)
        engine.commit({"kind": "WorkflowEnded", "workflow": 1})
        async with stream(api, W + "/hello/logs", last=event["id"]) as events:
            event = await events.next()
            assert [lines["text"] for lines in event["data"]["lines"]] == ["more\n"]
            assert (await events.next())["event"] == "end"
        await api.refused(400, "GET", "/api/v1/tasks/hello/logs/stream")


async def test_a_position_that_fits_no_header_is_refused_by_name(tmp_path: Path) -> None:
    engine = ScriptedEngine(tmp_path)
    engine.add()
    engine.add_task(1, "a", replicas=9)
    engine.attempt_event("ItemAdmitted", AttemptId(1, "a", 0, 1))
    for rank in range(9):
        engine.logs.grow(AttemptId(1, "a", 0, 1), rank, b"x\n")
    async with (
        http(tmp_path, engine=engine, limits=ApiLimits(log_event_id_chars=30)) as api,
        stream(api, W + "/hello/logs") as events,
    ):
        last = await events.next()
        while last["event"] == "log":
            last = await events.next()
        assert (last["event"], last["data"]["field"]) == ("error", "limits.log_event_id_chars")
