"""Live logs: files and commands as channels, for browsers and curl.

In reading order:

    lines.py       the lines in bytes
    file.py        a file that others write to, truncate and rotate
    following.py   a file as a channel
"""
