"""follow.js in headless Chromium: servers that are killed, refuse and buffer; no place is lost."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from browser import page_in
from peers import COMMAND, NGINX, free_port, free_ports, program, served
from playwright.sync_api import Browser, Page

ROOT = Path(__file__).parent.parent
WAYS = ["websocket", "events", "lines", "poll"]

FOLLOW = """async ([url, options]) => {
    const { follow, Refused } = await import("/follow.js");
    window.got = []; window.states = []; window.failed = null; window.ended = false;
    window.stop = new AbortController();
    const onstate = state => states.push(state.status);
    window.reader = follow(url, { ...options, onstate, signal: stop.signal });
    (async () => {
        for await (const entry of reader) got.push(entry);
        window.ended = true;
    })().catch(error => { window.failed = `${error.constructor.name} ${error.status}`; });
}"""


@contextmanager
def page_of(browser: Browser, port: int) -> Iterator[Page]:
    with page_in(browser) as page:
        page.goto(f"http://127.0.0.1:{port}/hello")
        yield page


def demo(port: int, *arguments: str) -> AbstractContextManager[subprocess.Popen[bytes]]:
    return served(*COMMAND, "--port", str(port), *arguments, announced=b"rawstream on")


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """That of a demo which runs for all tests that let it run. Each reads channels of its own."""
    port = free_port()
    # Nobody reads what it prints.
    with demo(port, "--no-access-log"):
        yield port


def follow(page: Page, url: str, **options: object) -> None:
    page.evaluate(FOLLOW, [url, options])
    page.wait_for_function("states.includes('open') || failed")


def publish(page: Page, text: str, channel: str = "a") -> None:
    script = "([channel, body]) => fetch('/channels/' + channel, { method: 'POST', body })"
    page.evaluate(script, [channel, text])


def wait_for(page: Page, *texts: str, seconds: float = 20) -> None:
    """Wait until exactly these entries have come."""
    page.wait_for_function(
        "texts => got.filter(entry => 'data' in entry).length >= texts.length",
        arg=list(texts),
        timeout=seconds * 1000,
    )
    assert page.evaluate("got.filter(entry => 'data' in entry).map(entry => entry.data)") == [
        *texts
    ]


def test_the_types_of_modules_are_right(tmp_path: Path) -> None:
    """This one, and those of the page of the logs, which import it."""
    for script in (ROOT / "rawstream/follow.js", *(ROOT / "rawstream/logs").glob("*.js")):
        shutil.copy(script, tmp_path)
    command = [program("npm"), "exec", "--yes", "--package=typescript", "--", "tsc"]
    command += ["--allowJs", "--checkJs", "--noEmit", "--strict", "--target", "es2022"]
    command += ["--module", "es2022", "--lib", "es2023,dom,dom.iterable,dom.asynciterable"]
    command += [str(tmp_path / "page.js")]
    environment = os.environ | {"npm_config_cache": str(tmp_path / "npm")}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_way_goes_on_where_it_was(browser: Browser, port: int) -> None:
    """The connection is cut, and entries are published meanwhile."""
    with page_of(browser, port) as page:
        for way in WAYS:
            publish(page, "zero", way)
            follow(page, f"/channels/{way}?reader=me", ways=[way], after="0")
            publish(page, "one", way)
            wait_for(page, "zero", "one")
            page.evaluate("fetch('/cut?reader=me', { method: 'POST' })")
            publish(page, "two", way)
            publish(page, "three", way)
            wait_for(page, "zero", "one", "two", "three")
            page.evaluate("stop.abort()")
            page.wait_for_function("ended")
            assert page.evaluate("states.at(-1)") == "closed"
            assert page.evaluate("failed") is None


def test_a_restart_is_a_gap_in_each_way(browser: Browser) -> None:
    port = free_port()
    with page_in(browser) as page:
        tabs = {way: page if way == WAYS[0] else page.context.new_page() for way in WAYS}
        with demo(port):
            for way, tab in tabs.items():
                tab.goto(f"http://127.0.0.1:{port}/hello")
                follow(tab, "/channels/a", ways=[way])
            publish(page, "before")
            for tab in tabs.values():
                wait_for(tab, "before")
        for tab in tabs.values():
            tab.wait_for_function("states.includes('waiting')")
        with demo(port):
            for tab in tabs.values():
                tab.wait_for_function("got.some(entry => entry.gap)", timeout=30_000)
            publish(page, "after")
            for tab in tabs.values():
                wait_for(tab, "before", "after")


def test_what_does_not_get_through_is_followed_by_the_next_way(
    browser: Browser, tmp_path: Path
) -> None:
    """Behind an nginx that buffers and passes no upgrade on, only polls get through."""
    port, front = free_ports(2)
    more = "proxy_set_header Host $http_host; proxy_ignore_headers X-Accel-Buffering;"
    config = NGINX.format(port=front, behind=port, more=more)
    (tmp_path / "nginx.conf").write_text(config)
    command = [program("nginx"), "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")]
    tmp_path.chmod(0o755)
    with demo(port), page_in(browser) as page:
        nginx = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            for _ in range(100):
                if subprocess.run(
                    [program("curl"), "-so", os.devnull, f"http://127.0.0.1:{front}/hello"],
                    check=False,
                ).returncode == 0:  # fmt: skip
                    break
                time.sleep(0.05)
            page.goto(f"http://127.0.0.1:{front}/hello")
            follow(page, "/channels/a", openSeconds=1)
            assert page.evaluate("reader.way") == "poll"
            publish(page, "one")
            publish(page, "two")
            wait_for(page, "one", "two")
        finally:
            nginx.kill()
            nginx.wait()


def test_a_refusal_that_stays_ends_it(browser: Browser, port: int) -> None:
    with page_of(browser, port) as page:
        page.evaluate(FOLLOW, ["/channels/not%20a%20name", {}])
        page.wait_for_function("failed")
        assert page.evaluate("failed") == "Refused 404"


def test_publishing_is_acknowledged(browser: Browser, port: int) -> None:
    with page_of(browser, port) as page:
        for way, number in (("websocket", '{"n": 1}'), ("lines", '{"n":1}')):
            follow(page, f"/channels/published-{way}", ways=[way])
            ids = page.evaluate(
                "(async () => [await reader.publish('one'), await reader.publish('two')])()"
            )
            wait_for(page, "one", "two")
            assert page.evaluate("got.map(entry => entry.id)") == ids
            page.evaluate("reader.publish({ n: 1 }, { channel: 'b', event: 'kind' })")
            refused = "reader.publish('x', { channel: 'no name' }).catch(error => error.status)"
            assert page.evaluate(refused) == 404
            page.evaluate("stop.abort()")
            follow(page, "/channels/b", ways=[way], last=1)
            wait_for(page, number)
            assert page.evaluate("got[0].event") == "kind"
            page.evaluate("stop.abort()")


def test_several_channels_and_one_cursor(browser: Browser, port: int) -> None:
    with page_of(browser, port) as page:
        for way in WAYS:
            a, b = f"a-{way}", f"b-{way}"
            follow(page, f"/channels/{a}?reader=me", ways=[way], channels=[b], after="0")
            publish(page, "a1", a)
            wait_for(page, "a1")
            publish(page, "b1", b)
            wait_for(page, "a1", "b1")
            assert page.evaluate("got.map(entry => entry.channel)") == [a, b]
            cursor = page.evaluate("reader.cursor")
            assert {part.split(":")[0] for part in cursor.split(",")} == {a, b}
            page.evaluate("fetch('/cut?reader=me', { method: 'POST' })")
            publish(page, "b2", b)
            wait_for(page, "a1", "b1", "b2")
            page.evaluate("stop.abort()")


def test_joining_and_leaving(browser: Browser, port: int) -> None:
    """A WebSocket says so in its conversation; lines are read anew."""
    with page_of(browser, port) as page:
        for way in ("websocket", "lines"):
            a, b = f"joined-{way}", f"left-{way}"
            opens = iter(range(2, 4))

            def settled(way: str = way, opens: Iterator[int] = opens) -> None:
                times = next(opens) if way == "lines" else 1
                page.wait_for_function(
                    "times => states.filter(status => status === 'open').length === times",
                    arg=times,
                )

            follow(page, f"/channels/{a}?reader=me", ways=[way])
            publish(page, "a1", a)
            wait_for(page, "a1")
            page.evaluate("name => reader.join(name)", b)
            settled()
            publish(page, "b1", b)
            wait_for(page, "a1", "b1")
            page.evaluate("name => reader.leave(name)", b)
            settled()
            publish(page, "b2", b)
            publish(page, "a2", a)
            wait_for(page, "a1", "b1", "a2")
            page.evaluate("stop.abort()")


def test_an_ended_channel_ends_the_reading(browser: Browser, tmp_path: Path) -> None:
    """One, and several, in each way; each end is told once."""
    (tmp_path / "ending.py").write_text(
        "from rawstream import FOLLOW_JS, Channels, serve_channels\n"
        "channels = Channels()\n"
        "async def app(request):\n"
        "    name = request.path.removeprefix('/channels/')\n"
        "    if request.path == '/follow.js':\n"
        "        await request.respond(200, FOLLOW_JS, content_type='text/javascript')\n"
        "    elif request.method == 'DELETE':\n"
        "        channels.get(name).close()\n"
        "        await request.respond(204)\n"
        "    elif request.path == '/hello':\n"
        "        await request.respond(200, 'hello')\n"
        "    else:\n"
        "        await serve_channels(request, channels, name)\n"
    )
    port = free_port()
    close = "name => fetch('/channels/' + name, { method: 'DELETE' })"
    command = [*COMMAND, "ending:app", "--port", str(port)]
    with (
        served(*command, announced=b"rawstream on", folder=tmp_path),
        page_of(browser, port) as page,
    ):
        for way in WAYS:
            for others in ([], [f"b-{way}"]):
                name = f"a-{way}-{len(others)}"
                follow(page, f"/channels/{name}", ways=[way], channels=others, after="0")
                publish(page, "one", name)
                wait_for(page, "one")
                for channel in (name, *others):
                    page.evaluate(close, channel)
                page.wait_for_function("ended")
                assert page.evaluate("got.filter(entry => entry.end).length") == 1 + len(others)
                assert page.evaluate("failed") is None


def test_a_server_that_is_silent_for_ever_is_left(browser: Browser) -> None:
    """It answers nothing any more, but has not closed its connections."""
    port = free_port()
    with demo(port) as process, page_of(browser, port) as page:
        tabs = {"websocket": page, "events": page.context.new_page()}
        for way, tab in tabs.items():
            tab.goto(f"http://127.0.0.1:{port}/hello")
            follow(tab, "/channels/a", ways=[way], silenceSeconds=1)
        process.send_signal(signal.SIGSTOP)
        try:
            for tab in tabs.values():
                tab.wait_for_function("states.at(-1) !== 'open'", timeout=25_000)
        finally:
            process.send_signal(signal.SIGCONT)
        publish(page, "again")
        for tab in tabs.values():
            wait_for(tab, "again", seconds=30)


def test_a_signal_that_is_aborted_already(browser: Browser, port: int) -> None:
    with page_of(browser, port) as page:
        page.evaluate(
            """async () => {
                const { follow } = await import("/follow.js");
                for await (const entry of follow("/channels/a", { signal: AbortSignal.abort() })) throw entry;
            }"""
        )


def test_the_pages_of_a_demo_name_it(browser: Browser, port: int) -> None:
    with page_of(browser, port) as page:
        kind = page.evaluate("fetch('/follow.js').then(r => r.headers.get('content-type'))")
        assert kind == "text/javascript"
