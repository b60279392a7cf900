"""What the kernel knows about a socket. Functions return None where it cannot tell."""

from __future__ import annotations

import socket
import struct
import sys

import trio

TOGETHER_MILLISECONDS = 5
"""The most between the last data and a half-close that belongs to it. It allows for the delay of
`nc -N` and for a clock of 4 ms."""

if sys.platform == "linux":
    import fcntl
    import termios

    def _asked(sock: trio.socket.SocketType, question: int) -> int | None:
        try:
            answer = fcntl.ioctl(sock.fileno(), question, bytes(4))
        except (OSError, ValueError):
            return None
        return int.from_bytes(answer, sys.byteorder)

    def unacknowledged(sock: trio.socket.SocketType) -> int | None:
        """Return how many sent bytes the peer has not acknowledged."""
        return _asked(sock, termios.TIOCOUTQ)

    def unread(sock: trio.socket.SocketType) -> int | None:
        """Return how many received bytes have not been read."""
        return _asked(sock, termios.FIONREAD)

    def ended_with_data(sock: trio.socket.SocketType) -> bool | None:
        """Return whether the peer's half-close came right after its last data, by the kernel's
        clock: a busy server notices too late to tell by its own."""
        if sock.family == socket.AF_UNIX:
            return None
        try:
            # Of struct tcp_info: tcpi_last_data_recv and tcpi_last_ack_recv, milliseconds ago.
            # The segment with the FIN carries an acknowledgement.
            information = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 60)
        except OSError:
            return None
        data, end = struct.unpack("=II", information[52:60])
        return bool(data - end <= TOGETHER_MILLISECONDS)

else:

    def unacknowledged(sock: trio.socket.SocketType) -> int | None:
        return None

    def unread(sock: trio.socket.SocketType) -> int | None:
        return None

    def ended_with_data(sock: trio.socket.SocketType) -> bool | None:
        return None
