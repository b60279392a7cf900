"""The routes of the demo, and the commands that it prints to try."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from ..browser import FOLLOW_JS
from ..http.request import Request
from . import channels, faults, files, push
from .http1 import Http1Origin

FOLDER = Path(__file__).parent

CLOSE = [("Connection", "close")]
"""For what the page consists of: connections that are accepted once it has been loaded are recorded
for it, and shown."""

CURL_LINES = """\
  curl -i {url}/hello
  curl -d 'any text' {url}/echo
  curl -N {url}/chunked                        # tokens, one JSON object per chunk; --raw: sizes
  curl -N {url}/ticks                          # SSE; resume with -H 'Last-Event-ID: 4'
  curl -N -d 'Why is the sky blue?' {url}/generate
  curl -N -d 'Why?' -H 'Accept: text/event-stream' {url}/generate
  curl -i '{url}/poll?wait=5'                  # held until you: curl -d 'news' {url}/poll
  curl -N {url}/channels/news                  # waits for: curl -d 'hello' {url}/channels/news
  tail -f /var/log/syslog | curl -X POST -T - {url}/channels/news
  curl -C - -O '{url}/download?size=50000000'  # stop it, and run it again: it resumes
  curl -T - {url}/upload < /some/file          # counts and hashes any size"""


http1_origin = Http1Origin()
"""Where the page finds HTTP/1.1 if it came over HTTP/2 itself."""


@cache
def page(http1: str) -> bytes:
    """The page, with its style, its script and the figures of `examples/compare.py` in it. `http1`
    is the URL of `http1_origin`."""
    html = (FOLDER / "page.html").read_text("utf-8")
    for mark, name in (
        ("{page.css}", "page.css"),
        ("{page.js}", "page.js"),
        ("{compared}", "compared.json"),
    ):
        html = html.replace(mark, (FOLDER / name).read_text("utf-8"), 1)
    return html.replace("{http1}", http1, 1).encode()


async def app(request: Request) -> None:
    """Route a request of the demo."""
    faults.provoke(request)
    match request.method, request.path:
        case "GET", "/":
            kind = "text/html; charset=utf-8"
            html = page(http1_origin.url)
            await request.respond(200, html, content_type=kind, headers=CLOSE)
        case "GET", "/follow.js":
            await request.respond(200, FOLLOW_JS, content_type="text/javascript", headers=CLOSE)
        case "GET", "/hello":
            await request.respond(200, "hello\n")
        case "POST", "/echo":
            sent_as = request.headers.get("content-type")
            await request.respond(200, await request.body(), content_type=sent_as)
        case "GET", "/chunked":
            await push.tokens_in_chunks(request)
        case "GET", "/ticks":
            await push.ticks(request)
        case "GET", "/pulse":
            await push.pulse(request)
        case "POST", "/generate":
            await push.generate(request)
        case "GET", "/poll":
            await push.poll(request)
        case "POST", "/poll":
            await push.post(request)
        case _, path if path.startswith("/channels/"):
            await channels.channel(request, path.removeprefix("/channels/"))
        case "POST", "/cut":
            await channels.cut(request)
        case "GET", "/ws":
            await push.echo_and_push(request)
        case "GET", "/download":
            await files.download(request)
        case "POST" | "PUT", "/upload":
            await files.upload(request)
        case _, (
            "/" | "/follow.js" | "/hello" | "/chunked" | "/ticks" | "/pulse" | "/ws" | "/download"
        ):
            await request.respond(405, headers=[("Allow", "GET, HEAD")])
        case _, "/echo" | "/generate" | "/cut":
            await request.respond(405, headers=[("Allow", "POST")])
        case _, "/poll":
            await request.respond(405, headers=[("Allow", "GET, HEAD, POST")])
        case _, "/upload":
            await request.respond(405, headers=[("Allow", "POST, PUT")])
        case "OPTIONS", "*":
            await request.respond(204, headers=[("Allow", "GET, HEAD, POST, PUT")])
        case _:
            await request.respond(404)
