"""`python -m rawstream wire`: see what passes between a client and a server, now or from a file."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import starmap
from typing import TextIO

import trio

from ..arguments import (
    add_listening_options,
    add_tls_options,
    certfile,
    check_tls_options,
    port,
)
from ..dissector.connection import Dissector
from ..dissector.spans import Dissected, Layer
from ..server import serve
from ..stderr import log_to_stderr
from ..tcp.listeners import address_of, tls_context, url_of
from .capture import BadCapture, CaptureWriter, read_capture
from .ladder import Ladder
from .live import LiveWire
from .page import kept_page
from .proxy import ClientTls, Target, serve_proxy
from .recorder import View, WireRecorder
from .records import piece_record
from .terminal import TerminalView, wants_color


def main(arguments: Sequence[str]) -> None:
    """Run the command. The exit status is 0, 1 if the proxy cannot start or a file cannot be read
    or written, 2 for an invalid option."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if (options.file is None) == (options.to is None):
        parser.error("name a server (--to URL) or a recording (FILE)")
    check_tls_options(parser, options)
    if options.html and options.file is None:
        parser.error("--html needs a recording (FILE): record one with --save")
    log_to_stderr("INFO", "%(asctime)s %(name)s %(message)s")
    try:
        if options.file is None:
            _run_proxy(options)
        elif options.html:
            with open(options.file, encoding="utf-8") as recording:
                records = starmap(piece_record, _dissected(recording))
                with open(options.html, "w", encoding="utf-8") as page:
                    page.writelines(kept_page(records))
        else:
            with open(options.file, encoding="utf-8") as recording:
                trio.run(_print, recording, view(options))
    except BadCapture as error:
        sys.exit(f"rawstream: {options.file}: {error}")
    except OSError as error:
        sys.exit(
            f"rawstream: {error.filename or options.file or 'wire'}: {error.strerror or error}"
        )
    except ValueError as error:
        sys.exit(f"rawstream: {error}")
    except KeyboardInterrupt:  # while a recording is printed
        sys.exit(128 + signal.SIGINT)


def add_view_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what of the wire is printed, and how."""
    add = parser.add_argument
    add(
        "--layer",
        metavar="NAMES",
        type=_layers,
        default=tuple(Layer),
        help=f"print only these layers, separated by commas: {', '.join(x.value for x in Layer)}",
    )
    add("--connection", metavar="N", type=int, help="print only the Nth connection")
    add("--explain", action="store_true", help="add a sentence to each term where it first appears")
    add("--all-bytes", action="store_true", help="print long content whole")


def asks_for_a_view(options: argparse.Namespace) -> bool:
    """Whether one of these options is given."""
    is_narrowed = options.layer != tuple(Layer) or options.connection is not None
    return is_narrowed or options.explain or options.all_bytes


def view(options: argparse.Namespace) -> TerminalView:
    """Return the view on stdout that these options ask for."""
    ladder = Ladder(
        layers=options.layer,
        color=wants_color(sys.stdout),
        explain=options.explain,
        all_bytes=options.all_bytes,
    )
    return TerminalView(ladder, sys.stdout, options.connection)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rawstream wire",
        description="Print every byte that passes between a client and a server, layer by layer: "
        "reads and writes, frames of HTTP/2, HTTP, chunks, Server-Sent Events, WebSocket frames "
        "and messages. With --to this is a TCP proxy, which changes and delays nothing; with FILE "
        "it prints a recording. Authorization, cookies, and query parameters that look like "
        "secrets are masked; bodies, messages and what cannot be understood are not.",
    )
    add = parser.add_argument
    add("file", nargs="?", metavar="FILE", help="a recording to print, made with --save")
    add("--to", metavar="URL", type=_target, help="the server, for example http://localhost:5000")
    add_listening_options(parser, default_port=8001)
    add_tls_options(parser)
    add("--insecure", action="store_true", help="accept any certificate of the server")
    add(
        "--page-port",
        type=port,
        help="port of 127.0.0.1 for a page that shows the same in a browser (default: the next "
        "one)",
    )
    add("--save", metavar="FILE", help="also save what passes, to be printed again later")
    add("--html", metavar="PAGE", help="write FILE as a page for browsers that needs nothing else")
    add_view_options(parser)
    return parser


def _layers(text: str) -> tuple[Layer, ...]:
    try:
        return tuple(Layer(name) for name in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _target(text: str) -> Target:
    try:
        return Target.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _dissected(recording: TextIO) -> Iterator[tuple[int, Dissected]]:
    """What the pieces of a recording tell, in the order of time."""
    dissectors: dict[int, Dissector] = {}
    for connection, piece in sorted(read_capture(recording), key=lambda read: read[1].time):
        yield connection, dissectors.setdefault(connection, Dissector()).feed(piece)


async def _print(recording: TextIO, shown: View) -> None:
    for connection, dissected in _dissected(recording):
        await shown.show(connection, dissected)


def _run_proxy(options: argparse.Namespace) -> None:
    recorder = WireRecorder()
    live = LiveWire(recorder)
    views: list[View] = [view(options), live]
    with ExitStack() as files:
        if options.save:
            file = files.enter_context(open(options.save, "w", encoding="utf-8"))
            views.append(CaptureWriter(file))
        trio.run(_proxy, options, recorder, views, live)


async def _proxy(
    options: argparse.Namespace, recorder: WireRecorder, views: list[View], live: LiveWire
) -> None:
    """Serve the proxy and the page until a signal ends them."""
    chain = certfile(options, (options.host,))
    tls = None
    if chain:
        both = tls_context(chain, options.keyfile, protocols=("h2", "http/1.1"))
        tls = ClientTls(tls_context(chain, options.keyfile), both)
    listeners = await trio.open_tcp_listeners(options.port, host=options.host)
    page_port = options.page_port
    if page_port is None:
        page_port = options.port + 1 if options.port else 0
    page = partial(serve, live.serve, port=page_port, access_log=False)
    proxy = partial(
        serve_proxy, listeners, options.to, recorder, tls=tls, verify=not options.insecure
    )
    failure: OSError | None = None
    async with trio.open_nursery() as nursery:
        try:
            [address] = await nursery.start(page)
        except OSError as error:
            failure = error  # leaves outside of any exception group
            nursery.cancel_scope.cancel()
        else:
            url = url_of(address_of(listeners[0]), tls=tls is not None)
            print(f"rawstream wire on {url}, to {options.to.url}  (Ctrl-C stops it)")
            print(f"See it in a browser: {url_of(address, tls=False)}/wire", flush=True)
            nursery.start_soon(proxy)
            nursery.start_soon(recorder.run, views)
            with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                async for _ in signals:
                    nursery.cancel_scope.cancel()
    if failure:
        raise failure
