"""Metrics: what is counted, what Prometheus reads, and who may see it; health checks."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path

import httpx
import pytest
import trio
import trio.testing
from documents import ROOT
from handlers import simple
from log_servers import logs
from peers import PATIENCE, Connect, Server, Serving, connected, happens, running
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Metric
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families as metrics_of
from wire import GET, OK, get

from rawstream import (
    Channel,
    Channels,
    Limits,
    Metrics,
    Request,
    open_poll,
    serve_channel,
    serve_channels,
)
from rawstream.http.observer import ObservedConnection
from rawstream.metrics.traffic import METHODS, MOST_KINDS
from rawstream.monitoring import Monitoring
from rawstream.wire.live import LiveWire
from rawstream.wire.recorder import WireRecorder

OPEN_METRICS = "application/openmetrics-text; version=1.0.0"
EVENTS = b"Accept: text/event-stream\r\n"

open_metrics_of: Callable[[str], Iterator[Metric]] = openmetrics.text_string_to_metric_families

Values = dict[str, float]
"""Samples as a scrape shows them: `name{label="value"}`."""


def values_of(families: Iterable[Metric]) -> Values:
    """The samples, without the prefix that all of ours have."""
    found = Values()
    for sample in (sample for family in families for sample in family.samples):
        labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
        name = sample.name.removeprefix("rawstream_")
        found[f"{name}{{{labels}}}" if labels else name] = sample.value
    return found


# -- Connections and requests ---------------------------------------------------------------------


class Told(Metrics):
    """Metrics with nothing else in their registry, and an event for the next connection that
    ends."""

    def __init__(self) -> None:
        super().__init__(registry=CollectorRegistry())
        self.ending = trio.Event()

    def connection_ended(self, connection: ObservedConnection) -> None:
        super().connection_ended(connection)
        self.ending.set()
        self.ending = trio.Event()

    @property
    def now(self) -> Values:
        return values_of(self.collect())


@pytest.mark.both_versions
async def test_connections_and_requests(serving: Serving, version: str) -> None:
    metrics, polled = Told(), trio.Event()

    async def app(request: Request) -> None:
        if request.path == "/poll":
            async with open_poll(request, cursor="0"):
                polled.set()
                await trio.sleep_forever()
        await simple(request)

    server = await serving(app, metrics=metrics, limits=Limits(leave_seconds=0.1))
    protocol = f"HTTP/{version[0]}"
    peer, poller = await server.connect(), await server.connect()
    await peer.send(OK)
    await peer.has(b"ok\n")
    await peer.send(b"HEAD" + GET[3:])
    await peer.has(b"Content-Length: 6\r\n")
    await poller.send(get("/poll?wait=9"))
    await happens(polled)
    seen = metrics.now
    assert seen["requests_in_progress{kind=unanswered}"] == 1
    assert seen[f"connections{{protocol={protocol}}}"] == 2
    assert seen["connections_accepted_total"] == 2
    assert seen["requests_total{method=GET,status=200}"] == 1
    assert seen["requests_total{method=HEAD,status=200}"] == 1
    assert seen["requests_ended_total{kind=plain,reason=done}"] == 2
    assert seen["request_duration_seconds_count{kind=plain}"] == 2
    assert seen["request_duration_seconds_bucket{kind=plain,le=+Inf}"] == 2
    assert 0 < seen["request_duration_seconds_sum{kind=plain}"] < 2
    if version == "1.1":
        asked = len(OK) + len(GET) + 1 + len(get("/poll?wait=9"))
        assert seen["received_bytes_total"] == asked
        assert seen["sent_bytes_total"] > 200
    ending = metrics.ending
    await trio.aclose_forcefully(poller.stream)
    await happens(ending)
    later = metrics.now
    assert later[f"connections{{protocol={protocol}}}"] == 1
    assert later["requests_in_progress{kind=unanswered}"] == 0
    assert later["requests_total{method=GET,status=0}"] == 1
    assert later["requests_ended_total{kind=plain,reason=client left}"] == 1
    assert later[f"connections_ended_total{{protocol={protocol},reason=client left}}"] == 1
    for name in ("received_bytes_total", "sent_bytes_total"):  # what has ended counts still
        assert later[name] >= seen[name]
    assert later["draining"] == 0
    server.stop.set()
    await peer.to_end()
    await happens(server.ended)
    ended = metrics.now
    assert ended[f"connections{{protocol={protocol}}}"] == 0
    assert ended[f"connections_ended_total{{protocol={protocol},reason=drained}}"] == 1
    assert ended["draining"] == 1
    assert 0 < ended["drain_seconds"] < 5
    assert ended["drain_seconds"] == metrics.now["drain_seconds"]


@pytest.mark.both_versions
async def test_idle_connections(serving: Serving, version: str) -> None:
    metrics = Told()
    limits = Limits(idle_seconds=0.05, head_seconds=0.3)
    server = await serving(simple, metrics=metrics, limits=limits)
    peer, ending = await server.connect(), metrics.ending
    await peer.send(OK)
    await peer.has(b"ok\n")
    await peer.to_end()
    await happens(ending)
    name = f"connections_ended_total{{protocol=HTTP/{version[0]},reason=idle}}"
    assert metrics.now[name] == 1


async def test_refused_connections(serving: Serving) -> None:
    metrics = Told()
    server = await serving(simple, metrics=metrics, limits=Limits(connections=1, refusals=1))
    peers = [await server.connect() for _ in range(3)]
    assert await peers[2].to_end() == b""
    await peers[1].send(GET)
    await peers[1].has(b" 503 ")
    seen = metrics.now
    assert seen["connections_refused_total{how=answered}"] == 1
    assert seen["connections_refused_total{how=dropped}"] == 1
    assert seen["connections_accepted_total"] == 2


async def test_no_client_makes_a_series(serving: Serving) -> None:
    metrics = Told()

    async def app(request: Request) -> None:
        if request.path == "/":
            request.exchange.cancel(request.query.get("reason", ""))
            await trio.sleep_forever()
        await request.exchange.respond(200, [], label=request.path)

    server = await serving(app, metrics=metrics)
    for number in range(3):
        peer = await server.connect()
        await peer.send(b"BREW%d" % number + get(f"/?reason={number}")[3:])
        await peer.to_end()
    peer = await server.connect()
    await peer.send(b"GET nowhere HTTP/1.1\r\n\r\n")
    await peer.to_end()
    peer = await server.connect()
    for number in range(MOST_KINDS + 2):
        await peer.send(get(f"/{number}"))
        await peer.has(b"\r\n\r\n")
    await trio.testing.wait_all_tasks_blocked()
    seen = metrics.now
    assert seen["requests_total{method=other,status=0}"] == 3
    assert seen["requests_total{method=other,status=400}"] == 1
    assert seen["connections_ended_total{protocol=HTTP/1,reason=other}"] == 3
    assert seen["requests_ended_total{kind=other,reason=done}"] == 3
    kinds = {name for name in seen if name.startswith("request_duration_seconds_count")}
    assert len(kinds) == MOST_KINDS + 1
    assert "PROPFIND" not in METHODS


# -- Channels -------------------------------------------------------------------------------------


async def test_what_becomes_of_entries(connect: Connect) -> None:
    channels = Channels(select=lambda text: lambda entry: text in entry.data)
    channel = Channel(entries=4)
    metrics = Metrics({"many": channels, "one": channel}, registry=CollectorRegistry())

    def now(name: str) -> dict[str, float]:
        """The values of a channel, by the rest of their names."""
        pattern = re.compile(rf"channel_?(\w+)\{{channel={name}(?:,state=(\w+))?\}}")
        found = {
            pattern.fullmatch(key): value for key, value in values_of(metrics.collect()).items()
        }
        return {match[2] or match[1]: value for match, value in found.items() if match}

    async def app(request: Request) -> None:
        if request.path == "/one":
            await serve_channel(request, channel)
        else:
            await serve_channels(request, channels, request.path[1:])

    first, second, unwilling = connect(app), connect(app), connect(app)
    await first.send(get("/a", EVENTS))
    await second.send(get("/a", EVENTS))
    await unwilling.send(get("/a?only=nothing", EVENTS))
    await trio.testing.wait_all_tasks_blocked()
    nothing = dict.fromkeys(now("many"), 0)
    assert now("many") == {**nothing, "s": 1, "s_connected": 1, "waiting": 3}
    channels.get("a").publish("hello")
    await first.has(b"hello")
    await second.has(b"hello")
    await trio.testing.wait_all_tasks_blocked()
    seen = now("many")
    assert seen["entries_total"] == 1
    assert seen["entry_bytes_total"] == seen["held_bytes"] == len("hello")
    assert seen["deliveries_total"] == 2
    assert seen["flush_seconds_count"] == 1
    assert seen["flush_seconds_sum"] > 0
    assert (seen["held_entries"], seen["behind"]) == (1, 0)

    await trio.aclose_forcefully(first.stream)
    channels.forget("a")
    channels.get("b").publish("again")
    assert now("many")["entries_total"] == 2
    assert now("many")["held_entries"] == 1

    for number in range(6):
        channel.publish(str(number))
    lost = connect(app)
    await lost.send(get("/one?after=0123abcd-1", EVENTS))
    await lost.has(b"data: 5\n\n")
    poller = connect(app)
    await poller.send(get("/one?wait=9&after=0123abcd-1"))
    await poller.has(b'"gap"')
    await trio.testing.wait_all_tasks_blocked()
    seen = now("one")
    assert (seen["entries_total"], seen["held_entries"], seen["gaps_total"]) == (6, 4, 2)
    assert seen["deliveries_total"] == 2
    assert seen["delivered_bytes_total"] > 4 * len("data: 0\n\n")
    await poller.send(get(f"/one?wait=9&after={channel.id_of(channel.end)}"))
    await trio.testing.wait_all_tasks_blocked()
    assert now("one")["waiting"] == 2


async def test_deliveries_over_sockets_are_counted_to_the_byte() -> None:
    """Direct writes are not counted one by one. Here some are cut short, and some refused."""
    channel = Channel()
    registry = CollectorRegistry()
    Metrics({"it": channel}, registry=registry)

    def value(name: str, **labels: str) -> float:
        name = f"rawstream_channel_{name}"
        return registry.get_sample_value(name, {"channel": "it", **labels}) or 0

    async with connected(lambda request: serve_channel(request, channel)) as (peer, _):
        await peer.send(get("/", EVENTS))
        await peer.until(b"\n\n\r\n")  # where it begins
        for number in range(30):
            channel.publish("x" * 1000 + f" {number}")
            await trio.testing.wait_all_tasks_blocked()
        assert value("readers", state="behind") == 1
        received = await peer.until(b" 29\n\n\r\n")
        await trio.testing.wait_all_tasks_blocked()
        assert value("readers", state="waiting") == 1
    assert value("readers", state="waiting") == 0
    assert value("entries_total") == 30
    assert value("delivered_bytes_total") == len(received)
    assert 1 < value("deliveries_total") < 30


# -- What Prometheus reads ------------------------------------------------------------------------


async def test_both_formats(connect: Connect) -> None:
    metrics = Metrics()
    peer = connect(metrics.respond)
    await peer.send(GET)
    head, _, text = (await peer.has(b"rawstream_drain_seconds 0.0\n")).partition(b"\r\n\r\n")
    assert b"Content-Type: text/plain; version=" in head
    assert b"Vary: Accept\r\n" in head
    names = {family.name for family in metrics_of(text.decode())}
    assert {"rawstream_connections", "process_resident_memory_bytes"} <= names
    await peer.send(get("/", f"Accept: {OPEN_METRICS}\r\n".encode()))
    head, _, text = (await peer.until(b"# EOF\n")).partition(b"\r\n\r\n")
    assert b"Content-Type: application/openmetrics-text; version=1.0.0" in head
    assert "rawstream_requests" in {family.name for family in open_metrics_of(text.decode())}
    await peer.send(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
    assert b" 405 " in await peer.has(b"405 Method Not Allowed\n")


def test_a_registry_of_the_program() -> None:
    registry = CollectorRegistry()
    Counter("jobs", "Jobs that were done.", registry=registry).inc()
    Metrics(registry=registry)
    values = values_of(registry.collect())
    assert values["jobs_total"] == 1
    assert values["connections_accepted_total"] == 0
    with pytest.raises(ValueError, match="rawstream_connections"):
        Metrics(registry=registry)
    assert not [name for name in values_of(REGISTRY.collect()) if name.startswith("connections")]


# -- The demo, the logs, and the dashboard --------------------------------------------------------

DASHBOARD = json.loads((ROOT / "examples/deploy/grafana-dashboard.json").read_text())


def test_the_dashboard_is_whole() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken = set[tuple[int, int]]()
    for panel in panels:
        place = panel["gridPos"]
        squares = {
            (place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not squares & taken, panel["title"]
        taken |= squares
        assert panel["type"] == "row" or panel["targets"], panel["title"]
    names = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    text = json.dumps(DASHBOARD)
    assert set(re.findall(r"\$\{?(\w+)", text)) - {"__all", "__rate_interval"} == names


def test_the_readme_names_all_of_them() -> None:
    section = (ROOT / "README.md").read_text().partition("## Metrics")[2].partition("\n## ")[0]
    named = re.findall(r"`(\w+)`", section.partition("|---|---|")[2].partition("\n- ")[0])
    told = {
        f"{family.name}_total" if family.type == "counter" else family.name
        for family in Told().collect()
    }
    assert {f"rawstream_{name}" for name in named} == told


async def test_the_dashboard_names_what_the_demo_shows() -> None:
    async with running("--port", "0", "--no-access-log") as program:
        async with httpx.AsyncClient(base_url=program.url) as client:
            assert (await client.get("/healthz")).text == "ok\n"
            assert (await client.get("/hello", headers={"Connection": "close"})).status_code == 200
            text = ""
            with trio.fail_after(PATIENCE):
                while "rawstream_connections_ended_total{" not in text:  # the first one has
                    response = await client.get("/metrics", headers={"Accept": OPEN_METRICS})
                    text = response.text
    families = list(open_metrics_of(text))
    shown = {sample.name for family in families for sample in family.samples}
    expressions = [
        target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])
    ]
    named = {
        name for text in expressions for name in re.findall(r"\b(?:rawstream|process)_\w+", text)
    }
    assert named <= shown
    ours = {family.name for family in families if family.name.startswith("rawstream_")}
    assert not [name for name in ours if not any(one.startswith(name) for one in named)]


def test_the_logs_show_metrics_to_those_who_may_read(tmp_path: Path) -> None:
    with logs("--token", "secret", str(tmp_path / "app.log")) as url:
        with httpx.Client(base_url=url) as client:
            assert client.get("/healthz").text == "ok\n"
            assert client.get("/metrics").status_code == 401
            bearer = {"Authorization": "Bearer secret"}
            text = client.get("/metrics", headers=bearer).text
    seen = values_of(metrics_of(text))
    assert seen["requests_total{method=GET,status=401}"] == 1
    assert seen["channels{channel=logs}"] == 0


async def test_the_demo_shows_metrics_only_with_its_token_where_it_has_one(
    connect: Connect,
) -> None:
    live = LiveWire(WireRecorder(on_demand=True), token="secret")
    peer = connect(Monitoring({}).beside(simple, live.check_token))
    await peer.send(get("/metrics"))
    await peer.has(b"403 Forbidden: this is shown only with ?token=, which the server printed\n")
    await peer.send(get("/metrics?token=secret"))
    await peer.has(b"rawstream_connections")


async def test_without_prometheus_client(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rawstream.monitoring.find_spec", lambda name: None)
    monitoring = Monitoring({})
    assert monitoring.metrics is None
    peer = connect(monitoring.beside(simple, lambda request: None))
    await peer.send(get("/metrics"))
    await peer.has(b'501 Not Implemented: metrics need: pip install "rawstream[metrics]"\n')
    await peer.send(get("/hello"))
    await peer.has(b"hello\n")


# -- Health ---------------------------------------------------------------------------------------


def health(
    handler: Callable[[Request], Awaitable[None]] = simple,
) -> Callable[..., Awaitable[None]]:
    return Monitoring({}).beside(handler, lambda request: None)


@pytest.mark.both_versions
async def test_health_checks_fail_before_connections_are_refused(serving: Serving) -> None:
    limits = Limits(lame_duck_seconds=0.3)
    server: Server = await serving(health(), limits=limits)
    kept = await server.connect()
    await kept.send(get("/healthz"))
    await kept.has(b"ok\n")
    server.stop.set()
    await trio.testing.wait_all_tasks_blocked()
    fresh = await server.connect()
    for peer in (kept, fresh):
        await peer.send(get("/healthz"))
        await peer.has(b"503 Service Unavailable: the server is stopping\n")
        await peer.send(OK)  # the service goes on
        await peer.has(b"ok\n")
    for peer in (kept, fresh):
        await peer.to_end()
    await happens(server.ended)
    with pytest.raises(OSError, match="all attempts"):
        await server.connect()


async def test_without_a_lame_duck_time_the_server_drains_at_once(serving: Serving) -> None:
    entered, stopped = trio.Event(), trio.Event()

    async def app(request: Request) -> None:
        assert not request.is_draining
        entered.set()
        await stopped.wait()
        await health()(request)

    server = await serving(app)
    peer = await server.connect()
    await peer.send(get("/healthz"))
    await happens(entered)
    server.stop.set()
    await trio.testing.wait_all_tasks_blocked()
    stopped.set()
    answer = await peer.to_end()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"Connection: close\r\n" in answer
