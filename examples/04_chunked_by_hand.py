r"""Chapter 4: chunks, for a body whose length is not yet known.

A language model does not know how long its answer will be, so it cannot send Content-Length.
Instead, `Transfer-Encoding: chunked` (RFC 9112 section 7.1) puts a length before each piece, in
hexadecimal, on a line of its own. A chunk of size 0 is the end. (`curl -i` shows the head as well,
`--raw` leaves the chunks as they are, and `-N` prints data as it arrives.)

    $ python examples/04_chunked_by_hand.py
    listening on http://127.0.0.1:8000
    $ curl -siN --raw http://127.0.0.1:8000/tokens | cat -e
    HTTP/1.1 200 OK^M$
    Transfer-Encoding: chunked^M$
    ^M$
    f^M$
    {"token":"The"}^M$
    10^M$
    {"token":" sky"}^M$
    f^M$
    {"token":" is"}^M$
    11^M$
    {"token":" blue"}^M$
    0^M$
    ^M$

Count: {"token":"The"} has 15 bytes, f in hexadecimal; {"token":" sky"} has 16, which is 10. With a
wrong size, a client would cut the tokens in the wrong places, or hang. Without `--raw`, curl
decodes the chunks, and you see the tokens arrive one by one:

    $ curl -sN http://127.0.0.1:8000/tokens; echo
    {"token":"The"}{"token":" sky"}{"token":" is"}{"token":" blue"}

/ping sends two chunks in one write. In a third terminal, start the proxy of chapter 2:

    $ python -m rawstream wire --to http://127.0.0.1:8000 --save /tmp/wire
    rawstream wire on http://127.0.0.1:8001, to http://127.0.0.1:8000  (Ctrl-C stops it)
    See it in a browser: http://127.0.0.1:8002/wire

and print the body byte by byte. `sed` cuts off what comes before the first size, the two heads. A
line end (CRLF, 0d 0a) follows each size and each piece of data, and is not counted:

    $ curl -s http://127.0.0.1:8001/ping; echo
    ping:pong!
    $ python -m rawstream wire /tmp/wire --layer http | sed -n '/chunk-size/,$p'
        http      chunk-size: 4
                  34 0d 0a                                         4..
        http      chunk-data: ping
                  70 69 6e 67                                      ping
        http      CRLF
                  0d 0a                                            ..
        http      chunk-size: 6
                  36 0d 0a                                         6..
        http      chunk-data: :pong!
                  3a 70 6f 6e 67 21                                :pong!
        http      CRLF
                  0d 0a                                            ..
        http      chunk-size: 0
                  30 0d 0a                                         0..
        http      end of the content
                  0d 0a                                            ..

The client sees where the body ends, so the connection can carry another request. It also sees when
the end is missing: /torn stops in the middle, and curl says so.

    $ curl -sN http://127.0.0.1:8000/ping http://127.0.0.1:8000/ping; echo
    ping:pong!ping:pong!
    $ curl -sSN http://127.0.0.1:8000/torn
    half an answer
    curl: (18) transfer closed with outstanding read data remaining

A chunk is not a message: a proxy may join or split chunks, and a client reads them as one stream.
Here the braces of the JSON separate the tokens; chapter 5 has a better way. HTTP/1.0 has no
`Transfer-Encoding`: there, a body without Content-Length ends with the connection. HTTP/2 has
frames instead. Left out here: `Date`, which a server with a clock must send, `Content-Type`, and
requests with a body, which this server would misread.

You can now send a body piece by piece, and tell a complete one from one that was cut off.

Two things to try: let `chunk` write the size in decimal (`%d`), and say why /ping still works and
/tokens does not. Then ask http://127.0.0.1:8001/tokens, and read in the third terminal at what time
each chunk passed.
"""

import json
import signal
import sys
from contextlib import suppress

import trio

PORT = int(sys.argv[1]) if sys.argv[1:] else 8000


def chunk(data: bytes) -> bytes:
    """Return the size in hexadecimal, CRLF, the data, CRLF. An empty piece would become the last
    chunk and end the body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"
HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"


async def tokens(stream: trio.SocketStream) -> None:
    await stream.send_all(HEAD)
    for token in ("The", " sky", " is", " blue"):
        text = json.dumps({"token": token}, separators=(",", ":"))
        await stream.send_all(chunk(text.encode()))  # a length counts bytes, not characters
        await trio.sleep(0.2)
    await stream.send_all(LAST_CHUNK)


async def serve(stream: trio.SocketStream) -> None:
    received = bytearray()
    with suppress(trio.BrokenResourceError):
        while True:
            target = await read_target(stream, received)
            if target is None:
                return
            if target == "/tokens":
                await tokens(stream)
            elif target == "/ping":
                await stream.send_all(HEAD + chunk(b"ping") + chunk(b":pong!") + LAST_CHUNK)
            elif target == "/torn":
                await stream.send_all(HEAD + b"1b\r\n" + b"half an answer\n")
                return
            else:
                await stream.send_all(NOT_FOUND)


# -- As in chapter 2, for GET only ----------------------------------------------------------------


async def read_target(stream: trio.SocketStream, received: bytearray) -> str | None:
    """Return the target of the next request, or None unless it is a GET of HTTP/1.1 that arrives
    within 10 seconds."""
    # `move_on_after` is like `fail_after`, but raises nothing: the program goes on after the block.
    with trio.move_on_after(10):
        while b"\r\n\r\n" not in received:
            data = await stream.receive_some(4096)
            if not data or len(received) > 16384:
                return None
            received += data
        end = received.index(b"\r\n\r\n")
        request_line = received[:end].decode("latin-1").split("\r\n")[0]
        del received[: end + 4]
        words = request_line.split(" ")
        if len(words) == 3 and words[0] == "GET" and words[2] == "HTTP/1.1":
            return words[1]
    return None


async def main() -> None:
    try:
        listeners = await trio.open_tcp_listeners(PORT, host="127.0.0.1")
    except OSError as error:
        other = f"python {sys.argv[0]} {PORT + 1}"
        sys.exit(f"port {PORT}: {error.strerror}; stop the other chapter (Ctrl-C) or run {other}")
    print(f"listening on http://127.0.0.1:{PORT}")
    await trio.serve_listeners(serve, listeners)


signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends the program without a traceback
trio.run(main)
