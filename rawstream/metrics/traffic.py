"""Connections and requests: counted when they end, and read while they last."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import accumulate

import trio
from prometheus_client import Metric
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)

from ..http.lifetime import Ended
from ..http.observer import ObservedConnection, ObservedExchange, ObservedServer

METHODS = frozenset(
    ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT")
)
"""Others are counted together: a client can invent any."""

MOST_KINDS = 50
"""Kinds of responses that are told apart. The server has six, a program may add its own."""

OTHER = "other"

BUCKETS = (0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10, 60, 600, 3600)
"""Seconds: from a plain answer to a stream of an hour."""

PROTOCOLS = ("HTTP/1", "HTTP/2")


class _Durations:
    """A histogram."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.total = 0.0


class Traffic:
    """An `Observer` of any number of servers."""

    def __init__(self) -> None:
        self._servers: list[ObservedServer] = []
        self._connections = Counter[tuple[str, str]]()  # that have ended: protocol, reason
        self._sent = self._received = 0  # bytes of those
        self._requests = Counter[tuple[str, int]]()  # method, status
        self._ended = Counter[tuple[str, str]]()  # requests: kind, reason
        self._durations: dict[str, _Durations] = {}  # by kind

    # -- What servers tell ----------------------------------------------------------------------

    def server_started(self, server: ObservedServer) -> None:
        self._servers.append(server)

    def connection_ended(self, connection: ObservedConnection) -> None:
        self._connections[connection.protocol, _text(connection.ended)] += 1
        self._sent += connection.bytes_sent
        self._received += connection.bytes_received

    def exchange_ended(
        self, method: str, exchange: ObservedExchange, reason: Ended | str | None, seconds: float
    ) -> None:
        kind = exchange.label
        durations = self._durations.get(kind)
        if durations is None:
            kind = kind if len(self._durations) < MOST_KINDS else OTHER
            durations = self._durations.setdefault(kind, _Durations())
        self._requests[method if method in METHODS else OTHER, exchange.status] += 1
        self._ended[kind, _text(reason)] += 1
        durations.counts[bisect_left(BUCKETS, seconds)] += 1
        durations.total += seconds

    # -- What is scraped ------------------------------------------------------------------------

    def families(self) -> Iterator[Metric]:
        """All metrics of connections and requests, with their values at this moment."""
        live = [connection for server in self._servers for connection in server.live]
        yield from self._of_connections(live)
        yield from self._of_requests(live)
        yield from self._of_the_drain()

    def _of_connections(self, live: list[ObservedConnection]) -> Iterator[Metric]:
        now = Counter(connection.protocol for connection in live)
        yield _gauge(
            "rawstream_connections",
            "Connections that are open.",
            ["protocol"],
            (([name], now[name]) for name in PROTOCOLS),
        )
        counts = [server.counts for server in self._servers]
        yield _counter(
            "rawstream_connections_accepted",
            "Connections that were accepted and read.",
            [],
            [([], sum(count.accepted for count in counts))],
        )
        yield _counter(
            "rawstream_connections_refused",
            "Connections beyond the limits: answered with 503, or dropped at once.",
            ["how"],
            [
                (["answered"], sum(count.turned_away for count in counts)),
                (["dropped"], sum(count.dropped for count in counts)),
            ],
        )
        yield _counter(
            "rawstream_connections_ended",
            "Connections that have ended, by the reason.",
            ["protocol", "reason"],
            ((list(labels), count) for labels, count in self._connections.items()),
        )
        yield _counter(
            "rawstream_sent_bytes",
            "Bytes sent on all connections, before encryption.",
            [],
            [([], self._sent + sum(connection.bytes_sent for connection in live))],
        )
        yield _counter(
            "rawstream_received_bytes",
            "Bytes received on all connections, after decryption.",
            [],
            [([], self._received + sum(connection.bytes_received for connection in live))],
        )

    def _of_requests(self, live: list[ObservedConnection]) -> Iterator[Metric]:
        under_way = Counter(
            self._kind(exchange) for connection in live for exchange in connection.exchanges()
        )
        yield _gauge(
            "rawstream_requests_in_progress",
            'Requests that are being answered, by the kind of response. "unanswered" have none '
            "yet: handlers at work, and polls that wait.",
            ["kind"],
            (
                ([kind], under_way[kind])
                for kind in sorted({"unanswered", *self._durations, *under_way})
            ),
        )
        yield _counter(
            "rawstream_requests",
            "Requests that have ended, by method and status. The status is 0 if there was none.",
            ["method", "status"],
            (([name, str(status)], n) for (name, status), n in self._requests.items()),
        )
        yield _counter(
            "rawstream_requests_ended",
            "Requests that have ended, by the kind of response and the reason.",
            ["kind", "reason"],
            ((list(labels), count) for labels, count in self._ended.items()),
        )
        durations = HistogramMetricFamily(
            "rawstream_request_duration_seconds",
            "From the first byte of a request to the end of its response.",
            labels=["kind"],
        )
        for kind, measured in self._durations.items():
            bounds = [*map(str, map(float, BUCKETS)), "+Inf"]
            buckets = list(zip(bounds, accumulate(measured.counts), strict=True))
            durations.add_metric([kind], buckets, measured.total)
        yield durations

    def _kind(self, exchange: ObservedExchange) -> str:
        if not exchange.status:
            return "unanswered"
        is_known = exchange.label in self._durations or len(self._durations) < MOST_KINDS
        return exchange.label if is_known else OTHER

    def _of_the_drain(self) -> Iterator[Metric]:
        yield _gauge(
            "rawstream_draining",
            "1 once the server was told to stop.",
            [],
            [([], max((int(server.stopping) for server in self._servers), default=0))],
        )
        yield _gauge(
            "rawstream_drain_seconds",
            "How long the drain takes, or took.",
            [],
            [([], max(map(_drain_seconds, self._servers), default=0))],
        )


def _drain_seconds(server: ObservedServer) -> float:
    if server.drain_began is None:
        return 0
    ended = trio.current_time() if server.drain_ended is None else server.drain_ended
    return ended - server.drain_began


def _text(reason: Ended | str | None) -> str:
    """The reason as a label. Those that a program gives are any text."""
    return reason.value if isinstance(reason, Ended) else OTHER


def _gauge(
    name: str, text: str, labels: list[str], values: Iterable[tuple[list[str], float]]
) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for value in values:
        family.add_metric(*value)
    return family


def _counter(
    name: str, text: str, labels: list[str], values: Iterable[tuple[list[str], float]]
) -> Metric:
    family = CounterMetricFamily(name, text, labels=labels)
    for value in values:
        family.add_metric(*value)
    return family
