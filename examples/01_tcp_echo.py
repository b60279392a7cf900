r"""Chapter 1: TCP carries a stream of bytes, not messages.

A server waits at a port, a number from 1 to 65535 on a machine's address; 127.0.0.1 is the address
of the machine itself. A client that connects gets a connection: two streams of bytes, one each way.
The kernel keeps the bytes in order and sends them again if the network loses them. It does not keep
writes apart. This server sends back what it reads, and prints each read.

    $ python examples/01_tcp_echo.py
    listening on 127.0.0.1 port 8000

Type into another terminal (`nc` connects, sends what it is given, prints what comes back; with
`-w 1` it leaves after one silent second):

    $ printf 'hello' | nc -w 1 127.0.0.1 8000; echo
    hello

and look at the first one:

    read b'hello'
    the client has closed

One write, one read: this happens often, and it looks as if TCP carried messages. Now three writes
in quick succession, and then one that is longer than what the server asks for:

    $ (printf 'one'; sleep 0.05; printf 'two'; sleep 0.05; printf 'three') \
      | nc -w 1 127.0.0.1 8000; echo
    onetwothree
    $ printf 'abcdefghijklmnopqrstuvwxyz' | nc -w 1 127.0.0.1 8000; echo
    abcdefghijklmnopqrstuvwxyz

This is what the server saw:

    read b'onetwothree'
    the client has closed
    read b'abcdefghijklmnop'
    read b'qrstuvwxyz'
    the client has closed

Coalesced, and split. This server makes it visible (it is slow, and asks for 16 bytes), but the
network may do the same to any read. To send messages over a byte stream, mark where each one ends.
There are three ways, and every later chapter uses one of them: an end marker (the empty line of
HTTP and SSE), a length before the data (Content-Length, chunks, WebSocket frames), or the end of
the connection (HTTP/1.0).
"""

import signal
import sys

import trio

PORT = int(sys.argv[1]) if sys.argv[1:] else 8000


async def echo(stream: trio.SocketStream) -> None:
    """Serve one client. Trio runs this function once for each client, all at the same time: where
    an `await` has to wait, the others go on. Returning closes the connection."""
    try:
        while True:
            await trio.sleep(0.3)  # busy with something else; what arrives is kept by the kernel
            data = await stream.receive_some(16)  # at least 1 byte, at most 16
            if not data:  # b"" is the end of the stream: no more will come
                print("the client has closed")
                return
            print("read", data)
            await stream.send_all(data)  # waits while the client does not read
    except trio.BrokenResourceError:
        # The client's machine refused a byte of ours or reset the connection. An exception that
        # left this function would end the whole program, and with it every other client.
        print("the client has gone")


async def main() -> None:
    try:
        listeners = await trio.open_tcp_listeners(PORT, host="127.0.0.1")
    except OSError as error:
        other = f"python {sys.argv[0]} {PORT + 1}"
        sys.exit(f"port {PORT}: {error.strerror}; stop the other chapter (Ctrl-C) or run {other}")
    print("listening on 127.0.0.1 port", PORT)
    # Accepts connections for ever, and starts `echo` for each of them.
    await trio.serve_listeners(echo, listeners)


signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends the program without a traceback
trio.run(main)
