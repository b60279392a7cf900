"""Which browser pages may send requests, by Origin or, without one, by Fetch Metadata."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import urlsplit

from ..errors import HTTPError
from .authority import split_authority
from .request import Request


def check_origin(request: Request, allowed: Collection[str] | None = None) -> None:
    """Refuse requests from browser pages of another origin (RFC 6455 section 10.2). Raises
    `HTTPError` 403.

    Browsers let any page open a WebSocket to any server, with that server's cookies. Only the
    Origin names the page. `allowed` lists origins ("https://example.com"), or "*" for any. None
    allows the same origin only, compared by host and port: behind a proxy the scheme may differ. If
    a trusted proxy names the scheme, it is compared, too.

    A request without Origin does not come from a browser, or is one for which browsers send none,
    like that for an image. Fetch Metadata then tells whether a page of another origin sent it.
    """
    if isinstance(allowed, str):
        raise TypeError("origins are a collection of strings")  # else "http://a" is in "http://a.b"
    origin = request.headers.get("origin")
    if allowed is not None and ("*" in allowed or origin in allowed):
        return
    if origin is None:
        site = request.headers.get("sec-fetch-site")
        if site in ("cross-site", "same-site") and not _is_navigation(request):
            raise HTTPError(403, "cross-origin request without an Origin")
        return
    scheme = request.forwarded.scheme if request.forwarded else ""
    if allowed is None and _same_host(origin, scheme, request.authority):
        return
    raise HTTPError(403, f"origin {origin} is not allowed at {request.authority}")


def _is_navigation(request: Request) -> bool:
    """Return whether a link was followed. The page with the link cannot read the response."""
    return request.headers.get("sec-fetch-mode") == "navigate"


def _same_host(origin: str, scheme: str, authority: str) -> bool:
    """Whether host, port and scheme are the same; "": any scheme."""
    try:
        split = urlsplit(origin)
    except ValueError:
        return False
    default = {"http": 80, "https": 443}.get(split.scheme)
    theirs, ours = split_authority(split.netloc), split_authority(authority)
    if default is None or not theirs or not ours or (scheme and scheme != split.scheme):
        return False
    return (theirs[0], theirs[1] or default) == (ours[0], ours[1] or default)
