r"""Layer 1: bytes. An accepted connection is two streams of bytes, one each way.

    listening socket --accept--> connection --read--> b"GET / HT", b"TP/1.1\r\n", ...
                                            <-write-- b"HTTP/1.1 200 OK\r\n..."

Bytes arrive in order, but not in the pieces in which they were written: a read is not a message.
Finding messages in the bytes is the task of the layers above. This layer knows no HTTP.

In reading order:

    listeners.py       bound addresses, inherited sockets, TLS
    admission.py       accepted sockets: how many there may be; detecting a vanished peer
    proxy_protocol.py  for whom a proxy connects
    keepalive.py       heartbeats and idle time, without a task for each connection
    kernel.py          what the kernel knows about a socket
    parts.py           the parts of a piece, as bytes and sliced by reference
    receiving.py       reading the bytes of one connection
    transport.py       writing them: which task may write, and when
    counting.py        the same, with the received bytes counted
    recording.py       the same, with every byte shown to a recorder
    closing.py         how a connection is closed
    watching.py        detecting that a peer hangs up, or sends, without a task for each connection
"""
