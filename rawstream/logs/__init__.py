r"""Live logs: files, commands and standard input as channels, for browsers and curl.

    app.log     INFO started\n              -->   GET /logs/app.log     INFO started\n
                ERROR no disk\n                                         ERROR no disk\n
    offset      0            13           27      id: 6ec7d1c1dd859c99-27810

The number in an ID is the offset behind the line and three digits that check its bytes; the epoch
is made of the file itself. So a cursor means the same after the server was started again, and what
is older than the history of the channel is read back from the file.

In reading order:

    lines.py        the lines in bytes
    levels.py       how severe a line is
    file.py         a file that others write to, truncate and rotate
    following.py    a file as a channel
    names.py        short names for paths
    collection.py   the logs of a server
    files.py        the files that were named, and those that patterns find
    streams.py      lines of standard input, of commands and of requests
    input.py        standard input
    child.py        a command, and its two streams
    access.py       who may see the logs
    app.py          the logs over HTTP
    command.py      the command line
    page.html       the page, with page.css; page.js stands on view.js, lines.js, levels.js, ansi.js
                    and plot.js
"""
