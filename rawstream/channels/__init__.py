r"""Layer 5: one log, many readers. An entry that is published once is read in five ways, and
resumed.

    channel.publish("hello")              events       id: 5f3a9c01-1\ndata: hello\n\n
       |                                  lines        {"id": "5f3a9c01-1", "data": "hello"}\n
       v                                  WebSocket    the same, one per message
    [ entry | entry | entry ]    -->      text         hello\n
       ^                ^                 polls        {"entries": [...], "next": "5f3a9c01-1"}
    a late reader   readers that are caught up

A reader is a position in the log and nothing else, so the memory is that of the log, however many
readers there are and however slowly they read. All five ways use the same cursor: a client may
change from one to another at any entry. This layer builds on the entries and the streams. It does
not know the publishers.

In reading order:

    fanout.py         writing to all caught-up readers at once
    channel.py        a log and its fan-out
    asked.py          what a request asks of a channel, read once
    resume.py         where a client resumes
    readers.py        the ways to read one channel
    several.py        several channels over one connection
"""
