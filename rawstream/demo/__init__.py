"""The demo that `python -m rawstream` serves: everything the library does, for curl and browsers.

In reading order:

    app.py        the routes, and commands to try
    push.py       chunks, events, long-polling and a WebSocket
    channels.py   channels, and a way to cut the connection of a reader
    files.py      a resumable download, and an upload of any size
    page.html     the page
"""
