"""One budget for every buffer, so that memory is bounded whatever the load.

Whoever holds bytes for longer than a call has them here: blocks and parts are taken and
given back; what cannot be refused (listing pages that have arrived, handler tasks) is
charged. Under pressure the budget first asks the registered reclaimers to give back what
is only comfort (prefetched, not yet read); what cannot be had then is waited for in FIFO
order. A read is never refused for lack of budget, nor kept waiting by charges: however
much they come to, ROOM can be taken, so somebody always moves on and gives back.

Invariant: `used` is the sum of what was taken or charged and not given back. Only
charge() may push it over `limit`. All methods belong to the trio loop; nothing here is
thread-safe, and nothing awaits between a test and its change.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import trio

ROOM = 16 * 1024 * 1024
"""Bytes that can be taken whatever is charged: some blocks for reading, to keep things moving."""


class _Waiter:
    """One task's place in the queue."""

    __slots__ = ("event", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.event = trio.Event()


class Budget:
    """Bytes that may be held at once."""

    def __init__(self, limit: int) -> None:
        """`limit` is in bytes."""
        if limit <= 0:
            raise ValueError("a budget needs a positive limit")
        self.limit = limit
        self.peak = 0
        self._taken = 0
        self._charged = 0
        self._reclaimers: list[Callable[[int], int]] = []
        self._waiters: deque[_Waiter] = deque()

    def add_reclaimer(self, reclaim: Callable[[int], int]) -> None:
        """Register `reclaim(wanted) -> freed`, which gives back up to `wanted` bytes at once.

        It is called with the loop held: it must not await, and must call give() for what it
        frees before it returns.
        """
        self._reclaimers.append(reclaim)

    @property
    def used(self) -> int:
        """Bytes taken and charged."""
        return self._taken + self._charged

    @property
    def free(self) -> int:
        """Bytes that can be taken without reclaiming; negative when charges ate them up."""
        return max(self.limit - self._charged, min(ROOM, self.limit)) - self._taken

    @property
    def waiting(self) -> int:
        """Tasks that wait for bytes."""
        return len(self._waiters)

    def try_take(self, size: int, *, reclaim: bool = False) -> bool:
        """Take `size` bytes if they can be had now; never jumps the queue of the waiting."""
        if self._waiters:
            return False
        if size > self.free and reclaim:
            self._reclaim(size - self.free)
        if size > self.free:
            return False
        self._take(size)
        return True

    async def take(self, size: int) -> None:
        """Take `size` bytes, waiting in turn until they can be had.

        Cancelled: nothing is taken. A request larger than the whole limit is granted once
        nothing else is taken, so that a small limit slows work instead of stopping it.
        """
        if self.try_take(size, reclaim=True):
            return
        waiter = _Waiter(size)
        self._waiters.append(waiter)
        try:
            while not (self._waiters[0] is waiter and self._can_have(size)):
                waiter.event = trio.Event()
                await waiter.event.wait()
        except BaseException:
            self._waiters.remove(waiter)
            self._wake()
            raise
        self._waiters.popleft()
        self._take(size)
        self._wake()

    def give(self, size: int) -> None:
        """Give back `size` bytes that were taken."""
        self._taken -= size
        self._wake()

    def charge(self, size: int) -> None:
        """Count `size` bytes that cannot be refused (a listing page that has arrived).

        Negative: that many of them are gone again.
        """
        self._charged += size
        self.peak = max(self.peak, self.used)
        if size < 0:
            self._wake()

    def nudge(self) -> None:
        """Let the first in the queue look again: something has become reclaimable."""
        self._wake()

    def _can_have(self, size: int) -> bool:
        if size > self.free:
            self._reclaim(size - self.free)
        return size <= self.free or self._taken <= 0

    def _take(self, size: int) -> None:
        self._taken += size
        self.peak = max(self.peak, self.used)

    def _wake(self) -> None:
        if self._waiters:
            self._waiters[0].event.set()

    def _reclaim(self, wanted: int) -> None:
        for reclaim in self._reclaimers:
            wanted -= reclaim(wanted)
            if wanted <= 0:
                break
