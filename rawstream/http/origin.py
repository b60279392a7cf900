"""Which browser pages may ask: the Origin of a request, and what stands in for one."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import urlsplit

from ..errors import HTTPError
from .head import split_authority
from .request import Request


def check_origin(request: Request, allowed: Collection[str] | None = None) -> None:
    """Refuse a browser page of another origin (RFC 6455 section 10.2), with `HTTPError` 403.

    Browsers let any page open a WebSocket to any server, with that server's cookies; only the
    Origin tells. `allowed` lists origins such as "https://example.com", "*" being any; None
    allows the same origin only, by its host and port: the scheme may differ behind a proxy.
    Without an Origin it is no browser, or a request for which browsers send none: such as an image
    of another site, which Fetch Metadata tells.
    """
    if isinstance(allowed, str):
        raise TypeError("origins are a collection of strings")  # else "http://a" is in "http://a.b"
    origin = request.headers.get("origin")
    if allowed is not None and ("*" in allowed or origin in allowed):
        return
    if origin is None:
        site = request.headers.get("sec-fetch-site")
        if site in ("cross-site", "same-site") and not _is_navigation(request):
            raise HTTPError(403, "a page of another site asks, and does not say which")
        return
    if allowed is None and _same_host(origin, request.authority):
        return
    raise HTTPError(403, f"origin {origin} is not allowed at {request.authority}")


def _is_navigation(request: Request) -> bool:
    """Whether a person has followed a link: what comes is then not for the page that has it."""
    return request.headers.get("sec-fetch-mode") == "navigate"


def _same_host(origin: str, authority: str) -> bool:
    try:
        split = urlsplit(origin)
    except ValueError:
        return False
    default = {"http": 80, "https": 443}.get(split.scheme)
    theirs, ours = split_authority(split.netloc), split_authority(authority)
    if default is None or not theirs or not ours:
        return False
    return (theirs[0], theirs[1] or default) == (ours[0], ours[1] or default)
