"""The floors: what the workloads cost on Trio with no server around them."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from email.utils import formatdate
from functools import partial
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import parse_qs

from shared import HELLO, MESSAGE, PIECE, publishing

if TYPE_CHECKING:  # a server process imports only its own dependencies
    import trio

Serve: TypeAlias = "Callable[[trio.SocketStream], Awaitable[None]]"


def run(port: int, serve: Serve) -> None:
    import trio

    trio.run(partial(trio.serve_tcp, serve, port, host="127.0.0.1", backlog=65535))


def until_reset(serve: Serve) -> Serve:
    """Return `serve`, ended without an error when its client resets the connection."""
    import trio

    async def serve_safely(stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError):
            await serve(stream)

    return serve_safely


def loop(port: int) -> None:
    """Answer requests with h11 in a loop, and streams with `send_all` in a loop."""
    import h11

    date = (b"Date", formatdate(usegmt=True).encode())  # made once: the floor does the minimum

    async def serve(stream: trio.SocketStream) -> None:
        connection = h11.Connection(h11.SERVER)
        while True:
            while (event := connection.next_event()) is h11.NEED_DATA:
                connection.receive_data(await stream.receive_some(65536))
            if type(event) is not h11.Request:
                return
            while type(connection.next_event()) is not h11.EndOfMessage:
                pass
            path, _, query = event.target.partition(b"?")
            if path == b"/":
                head = [date, (b"Content-Type", b"text/plain"), (b"Content-Length", b"6")]
                answer = connection.send(h11.Response(status_code=200, headers=head))
                answer += connection.send(h11.Data(data=HELLO))
                answer += connection.send(h11.EndOfMessage())
                await stream.send_all(answer)
            elif path == b"/stream":
                # A length instead of chunks: `send_all` is the only cost.
                count = int(query.partition(b"=")[2])
                length = (b"Content-Length", b"%d" % (count * len(PIECE)))
                await stream.send_all(
                    connection.send(h11.Response(status_code=200, headers=[date, length]))
                )
                for _ in range(count):
                    await stream.send_all(PIECE)
                return
            else:
                return
            connection.start_next_cycle()

    run(port, until_reset(serve))


def h2_loop(port: int) -> None:
    """Answer requests with h2 in a loop."""
    from h2.config import H2Configuration
    from h2.connection import H2Connection
    from h2.events import RequestReceived

    date = ("date", formatdate(usegmt=True))
    head = [(":status", "200"), date, ("content-type", "text/plain"), ("content-length", "6")]

    async def serve(stream: trio.SocketStream) -> None:
        connection = H2Connection(H2Configuration(client_side=False))
        connection.initiate_connection()
        await stream.send_all(connection.data_to_send())
        while data := await stream.receive_some(65536):
            for event in connection.receive_data(data):
                if type(event) is RequestReceived:
                    connection.send_headers(event.stream_id, head)
                    connection.send_data(event.stream_id, HELLO, end_stream=True)
            if answers := connection.data_to_send():
                await stream.send_all(answers)

    run(port, until_reset(serve))


def switching(head: bytes) -> bytes:
    """Return the answer to the head of a WebSocket's handshake."""
    from wsproto.utilities import generate_accept_token

    key = next((x for x in head.split(b"\r\n") if x.startswith(b"Sec-WebSocket-Key:")), b": ")
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %b\r\n\r\n" % generate_accept_token(key.partition(b": ")[2])
    )


def codec(port: int) -> None:
    """Echo WebSocket frames that are parsed and built by hand, without checks."""

    async def serve(stream: trio.SocketStream) -> None:
        await stream.send_all(switching(await stream.receive_some(65536)))
        buffer = b""
        while data := await stream.receive_some(65536):
            buffer = buffer + data if buffer else data
            start, answers = 0, []
            while len(buffer) - start >= 6 and len(buffer) - start >= buffer[start + 1] - 122:
                size = buffer[start + 1] & 0x7F  # messages are shorter than 126 bytes
                mask = int.from_bytes(buffer[start + 2 : start + 6] * (size // 4 + 1), "little")
                start += 6
                masked = int.from_bytes(buffer[start : start + size], "little")
                mask &= (1 << 8 * size) - 1
                answers.append(bytes((0x82, size)) + (masked ^ mask).to_bytes(size, "little"))
                start += size
            buffer = buffer[start:]
            await stream.send_all(b"".join(answers))

    run(port, until_reset(serve))


def wait(port: int) -> None:
    """Wait, read, and write a frame that was made beforehand, whatever was read."""
    import trio

    echoed = b"\x82\x64" + bytes(100)

    async def serve(stream: trio.SocketStream) -> None:
        await stream.send_all(switching(await stream.receive_some(65536)))
        fd = stream.socket.fileno()
        while True:
            await trio.lowlevel.wait_readable(fd)
            if not os.read(fd, 65536):
                return
            os.write(fd, echoed)

    run(port, until_reset(serve))


def task(port: int) -> None:
    """Hold a task and its socket: the minimum for an idle client on Trio."""
    import trio

    async def serve(stream: trio.SocketStream) -> None:
        await stream.receive_some(65536)
        await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
        await trio.sleep_forever()

    run(port, serve)


def send(port: int) -> None:
    """Fan out with `socket.send` in a loop over the sockets."""
    import socket

    import trio

    sockets: list[socket.socket] = []
    # An event in a chunk. WebSocket readers get the same bytes: the kernel's work is the same.
    data = b"6e\r\ndata: %b\n\n\r\n" % MESSAGE.encode()

    async def publish(count: int, rate: float, burst: int) -> None:
        for _ in range(count // burst):
            for _ in range(burst):
                for sock in sockets:
                    sock.send(data)
            await trio.sleep(burst / rate)

    async def serve(nursery: trio.Nursery, stream: trio.SocketStream) -> None:
        head = await stream.receive_some(65536)
        if not head:
            return
        target = head.split(b" ")[1].decode()
        if target.startswith("/publish"):
            nursery.start_soon(publish, *publishing(parse_qs(target.partition("?")[2])))
            await stream.send_all(b"HTTP/1.1 204 No Content\r\n\r\n")
            return
        await stream.send_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        with socket.socket(fileno=os.dup(stream.socket.fileno())) as sock:
            sock.setblocking(False)
            sockets.append(sock)
            with suppress(trio.BrokenResourceError):
                await stream.receive_some(1)
            sockets.remove(sock)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            serving = partial(serve, nursery)
            await trio.serve_tcp(serving, port, host="127.0.0.1", backlog=65535)

    trio.run(main)
