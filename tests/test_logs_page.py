"""The page of the logs in headless Chromium: a million lines, hostile ones, restarts, and hands."""

from __future__ import annotations

import hashlib
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from browser import milliseconds_of_steps, page_in, serious, width_of
from log_servers import ASK, LOGS, logs, write
from peers import PATIENCE, free_port, served
from playwright.sync_api import Browser, Page, expect

from rawstream.logs.levels import LEVELS, level_of

ROOT = Path(__file__).parent.parent
DESK = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}

TEXTS = """async () => {
    const { lines } = await import("/page.js");
    return [...lines].map(line => line.text);
}"""

HASH = """async () => {
    const { lines } = await import("/page.js");
    let whole = [];
    for (const { text } of lines) whole.push(text);
    const bytes = new TextEncoder().encode(whole.join("\\n") + "\\n");
    const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
    return [...hash].map(byte => byte.toString(16).padStart(2, "0")).join("");
}"""


def texts(page: Page) -> list[str]:
    """All lines that the page holds."""
    found: list[str] = page.evaluate(TEXTS)
    return found


def until(page: Page, check: Callable[[], bool], seconds: float = PATIENCE) -> None:
    """Wait without `wait_for_function`, which the page's Content-Security-Policy refuses."""
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end, page.inner_text("body")
        page.wait_for_timeout(50)


