"""What all writers of a mount may hold, and who gives way when it is used up.

Writers have a quota of the budget, so that they never take the memory that readers need to move
on. A writer that finds it used up waits in turn; before that, those who were idle longest give
memory back: what is kept of a finished file is dropped, a part that is large enough for the store
is shipped before it is full, and less than that is set aside on disk. So half-filled handles of
programs that do nothing never stop the others.

Waiting happens inside WRITE handlers, of which there is a bounded number: when `most_waiting`
wait, `take` answers None and the writer sets its bytes aside on disk, for as long as there is
room; only then more wait. Where the disk is full too, and what fills the memory can be neither
shipped nor dropped (files without a name, parts under the store's minimum), nobody may ever give
back: then waiting ends when nothing has come back for `patience` seconds, by ENOSPC.

Invariant: `used` is what was taken and not given back, and never over the quota. All on the trio
loop; nothing awaits between a test and its change.
"""

from __future__ import annotations

import errno
import logging
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

import trio

from ossfs.runtime.blocks import BLOCK, SMALL, Block, BlockPool
from ossfs.runtime.budget import Budget
from ossfs.runtime.failure import FileSystemError
from ossfs.writing.spill import Spill

log = logging.getLogger(__name__)

PATIENCE = 60.0
"""Seconds in which something must come back to those who wait; no request takes longer."""


class Holder(Protocol):
    """Someone who may give memory back."""

    last_write: float

    def shed(self) -> int:
        """Give back what can be; return the bytes freed now or when what was begun is over."""
        ...

    def drop_kept(self) -> int:
        """Give back what is only comfort; return the bytes freed."""
        ...


class Spillable(Protocol):
    """Bytes some of which may lie on disk."""

    size: int

    @property
    def spilled(self) -> bool: ...


class _Waiter:
    __slots__ = ("event", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.event = trio.Event()


class Memory:
    """Blocks for writers."""

    def __init__(
        self,
        pool: BlockPool,
        budget: Budget,
        spill: Spill,
        *,
        quota: int,
        most_waiting: int,
        patience: float = PATIENCE,
    ) -> None:
        """`quota` in bytes; `most_waiting` WRITE handlers may wait at once.

        `patience` is what the longest request takes, in seconds.
        """
        self._pool = pool
        self._budget = budget
        self._most_waiting = most_waiting
        self._patience = patience
        self._returns = 0
        """Times that something came back."""
        self.spill = spill
        self.quota = max(quota, 2 * BLOCK)
        self.used = 0
        self.shipping = 0
        """Bytes that are on their way to the store and come back by themselves."""
        self._loading = trio.Lock()
        self.gathering = trio.Lock()
        """Held by whoever takes a whole part at once: two could wait for each other."""
        self.holders: set[Holder] = set()
        self._waiters: deque[_Waiter] = deque()
        self._pressing = False
        self.waiting = 0
        """Handlers that wait, for memory or for a part to be sent."""
        budget.add_reclaimer(self._reclaim)

    @property
    def crowded(self) -> bool:
        """Whether as many handlers wait as may."""
        return self.waiting >= self._most_waiting

    def try_take(self, size: int) -> Block | None:
        """Return a block for up to `size` bytes if it can be had now."""
        cost = _cost(size)
        if self._waiters or self.used + cost > self.quota:
            return None
        block = self._pool.try_take(size, reclaim=True)
        if block is not None:
            self.used += len(block.view)
        return block

    async def take(self, size: int) -> Block | None:
        """Return a block, waiting in turn; None when too many wait and the disk has room.

        What the caller holds meanwhile is charged. FileSystemError(ENOSPC) where all is held by
        those who cannot give back.
        """
        if self.crowded and self.spill.has_room:
            return None
        cost = _cost(size)
        waiter = _Waiter(cost)
        self._waiters.append(waiter)
        self.waiting += 1
        self._budget.charge(BLOCK)
        try:
            self._press()
            while not (self._waiters[0] is waiter and self.used + cost <= self.quota):
                await self._turn(waiter)
            self.used += cost  # before the wait for the pool, which may be for readers
            try:
                block = await self._pool.take(size)
            except BaseException:
                self.used -= cost
                raise
            self.used += len(block.view) - cost
            return block
        finally:
            self._waiters.remove(waiter)
            self.waiting -= 1
            self._budget.charge(-BLOCK)
            self._wake()

    async def _turn(self, waiter: _Waiter) -> None:
        """Wait until the waiter should look again."""
        waiter.event = trio.Event()
        returns = self._returns
        with trio.move_on_after(self._patience) as scope:
            await waiter.event.wait()
        stuck = returns == self._returns and not self.shipping  # that comes back, or its file fails
        if scope.cancelled_caught and stuck:
            log.warning(
                "a write is refused: nothing was given back in %.0f s of %d MiB that files hold "
                "which cannot be sent yet; raise total_mem_limit, or make room in temp_dir or "
                "/var/tmp",
                self._patience,
                self.used >> 20,
            )
            raise FileSystemError(errno.ENOSPC)

    def give(self, block: Block) -> None:
        """Take a block back."""
        self._returns += 1
        self.used -= len(block.view)
        self._pool.give(block)
        self._wake()

    def shipped(self, size: int) -> None:
        """Note that `size` bytes came back from where they were sent."""
        self._returns += 1
        self.shipping -= size
        self._wake()

    def charge(self, size: int) -> None:
        """Count bytes beside the blocks that cannot be refused; negative: they are gone again."""
        self._budget.charge(size)

    def nudge(self) -> None:
        """Let whoever waits look again: some holder can give back what it could not before."""
        self._wake()

    @asynccontextmanager
    async def brought(self, held: Spillable) -> AsyncIterator[None]:
        """Have room for spilled bytes while they are in memory to be sent: one part at a time."""
        if not held.spilled:
            yield
            return
        async with self._loading:
            self._budget.charge(held.size)
            try:
                yield
            finally:
                self._budget.charge(-held.size)

    def _press(self) -> None:
        """Make those idle longest give back, until enough is on its way for those who wait."""
        if self._pressing:
            return  # shed() gives back, which comes here
        wanted = min(sum(waiter.size for waiter in self._waiters), max(self.quota // 4, BLOCK))
        coming = self.shipping + max(0, self.quota - self.used)
        if coming >= wanted:
            return
        self._pressing = True
        try:
            for holder in sorted(self.holders, key=lambda holder: holder.last_write):
                coming += holder.shed()
                if coming >= wanted:
                    return
        finally:
            self._pressing = False

    def _wake(self) -> None:
        if self._waiters:
            self._press()
            self._waiters[0].event.set()

    def _reclaim(self, wanted: int) -> int:
        """Let readers have what is only kept."""
        freed = 0
        for holder in sorted(self.holders, key=lambda holder: holder.last_write):
            freed += holder.drop_kept()
            if freed >= wanted:
                break
        return freed


def _cost(size: int) -> int:
    return SMALL if size <= SMALL else BLOCK
