"""Handlers of several tests."""

from __future__ import annotations

from rawstream import Handler, Request


async def hello(request: Request) -> None:
    await request.respond(200, b"hello\n")


def or_ok(handler: Handler) -> Handler:
    """The handler, and one that is sound at /ok."""

    async def app(request: Request) -> None:
        if request.path == "/ok":
            await request.respond(200, b"ok\n")
        else:
            await handler(request)

    return app
