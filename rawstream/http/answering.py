"""How a handler answers a request, and what becomes of its failures: one policy for every version
of HTTP."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from ..errors import HTTPError
from ..stderr import logger
from .access_log import log_line, masked
from .authority import is_local_host
from .context import ServerContext
from .error_response import EXPECTED, error_response, http_error, leaves
from .exchange import BODY, UNANSWERED, Exchange, Progress
from .lifetime import DONE, Ended, Lifetime
from .proxied import Proxied
from .request import Handler, Request


class Answered(Exchange, Protocol):
    """An exchange, as its connection sees it."""

    status: int
    """0 until the head of the response is out."""
    label: str
    """Names the kind of response in the access log."""
    farewell: Callable[[], Awaitable[None]] | None

    @property
    def progress(self) -> Progress:
        """How much of the response has been made."""


def check_request(
    request: Request,
    authority: str,
    expected: tuple[str, ...],
    context: ServerContext,
    proxied: Proxied | None,
) -> None:
    """Take over what a trusted proxy says. Refuse a request for another server, with an expectation
    that is not met, or of a client with too many. Raises `HTTPError` 421, 417 or 503."""
    if proxied is not None:
        proxied.take(request)
    names = context.local_names
    if names is not None:
        _check_authority(authority, names)
        # Besides, and not instead: a page that has rebound its name can send this field.
        if request.forwarded is not None:
            _check_authority(request.forwarded.authority, names)
    if expected and expected != ("100-continue",) and request.http_version != "1.0":
        raise HTTPError(417, "the only expectation that is met is 100-continue")


def _check_authority(authority: str, names: frozenset[str]) -> None:
    if authority and not is_local_host(authority, names):
        raise HTTPError(421, f"this server does not answer for {authority}")


def call(handler: Handler, request: Request) -> Awaitable[None]:
    """Call a handler; await what this returns."""
    answering = handler(request)
    if not hasattr(answering, "__await__"):
        name = getattr(handler, "__qualname__", None) or repr(handler)
        raise TypeError(f"the handler {name} is not an async function")
    return answering


async def answer_error(
    raised: Exception, exchange: Answered, request: Request | None, lifetime: Lifetime
) -> bool:
    """Answer what a handler has raised, if it is an `HTTPError`; else raise it again. Return False
    if the response had begun already."""
    error = http_error(raised)
    if error is None:
        raise raised
    if exchange.status:
        logger.warning("%s: too late to answer with %r", request, error)
        lifetime.reason = f"failed with {error.status}"
        return False
    await exchange.respond(*error_response(error, request))
    return True


def check_answered(exchange: Answered, lifetime: Lifetime) -> None:
    """The handler has returned. Raises `RuntimeError` if it has not answered."""
    if exchange.progress is BODY:
        raise RuntimeError("the handler returned before its response had ended")
    if not exchange.status:
        raise RuntimeError("the handler returned without a response; is an `await` missing?")
    lifetime.reason = DONE


def note_failure(
    error: Exception, request: Request | None, lifetime: Lifetime, *, has_met_its_end: bool
) -> None:
    """Note that a handler has ended with an exception, and log it unless it only reports the end
    that its exchange has met. (It may have been sending to another connection, which has ended.)"""
    if has_met_its_end and all(isinstance(leaf, EXPECTED) for leaf in leaves(error)):
        lifetime.reason = lifetime.reason or Ended.CLIENT_LEFT
    else:
        lifetime.reason = Ended.HANDLER_FAILED
        logger.exception("%s: the handler failed", request)


async def send_final_response(
    exchange: Answered, request: Request | None, lifetime: Lifetime
) -> None:
    """Send what the client is still owed when its exchange was ended early."""
    unanswered = exchange.progress is UNANSWERED
    try:
        match lifetime.reason:
            case Ended.DRAINED if exchange.farewell:
                await exchange.farewell()
            case Ended.HANDLER_FAILED if unanswered:
                await exchange.respond(*error_response(HTTPError(500)))
            case Ended.HEAD_TOO_SLOW | Ended.BODY_TOO_SLOW as reason if unanswered:
                error = HTTPError(408, f"request {reason.value}")
                await exchange.respond(*error_response(error))
    except EXPECTED:
        pass
    except Exception:
        logger.exception("%s: the final response failed", request)


def report_exchange(
    context: ServerContext,
    client: str,
    request: Request | None,
    exchange: Answered,
    reason: Ended | str | None,
    *,
    size: int,
    began: float,
) -> None:
    """Tell the observer and the access log, where there are, of an exchange, which `began` then and
    has sent `size` bytes. `client` is whose connection it is."""
    seconds = context.now() - began
    method = ("HEAD" if request.head_only else request.method) if request else ""
    if context.observer is not None:
        context.observer.exchange_ended(method, exchange, reason, seconds)
    if not context.access_log:
        return
    log_line(
        (request.client if request else client) or "-",  # a unix socket
        method or "-",
        masked(request.target) if request else "-",  # the head was refused
        exchange.status or "-",
        exchange.label,
        size,
        seconds,
        reason.value if isinstance(reason, Ended) else reason,
    )
