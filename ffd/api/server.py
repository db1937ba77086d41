"""ApiServer: binds the addresses, serves one engine on them, stops cleanly. The daemon makes one; tests make several.

Runs on the asyncio loop it was started in; holds no global. `start` raises PluginError before anything is served.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import anyio

from ffd.api.authz import Gate, TokenMinter
from ffd.api.engine import Engine
from ffd.api.grpc_cluster import Cluster, Health, Logs
from ffd.api.grpc_server import GrpcServer
from ffd.api.grpc_tasks import Tasks
from ffd.api.grpc_workflows import Workflows
from ffd.api.limits import ApiLimits
from ffd.api.listen import Bound, Tls, bind
from ffd.api.serving import Serving
from ffd.plugins.ports import Auth

if TYPE_CHECKING:
    from ffd.api.http_server import HttpServer

GRPC_SCHEMES = ("unix", "grpc", "grpcs")
HTTP_SCHEMES = ("unix", "http", "https")
SERVICES = ("ffd.v1.Workflows", "ffd.v1.Tasks", "ffd.v1.Logs", "ffd.v1.Cluster")


class ApiServer:
    """`listen` are gRPC addresses, `http` those of REST. `remote_auth`: `auth` tells callers from other machines apart
    (without it the server refuses to listen for them). `allowed_hosts`: names HTTP clients may ask for, besides IP
    addresses and localhost. `stop` is called when an administrator asks the daemon to stop."""

    def __init__(
        self,
        engine: Engine,
        *,
        auth: Auth,
        tokens: TokenMinter,
        listen: Sequence[str],
        http: Sequence[str] = (),
        stop: Callable[[], None],
        limits: ApiLimits | None = None,
        tls: Tls | None = None,
        remote_auth: bool = False,
        allowed_hosts: Sequence[str] = (),
    ) -> None:
        self._listen = tuple(listen)
        self._http = tuple(http)
        self._tls = tls
        self._remote_auth = remote_auth
        self._allowed_hosts = frozenset(allowed_hosts)
        self._serving = Serving(engine, Gate(auth, tokens), limits or ApiLimits(), stop)
        self._servers: list[GrpcServer | HttpServer] = []

    async def start(self) -> None:
        """Bind everything, then serve. PluginError: nothing is bound and nothing is served."""
        bound: list[Bound] = []
        try:
            for text in self._listen:
                bound.append(bind(text, GRPC_SCHEMES, "h2", self._tls, self._remote_auth))
            for text in self._http:
                bound.append(bind(text, HTTP_SCHEMES, "http/1.1", self._tls, self._remote_auth))
            for number, each in enumerate(bound):
                server = self._grpc(each) if number < len(self._listen) else self._rest(each)
                self._servers.append(server)
                await server.serve()
        except BaseException:
            for each in bound:
                each.close()
            raise

    def _grpc(self, bound: Bound) -> GrpcServer:
        serving = self._serving
        services = (Workflows(serving), Tasks(serving), Logs(serving), Cluster(serving), Health(serving, SERVICES))
        return GrpcServer(services, bound, serving.limits)

    def _rest(self, bound: Bound) -> HttpServer:
        from ffd.api.http_server import HttpServer  # a third of the daemon's imports: only for who serves HTTP

        return HttpServer(self._serving, bound, self._allowed_hosts)

    @property
    def addresses(self) -> list[str]:
        """Where it listens, gRPC first, with the real ports."""
        return [str(server.bound.address) for server in self._servers]

    async def aclose(self, grace_ms: int = 5_000) -> None:
        """Streams end with UNAVAILABLE at once, calls get the grace; then all connections are closed. Idempotent; done
        to its end also when the caller is cancelled."""
        with anyio.CancelScope(shield=True):
            await self._serving.traffic.stop(grace_ms)
            servers, self._servers = self._servers, []
            for server in servers:
                await server.aclose()
