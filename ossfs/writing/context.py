"""What all writers of a mount share: the store, memory, limits, and the tasks that outlive a call.

A value object with a few counters; everything on the trio loop.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import trio

from ossfs.runtime.blocks import BLOCK
from ossfs.store.api import MARK, Capabilities, Expected, PutOptions
from ossfs.store.client import StoreClient
from ossfs.writing.memory import Memory
from ossfs.writing.sending import Sending

log = logging.getLogger(__name__)

DOUBLING = 2_000
"""Parts after which their size doubles: 10,000 of 8 MiB at first then make 484 GiB, not 78."""


@dataclass(frozen=True, slots=True)
class WritingLimits:
    """Tunables of a mount; sizes in bytes."""

    part: int
    """upload_buffer_size: the size of the first parts, and what one PutObject may take."""
    concurrency: int
    """upload_concurrency: parts on their way at once, at most."""
    copy_concurrency: int
    """upload_copy_concurrency: parts copied within the bucket at once."""


class Writing:
    """All writers of a mount."""

    def __init__(
        self,
        client: StoreClient,
        memory: Memory,
        limits: WritingLimits,
        nursery: trio.Nursery,
        now: Callable[[], float],
    ) -> None:
        """`nursery` sends parts; it must outlive every writer. `now` is the monotonic clock."""
        self.client = client
        self.memory = memory
        self.nursery = nursery
        self.now = now
        self.sending = Sending(limits.concurrency, limits.part, now)
        self.copying = trio.CapacityLimiter(limits.copy_concurrency)
        self.left = 0
        """Tasks begun with leave() that are not over."""
        self.idle = trio.Event()
        self.idle.set()
        self.progress = 0
        """Grows whenever a part or an object is in the bucket; for whoever waits for the last."""
        # A part larger than a quarter of what writers may hold would leave no room for the next.
        most = max(memory.quota // 4 // BLOCK * BLOCK, BLOCK)
        self._most = min(most, self.capabilities.maximum_put)
        self._part = min(limits.part, self._most)

    @property
    def capabilities(self) -> Capabilities:
        """What the bucket can do."""
        return self.client.capabilities

    def part_size(self, number: int) -> int:
        """Return the bytes of part `number`, from 1 on."""
        return min(self._part << min((number - 1) // DOUBLING, 32), self._most)

    def copies(self, size: int) -> int:
        """Return the number of parts that a copy of `size` bytes takes."""
        return -(-size // self.capabilities.maximum_copy_part)

    @property
    def largest(self) -> int:
        """Bytes of the largest file that one upload can hold."""
        parts = self.capabilities.maximum_parts
        return sum(
            self.part_size(first + 1) * min(DOUBLING, parts - first)
            for first in range(0, parts, DOUBLING)
        )

    def expected(self, size: int, crc64: int | None, options: PutOptions) -> Expected:
        """Describe an object that is about to be made, to know it again."""
        return Expected(size, crc64, options.metadata.get(MARK, ""))

    def leave(self, task: Callable[[], Awaitable[None]]) -> None:
        """Run `task` to its end though nobody waits for it; its failure is logged."""
        self.left += 1
        self.idle = trio.Event() if self.idle.is_set() else self.idle
        self.nursery.start_soon(self._carry, task)

    async def _carry(self, task: Callable[[], Awaitable[None]]) -> None:
        try:
            await task()
        except Exception:
            log.exception("unexpected failure of a task nobody waits for")
        finally:
            self.left -= 1
            if not self.left:
                self.idle.set()
