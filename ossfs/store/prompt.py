"""Small requests on the trio loop itself, where the store can.

A store that can is a `PromptStore`; it hands out an `Exchange` when a connection lies
idle. Bounded by the request's deadline like every other attempt, and, where asking twice does no
harm, more tightly by the server's silence: the connection has been idle, and a firewall or a
server that has forgotten it says nothing. (A change that the server is only slow at must not be
made a second time while it may still come: it is given as long as in a thread.) What fails here is
for the rules of `store.retry`; what is not simple enough is left to a thread (`Unsuited`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar, runtime_checkable

import trio

from ossfs.store.api import Buffer, GetReply, ListPage, ObjectInfo, PutOptions, PutReply
from ossfs.store.errors import DeadlineExceeded, Silent
from ossfs.store.exchange import Exchange, Unsuited

T = TypeVar("T")

LIMIT = 256 * 1024
"""Bytes up to which the loop does it: copying more would hold up every other request."""
PUT_LIMIT = 64 * 1024
"""Bytes of an object up to which the loop sends it: an MD5 of as many takes 0.07 ms."""
ENTRIES = 2
"""Keys up to which the loop lists: whether there is something, and something else."""
SILENCE = 3.0
"""Seconds without a byte after which the connection counts as dead; OSS takes some 0.05."""
_SHARE = 0.25
"""Part of a request's time that the silence of a kept connection may cost at most."""


@runtime_checkable
class PromptStore(Protocol):
    """A store with small requests that need no thread.

    Each method sends its request if a connection lies idle, and never blocks; None where that
    cannot be, or where the thread has the better words. The outcomes are those of `api.Store`.
    """

    def begin_range(
        self, key: bytes, offset: int, view: memoryview, if_match: str
    ) -> Exchange[GetReply] | None:
        """Send the GET of [offset, offset+len(view)), which fills `view`."""
        ...

    def begin_head(self, key: bytes, *, full: bool) -> Exchange[ObjectInfo] | None:
        """Send a HEAD."""
        ...

    def begin_list(
        self,
        prefix: bytes,
        *,
        delimiter: bytes,
        token: str | None,
        start_after: bytes,
        max_keys: int,
    ) -> Exchange[ListPage] | None:
        """Send the list of a few keys."""
        ...

    def begin_delete(self, key: bytes) -> Exchange[None] | None:
        """Send the DELETE of one object."""
        ...

    def begin_put(
        self, key: bytes, data: Sequence[Buffer], options: PutOptions
    ) -> Exchange[PutReply] | None:
        """Send an object, which must fit into the socket; `data` is not touched afterwards."""
        ...


async def finish(exchange: Exchange[T], seconds: float) -> T:
    """Return the outcome of what has been sent.

    Raises what the reply means, Unsuited when a thread must ask again, Silent when the server is,
    DeadlineExceeded after `seconds`. Cancelled: the connection is closed, and nothing is written
    any more; but a change that is under way is not cancelled, as in a thread.
    """
    silence = exchange.silence
    if not exchange.changes:
        silence = min(silence, SILENCE, _SHARE * seconds)
    begun = trio.current_time()
    with trio.CancelScope(deadline=begun + min(silence, seconds), shield=exchange.changes) as scope:
        try:
            while True:
                await trio.lowlevel.wait_readable(exchange.fileno())
                if exchange.advance():
                    return exchange.outcome()
                scope.deadline = min(begun + seconds, trio.current_time() + silence)
        except BaseException:
            exchange.close()
            raise
    exchange.forsake()
    if trio.current_time() >= begun + seconds:
        raise DeadlineExceeded("no answer in time")
    if silence < exchange.silence:
        # No attempt that failed: `retry_count=0` would make this the store's only chance.
        raise Unsuited(f"nothing came within {silence:.3g} s")
    raise Silent(f"the server is silent for {silence:.3g} s")
