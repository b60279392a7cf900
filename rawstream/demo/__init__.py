"""The demo that `python -m rawstream` serves: everything the library does, for curl and browsers.

In reading order:

    app.py        the routes, and commands to try
    push.py       chunks, events, long-polling and a WebSocket
    channels.py   channels, and a way to cut the connection of a reader
    files.py      a resumable download, and an upload of any size
    faults.py     streams that go wrong on purpose
    http1.py      an origin of HTTP/1.1, for a page that came over HTTP/2
    page.html     the page, with page.css and page.js
"""
