"""Small ranged GETs on the trio loop itself, where the store can.

A store that can is a `PromptStore`; it hands out an `Exchange` when a connection lies
idle. Bounded by the request's deadline like every other request; failures that the
general path can deal with better are left to it (`None`).
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import trio

from ossfs.store.api import GetReply
from ossfs.store.errors import DeadlineExceeded
from ossfs.store.exchange import Exchange, Unsuited

LIMIT = 256 * 1024
"""Bytes up to which the loop does it: copying more would hold up every other request."""


@runtime_checkable
class PromptStore(Protocol):
    """A store with small GETs that need no thread."""

    def begin_range(self, key: bytes, offset: int, size: int, if_match: str) -> Exchange | None:
        """Send the GET of [offset, offset+size) if a connection lies idle; never blocks."""
        ...


async def get_promptly(
    store: PromptStore, key: bytes, offset: int, view: memoryview, if_match: str, seconds: float
) -> GetReply | None:
    """Fill `view` from `offset`; None when the general path must do it.

    Raises DeadlineExceeded after `seconds`, and what the reply's head means (Changed).
    Cancelled: the connection is closed, `view` is not touched any more.
    """
    exchange = store.begin_range(key, offset, len(view), if_match)
    if exchange is None:
        return None
    reply: GetReply | None = None
    with trio.move_on_after(seconds) as scope:
        try:
            while reply is None:
                await trio.lowlevel.wait_readable(exchange.fileno())
                reply = exchange.advance(view)
        except Unsuited:
            return None
        except BaseException:
            exchange.close()
            raise
    if reply is None and scope.cancelled_caught:
        raise DeadlineExceeded("no answer in time", key=key)
    return reply
