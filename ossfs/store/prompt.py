"""Small ranged GETs on the trio loop itself, where the store can.

A store that can is a `PromptStore`; it hands out an `Exchange` when a connection lies
idle. Bounded by the request's deadline like every other attempt, and more tightly by the
server's silence: the connection has been idle, and a firewall or a server that has
forgotten it says nothing. What fails here is for the rules of `store.retry`; what is not
simple enough is left to a thread (`None`).
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import trio

from ossfs.store.api import GetReply
from ossfs.store.errors import DeadlineExceeded, Unavailable
from ossfs.store.exchange import Exchange, Unsuited

LIMIT = 256 * 1024
"""Bytes up to which the loop does it: copying more would hold up every other request."""
SILENCE = 3.0
"""Seconds without a byte after which the connection counts as dead; OSS takes some 0.05."""
_SHARE = 0.25
"""Part of a request's time that the silence of a kept connection may cost at most."""


@runtime_checkable
class PromptStore(Protocol):
    """A store with small GETs that need no thread."""

    def begin_range(self, key: bytes, offset: int, size: int, if_match: str) -> Exchange | None:
        """Send the GET of [offset, offset+size) if a connection lies idle; never blocks."""
        ...


async def finish(exchange: Exchange, view: memoryview, seconds: float) -> GetReply | None:
    """Fill `view` with the reply to a GET that has been sent; None when a thread must ask again.

    Raises what the reply means, Unavailable when the server falls silent, DeadlineExceeded after
    `seconds`. Cancelled: the connection is closed, `view` is not touched any more.
    """
    silence = min(SILENCE, _SHARE * seconds)
    begun = trio.current_time()
    with trio.CancelScope(deadline=begun + silence) as scope:
        try:
            while True:
                await trio.lowlevel.wait_readable(exchange.fileno())
                reply = exchange.advance(view)
                if reply is not None:
                    return reply
                scope.deadline = min(begun + seconds, trio.current_time() + silence)
        except Unsuited:
            return None
        except BaseException:
            exchange.close()
            raise
    exchange.forsake()
    if trio.current_time() >= begun + seconds:
        raise DeadlineExceeded("no answer in time")
    raise Unavailable(f"the server is silent for {silence:.3g} s")
