"""Every limit of the server, each with its unit and its reason.

All of them can be changed: `serve(handler, limits=Limits(idle_seconds=30))`. Nothing in the
server waits, buffers or counts without one of these limits.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Limits:
    """The bounds of one server. Times are seconds, sizes bytes, the rest are counts."""

    # -- The request head ------------------------------------------------------------------

    head_seconds: float = 10
    """From accept (TLS handshake included), or from the first byte of a later request, to the
    end of the head. One deadline over the whole head: a byte now and then does not extend it."""

    head_bytes: int = 64 * KIB
    """Request line and fields together; more is 431. Node allows 16 KiB, nginx 32, Apache 800."""

    header_count: int = 100
    """Fields in a head; more is 431. Apache's and Go's users meet the same number."""

    target_bytes: int = 8 * KIB
    """The request target; longer is 414. RFC 9112 section 3 asks for at least 8,000 octets."""

    # -- The request body ------------------------------------------------------------------

    body_bytes: int = MIB
    """What `request.body()` collects; more is 413. `request.stream()` has no such limit.
    nginx has the same default."""

    body_seconds: float = 30
    """A body that stays silent this long is answered 408. nginx waits 60."""

    # -- The connection --------------------------------------------------------------------

    idle_seconds: float = 75
    """A kept-alive connection without a request closes silently after this; nginx's number."""

    send_seconds: float = 30
    """One send that makes no progress for this long closes the connection: the client has
    stopped reading, and what is buffered for it must not stay for ever."""

    window_seconds: float = 120
    """A stream of HTTP/2 that is not given any window for this long is reset. Longer than
    `send_seconds`: a browser may well pause one stream while it reads the others."""

    leave_seconds: float = 1
    """How long a handler may run on after its client has left: a WebSocket handler that has been
    told of the close, or one whose client half-closed right after the whole request."""

    linger_seconds: float = 2
    linger_total_seconds: float = 30
    lingering: int = 100
    """After a response sent before the request was read to its end, what the client still sends is
    read and discarded, so that no reset destroys the response (RFC 9112 section 9.6): until it is
    silent for `linger_seconds`, for `linger_total_seconds` at most, on `lingering` connections at
    a time. By time and not by size, as nginx does it (5 and 30 seconds): a client with a large
    upload reads the response only at its end."""

    user_timeout_seconds: float = 30
    """TCP_USER_TIMEOUT: a peer that does not acknowledge sent bytes for this long has
    vanished. Without it Linux tries for about 15 minutes."""

    # -- How many ---------------------------------------------------------------------------

    connections: int = 10_000
    """Connections at a time; the next is answered 503 (an event stream: `retry:` and an end).
    Lowered at start where the process may not open that many files."""

    connections_per_address: int = 256
    """Connections at a time from one address; exchanges at a time of one client behind a trusted
    proxy. Not counted on loopback and unix sockets, where all clients may come through a proxy.
    Browsers open 6 a tab, an office shares one address."""

    streams: int = 100
    """Exchanges at a time on one connection of HTTP/2, counted until their handlers have ended; the
    next is refused, and its client may try again. The least that RFC 9113 section 6.5.2 advises."""

    refusals: int = 100
    """Connections over the caps that are answered at a time. Any further ones are just closed: a
    cap that answers every connection is none."""

    # -- Streams ----------------------------------------------------------------------------

    heartbeat_seconds: float = 15
    """An event stream that is silent for this long sends a comment. The HTML standard advises 15
    seconds, against proxies that drop connections silent for 30 or 60."""

    poll_seconds: float = 60
    """The longest a long-poll is held, whatever its client asks for. nginx gives up on an upstream
    after the same time: behind it, ask for less. The default wait is 25 seconds."""

    # -- WebSocket --------------------------------------------------------------------------

    message_bytes: int = MIB
    """A received WebSocket message, after inflating; more is close code 1009. The websockets
    library has the same default."""

    message_queue: int = 16
    message_queue_bytes: int = 64 * KIB
    """Messages received and not yet asked for, and their size (of text, in characters). At either
    limit reading stops, and TCP slows the client."""

    ping_seconds: float = 20
    """Time between two pings, and how long the pong may take; the defaults of websockets."""

    close_seconds: float = 5
    """How long to wait for the client's Close after ours (RFC 6455 section 7.1.1)."""

    # -- The end ----------------------------------------------------------------------------

    drain_seconds: float = 10
    """How long finite exchanges may take to finish when the server is stopping; then they are cut.
    Docker kills after 10, Kubernetes after 30."""

    lame_duck_seconds: float = 0
    """How long a server that was told to stop goes on as before, while `request.is_draining` says
    so to health checks: a load balancer that asks every few seconds then sends its clients
    elsewhere before connections are refused. The only limit that may be 0: drain at once."""

    def __post_init__(self) -> None:
        """Raises `ValueError` for a limit that is not more than 0."""
        for name in fields(self):
            if name.name == "lame_duck_seconds" and self.lame_duck_seconds == 0:
                continue
            if not getattr(self, name.name) > 0:
                raise ValueError(f"{name.name} must be more than 0")
