"""Who may see the logs: everybody on this machine, others with a token.

The token comes as `Authorization: Bearer TOKEN`, as `?token=TOKEN`, or in a cookie. Opening the
page with `?token=` sets the cookie, and leads to the URL without it: an address is soon copied.
"""

from __future__ import annotations

from hashlib import blake2s

from ..errors import HTTPError
from ..http.request import Request
from ..http.tokens import is_token


class Access:
    """The token, if one is needed."""

    def __init__(self, token: str) -> None:
        self.token = token
        """Empty: everybody may see the logs."""

    async def check(self, request: Request) -> bool:
        """Return whether the request may go on; if not, it has been sent to the URL without the
        token. Raises `HTTPError` 401."""
        if not self.token:
            return True
        asked = request.query.get("token", "")
        if asked and request.path == "/" and is_token(asked, self.token):
            await request.respond(
                303, headers=[("Location", "./"), ("Set-Cookie", self._cookie(request))]
            )
            return False
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        bearer = given.strip() if scheme.lower() == "bearer" else ""
        if any(is_token(one, self.token) for one in (bearer, asked, self._in_cookie(request))):
            return True
        raise HTTPError(
            401,
            "open the URL with ?token=, which the server printed, or send Authorization: Bearer",
            [("WWW-Authenticate", "Bearer")],
        )

    @property
    def _name(self) -> str:
        """The cookie's name. Cookies do not tell ports apart, so that of another server on the same
        machine must not take its place."""
        return "rawstream-" + blake2s(self.token.encode(), digest_size=4).hexdigest()

    def _cookie(self, request: Request) -> str:
        # Lax: the first visit may come from a link elsewhere. Requests of other pages are refused
        # by their Origin.
        secure = "; Secure" if request.scheme == "https" else ""
        return f"{self._name}={self.token}; Path=/; HttpOnly; SameSite=Lax{secure}"

    def _in_cookie(self, request: Request) -> str:
        for pair in request.headers.get("cookie", "").split(";"):
            name, _, value = pair.strip().partition("=")
            if name == self._name:
                return value
        return ""
