"""The tutorial where something is wrong: a client without its server, and hostile clients."""

from __future__ import annotations

import re
import socket
import struct
from pathlib import Path

import pytest
import trio
from documents import CHAPTERS, named, shown_in, starts_in, terminals
from peers import PATIENCE, free_port


@pytest.mark.parametrize("chapter", [c for c in CHAPTERS if not starts_in(c)[1]], ids=named)
async def test_a_client_without_its_server_says_so_in_one_line(
    chapter: Path, tutorial: Path, tmp_path: Path
) -> None:
    [command] = [command for command, _ in shown_in(chapter) if chapter.name in command]
    async with terminals(free_port(), tmp_path, tutorial) as both:
        status, errors = await both.run(f"{command} > /dev/null")
        assert status == 1
        assert re.fullmatch(r"no server .*8000.*: first start python examples/.*\n", errors)


# -- What hostile clients do to the servers by hand -----------------------------------------------

HEADS = [
    b"",
    b"\r\n",
    b"\0\xff" * 20,
    b"GET\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost\r\n\r\n",
    b"GET /ticks HTTP/1.1\r\nHost: a\r\nLast-Event-ID: x\r\n\r\n",
    b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
    b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
    b"POST /publish HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf",
    b"GET /poll?after=x&wait=nan HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /poll?after=-5&wait=nan HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET //[ HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /\xe9\x1b HTTP/1.1\r\nHost: a\r\n\r\n",
    b"A" * 70_000,
    b"GET / HTTP/1.1\r\nHost: \xff\r\nUpgrade: websocket\r\nConnection: \xff\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: xn--a-\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
]
UPGRADE = (
    b"GET /push HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
FRAMES = [
    b"",
    b"\xff" * 200,
    b"\x81",
    b"\x81\x00",
    b"\x81\xff" + b"\xff" * 8,
    b"\x81\x81\0\0\0\0\xff",
    b"\x80\x81\0\0\0\0a",
    b"\x82\xfe\x01\x00\0\0\0\0" + bytes(256),
    b"\x82\xfe\xff\xff\0\0\0\0" + bytes(65535),
    b"\x82\xff\0\0\0\0\0\x01\0\0\0\0\0\0" + bytes(65536),
    b"\x88\x81\0\0\0\0a",
    b"\x88\x82\0\0\0\0\0\0",
    b"\x88\x82\0\0\0\0\x03\xed",
    b"\x83\x80\0\0\0\0",
    b"\x09\x80\0\0\0\0",
    b"\x89\xfe\0\x7e\0\0\0\0" + bytes(126),
]
BY_HAND = [path for path in CHAPTERS if path.name < "09"]


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize("chapter", BY_HAND, ids=named)
async def test_no_byte_ends_a_server_by_hand(
    chapter: Path, reset: bool, tutorial: Path, tmp_path: Path
) -> None:
    port = free_port()
    async with terminals(port, tmp_path, tutorial) as both:
        await both.start(f"python examples/{chapter.name}")
        for data in [*HEADS, *(UPGRADE + frames for frames in FRAMES)]:
            with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
                client.sendall(data)
                if reset:
                    linger = struct.pack("ii", 1, 0)
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        await trio.sleep(0.5)  # what is to go wrong goes wrong now
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE):
            pass
        assert "Traceback" not in both.output
        assert both.is_running
