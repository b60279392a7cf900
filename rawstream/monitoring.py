"""What monitoring asks of the programs that we run ourselves.

GET /healthz    "ok", or 503 once the server was told to stop
GET /metrics    what Prometheus reads, if prometheus-client is installed
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING

from .channels.channel import Channel
from .errors import HTTPError
from .http.request import Handler, Request
from .named_channels.registry import Channels

if TYPE_CHECKING:
    from .metrics.exposition import Metrics


class Monitoring:
    """The health and the metrics of one program."""

    def __init__(self, channels: Mapping[str, Channel | Channels]) -> None:
        self.metrics: Metrics | None = None
        """For `run`. None if prometheus-client is not installed: nothing is counted then."""
        if find_spec("prometheus_client") is not None:
            from .metrics.exposition import Metrics

            self.metrics = Metrics(channels)

    def beside(self, handler: Handler, check: Callable[[Request], None]) -> Handler:
        """A handler that answers both, and gives `handler` all other requests. `check` raises
        `HTTPError` for those that may not see the metrics; the health is for everybody."""

        async def both(request: Request) -> None:
            match request.path:
                case "/healthz":
                    await respond_health(request)
                case "/metrics":
                    check(request)
                    await self.respond(request)
                case _:
                    await handler(request)

        return both

    async def respond(self, request: Request) -> None:
        """Answer with the metrics. Raises `HTTPError` 501 if they cannot be had."""
        if self.metrics is None:
            raise HTTPError(501, 'metrics need: pip install "rawstream[metrics]"')
        await self.metrics.respond(request)


async def respond_health(request: Request) -> None:
    """Answer a health check. Raises `HTTPError` 503 and 405."""
    if request.method != "GET":
        raise HTTPError(405, headers=[("Allow", "GET, HEAD")])
    if request.is_draining:
        raise HTTPError(503, "the server is stopping", [("Cache-Control", "no-store")])
    await request.respond(200, "ok\n", headers=[("Cache-Control", "no-store")])
