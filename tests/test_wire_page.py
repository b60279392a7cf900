"""The wire in headless Chromium: live behind the proxy and in the demo, and as a page to keep."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest
from browser import page_in, prompt, serious, width_of
from peers import COMMAND, fetched, free_ports, served
from playwright.sync_api import Browser, Page, expect

CAPTURES = Path(__file__).parent / "captures"
PHONE = {"width": 390, "height": 844}
DESK = {"width": 1440, "height": 900}


Keep = Callable[[Path], str]
"""Of the fixture `kept`."""


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Keep:
    """The URL of a page to keep, made of a recording once."""
    folder = tmp_path_factory.mktemp("kept")

    @cache
    def kept(capture: Path) -> str:
        html = folder / f"{capture.stem}.html"
        command = [*COMMAND, "wire", str(capture), "--html", str(html)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        return html.as_uri()

    return kept


@contextmanager
def demo_and_proxy() -> Iterator[tuple[str, str]]:
    """The URLs of a proxy before the demo, and of its page."""
    port, proxy, page = free_ports(3)
    with served(*COMMAND, "--port", str(port), announced=b"rawstream on"):
        command = [*COMMAND, "wire", "--to", f"http://127.0.0.1:{port}"]
        command += ["--port", str(proxy), "--page-port", str(page)]
        with served(*command, announced=b"rawstream wire on"):
            yield f"http://127.0.0.1:{proxy}", f"http://127.0.0.1:{page}/wire"


def test_a_page_to_keep_shows_every_byte(browser: Browser, kept: Keep) -> None:
    with page_in(browser, viewport=DESK) as page:
        requests: list[str] = []
        page.on("request", lambda request: requests.append(request.url))
        for capture in sorted(CAPTURES.glob("*.jsonl")):
            lines = [json.loads(line) for line in capture.read_text().splitlines()[1:]]
            requests.clear()
            page.goto(kept(capture))
            expect(page.locator("#state")).to_have_text(f"{len(lines)} reads and writes")
            shown = page.evaluate(
                """async () => {
                    ladder.observer.disconnect();
                    ladder.blocks.forEach(block => ladder.build(block));
                    document.querySelectorAll(".more").forEach(button => button.click());
                    return [...document.querySelectorAll(".piece")].map(piece => ({
                        to: piece.dataset.to,
                        bytes: [...piece.querySelectorAll(".byte")].map(byte => byte.firstChild.data),
                    }));
                }"""
            )
            assert [piece["to"] for piece in shown] == [line["to"] for line in lines]
            for piece, line in zip(shown, lines, strict=True):
                assert bytes.fromhex("".join(piece["bytes"])) == line["bytes"].encode("latin-1")
            assert requests == [page.url], "it needs nothing from elsewhere"


def test_a_byte_is_explained_in_every_layer(browser: Browser, kept: Keep) -> None:
    with page_in(browser, viewport=DESK) as page:
        page.goto(kept(CAPTURES / "websocket.jsonl"))
        first = page.locator(".element[data-layer=websocket] .byte").first
        first.hover()
        explained = page.locator("aside")
        expect(explained).to_contain_text("FIN")
        expect(explained).to_contain_text("RFC 6455 section 5.2")
        expect(explained).to_contain_text("tcp: read")
        assert page.locator(".element.lit .byte").count() == 1
        page.goto(kept(CAPTURES / "events.jsonl"))
        size = page.locator(".box[data-layer=http]", has_text="chunk-size").first
        size.locator(".byte").first.focus()
        expect(explained).to_contain_text("http: chunk-size")
        page.keyboard.press("ArrowRight")
        expect(explained).to_contain_text("0x0d = 13 = 0000 1101")
        page.keyboard.press("Escape")
        assert page.evaluate("document.activeElement.className") == "rung"


def test_an_event_stands_in_its_data_frame(browser: Browser, kept: Keep) -> None:
    with page_in(browser, viewport=DESK) as page:
        page.goto(kept(CAPTURES / "http2-events.jsonl"))
        expect(page.locator("#connection option")).to_contain_text(["All", "GET /ticks"])
        expect(page.locator(".chip", has_text="header section GET /ticks")).to_be_visible()
        explained = page.locator("aside")
        flags = page.locator(".box[data-layer=http2]", has_text="HEADERS").first
        flags.locator(".byte").nth(4).hover()
        expect(explained).to_contain_text("http2: flags")
        expect(explained).to_contain_text("END_HEADERS")
        event = page.locator(".element[data-layer=sse]").nth(1)
        event.locator(".byte").first.hover()
        for layer in (
            "sse: ",
            "http: content",
            "http2: data",
            "in: frameDATA, stream 1",
            "tcp: write",
        ):
            expect(explained).to_contain_text(layer)
        page.uncheck("#layers input[value=http2]")
        assert page.locator(".box[data-layer=http2]").count() == 0
        assert page.locator(".box[data-layer=sse]").count() > 0


def test_bytes_of_one_event_are_lit_in_all_its_chunks(
    browser: Browser, kept: Keep, tmp_path: Path
) -> None:
    """One event in three chunks: what is not known from one write is shown in all of them."""
    head = (
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    texts = [head, "6\r\ndata: \r\n", "3\r\none\r\n", "2\r\n\n\n\r\n"]
    pieces = [("server", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"), *(("client", t) for t in texts)]
    lines = ['{"rawstream-wire": 1}']
    lines += [
        json.dumps({"connection": 1, "time": n / 10, "to": to, "bytes": text})
        for n, (to, text) in enumerate(pieces)
    ]
    capture = tmp_path / "one.jsonl"
    capture.write_text("\n".join(lines))
    with page_in(browser, viewport=DESK) as page:
        page.goto(kept(capture))
        page.locator(".element[data-layer=sse]", has_text="6f").locator(".byte").first.hover()
        near = page.locator(".element.lit, .element.near").all_inner_texts()
        assert any("64" in text for text in near), "the field name, in another chunk"


def test_filters_and_depths(browser: Browser, kept: Keep) -> None:
    with page_in(browser, viewport=DESK) as page:
        page.goto(kept(CAPTURES / "events.jsonl"))
        expect(page.locator(".box[data-layer=http]").first).to_be_visible()
        for layer in ("tcp", "http", "ndjson", "websocket", "message"):
            page.uncheck(f"#layers input[value={layer}]")
        assert page.locator(".box[data-layer=http]").count() == 0
        assert page.locator(".box[data-layer=sse]").count() > 0
        page.check("#layers input[value=http]")
        page.uncheck("#layers input[value=sse]")
        data = page.locator(".box[data-layer=http]", has_text="chunk-data").first
        assert data.locator(".byte").count() > 0, "the bytes of a layer that is left out"
        page.check("#layers input[value=sse]")
        page.check("#layers input[value=tcp]")
        page.select_option("#depth", "pieces")
        assert page.locator(".box").count() == 0
        page.locator(".rung").nth(1).click()
        assert page.locator(".byte").count() > 0
        page.select_option("#depth", "layers")
        assert page.locator(".byte").count() == 0
        assert page.locator(".box").count() > 0
        page.select_option("#connection", "1")
        assert page.locator(".piece").count() > 0


def test_live_behind_the_proxy(browser: Browser, tmp_path: Path) -> None:
    with demo_and_proxy() as (proxy, url), page_in(browser, viewport=DESK) as page:
        page.goto(url)
        expect(page.locator("#state")).to_have_text("0 reads and writes")
        page.evaluate("wire.add({ connection: 99, lost: 'too much at once' })")
        expect(page.locator(".rung", has_text="not shown any further: too much")).to_be_visible()
        assert fetched(f"{proxy}/ticks?count=2&seconds=0.1").endswith(b"data: [DONE]\n\n")
        expect(page.locator(".chip", has_text="[DONE]")).to_be_visible()
        expect(page.locator("#connection option")).to_contain_text(["All", "GET /ticks?count=2"])
        page.click("#pause")
        before = page.locator(".piece").count()
        fetched(f"{proxy}/hello")
        expect(page.locator("#state")).to_contain_text("not shown yet")
        assert page.locator(".piece").count() == before
        page.click("#step")
        assert page.locator(".piece").count() == before + 1
        page.click("#pause")
        expect(page.locator(".chip", has_text="GET /hello")).to_be_visible()
        with page.expect_download() as download:
            page.click("#save")
        download.value.save_as(tmp_path / "saved.html")
        saved = page.context.new_page()
        saved.goto((tmp_path / "saved.html").as_uri())
        expect(saved.locator(".chip", has_text="GET /hello")).to_be_visible()
        expect(saved.locator("#save")).to_be_hidden()


def test_the_page_goes_on_when_the_proxy_was_away(browser: Browser) -> None:
    port, proxy, page_port = free_ports(3)
    command = [*COMMAND, "wire", "--to", f"http://127.0.0.1:{port}"]
    command += ["--port", str(proxy), "--page-port", str(page_port)]
    with (
        served(*COMMAND, "--port", str(port), announced=b"rawstream on"),
        page_in(browser, viewport=DESK) as page,
    ):
        with served(*command, announced=b"rawstream wire on"):
            page.goto(f"http://127.0.0.1:{page_port}/wire")
            fetched(f"http://127.0.0.1:{proxy}/hello")
            expect(page.locator(".piece")).to_have_count(4)
        expect(page.locator("#state")).to_contain_text("trying again")
        with served(*command, announced=b"rawstream wire on"):
            expect(page.locator("#state")).not_to_contain_text("trying again", timeout=10_000)
            fetched(f"http://127.0.0.1:{proxy}/hello")
            expect(page.locator(".piece")).to_have_count(8)


def long_capture(path: Path, frames: int) -> Path:
    """A recording of a WebSocket with this many frames."""
    handshake = (
        "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    frame = (b"\x81\x84" + bytes(4) + b"text").decode("latin-1")
    pieces = [("server", handshake), ("client", answer), *[("server", frame)] * frames]
    lines = ['{"rawstream-wire": 1}']
    lines += [
        json.dumps({"connection": 1, "time": n / 1000, "to": to, "bytes": text})
        for n, (to, text) in enumerate(pieces)
    ]
    path.write_text("\n".join(lines))
    return path


def cpu_of_scrolling(page: Page, steps: int) -> float:
    """Scroll 83 frames further, 120 times, from the top again after so many steps. Return the
    seconds of CPU that a step takes the thread of the page: the browser shares its cores with other
    tests, so the clock would tell of them."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def used() -> float:
        metrics = session.send("Performance.getMetrics")["metrics"]
        return next(float(m["value"]) for m in metrics if m["name"] == "TaskDuration")

    before = used()
    page.evaluate(
        """async steps => {
            const jump = document.documentElement.scrollHeight / steps;
            for (let step = 0; step < 120; step += 1) {
                scrollTo(0, jump * (step % steps));
                await new Promise(requestAnimationFrame);
            }
        }""",
        steps,
    )
    return (used() - before) / 120


