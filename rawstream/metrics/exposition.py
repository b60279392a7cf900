"""Everything that is counted, as Prometheus reads it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry, Metric, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from ..channels.channel import Channel
from ..errors import HTTPError
from ..http.request import Request
from ..named_channels.registry import Channels
from .channels import channel_families, counted
from .traffic import Traffic


class Metrics(Traffic, Collector):
    """The metrics of a program. Give them to its servers, `serve(app, metrics=metrics)` or `run`,
    and answer `GET /metrics` with `await metrics.respond(request)`.

    `channels` are those to tell of, by the name that they get as a label. All channels of a
    `Channels` are told of together: clients give them their names, and could make any number of
    series. Everything is collected into `registry`, by default a new one, which also tells of the
    process. With `prometheus_client.REGISTRY` it stands beside what your program counts itself;
    raises `ValueError` if other `Metrics` are there already.

    It needs prometheus-client: `pip install "rawstream[metrics]"`.
    """

    def __init__(
        self,
        channels: Mapping[str, Channel | Channels] | None = None,
        *,
        registry: CollectorRegistry | None = None,
    ) -> None:
        super().__init__()
        self._channels = dict(channels or {})
        self._counts = counted(self._channels)
        if registry is None:
            registry = CollectorRegistry()
            ProcessCollector(registry=registry)
        self._registry = registry
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """The metrics at this moment, for the registry. Call it in the Trio thread."""
        yield from self.families()
        yield from channel_families(self._channels, self._counts)

    def describe(self) -> Iterator[Metric]:
        """The names of all metrics, for the registry."""
        return self.collect()

    async def respond(self, request: Request) -> None:
        """Answer with the metrics of the registry, in OpenMetrics or in the text format, as
        `Accept` asks. Who may see them is for you to decide. Raises `HTTPError` 405."""
        if request.method != "GET":
            raise HTTPError(405, headers=[("Allow", "GET, HEAD")])
        encode, kind = choose_encoder(request.headers.get("accept") or "")
        text = encode(self._registry)
        fields = [("Cache-Control", "no-store"), ("Vary", "Accept")]
        await request.respond(200, text, content_type=kind, headers=fields)
