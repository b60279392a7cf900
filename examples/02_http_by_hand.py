r"""Chapter 2: HTTP/1.1 is text on that stream.

A request is a head (a request line of method, target and version; fields, `Name: value`; an empty
line) and perhaps a body. The empty line is an end marker, Content-Length is a length. With the two,
a server finds the requests in the stream (RFC 9112).

    $ python examples/02_http_by_hand.py
    listening on http://127.0.0.1:8000

A request typed by hand; `cat -e` shows CR as ^M and LF as $:

    $ printf 'GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n' \
      | nc -w 1 127.0.0.1 8000 | cat -e
    HTTP/1.1 200 OK^M$
    Date: Sat, 21 Nov 2026 09:00:00 GMT^M$
    Content-Length: 6^M$
    Connection: close^M$
    ^M$
    hello$

curl (`-s`: no progress meter; `-d`: POST this), given two URLs, asks twice on one connection, which
HTTP/1.1 keeps open (HTTP/1.0 does not):

    $ curl -s http://127.0.0.1:8000/hello http://127.0.0.1:8000/hello
    hello
    hello
    $ curl -s -d 'some text' http://127.0.0.1:8000/echo; echo
    some text

The server's terminal tells the connections apart:

    connection 1: GET /hello
    connection 2: GET /hello
    connection 2: GET /hello
    connection 3: POST /echo

It has limits (16 KiB of head, 1 MiB of body, 10 seconds for an exchange) and answers some nonsense
with 400. Even so, do not use it: it is easy to mislead. Here is one way. The body of this one
request is a chunk of 2a (42) bytes, but the server does not know chunks and sees two requests. A
proxy in front of it that knows chunks would not have seen the second one.

    $ printf '%b' 'POST /echo HTTP/1.1\r\nHost: a\r\n' \
        'Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n' \
        '2a\r\nGET /admin HTTP/1.1\r\nConnection: close\r\n\r\n\r\n0\r\n\r\n' \
      | nc -w 1 127.0.0.1 8000 | grep HTTP
    HTTP/1.1 200 OK
    HTTP/1.1 404 Not Found

That is request smuggling (RFC 9112 section 11.2). Two Content-Lengths, or white space before a
colon, do as well. The server has seen:

    connection 4: POST /echo
    connection 4: GET /admin
"""

import signal
import sys
from contextlib import suppress
from email.utils import formatdate
from itertools import count

import trio

PORT = int(sys.argv[1]) if sys.argv[1:] else 8000
connections = count(1)


async def serve(stream: trio.SocketStream) -> None:
    number = next(connections)
    received = bytearray()  # bytes not yet used: perhaps the start of the next request
    close = False
    with suppress(trio.TooSlowError, trio.BrokenResourceError):  # these end this client only
        while not close:
            with trio.fail_after(10):  # else TooSlowError
                try:
                    request = await read_request(stream, received)
                except ValueError as error:
                    await stream.send_all(response("400 Bad Request", f"{error}\n".encode(), True))
                    return
                if request is None:
                    return
                route, body, close = request
                print(f"connection {number}: {ascii(route)[1:-1]}")  # no control characters
                if route == "GET /hello":
                    await stream.send_all(response("200 OK", b"hello\n", close))
                elif route == "POST /echo":
                    await stream.send_all(response("200 OK", body, close))
                else:
                    await stream.send_all(response("404 Not Found", b"/hello, /echo\n", close))


async def read_request(
    stream: trio.SocketStream, received: bytearray
) -> tuple[str, bytes, bool] | None:
    """Method and target, body, and whether to close afterwards; None at the end of input."""
    while (end := received.find(b"\r\n\r\n")) < 0:  # the end marker
        if len(received) > 16384:
            raise ValueError("the head is too long")
        if not (data := await stream.receive_some(4096)):
            return None
        received += data
    request_line, *lines = received[:end].decode("latin-1").split("\r\n")
    del received[: end + 4]
    words = request_line.split(" ")
    if len(words) != 3 or words[2] not in ("HTTP/1.0", "HTTP/1.1") or words[0] == "HEAD":
        raise ValueError("not a request that is understood here")
    method, target, version = words
    fields = {name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)}
    length = fields.get("content-length", "0")
    if not length.isdecimal() or len(length) > 7 or int(length) > 1048576:
        raise ValueError("no usable Content-Length")
    while len(received) < int(length):  # the length
        if not (data := await stream.receive_some(4096)):
            return None
        received += data
    body = bytes(received[: int(length)])
    del received[: int(length)]
    close = version != "HTTP/1.1" or fields.get("connection", "").lower() == "close"
    return f"{method} {target}", body, close


def response(status: str, body: bytes, close: bool) -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\nDate: {formatdate(usegmt=True)}\r\nContent-Length: {len(body)}\r\n"
    )
    return (head + ("Connection: close\r\n" if close else "") + "\r\n").encode() + body


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
