"""The demo's page in headless Chromium, with the server killed and started in between."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Literal, TypeAlias
from urllib.parse import urlsplit

import pytest
from browser import page_in, serious, width_of
from peers import COMMAND, PATIENCE, Certificate, free_port, served
from playwright.sync_api import Browser, Page, Request, expect

Scheme: TypeAlias = Literal["light", "dark"]

Visit = Callable[..., AbstractContextManager[Page]]
"""Of the fixture `visit`."""


def demo(port: int, *arguments: str) -> AbstractContextManager[subprocess.Popen[bytes]]:
    """The demo in a process; killed at the end."""
    return served(*COMMAND, "--port", str(port), *arguments, announced=b"rawstream on")


@pytest.fixture(scope="module")
def visit(browser: Browser) -> Iterator[Visit]:
    """`with visit() as page`: the page of a demo that runs for all tests which let it run."""
    port = free_port()

    @contextmanager
    def visit(**options: Any) -> Iterator[Page]:
        with page_in(browser, **options) as page:
            page.goto(f"http://127.0.0.1:{port}/")
            yield page

    # Nobody reads what it prints.
    with demo(port, "--no-access-log"):
        yield visit


def out(page: Page, way: str) -> list[str]:
    """What an experiment has printed."""
    return page.locator(f"#{way} .out").first.inner_text().splitlines()


def wait_for(page: Page, place: str, text: str, seconds: float = 20) -> None:
    expect(page.locator(f"#{place}")).to_contain_text(text, timeout=seconds * 1000)


def seen(page: Page) -> list[int]:
    """How many entries each lane has read."""
    counts: list[int] = page.evaluate("lanes.map(lane => lane.seen)")
    return counts


def wait_until_all_have_seen(page: Page, counts: list[int]) -> None:
    page.wait_for_function(
        "counts => lanes.every((lane, n) => lane.seen > counts[n] && lane.isOpen)", arg=counts
    )


def test_every_way_can_be_tried(visit: Visit) -> None:
    with visit() as page:
        page.fill("#ticks input", "2")
        for way in ("chunked", "ticks", "ws", "poll"):
            page.click(f"#{way} button.main")
        wait_for(page, "chunked", "a read is not a chunk")
        assert out(page, "chunked") == ["You said: Why is the sky blue?."]
        wait_for(page, "ticks", "[DONE] is the agreed last event")
        assert [line.split()[1] for line in out(page, "ticks")[:-1]] == ["1", "2"]
        assert out(page, "ticks")[-1] == "[DONE]"
        wait_for(page, "ws", "\u2190 hello")
        wait_for(page, "ws", '{"push": 1}')
        wait_for(page, "poll", "waiting, with cursor")
        assert out(page, "poll") == ["news"]
        page.click("#chunked-curl")
        expect(page.locator("#chunked-curl-panel")).to_have_text(
            f"curl -N -d 'Why is the sky blue?' {page.url}generate"
        )


def test_large_files(visit: Visit) -> None:
    with visit() as page:
        page.click("#files summary")
        page.click("#download button")
        wait_for(page, "download", "20000000 bytes in")
        assert [line.split()[0] for line in out(page, "download")[:2]] == ["206", "206"]
        page.set_input_files(
            "#upload input", {"name": "a", "mimeType": "text/plain", "buffer": b"abc"}
        )
        page.click("#upload button")
        wait_for(page, "upload", '"bytes": 3')


def test_a_second_start_ends_the_first(visit: Visit) -> None:
    """Their lines do not mix; what is in the fields counts at each start."""
    with visit() as page:
        page.fill("#chunked input", "one two three four five six seven")
        page.click("#chunked button.main")
        wait_for(page, "chunked", "You said: one")
        page.click("#chunked button.main")
        wait_for(page, "chunked", "stopped")
        page.fill("#chunked input", "again")
        page.click("#chunked button.main")
        wait_for(page, "chunked", "a read is not a chunk")
        assert out(page, "chunked") == ["You said: again."]


def test_refusals_are_told(visit: Visit) -> None:
    with visit() as page:
        page.fill("#chunked input", "   ")
        page.click("#chunked button.main")
        wait_for(page, "chunked", "400 Bad Request: POST a prompt")
        page.evaluate("document.querySelector('#ticks input').value = '-5'")
        page.evaluate("document.querySelector('#ticks form').noValidate = true")
        page.click("#ticks button.main")
        wait_for(page, "ticks", "refused for good")


@pytest.mark.parametrize(
    ("fault", "told", "writes"),
    [
        ("bytes", "a read is not a chunk", 30),
        ("join", "a read is not a chunk", 4),
        ("buffer", "a read is not a chunk", 3),
        ("drop", "network error", 4),
    ],
)
def test_faults_are_seen_on_the_wire(visit: Visit, fault: str, told: str, writes: int) -> None:
    """`writes`: at least this many for a fault that divides, else at most."""
    with visit() as page:
        page.select_option("#chunked select", fault)
        page.fill("#chunked input", "one two three")
        page.click("#chunked-Wire")
        page.click("#chunked button.main")
        wait_for(page, "chunked .status", told)
        pieces = "experiments[0].ladder.blocks.flatMap(block => block.pieces)"
        sent = f"{pieces}.filter(piece => piece.to === 'client').length"
        page.wait_for_function(f"{sent} >= {writes if fault == 'bytes' else 1}")
        page.wait_for_timeout(200)  # nothing more comes
        if fault != "bytes":
            assert page.evaluate(sent) <= writes + (fault == "drop")
        expect(page.locator("#chunked .piece").last).to_be_attached()


def test_one_channel_read_four_ways_loses_and_repeats_nothing(visit: Visit) -> None:
    """Connections are cut; each reader comes back and goes on from its cursor. (A poll that is cut
    the browser repeats by itself, unseen by the page.)"""
    with visit() as page:
        wait_until_all_have_seen(page, [3] * 4)
        for _ in range(2):
            before = seen(page)
            for lane in range(4):
                page.locator(".lane button").nth(lane).click()
            wait_until_all_have_seen(page, [count + 12 for count in before])
        assert page.locator(".scissors").count() == 8
        assert page.locator(".dot.late").count() > 0
        page.click("#publishing")
        assert page.locator("#publishing").inner_text() == "Start"
        page.wait_for_function("new Set(lanes.map(lane => lane.cursor)).size === 1")
        assert page.locator("#lost, #repeated").all_inner_texts() == ["0", "0"]
        state = page.locator("#lanes-state")
        expect(state).to_have_text(re.compile(r"^published (\d+), acknowledged \1$"))
        cuts = page.evaluate("lanes.map(lane => lane.cuts)")
        assert cuts[0] == cuts[1] == cuts[3] == 2, "a retry that fails is no cut"


def test_a_hidden_tab_leaves_its_connections_to_others(visit: Visit) -> None:
    with visit() as page:
        wait_until_all_have_seen(page, [2] * 4)
        page.evaluate(
            """() => {
                Object.defineProperty(document, "hidden", { value: true, configurable: true });
                document.dispatchEvent(new Event("visibilitychange"));
            }"""
        )
        before = seen(page)
        for n in range(3):
            page.evaluate(f"fetch('/channels/news', {{ method: 'POST', body: 'missed {n}' }})")
        page.wait_for_timeout(300)
        assert seen(page) == before
        page.evaluate(
            """() => {
                Object.defineProperty(document, "hidden", { value: false });
                document.dispatchEvent(new Event("visibilitychange"));
            }"""
        )
        wait_until_all_have_seen(page, [count + 2 for count in before])
        assert page.locator("#lost, #repeated").all_inner_texts() == ["0", "0"]


def test_two_tabs_poll_the_same_lines(visit: Visit) -> None:
    with visit() as page:
        other = page.context.new_page()
        other.goto(page.url)
        for tab, text in ((page, "one"), (other, "two"), (page, "three")):
            tab.bring_to_front()
            tab.fill("#poll input", text)
            tab.click("#poll button.main")
            wait_for(tab, "poll", text)
        for tab, text in ((page, "one\ntwo\nthree\n"), (other, "two\nthree\n")):
            expect(tab.locator("#poll .out").first).to_have_text(text)


def test_the_server_is_killed_and_started_again(browser: Browser) -> None:
    port = free_port()
    with page_in(browser) as page:
        with demo(port) as process:
            page.goto(f"http://127.0.0.1:{port}/")
            page.fill("#ticks input", "5")
            page.click("#ticks button.main")
            page.click("#ws button.main")
            wait_for(page, "ws", "hello")
            wait_for(page, "ticks", "id 2 ")
            wait_until_all_have_seen(page, [2] * 4)
            process.kill()
            process.wait()
        wait_for(page, "ticks", "reconnects by itself")
        wait_for(page, "ws", "closed with code 1006")
        wait_for(page, "tracks", "reconnecting")
        with demo(port):
            wait_for(page, "ticks", "[DONE] is the agreed last event")
            assert [line.split()[1] for line in out(page, "ticks")[:-1]] == list("12345")
            wait_until_all_have_seen(page, [count + 2 for count in seen(page)])


@pytest.mark.parametrize(
    ("width", "schemes"),
    [(1440, ("light", "dark")), (390, ("dark", "light"))],
    ids=["desk", "phone"],
)
def test_everybody_can_use_it(visit: Visit, width: int, schemes: tuple[Scheme, Scheme]) -> None:
    """In both schemes, and when the other one is chosen while the page is open."""
    options = {"viewport": {"width": width, "height": 900}, "color_scheme": schemes[0]}
    with visit(**options) as page:
        wait_until_all_have_seen(page, [1] * 4)
        page.click("#publishing")
        page.click("#ticks-Wire")
        page.click("#ticks button.main")
        expect(page.locator("#ticks .piece").nth(1)).to_be_attached()
        assert serious(page) == [], schemes[0]
        page.emulate_media(color_scheme=schemes[1])
        assert serious(page) == [], schemes[1]
        assert width_of(page) <= width
        small = page.evaluate(
            """() => [...document.querySelectorAll("main button, main input, main select, summary")]
                .filter(one => one.checkVisibility() && !one.matches(".more"))
                .filter(one => one.getBoundingClientRect().height < 44)
                .map(one => one.outerHTML.slice(0, 80))"""
        )
        assert small == []


def test_https_and_wss(browser: Browser, certificate: Certificate) -> None:
    port = free_port()
    tls = ("--certfile", str(certificate.certfile), "--keyfile", str(certificate.keyfile))
    with demo(port, *tls), page_in(browser, ignore_https_errors=True) as page:
        page.goto(f"https://127.0.0.1:{port}/")
        page.click("#ws button.main")
        wait_for(page, "ws", '{"push": 1}')
        page.fill("#ticks input", "1")
        page.click("#ticks button.main")
        wait_for(page, "ticks", "[DONE] is the agreed last event")


# -- Fifty event streams at once ------------------------------------------------------------------


KEEP_THE_TIMER = """
const { setTimeout } = window;
window.setTimeout = (act, milliseconds) => {
  if (milliseconds === 20_000) window.after20Seconds = act;
  return setTimeout(act, milliseconds);
};
"""


@contextmanager
def demo_page_over_http2(browser: Browser) -> Iterator[tuple[Page, subprocess.Popen[bytes]]]:
    """The page of a demo of its own, and its process."""
    port = free_port()
    # A drain that is not immediate takes longer than the test has patience.
    options = ("--port", str(port), "--dev-cert", "--limit", "drain_seconds=60")
    with served(*COMMAND, *options, announced=b"authority.pem") as process:
        assert process.stdout is not None
        assert b"rawstream on https" in process.stdout.readline()
        with page_in(browser, ignore_https_errors=True) as page:
            page.add_init_script(KEEP_THE_TIMER)
            page.goto(f"https://127.0.0.1:{port}/")
            yield page, process


@pytest.mark.usefixtures("kept")
def test_the_wire_of_an_experiment_over_http2(browser: Browser) -> None:
    with demo_page_over_http2(browser) as (page, _):
        wait_until_all_have_seen(page, [1] * 4)
        page.click("#ticks-Wire")
        page.click("#ticks button.main")
        data = page.locator("#ticks .piece", has_text="DATA")
        expect(data.first).to_be_attached()


def wait_for_events(page: Page, streams: list[int], events: int) -> None:
    """Wait until just so many streams of each origin have received so many events."""
    page.wait_for_function(
        """([streams, events]) => fifty.every((origin, n) =>
             origin.events.filter(count => count >= events).length === streams[n])""",
        arg=[streams, events],
    )


def connections(url: str) -> int:
    """How many connections the server of this URL has."""
    port, established = urlsplit(url).port, "01"
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(
        local.endswith(f":{port:04X}") and state == established for _, local, _, state, *_ in lines
    )


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `--dev-cert` keeps is that of this test."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))


@pytest.mark.usefixtures("kept")
def test_http2_carries_fifty_event_streams_on_one_connection(browser: Browser) -> None:
    """HTTP/1.1 beside it carries six, each on its own. Ctrl-C ends all of them properly."""
    with demo_page_over_http2(browser) as (page, process):
        [entry] = page.evaluate("performance.getEntriesByType('navigation')")
        assert entry["nextHopProtocol"] == "h2"
        wait_until_all_have_seen(page, [1] * 4)
        before = connections(page.url)
        page.click("#fifty-button")
        wait_for_events(page, [50, 6], 2)
        status = page.locator("#fifty .status")
        expect(status).to_have_text(
            ["50 of 50 are open, over HTTP/2", "6 of 50 are open, over HTTP/1.1"]
        )
        assert page.evaluate("lanes.every(lane => lane.isOpen)")
        http2, http1 = page.evaluate("fifty.map(streams => streams.origin)")
        assert connections(http2) - before <= 1
        assert connections(http1) == 6

        finished = list[Request]()

        def is_last(request: Request) -> bool:
            finished.extend([request] * request.url.endswith("/pulse"))
            return len(finished) == 50 + 6

        with page.expect_event("requestfinished", is_last):
            process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 0
        page.evaluate("after20Seconds()")
        assert status.all_inner_texts() == [
            "closed: 50 of 50 were open, over HTTP/2",
            "closed: 6 of 50 were open, over HTTP/1.1",
        ]


def test_over_http1_six_event_streams_are_open_until_they_are_closed(visit: Visit) -> None:
    with visit() as page:
        wait_until_all_have_seen(page, [1] * 4)
        page.press("#fifty-button", "Enter")
        wait_for_events(page, [6], 1)
        # Another request waits, while the six receive more.
        page.evaluate("fetch('/hello').then(() => { window.answered = true; }) && null")
        wait_for_events(page, [6], 3)
        status = page.locator("#fifty .status")
        expect(status).to_have_text("6 of 50 are open, over HTTP/1.1")
        assert not page.evaluate("window.answered")
        page.click("#fifty-button")
        page.wait_for_function("window.answered")
        assert status.inner_text() == "closed: 6 of 50 were open, over HTTP/1.1"
        wait_until_all_have_seen(page, seen(page))


def test_a_foreign_page_opens_no_websocket(visit: Visit) -> None:
    other = free_port()
    with demo(other), visit() as page:
        url = page.url.replace("http", "ws")
        page.goto(f"http://127.0.0.1:{other}/hello")
        code = page.evaluate(
            """url => new Promise(done => {
                 const socket = new WebSocket(url);
                 socket.onopen = () => done("open");
                 socket.onclose = event => done(event.code);
               })""",
            f"{url}ws",
        )
    assert code == 1006
