"""`serve` as a whole program, with signals, logs to stderr and exit statuses."""

from __future__ import annotations

import asyncio
import errno
import signal
import sys
from collections.abc import Awaitable, Callable, Collection
from functools import partial

import trio

from .http.observer import Observer
from .http.request import Handler
from .limits import Limits
from .server import UNIX_MODE, Address, serve, speaks_http2
from .stderr import log_to_stderr, logger
from .tcp.listeners import inherited_sockets, tls_context, url_of
from .tcp.recording import Recorder


def run(
    handler: Handler,
    *,
    host: str | None = "127.0.0.1",
    port: int = 8000,
    unix: str | None = None,
    unix_mode: int = UNIX_MODE,
    certfile: str | None = None,
    keyfile: str | None = None,
    limits: Limits | None = None,
    allowed_hosts: Collection[str] = (),
    access_log: bool = True,
    http2: bool = True,
    trusted_proxies: Collection[str] = (),
    proxy_protocol: bool = False,
    reuse_port: bool = False,
    recorder: Recorder | None = None,
    metrics: Observer | None = None,
    alongside: Callable[[], Awaitable[None]] | None = None,
    announce: Callable[[list[str]], None] | None = None,
    on_signal: Callable[[int], bool] | None = None,
) -> None:
    """Serve `handler` as a whole program. It logs to stderr, drains on SIGTERM and SIGINT (a second
    signal ends it at once), and takes over the listening sockets of systemd if there are any.

    `alongside` is an async function that runs beside the server. When it returns, the server
    drains; when the server has ended, it is cancelled. `announce` is called with the URLs once
    connections are accepted; by default they are logged. `on_signal` is called with the number of
    a signal before anything else is done about it, and returns whether nothing else is to be done;
    with it, SIGHUP drains, too.
    The other options are those of `serve`. Returns when drained. If it cannot start, the program
    ends with one line on stderr and exit status 1.
    """
    _refuse_inside_a_loop()
    log_to_stderr("INFO", "%(asctime)s %(name)s %(message)s")
    try:
        protocols = ("h2", "http/1.1") if http2 and speaks_http2() else ("http/1.1",)
        tls = tls_context(certfile, keyfile, protocols=protocols) if certfile is not None else None
        serving = partial(
            serve, handler, host=host, port=port, unix=unix, unix_mode=unix_mode,
            inherited=inherited_sockets(), tls=tls, limits=limits, allowed_hosts=allowed_hosts,
            access_log=access_log, http2=http2, trusted_proxies=trusted_proxies,
            proxy_protocol=proxy_protocol, reuse_port=reuse_port, recorder=recorder,
            metrics=metrics,
        )  # fmt: skip
        trio.run(_run, serving, announce or _log_urls, tls is not None, alongside, on_signal)
    except (OSError, ValueError) as error:
        where = unix if unix is not None else f"{host}:{port}"
        sys.exit(f"rawstream: {_one_line(error, where)}")


def _refuse_inside_a_loop() -> None:
    """Raise `RuntimeError` inside Trio or asyncio, whose loop `run` would block."""
    for is_running, hint in (
        (trio.lowlevel.current_task, "inside Trio, use `await rawstream.serve(...)`"),
        (asyncio.get_running_loop, "rawstream runs on Trio; call `run` outside of asyncio"),
    ):
        try:
            is_running()
        except RuntimeError:
            continue
        raise RuntimeError(f"`run` is a whole program: {hint}")


async def _run(
    serving: Callable[..., Awaitable[None]],
    announce: Callable[[list[str]], None],
    tls: bool,
    alongside: Callable[[], Awaitable[None]] | None,
    on_signal: Callable[[int], bool] | None,
) -> None:
    """Run `serve` until it ends or a signal ends it. Errors at start leave it outside any exception
    group."""
    stop = trio.Event()
    failure: Exception | None = None
    forced = 0
    numbers = [signal.SIGINT, signal.SIGTERM]
    if on_signal is not None and hasattr(signal, "SIGHUP"):
        numbers.append(signal.SIGHUP)  # it has something to do about it
    with trio.open_signal_receiver(*numbers) as signals:
        async with trio.open_nursery() as nursery:

            async def until_served(task_status: trio.TaskStatus[list[Address]]) -> None:
                await serving(stop=stop, task_status=task_status)
                nursery.cancel_scope.cancel()

            async def until_done(alongside: Callable[[], Awaitable[None]]) -> None:
                await alongside()
                stop.set()

            try:
                addresses = await nursery.start(until_served)
                announce([url_of(address, tls=tls) for address in addresses])
                if alongside is not None:
                    nursery.start_soon(until_done, alongside)
            except (OSError, TypeError, ValueError) as error:
                failure = error
                nursery.cancel_scope.cancel()
            else:
                async for number in signals:
                    if on_signal is not None and on_signal(number):
                        continue
                    if stop.is_set():
                        forced = number
                        nursery.cancel_scope.cancel()
                    stop.set()
    if failure:
        raise failure
    if forced:
        sys.exit(128 + forced)


def _log_urls(urls: list[str]) -> None:
    for url in urls:
        logger.info("serving on %s", url)


def _one_line(error: Exception, where: str) -> str:
    """The error, what it is about, and what to do."""
    if not isinstance(error, OSError):
        return str(error)
    line = f"{error.filename or where}: {error.strerror or error}"
    if error.errno == errno.EADDRINUSE:
        line += "; stop the program that listens there, or choose another port (--port, or port=)"
    return line
