"""Channels and their readers, as they are when somebody looks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeAlias

from prometheus_client import Metric
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    SummaryMetricFamily,
)

from ..channels.channel import Channel
from ..entries.counts import Counts
from ..named_channels.registry import Channels

Watched: TypeAlias = Mapping[str, "Channel | Channels"]
"""Channels by the name that stands for them. Many channels have one name: clients make them up."""


def counted(watched: Watched) -> dict[str, Counts]:
    """From now on count what becomes of the entries of these channels."""
    counts = {name: Counts() for name in watched}
    for name, found in watched.items():
        (found if isinstance(found, Channels) else found.fan_out).count_into(counts[name])
    return counts


def channel_families(watched: Watched, counts: Mapping[str, Counts]) -> Iterator[Metric]:
    """All metrics of these channels, with their values at this moment."""
    yield from _as_they_are(watched)
    for name, text, attribute in (
        ("entries", "Entries published.", "entries"),
        ("entry_bytes", "Their size: about what all of them take, encoded once.", "entry_bytes"),
        (
            "deliveries",
            "Writes to readers, each of one entry or of several that came together.",
            "deliveries",
        ),
        ("delivered_bytes", "Their bytes.", "delivered_bytes"),
        ("gaps", "Gaps that readers were told of: entries were dropped before.", "gaps"),
    ):
        family = CounterMetricFamily(f"rawstream_channel_{name}", text, labels=["channel"])
        for channel, count in counts.items():
            family.add_metric([channel], getattr(count, attribute))
        yield family
    flushes = SummaryMetricFamily(
        "rawstream_channel_flush_seconds",
        "Time to write what was published to all readers that are caught up.",
        labels=["channel"],
    )
    for channel, count in counts.items():
        flushes.add_metric([channel], count.flushes, count.flush_seconds)
    yield flushes


def _as_they_are(watched: Watched) -> Iterator[Metric]:
    channels = _gauge("channels", "Channels that exist.")
    connected = _gauge("channels_connected", "1 if what keeps their entries is there, as Redis.")
    entries = _gauge("channel_held_entries", "Entries that are kept for readers.")
    size = _gauge("channel_held_bytes", "Their size.")
    readers = GaugeMetricFamily(
        "rawstream_channel_readers",
        "Readers: that wait for the next entry, or are behind and being sent older ones.",
        labels=["channel", "state"],
    )
    for name, found in watched.items():
        group = list(found) if isinstance(found, Channels) else [found]
        fan_outs = [channel.fan_out for channel in group]
        channels.add_metric([name], len(group))
        connected.add_metric([name], not isinstance(found, Channels) or found.is_connected)
        entries.add_metric([name], sum(channel.held for channel in group))
        size.add_metric([name], sum(channel.held_bytes for channel in group))
        parked = sum(fan_out.parked for fan_out in fan_outs)
        waiting = sum(fan_out.waiting for fan_out in fan_outs)
        readers.add_metric([name, "waiting"], parked + waiting)
        behind = sum(fan_out.following for fan_out in fan_outs) - parked
        readers.add_metric([name, "behind"], behind)
    yield from (channels, connected, entries, size, readers)


def _gauge(name: str, text: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"rawstream_{name}", text, labels=["channel"])
