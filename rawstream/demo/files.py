"""Large bodies in the demo: a resumable download, and an upload of any size."""

from __future__ import annotations

import hashlib
import re
from math import inf

from ..errors import HTTPError
from ..http.request import Request
from ..streams.stream import open_stream
from .push import number

PATTERN = bytes(range(256)) * 256
"""The repeated content of downloads: the byte at offset n is n modulo 256."""

MAX_SIZE = 1 << 40

_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})", re.IGNORECASE)


async def download(request: Request) -> None:
    """`GET /download`: bytes without end. With `?size=N`: N bytes, or a range of them
    (RFC 9110 section 14), so that `curl -C -` resumes."""
    size = number(request, "size", inf, inf)
    kind = "application/octet-stream"
    if size == inf:
        async with open_stream(request, kind, endless=True) as stream:
            while True:
                await stream.send(PATTERN)
    if size > MAX_SIZE:
        raise HTTPError(400, f"size is at most {MAX_SIZE}")
    whole = int(size)
    etag = f'"{whole}"'
    headers = [("Accept-Ranges", "bytes"), ("ETag", etag)]
    part = None
    if request.headers.get("if-range", etag) == etag and not request.head_only:
        part = requested_range(request.headers.get("range", ""), whole)
    start, stop = part or (0, whole)
    if part:
        headers.append(("Content-Range", f"bytes {start}-{stop - 1}/{whole}"))
    async with open_stream(
        request, kind, status=206 if part else 200, headers=headers, length=stop - start
    ) as stream:
        while start < stop:
            skip = start % len(PATTERN)
            piece = PATTERN[skip : skip + stop - start]
            await stream.send(piece)
            start += len(piece)


def requested_range(field: str, size: int) -> tuple[int, int] | None:
    """The single range that a Range field asks for: the offsets of its first byte and after its
    last. None means to send everything: there is no field, several ranges, or a malformed one
    (RFC 9110 section 14.2). Raises `HTTPError` 416 for a range beyond the end."""
    match = _RANGE.fullmatch(field.strip())
    if not match or not any(match.groups()):
        return None
    first, last = match.groups()
    if not first:  # the last N bytes
        start, stop = max(0, size - int(last)), size
    else:
        start, stop = int(first), min(size, int(last) + 1) if last else size
        if last and int(last) < start:
            return None
    if start >= stop:
        raise HTTPError(416, f"there are {size} bytes", [("Content-Range", f"bytes */{size}")])
    return start, stop


async def upload(request: Request) -> None:
    """`POST` or `PUT /upload`: count and hash a body while it arrives, in constant memory."""
    digest, count = hashlib.sha256(), 0
    async for part in request.stream():
        digest.update(part)
        count += len(part)
    await request.respond(200, json={"bytes": count, "sha256": digest.hexdigest()})
