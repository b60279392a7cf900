r"""Count the bytes that a message costs: `python examples/overhead.py`.

Plain TCP clients of a rawstream server count the bytes of ten messages and of twenty. The
difference is the cost of ten; the rest was spent before the first. The requests are as small as
possible. Those of a browser are some hundred bytes longer, without cookies.
"""

from functools import partial

import trio
from wsproto.connection import Connection, ConnectionType
from wsproto.events import TextMessage

from rawstream import HTTPError, Request, open_events, open_poll, open_stream, open_websocket, serve

SIZES = (15, 100, 1000)
UPGRADE = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


async def app(request: Request) -> None:
    """Answer `/KIND?size=N&count=N` with this number of messages of this size, then silence."""
    message = "x" * int(request.query["size"])
    messages = range(int(request.query["count"]))
    match request.path:
        case "/chunks":
            async with open_stream(request, "text/plain") as stream:
                for _ in messages:
                    await stream.send(message.encode())
                await trio.sleep_forever()
        case "/events" | "/marked" as path:
            async with open_events(request) as events:
                for n in messages:
                    await events.send(message, id=str(n % 10) if path == "/marked" else None)
                await trio.sleep_forever()
        case "/websocket":
            async with open_websocket(request) as ws:
                for _ in messages:
                    await ws.send(message)
                await trio.sleep_forever()
        case "/poll":
            async with open_poll(request, cursor="7") as poll:
                await poll.answer(message, cursor="8", content_type="text/plain")
        case "/post":
            await request.body()
            await request.respond(204)
        case _:
            raise HTTPError(404)


async def bytes_of(port: int, kind: str, size: int, count: int) -> int:
    """Count the bytes of a connection, both ways together, until it falls silent."""
    method = "POST" if kind == "post" else "GET"
    head = f"{method} /{kind}?size={size}&count={count} HTTP/1.1\r\nHost: localhost\r\n"
    if kind == "websocket":
        head += UPGRADE
    if kind == "post":
        head += f"Content-Length: {size}\r\n\r\n" + "x" * size
    sent = (head if kind == "post" else head + "\r\n").encode()
    total = len(sent)
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(sent)
        with trio.move_on_after(0.3):
            while data := await stream.receive_some():
                total += len(data)
    return total


async def count_row(rows: dict[str, str], name: str, port: int, kind: str) -> None:
    """Fill in the bytes before the first message, and the overhead of each size."""
    before, overheads = 0, []
    for size in SIZES:
        ten, twenty = [await bytes_of(port, kind, size, count) for count in (10, 20)]
        if kind in ("poll", "post"):  # one message an exchange
            overheads.append(ten - size)
        else:
            overheads.append((twenty - ten) // 10 - size)
            before = before or ten - 10 * (size + overheads[0])
    rows[name] = row(name, before, overheads)


def frames_up() -> str:
    """The mask makes a client's frame four bytes longer than a server's."""
    overheads = []
    for size in SIZES:
        client = Connection(ConnectionType.CLIENT)
        overheads.append(len(client.send(TextMessage("x" * size))) - size)
    return row("up: WebSocket", 0, overheads)


def row(name: str, before: int, overheads: list[int]) -> str:
    return f"| {name:<26} | {before or '-':>6} |" + "".join(f" {n:>5} |" for n in overheads)


KINDS = {
    "down: chunks": "chunks",
    "down: events": "events",
    "down: events with ids": "marked",
    "down: WebSocket": "websocket",
    "down: long-poll": "poll",
    "up: POST": "post",
}


async def main() -> None:
    rows = dict.fromkeys(KINDS, "")
    async with trio.open_nursery() as nursery:
        serving = partial(serve, app, port=0, access_log=False)
        [(_, port)] = await nursery.start(serving)
        async with trio.open_nursery() as counting:
            for name, kind in KINDS.items():
                counting.start_soon(count_row, rows, name, port, kind)
        nursery.cancel_scope.cancel()
    print("| bytes                      | before | 15 B  | 100 B | 1 kB  |")
    print("| -------------------------- | -----: | ----: | ----: | ----: |")
    print(*rows.values(), frames_up(), sep="\n")


trio.run(main)
