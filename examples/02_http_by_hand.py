r"""Chapter 2: HTTP/1.1 is text on that stream.

A request is a head and perhaps a body. The head is a request line (method, target and version),
then fields (`Name: value`), then an empty line. The empty line is an end marker, and the field
Content-Length is a length. With the two, a server finds the requests in the stream (RFC 9112).

First see what a client sends. `nc -l` waits for a client and prints its bytes. `cat -e` shows the
two bytes that end a line of HTTP, CR and LF, as ^M and $. curl sends a request: `-d` makes it a
POST with this body, `-s` hides the progress meter, and `-m 0.5` leaves after half a second, because
nobody answers. (`A & B; wait` runs A beside B and waits for both; `< /dev/null` gives A no input. A
shell that you type into also prints lines like `[1] 4711`.)

    $ nc -l 127.0.0.1 8001 < /dev/null | cat -e & \
      sleep 0.3; curl -s -m 0.5 -d 'some text' http://127.0.0.1:8001/echo; wait; echo
    POST /echo HTTP/1.1^M$
    Host: 127.0.0.1:8001^M$
    User-Agent: curl/7.88.1^M$
    Accept: */*^M$
    Content-Length: 9^M$
    Content-Type: application/x-www-form-urlencoded^M$
    ^M$
    some text

Now to our server. `curl -v` also prints the heads, its own (>) and the server's (<), on the second
output, which `2>&1` joins to the first; `grep` keeps the lines with this beginning:

    $ python examples/02_http_by_hand.py
    listening on http://127.0.0.1:8000
    $ curl -sv http://127.0.0.1:8000/hello 2>&1 | grep '^[<>]' | cat -e
    > GET /hello HTTP/1.1^M$
    > Host: 127.0.0.1:8000^M$
    > User-Agent: curl/7.88.1^M$
    > Accept: */*^M$
    > ^M$
    < HTTP/1.1 200 OK^M$
    < Date: Sat, 21 Nov 2026 09:00:00 GMT^M$
    < Content-Length: 6^M$
    < ^M$

Given two URLs, curl asks twice on one connection, which HTTP/1.1 keeps open (HTTP/1.0 does not):

    $ curl -s http://127.0.0.1:8000/hello http://127.0.0.1:8000/hello
    hello
    hello

The server's terminal tells the connections apart:

    connection 1: 'GET /hello'
    connection 2: 'GET /hello'
    connection 2: 'GET /hello'

To see every byte, put a proxy between the client and the server. Start it in a third terminal. It
listens on port 8001, passes on what it reads, prints it there, and saves it in a file:

    $ python -m rawstream wire --to http://127.0.0.1:8000 --save /tmp/wire
    rawstream wire on http://127.0.0.1:8001, to http://127.0.0.1:8000  (Ctrl-C stops it)
    See it in a browser: http://127.0.0.1:8002/wire

Send it a request typed by hand (in `printf`, `\r\n` is CR LF), and print what it saved about this
first connection, in `http` terms. `sed` cuts off the response. Below each name are its bytes in
hexadecimal, and beside them the same bytes as text, with a dot for each that cannot be printed.
0d is CR and 0a is LF. (`tail -n 1` prints the last line.)

    $ printf 'POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nsome text' \
      | nc -w 1 127.0.0.1 8001 | tail -n 1; echo
    some text
    $ python -m rawstream wire /tmp/wire --layer http --connection 1 | sed '/status-line/,$d'
        http      request-line: POST /echo
                  50 4f 53 54 20 2f 65 63 68 6f 20 48 54 54 50 2f  POST /echo HTTP/
                  31 2e 31 0d 0a                                   1.1..
        http      field-line: Host: a
                  48 6f 73 74 3a 20 61 0d 0a                       Host: a..
        http      field-line: Content-Length: 9
                  43 6f 6e 74 65 6e 74 2d 4c 65 6e 67 74 68 3a 20  Content-Length:
                  39 0d 0a                                         9..
        http      end of the head
                  0d 0a                                            ..
        http      content: some text
                  73 6f 6d 65 20 74 65 78 74                       some text

The server has limits (16 KiB of head, 1 MiB of body, 10 seconds for an exchange) and answers some
nonsense with 400. Even so, do not use it: it is easy to mislead. Here is one way. The body of this
request is a chunk (chapter 4) of 2a bytes, which is hexadecimal for 42. Our server does not know
chunks. It believes Content-Length: the 4 bytes of the body are `2a\r\n`, the line with the size.
What follows it takes for a second request. (`%b` joins the texts that follow.)

    $ printf '%b' 'POST /echo HTTP/1.1\r\nHost: a\r\n' \
        'Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n' \
        '2a\r\nGET /admin HTTP/1.1\r\nConnection: close\r\n\r\n\r\n0\r\n\r\n' \
      | nc -w 1 127.0.0.1 8001 | grep HTTP
    HTTP/1.1 200 OK
    HTTP/1.1 404 Not Found

The proxy knows chunks. It has seen one request and two responses, and the first has the 4 bytes:

    $ python -m rawstream wire /tmp/wire --layer http --connection 2 \
      | grep -e request-line -e chunk- -e status-line -e content:
        http      request-line: POST /echo
        http      chunk-size: 2a, that is 42
        http      chunk-data: GET /admin HTTP/1.1\r\nConnection: close\r\n\r\n
        http      chunk-size: 0
        http      status-line: 200 OK
        http      content: 2a\r\n
        http      status-line: 404 Not Found
        http      content: /hello, /echo\n

A proxy that is to keep strangers from /admin would not have seen the second request either. That
is request smuggling (RFC 9112 section 11.2). Two Content-Lengths, or white space before a
colon, do as well. The server has seen:

    connection 3: 'POST /echo'
    connection 4: 'POST /echo'
    connection 4: 'GET /admin'

You can now read a request byte by byte, and answer it with a program that has no library for HTTP.

Two things to try: announce 4 bytes for `some text`, add a second request, and explain its 400.
Then open http://127.0.0.1:8002/wire in a browser, send a request through port 8001, and watch.
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
    # `suppress` ends its block at these exceptions, and they go no further: only this client has
    # failed, so the others go on.
    with suppress(trio.TooSlowError, trio.BrokenResourceError):
        while not close:
            # `fail_after` cancels its block after so many seconds: the `await` in it where the task
            # waits is given up, and TooSlowError is raised.
            with trio.fail_after(10):
                try:
                    request = await read_request(stream, received)
                except ValueError as error:
                    await stream.send_all(response("400 Bad Request", f"{error}\n".encode(), True))
                    return
                if request is None:
                    return
                route, body, close = request
                print(f"connection {number}: {route!a}")  # `!a` escapes control characters
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
    while b"\r\n\r\n" not in received:  # the end marker
        if len(received) > 16384:
            raise ValueError("the head is too long")
        data = await stream.receive_some(4096)
        if not data:
            return None
        received += data
    end = received.index(b"\r\n\r\n")
    request_line, *lines = received[:end].decode("latin-1").split("\r\n")
    del received[: end + 4]
    words = request_line.split(" ")
    if len(words) != 3 or words[2] not in ("HTTP/1.0", "HTTP/1.1") or words[0] == "HEAD":
        raise ValueError("not a request that is understood here")
    method, target, version = words
    fields = {}
    for line in lines:
        name, _, value = line.partition(":")
        fields[name.lower()] = value.strip()
    length = fields.get("content-length", "0")
    if not length.isdecimal() or len(length) > 7 or int(length) > 1048576:
        raise ValueError("no usable Content-Length")
    while len(received) < int(length):  # the length
        data = await stream.receive_some(4096)
        if not data:
            return None
        received += data
    body = bytes(received[: int(length)])
    del received[: int(length)]
    close = version == "HTTP/1.0" or fields.get("connection", "").lower() == "close"
    return f"{method} {target}", body, close


def response(status: str, body: bytes, close: bool) -> bytes:
    lines = [
        f"HTTP/1.1 {status}",
        f"Date: {formatdate(usegmt=True)}",
        f"Content-Length: {len(body)}",
    ]
    if close:
        lines.append("Connection: close")
    head = "".join(f"{line}\r\n" for line in lines) + "\r\n"
    return head.encode() + body


async def main() -> None:
    try:
        listeners = await trio.open_tcp_listeners(PORT, host="127.0.0.1")
    except OSError as error:
        other = f"python {sys.argv[0]} {PORT + 1}"
        sys.exit(f"port {PORT}: {error.strerror}; stop the other chapter (Ctrl-C) or run {other}")
    print(f"listening on http://127.0.0.1:{PORT}")
    await trio.serve_listeners(serve, listeners)  # the loop of chapter 1


signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends the program without a traceback
trio.run(main)