def shown(page: Page) -> list[str]:
    """The lines in sight and a few around them, as they look."""
    return page.locator(".row .text").all_inner_texts()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with page_in(browser, viewport=DESK) as page:
        yield page


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A million lines."""
    path = tmp_path_factory.mktemp("big") / "big.log"
    with path.open("w") as file:
        file.writelines(
            f"2026-11-26 12:00:00 {'ERROR' if n % 1000 == 7 else 'INFO'} app: request {n} of many\n"
            for n in range(1_000_000)
        )
    return path


STEP = """async step => {
    const { view } = await import("/page.js");
    if (step === 0) FIRST; else view.moveTo(step * 83_000);
    await new Promise(requestAnimationFrame);
    await new Promise(requestAnimationFrame);
}"""


def longest_frame(page: Page, first: str = "0") -> float:
    """The milliseconds that the page takes at most for a step, while it scrolls through all lines;
    before that it runs a piece of script."""
    return milliseconds_of_steps(page, STEP.replace("FIRST", first), 12)[-1]


def test_a_million_lines_are_all_there_and_stay_smooth(big: Path, page: Page) -> None:
    """The set of lines, the memory, and the frames."""
    with logs(str(big)) as url:
        page.goto(f"{url}/#logs=big.log&from=0")
        counts = page.locator("#counts")
        while counts.inner_text() != "1,000,000 lines":
            page.wait_for_timeout(500)
        expect(page.locator("#state")).to_have_text("live by WebSocket")
        assert page.evaluate(HASH) == hashlib.sha256(big.read_bytes()).hexdigest()
        assert longest_frame(page) < 50
        assert (
            longest_frame(page, "document.querySelector('[name=level][value=\"4\"]').click()") < 50
        )
        expect(counts).to_have_text("1,000 of 1,000,000 lines")
        page.fill("#search", "request 99900")
        expect(page.locator("#found")).to_have_text("1 found")
        page.fill("#search", "")
        page.locator("[name=level]").first.check(force=True)
        expect(counts).to_have_text("1,000,000 lines")
        for way, told in (("events", "EventSource"), ("lines", "fetch"), ("poll", "long-poll")):
            page.select_option("#way", way)
            expect(page.locator("#state")).to_have_text(f"live by {told}")
            assert longest_frame(page) < 50, way
        write(big, "INFO and one more")
        page.locator("#bottom").click()
        expect(page.locator(".row").last).to_contain_text("and one more")
        cdp = page.context.new_cdp_session(page)
        cdp.send("HeapProfiler.collectGarbage")
        heap = cdp.send("Runtime.getHeapUsage")
        assert heap["usedSize"] + heap["backingStorageSize"] < 300e6
        assert page.locator(".row").count() < 100


def test_nothing_is_lost_between_two_servers_and_four_transports(
    page: Page, tmp_path: Path
) -> None:
    log, port = tmp_path / "app.log", free_port()
    command = [*LOGS, str(log), "--port", str(port)]
    written: list[str] = []

    def more(count: int) -> None:
        new = [f"line {len(written) + n}" for n in range(count)]
        written.extend(new)
        write(log, *new)

    more(20)
    for way in ("websocket", "events", "lines", "poll"):
        with served(*command, announced=b"rawstream logs on"):
            if not page.url.startswith("http"):
                page.goto(f"http://127.0.0.1:{port}/")
            page.select_option("#way", way)
            more(5)
            until(page, lambda: texts(page) == written, 40)
        more(5)  # while it is away
        expect(page.locator("#state")).to_contain_text("connection lost")
    with served(*command, announced=b"rawstream logs on"):
        until(page, lambda: texts(page) == written, 40)
        page.reload()
        until(page, lambda: texts(page) == written)


def test_paused_lines_are_counted_and_fetched_afterwards(page: Page, tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    write(log, "before")
    with logs(str(log)) as url:
        page.goto(url)
        until(page, lambda: texts(page) == ["before"])
        for key, name in (("p", "first"), ("p", "second")):
            page.keyboard.press(key)
            write(log, *(f"{name} {n}" for n in range(3000)))
            expect(page.locator("#pause")).to_have_text("Go on (3,000 new)")
            assert name not in page.inner_text("#lines")
            page.keyboard.press(key)
            expect(page.locator(".row").last).to_contain_text(f"{name} 2999")
        written = log.read_text().splitlines()
        assert texts(page) == written


def test_older_lines_come_when_they_are_looked_for(page: Page, tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    write(log, *(f"line {n}" for n in range(6000)))
    with logs(str(log)) as url:
        page.goto(url)
        until(page, lambda: texts(page)[:1] == ["line 5000"])
        page.focus("#lines")

        def is_whole() -> bool:
            page.keyboard.press("Home")
            return shown(page)[0] == "line 0"

        until(page, is_whole)
        assert texts(page) == log.read_text().splitlines()


def test_a_link_leads_to_a_line(page: Page, tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    write(log, *(f"line {n}" for n in range(5000)))
    with logs(str(log)) as url:
        entry = ASK.get(f"{url}/logs/app.log?after=0&wait=1").json()["entries"][700]
        page.goto(f"{url}/#logs=app.log&line={entry['id']}")
        expect(page.locator(".row.marked")).to_have_text("line 700")
        expect(page.locator(".row.marked")).to_be_in_viewport()
        until(page, lambda: texts(page) == log.read_text().splitlines(), 20)
        page.locator(".row", has_text="line 702").click()
        page.click("#link")
        expect(page.locator(".row.marked")).to_have_text("line 702")
        page.reload()
        expect(page.locator(".row.marked")).to_have_text("line 702")
        page.goto("about:blank")
        page.goto(f"{url}/#logs=app.log&line=gone-1")
        expect(page.locator("#counts")).to_contain_text("cannot be had. 1,000 lines")


def test_search_filters_and_keys(page: Page, tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    write(log, "DEBUG a", "INFO b (1)", "WARNING c", "ERROR d", "  File x", "no level", "INFO b 11")
    with logs(str(log)) as url:
        page.goto(url)
        until(page, lambda: len(texts(page)) == 7)
        key = page.keyboard.press
        found = page.locator("#found")
        key("/")
        page.keyboard.type("b (1)")
        until(page, lambda: shown(page) == ["INFO b (1)"])
        expect(page.locator("mark")).to_have_text("b (1)")
        page.locator("#regex").check(force=True)
        until(page, lambda: shown(page) == ["INFO b 11"])
        page.fill("#search", "(")
        expect(page.locator("#search")).to_have_attribute("aria-invalid", "true")
        page.fill("#search", "^(INFO|ERROR)")
        until(page, lambda: shown(page) == ["INFO b (1)", "ERROR d", "INFO b 11"])
        page.locator("#only").uncheck(force=True)
        until(page, lambda: len(shown(page)) == 7)
        expect(found).to_have_text("3 found")
        page.focus("#lines")
        chosen = page.locator("[aria-selected=true]")
        for press, text in (
            ("k", "INFO b 11"),
            ("N", "ERROR d"),
            ("N", "INFO b (1)"),
            ("n", "ERROR d"),
        ):
            key(press)
            expect(chosen).to_have_text(text)
        key("j")
        expect(chosen).to_have_text("File x")
        key("Enter")
        expect(page.locator("#where")).to_have_text("app.log, error")
        key("Escape")
        expect(page.locator("#detail")).to_be_hidden()
        key("Escape")
        expect(page.locator("#search")).to_have_value("")
        key("3")
        until(page, lambda: shown(page) == ["WARNING c", "ERROR d", "  File x"])
        key("4")
        until(page, lambda: shown(page) == ["ERROR d", "  File x"])
        key("2")
        until(page, lambda: len(shown(page)) == 5)
        key("1")
        until(page, lambda: len(shown(page)) == 7)
        key("?")
        expect(page.locator("#keys")).to_be_visible()
        key("Escape")
        key("t")
        write(log, "INFO new")
        page.wait_for_timeout(300)  # so that it is told from what there was before
        write(log, "INFO new")
        expect(page.locator(".row .time").last).to_contain_text(":")


def test_hostile_lines_are_only_text(page: Page, tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    lines = [
        "<script>document.title = 'hacked'</script><img src=x onerror=\"document.title = 'hacked'\">",
        "\x1b[31mred \x1b[1;4mbold\x1b[0m plain \x1b[38;5;208morange\x1b[48;2;1;2;3mback\x1b[m",
        "\x1b]8;;javascript:document.title='hacked'\x1b\\link\x1b]8;;\x1b\\ \x1b[2Jcleared",
        '{"msg": "<b>bold</b>", "level": "error", "deep": {"<i>": [1, "\\u001b[31mx"]}, "n": 1}',
        '{"__proto__": {"x": 1}, "msg": 7} ',
        "x" * 30_000,
        "\u202egnp.exe",
        '{"time": {"toString": 1}, "msg": {"valueOf": 2}}',
        '{"n": 12345678901234567890, "x": 1.0, "level": "info", "y": '
        + "[" * 6000
        + "]" * 6000
        + "}",
        '{"n": 12345678901234567890, "x": 1.0, "y": null}',
        "\x1b[32mINFO\x1b[0m: started \x1b[38:2::1:2:3mcolons\x1bPhidden\x1b\\",
    ]
    write(log, *lines)
    with logs(str(log)) as url:
        page.goto(url)
        policy = ASK.get(url).headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        until(page, lambda: len(shown(page)) == len(lines))
        looks = shown(page)
        assert looks[0] == lines[0]
        assert looks[1] == "red bold plain orangeback"
        assert looks[2] == "link cleared"
        assert looks[3].strip() == r"""<b>bold</b>  deep={"<i>":[1,"\u001b[31mx"]} n=1"""
        assert looks[5] == "x" * 2000 + " … 28,000 more characters"
        assert looks[7].strip() == 'time={"toString":1} msg={"valueOf":2}'
        assert looks[8].startswith('{"n": 12345678901234567890')
        assert looks[9].strip() == "n=12345678901234567890 x=1.0 y=null"
        assert looks[10] == "INFO: started colons"
        page.fill("#search", "info: started")
        expect(page.locator("#found")).to_have_text("1 found")
        page.fill("#search", "")
        until(page, lambda: len(shown(page)) == len(lines))
        row = page.locator(".row").nth(1)
        expect(row.locator(".fg-1").first).to_have_text("red ")
        expect(row.locator(".bold.underline")).to_have_text("bold")
        color = row.locator("span", has_text="orange").last.evaluate("e => e.style.color")
        assert color == "rgb(255, 135, 0)"
        page.locator(".row").nth(3).click()
        expect(page.locator("#whole dt")).to_have_text(["msg", "level", "deep", "n"])
        page.locator(".row").nth(5).click()
        assert len(page.inner_text("#whole")) == 30_000
        assert "hacked" not in page.title()
        assert page.locator("#lines script, #lines img, #lines b, #lines a").count() == 0


LEVELS_OF = [
    ("2026-01-01 INFO x", "info"),
    ("[error] 7#7: nginx", "error"),
    ("level=warn msg=x", "warning"),
    ('{"level": 50, "msg": "pino"}', "error"),
    ('{"severity":"CRITICAL"}', "fatal"),
    ("E0102 03:04:05 glog", "error"),
    ("ValueError: no", "error"),
    ("Traceback (most recent call last):", "error"),
    ("main.c:3: warning: unused", "warning"),
    ("\x1b[32mDEBUG\x1b[0m colored", "debug"),
    ("<trace> x", "trace"),
    ("PANIC!", "fatal"),
    ("no error here, only information", None),
    ("INFORMATIVE, ERRORS_TOTAL", None),
    ("\xe9INFO", None),
    ("x" * 500 + " ERROR", None),
    ("level=strange ERROR", None),
    ("", None),
]


def test_levels_are_the_same_in_both_languages(page: Page, tmp_path: Path) -> None:
    assert [
        (text, None if (level := level_of(text)) is None else LEVELS[level])
        for text, _ in LEVELS_OF
    ] == LEVELS_OF
    with logs(str(tmp_path / "a.log")) as url:
        page.goto(url)
        expect(page.locator("#empty")).to_have_text("No lines yet.")
        script = """async texts => {
            const { LEVELS, levelOf } = await import("/levels.js");
            return texts.map(text => LEVELS[levelOf(text)] ?? null);
        }"""
        found = page.evaluate(script, [text for text, _ in LEVELS_OF])
        assert found == [level for _, level in LEVELS_OF]


def test_several_logs_and_a_command_that_ends(page: Page, tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    write(log, "INFO from the file")
    script = "echo ready; read line; echo ERROR from the command; exit 3"
    port = free_port()
    command = [*LOGS, str(log), "--port", str(port), "--", "sh", "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        try:
            assert process.stdin
            end = time.monotonic() + PATIENCE
            while True:
                try:
                    page.goto(f"http://127.0.0.1:{port}/")
                    break
                except Exception:
                    assert time.monotonic() < end
            until(page, lambda: shown(page) == ["INFO from the file"])
            page.get_by_label("Also show sh", exact=True).check()
            until(page, lambda: sorted(shown(page)) == ["INFO from the file", "ready"])
            process.stdin.write(b"\n")
            process.stdin.flush()
            expect(page.locator(".row.exit").first).to_have_text("shexit status 3")
            expect(page.locator(".row.error")).to_have_text("shERROR from the command")
            expect(page.locator("#logs small").nth(1)).to_contain_text("(ended)")
            ASK.post(f"http://127.0.0.1:{port}/logs/posted", content=b"WARNING by post\n")
            page.get_by_role("button", name="posted").click()
            until(page, lambda: shown(page) == ["WARNING by post"])
            page.keyboard.press("[")
            page.keyboard.press("[")
            page.keyboard.press("[")
            until(page, lambda: shown(page) == ["INFO from the file"])
        finally:
            process.kill()


def test_a_browser_with_a_token(page: Page, tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    write(log, "secret line")
    with logs(str(log), "--token", "open-sesame") as url:
        page.goto(f"{url}/?token=open-sesame")
        until(page, lambda: shown(page) == ["secret line"])
        expect(page.locator("#state")).to_have_text("live by WebSocket")
        assert "open-sesame" not in page.url


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_everybody_can_use_it(browser: Browser, size: dict[str, int], tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    write(
        log, *["DEBUG a", "INFO b", "WARNING c", "ERROR d", "FATAL e", '{"msg": "f", "n": 1}'] * 20
    )
    write(log, *(f"\x1b[{code}mcolored {code}\x1b[0m" for code in (*range(30, 38), *range(90, 98))))
    with logs(str(log)) as url, page_in(browser, viewport=size) as page:
        page.goto(url)
        until(page, lambda: len(texts(page)) == 136)
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            assert serious(page) == []
        page.locator(".row").last.click()
        assert serious(page) == []
        if size is PHONE:
            page.click("#menu")
            assert serious(page) == []
        assert width_of(page) <= size["width"]
