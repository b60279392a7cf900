r"""The wire, visible: what passes on connections, recorded and shown.

    reads and writes ---> recorder ---> dissector ---> rows ---> ladder ---> terminal
    of our own server,                           \          \
    or of a proxy                                 capture     records ---> page

    0.201 s  #1  client <---------- 14 bytes ---------- server
        http      chunk-size: 9
                  39 0d 0a                                         9..
        http      chunk-data: 9 bytes, which follow
        sse       line: data: Hel (goes on)
                  64 61 74 61 3a 20 48 65 6c                       data: Hel

Nobody who looks delays what passes.

In reading order:

    recorder.py   pieces on their way to those who look
    capture.py    recordings as files
    rows.py       bytes that are explained together
    ladder.py     the wire as text
    terminal.py   that text on a terminal
    records.py    what a page is told
    page.py       the page, from page.html, view.css, view.js and page.js
    live.py       the page on a server, and the channel it reads
    proxy.py      the bytes of anybody's server
    command.py    `python -m rawstream wire`
"""
