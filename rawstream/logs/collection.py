"""The logs of one server, by name, and a channel that tells when there are others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum

from ..channels.channel import Channel
from ..errors import HTTPError, Unavailable
from ..limits import MIB

RING_ENTRIES = 100_000
RING_BYTES = 16 * MIB
"""What is kept of a log that cannot be read back: that of a command, of standard input, or of lines
that are posted."""

POSTED_ENTRIES = 20_000
POSTED_BYTES = 4 * MIB
MOST_POSTED = 100
"""Logs that clients make by posting to them. The one that was posted to longest ago makes room for
another."""

LIST_BYTES = 4 * MIB
MOST_ABOUT = 500
"""Characters of what is told about a log."""


class Kind(Enum):
    """Where the lines of a log come from."""

    FILE = "file"
    COMMAND = "command"
    INPUT = "standard input"
    POSTED = "posted"


@dataclass
class Log:
    """A log."""

    channel: Channel
    kind: Kind
    about: str
    """Its path, its command, or its client, on one line."""
    posting: int = 0
    """Clients that are posting lines to it."""

    def as_json(self) -> dict[str, object]:
        """What a page is told of it."""
        return {
            "name": self.channel.name,
            "kind": self.kind.value,
            "about": self.about[:MOST_ABOUT],
            "ended": self.channel.is_closed,
        }


class Logs:
    """The logs, in the order in which they came."""

    def __init__(self) -> None:
        self._logs: dict[str, Log] = {}
        self.on_removed: Callable[[str], None] = lambda name: None
        """Called with the name of a log that was removed: another may get it."""
        self.changes = Channel(entries=1, size=LIST_BYTES, json=True)
        """Has one entry, the list of all logs as JSON. It is published anew when that changes."""
        self.tell()

    def tell(self) -> None:
        """Publish the list."""
        self.changes.publish(json=[log.as_json() for log in self._logs.values()])

    def add(self, channel: Channel, kind: Kind, about: str) -> Log:
        """Add a log, whose name is free."""
        log = self._logs[channel.name] = Log(channel, kind, about)
        self.tell()
        return log

    def add_ring(self, name: str, kind: Kind, about: str) -> Log:
        """Add a log that keeps only its last lines."""
        return self.add(Channel(name, entries=RING_ENTRIES, size=RING_BYTES), kind, about)

    def remove(self, name: str) -> None:
        """Forget a log. Its readers are told of the end."""
        self._logs.pop(name).channel.close()
        self.on_removed(name)
        self.tell()

    def end(self, log: Log) -> None:
        """Nothing comes any more."""
        log.channel.close()
        self.tell()

    @property
    def names(self) -> set[str]:
        """The names that are taken."""
        return set(self._logs)

    def __iter__(self) -> Iterator[Log]:
        return iter(self._logs.values())

    def find(self, name: str) -> Log:
        """The log of this name. Raises `HTTPError` 404."""
        if name not in self._logs:
            raise HTTPError(404, f"there is no log {name!r}")
        return self._logs[name]

    def find_to_post(self, name: str, client: str) -> Log:
        """The log of this name for a client that posts lines to it; a new one if there is none.
        Raises `HTTPError`."""
        log = self._logs.get(name)
        if log is None:
            posted = [log for log in self if log.kind is Kind.POSTED]
            idle = next((log for log in posted if not log.posting), None)
            if len(posted) >= MOST_POSTED:
                if idle is None:
                    raise Unavailable("too many logs")
                self.remove(idle.channel.name)
            channel = Channel(name, entries=POSTED_ENTRIES, size=POSTED_BYTES)
            return self.add(channel, Kind.POSTED, client)
        if log.kind is not Kind.POSTED:
            raise HTTPError(405, f"{name} is followed here, not posted", [("Allow", "GET, HEAD")])
        self._logs[name] = self._logs.pop(name)  # the last of them
        return log
