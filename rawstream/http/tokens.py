"""Tokens: secrets in the URLs of whoever may see something."""

from __future__ import annotations

import hmac
import secrets


def new_token() -> str:
    """Return a token that nobody guesses."""
    return secrets.token_urlsafe(16)


def is_token(given: str, token: str) -> bool:
    """Return whether this is the token. It takes as long for one that is nearly right."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), token.encode())
