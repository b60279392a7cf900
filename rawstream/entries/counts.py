"""What has become of entries, counted where somebody asks for it: for metrics."""

from __future__ import annotations

from .log import Log


class Counts:
    """Of one log, or of many together, also after they were forgotten."""

    __slots__ = (
        "deliveries", "delivered_bytes", "entries", "entry_bytes", "flush_seconds", "flushes",
        "gaps",
    )  # fmt: skip

    def __init__(self) -> None:
        self.entries = self.entry_bytes = 0
        self.deliveries = self.delivered_bytes = 0  # a delivery may be several entries
        self.gaps = 0  # that readers were told of
        self.flushes = 0
        self.flush_seconds = 0.0  # that they took, without their pauses


class Counted:
    """What writes the entries of a log to its readers, and counts that if it is asked to."""

    def __init__(self, log: Log) -> None:
        self.counts: Counts | None = None
        self._log = log
        self._counted = 0, 0  # entries and bytes ever, when they were last counted

    def count_into(self, counts: Counts) -> None:
        """From now on count what becomes of entries."""
        self.counts = counts
        self._counted = self._log.count_ever, self._log.bytes_ever

    def count_entries(self, counts: Counts) -> None:
        """Count the entries that were published since this was last called."""
        entries, size = self._counted
        self._counted = self._log.count_ever, self._log.bytes_ever
        counts.entries += self._log.count_ever - entries
        counts.entry_bytes += self._log.bytes_ever - size

    def count_delivery(self, size: int) -> None:
        """A reader's own task sends it so many bytes of entries."""
        if self.counts is not None:
            self.counts.deliveries += 1
            self.counts.delivered_bytes += size

    def count_gap(self) -> None:
        """A reader is told of a gap."""
        if self.counts is not None:
            self.counts.gaps += 1
