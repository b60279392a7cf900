"""h2's state machine of one connection, as a server of ours uses it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias, cast

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import RequestReceived, TrailersReceived
from h2.settings import SettingCodes, Settings
from hyperframe.frame import GoAwayFrame

from ..limits import Limits
from .compression import BlockDecoder, BlockEncoder

ReceivedFields: TypeAlias = Iterable[tuple[bytes, bytes]]
"""Names and values, as they were received."""

ANY_STREAM = 2**31 - 1
"""As the last stream of a GOAWAY: nothing is refused yet (RFC 9113 section 6.8)."""

STREAM_WINDOW = 65_535
"""Bytes that a client may send on a stream before its handler reads them: the default of RFC 9113
section 6.5.2."""

TABLE_BYTES = 4_096
"""The most that the fields of responses may take which both sides remember, however much the client
offers: the default of RFC 9113 section 6.5.2. h2 looks through all of them for every field."""


class _OurSettings(Settings):
    """The settings that we announce."""

    @property
    def max_concurrent_streams(self) -> int:
        """What h2 enforces: no limit. It would end the connection for one stream too many, which
        we refuse (RFC 9113 section 5.1.2)."""
        return ANY_STREAM

    @max_concurrent_streams.setter
    def max_concurrent_streams(self, value: int) -> None:
        raise NotImplementedError


class _TheirSettings(Settings):
    """The settings that the client announces. Those that nobody knows are not kept (RFC 9113
    section 6.5.2)."""

    def __setitem__(self, key: SettingCodes | int, value: int) -> None:
        if key == SettingCodes.HEADER_TABLE_SIZE:
            value = min(value, TABLE_BYTES)
        if key in _KNOWN:
            super().__setitem__(key, value)


_KNOWN = frozenset(SettingCodes)


def fields_of(event: RequestReceived | TrailersReceived) -> ReceivedFields:
    """The fields that an event brings."""
    assert event.headers is not None
    return cast(ReceivedFields, event.headers[0][1])


class Machine(H2Connection):
    """Knows the frames, the states of streams and the windows, and compresses fields."""

    MAX_CLOSED_STREAMS = 1_024
    """Of this many streams it remembers how they were closed: those of which frames may still be
    under way."""

    def __init__(self, limits: Limits) -> None:
        # Fields are checked where they are turned into requests.
        config = H2Configuration(
            client_side=False,
            header_encoding=None,
            validate_inbound_headers=False,
            normalize_inbound_headers=False,
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
        )
        super().__init__(config)
        self.local_settings = _OurSettings(
            client=False,
            initial_values={
                SettingCodes.MAX_CONCURRENT_STREAMS: limits.streams,
                SettingCodes.MAX_HEADER_LIST_SIZE: limits.head_bytes,
                SettingCodes.ENABLE_CONNECT_PROTOCOL: 1,
            },
        )
        self.remote_settings = _TheirSettings(client=True)
        # Up to here a request is answered 431; beyond, HPACK would unfold a bomb (CVE-2016-6581).
        self.decoder = BlockDecoder(2 * limits.head_bytes)
        self.encoder = BlockEncoder()
        self.initiate_connection()
        # So large that no body which nobody reads keeps another one from arriving.
        self.increment_flow_control_window((limits.streams - 1) * STREAM_WINDOW or 1)

    def goaway(self, last: int, code: ErrorCodes = ErrorCodes.NO_ERROR, reason: str = "") -> bytes:
        """A GOAWAY. h2's own would be the last frame of all; ours lets streams go on."""
        frame = GoAwayFrame(0, last, int(code), reason.encode())
        return frame.serialize()
