"""Handlers of several tests."""

from __future__ import annotations

import trio

from rawstream import Handler, Request


async def hello(request: Request) -> None:
    await request.respond(200, b"hello\n")


async def simple(request: Request) -> None:
    """Answers of a few kinds, by path."""
    match request.path:
        case "/ok":
            await request.respond(200, b"ok\n")
        case "/never":
            await trio.sleep_forever()
        case "/echo":
            await request.respond(200, await request.body())
        case _:
            await request.respond(200, b"hello\n")


def or_ok(handler: Handler) -> Handler:
    """The handler, and one that is sound at /ok."""

    async def app(request: Request) -> None:
        if request.path == "/ok":
            await request.respond(200, b"ok\n")
        else:
            await handler(request)

    return app


class Watched:
    """A handler that says when it has started and when it has ended."""

    def __init__(self, handler: Handler) -> None:
        self.started = trio.Event()
        self.ended = trio.Event()
        self._handler = handler

    async def __call__(self, request: Request) -> None:
        self.started.set()
        try:
            await self._handler(request)
        finally:
            self.ended.set()
