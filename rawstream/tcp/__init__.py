r"""Layer 1: bytes. Connections come in, and each is two streams of bytes, one each way.

    listening socket --accept--> connection --read--> b"GET / HT", b"TP/1.1\r\n", ...
                                            <-write-- b"HTTP/1.1 200 OK\r\n..."

What one side writes arrives in order, but not in the same pieces: reads are not messages. To find
the messages in the bytes is what the layers above are for. This layer knows no HTTP.

In reading order:

    listeners.py    addresses bound, sockets inherited, TLS
    admission.py    accepted sockets: how many there may be, and how a vanished peer is found
    keepalive.py    heartbeats and idle time, without a task for each connection
    kernel.py       what the kernel says of a socket
    parts.py        parts of what is sent in several writes
    receiving.py    one connection's bytes, as they come
    transport.py    and as they go: who may write, and when
    closing.py      how a connection is closed
    hangup.py       who has hung up, without a task for each connection
"""
