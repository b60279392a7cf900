"""What `python -m rawstream` serves: all the library does, to be tried with curl or on a page.

In reading order:

    app.py        the routes, and lines to type
    push.py       chunks, events, polls, and a socket both ways
    channels.py   channels, and a way to cut the connection of one of their readers
    files.py      a download that can be resumed, an upload of any size
    page.html     the page
"""
