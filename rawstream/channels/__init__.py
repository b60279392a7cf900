r"""Layer 4: one log, many readers. What is published once is read in five ways, and resumed.

    channel.publish("hello")              events       id: 5f3a9c01-1\ndata: hello\n\n
       |                                  lines        {"id": "5f3a9c01-1", "data": "hello"}\n
       v                                  WebSocket    the same, one a message
    [ entry | entry | entry ]    -->      text         hello\n
       ^                ^                 polls        {"entries": [...], "next": "5f3a9c01-1"}
    a late reader   those who are caught up

A reader is a position in the log and nothing else, so memory is the log's, however many read and
however slowly. One cursor goes with all five ways: a client may change from one to another half
way. This layer stands on the streams; it does not know who publishes.

In reading order:

    cursors.py        where a client is: one ID, or several in a vector
    log.py            the entries, bounded; batches of them as bytes. No I/O
    formats.py        how entries look on each transport
    fanout.py         who is caught up, and writing to all of them at once
    channel.py        a log and its fan-out
    asked.py          what a request asks of a channel, read once
    resume.py         where a client goes on from
    readers.py        the ways to read one channel
    several.py        several channels over one connection
    presence.py       who is there
    registry.py       many channels by name
    publishing.py     publishing by POST
    conversation.py   a WebSocket that joins, leaves and publishes
    serving.py        channels over HTTP: who may, and what each method does
"""
