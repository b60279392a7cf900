r"""Chapter 1: TCP carries a stream of bytes, not messages.

A server waits at a port, a number from 1 to 65535 on a machine's address; 127.0.0.1 is the address
of the machine itself. A client that connects gets a connection: two streams of bytes, one each way.
The kernel keeps the bytes in order and sends them again if the network loses them. It does not keep
writes apart. This server sends back what it reads, and prints each read.

    $ python examples/01_tcp_echo.py
    listening on 127.0.0.1 port 8000

Type the next command into the second terminal. `printf` writes a text, and `A | B` passes what A
writes to B. `nc` connects to a server, sends what it is given, and prints what comes back; with
`-w 1` it leaves after one silent second. `A; B` runs B after A; this `echo` only ends the line:

    $ printf 'hello' | nc -w 1 127.0.0.1 8000; echo
    hello

and look at the first one:

    read b'hello'
    the client has closed

One write, one read: this happens often, and it looks as if TCP carried messages. Now three writes
in quick succession, and then one that is longer than what the server asks for. (What commands in
parentheses write goes to one place, and a command goes on behind a backslash at a line's end.)

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

The writes were joined, and the long one was split. This server makes it visible (it is slow, and
asks for 16 bytes), but the network may do the same to any read. To send messages over a byte
stream, mark where each one ends. There are three ways, and every later chapter uses one of them:

- an end marker: the empty line of HTTP and of Server-Sent Events;
- a length before the data: Content-Length, chunks, the frames of WebSocket;
- the end of the connection: HTTP/1.0.

The program asks the kernel for four things: a socket (`socket`), at an address (`bind`), that takes
connections (`listen`), and then for each connection (`accept`). Read `listen` and `main` below.

You can now write a server for many clients, and you know why a read is not a message.

Two things to try: ask for 3 bytes in place of 16, and predict the reads of 'hello'. Then run
`nc 127.0.0.1 8000` in two terminals at once, and type lines into both in turn.
"""

import signal
import socket
import sys

import trio

PORT = int(sys.argv[1]) if sys.argv[1:] else 8000


def listen() -> socket.socket:
    """Return a socket at which clients can connect."""
    # A socket is the kernel's end of a connection, or, as here, what waits for connections.
    # AF_INET stands for an IPv4 address, SOCK_STREAM for TCP.
    waiting = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    # Without this option, the port stays taken for a minute after the server has ended.
    waiting.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # `bind` gives the socket its address and port. It fails if another program has the port.
    waiting.bind(("127.0.0.1", PORT))
    # From `listen` on, the kernel lets clients connect. Up to 100 may wait to be accepted.
    waiting.listen(100)
    return waiting


async def main() -> None:
    try:
        waiting = trio.socket.from_stdlib_socket(listen())  # the same socket; Trio can wait for it
    except OSError as error:
        other = f"python {sys.argv[0]} {PORT + 1}"
        sys.exit(f"port {PORT}: {error.strerror}; stop the other chapter (Ctrl-C) or run {other}")
    print("listening on 127.0.0.1 port", PORT)
    async with trio.open_nursery() as nursery:
        while True:
            # `accept` waits for a client. It returns a second socket, which is our end of the
            # connection to this client; the first one goes on waiting for others.
            connection, _address = await waiting.accept()
            # A Trio stream hides that socket behind two methods: `receive_some` and `send_all`.
            stream = trio.SocketStream(connection)
            nursery.start_soon(echo, stream)  # a task for this client
    # The later chapters write `listen` as `trio.open_tcp_listeners`, and this loop as
    # `trio.serve_listeners`.


async def echo(stream: trio.SocketStream) -> None:
    """Serve one client. While this task waits at an `await`, the tasks of other clients run."""
    async with stream:  # closes the connection at the end of the block
        try:
            while True:
                await trio.sleep(0.5)  # busy with something else; the kernel keeps what arrives
                data = await stream.receive_some(16)  # waits for 1 byte at least; 16 at most
                if not data:  # b"" is the end of the stream: no more will come
                    print("the client has closed")
                    return
                print("read", data)
                await stream.send_all(data)  # returns when the kernel has taken all of it
        except trio.BrokenResourceError:
            # The client's machine refused a byte of ours or reset the connection. An exception that
            # left this task would end the whole program, and with it every other client.
            print("the client has gone")


signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends the program without a traceback
trio.run(main)
