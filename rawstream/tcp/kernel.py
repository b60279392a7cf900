"""What the kernel says of a socket. Where it does not say, the answer is None."""

from __future__ import annotations

import socket
import struct
import sys

import trio

TOGETHER_MILLISECONDS = 5
"""What `nc -N` leaves between a request and its half-close, with room for a clock of 4 ms."""

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
        """Bytes sent that the peer has not acknowledged."""
        return _asked(sock, termios.TIOCOUTQ)

    def unread(sock: trio.socket.SocketType) -> int | None:
        """Bytes received that nobody has read."""
        return _asked(sock, termios.FIONREAD)

    def ended_with_data(sock: trio.socket.SocketType) -> bool | None:
        """Whether the peer's half-close came right behind its last data. That is by the kernel's
        clock: a busy server finds out too late to tell by its own."""
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