def test_a_long_recording_is_as_smooth_as_a_short_one(
    browser: Browser, kept: Keep, tmp_path: Path
) -> None:
    """Of 10,000 frames only what is near the window is in the document."""
    with prompt(browser) as alone:
        with page_in(alone, viewport=DESK) as page:
            page.goto(kept(long_capture(tmp_path / "short.jsonl", 1000)))
            expect(page.locator("#state")).to_have_text("1002 reads and writes", timeout=30_000)
            short = cpu_of_scrolling(page, 12)
        with page_in(alone, viewport=DESK) as page:
            page.goto(kept(long_capture(tmp_path / "long.jsonl", 10_000)))
            expect(page.locator("#state")).to_have_text("10002 reads and writes", timeout=30_000)
            assert 0 < cpu_of_scrolling(page, 120) < 3 * short
            assert page.locator(".piece").count() < 1000
            page.evaluate("ladder.reveal(wire.pieces.at(-1))")
            expect(page.locator("#piece-10001 .rung")).to_be_focused()


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
@pytest.mark.parametrize("name", ["websocket", "http2-events"])
def test_everybody_can_use_it(
    browser: Browser, size: dict[str, int], name: str, kept: Keep
) -> None:
    with page_in(browser, viewport=size) as page:
        page.goto(kept(CAPTURES / f"{name}.jsonl"))
        page.locator(".byte").nth(5).focus()
        assert serious(page) == []
        page.emulate_media(color_scheme="dark")
        assert serious(page) == []
        assert width_of(page) <= size["width"]


def test_a_second_proxy_on_a_port_says_so_in_one_line() -> None:
    port, page_port, other = free_ports(3)
    command = [*COMMAND, "wire", "--to", "http://127.0.0.1:9", "--page-port", str(page_port)]
    with served(*command, "--port", str(port), announced=b"rawstream wire on"):
        done = subprocess.run(
            [*command, "--port", str(other)],
            capture_output=True, text=True, check=False, timeout=20,
        )  # fmt: skip
    assert done.returncode == 1
    assert re.fullmatch(r"rawstream: .*in use.*\n", done.stderr)
