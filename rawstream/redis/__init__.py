r"""Channels in Redis: the layer of channels, shared by any number of processes and machines.

    publish --> XADD --> [ stream in Redis ] --> XREAD --> mirror --> readers of this process
                                   |
                                   +-----------> XREAD --> mirror --> readers of another

A channel is one stream. Its IDs are those that clients see, `EPOCH-NUMBER`: Redis counts the
numbers without a hole, in one step with appending, so a missing number is a lost entry. A stream
that begins again (after a flush) has a new epoch. Needs the extra `[redis]`.

In reading order:

    scripts.py        what runs inside Redis (stream.lua, publish.lua, open.lua, members.lua,
                      renew.lua): arguments and replies
    mirror.py         the copy of a stream, from which readers are served
    presence.py       the members of a channel in all processes
    link.py           the connections, with a deadline for every answer
    writer.py         what is written, a batch at a time
    store.py          mirrors in step with their streams; Redis away and back
    channels.py       channels by name
"""
