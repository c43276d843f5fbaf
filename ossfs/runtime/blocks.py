"""Page-aligned blocks of one arena, granted by the budget and used again and again.

A private anonymous mapping with MADV_HUGEPAGE: a fresh or misaligned buffer costs
more than the copy into it (measured: 0.2 s/GiB here, 0.3 misaligned, 0.9 when freshly
faulted in 4 KiB pages). Blocks come in two sizes: BLOCK for windows and SMALL for
small files and random reads, eight of which share a BLOCK.

Invariant: a block is in exactly one place, the free list or its one holder. The arena
is used from the trio loop only; other threads fill or read the memory of a block whose
holder keeps it meanwhile. Blocks are handed out last in, first out, so that the memory
in use stays small and warm; trim() returns what has lain idle to the system.
"""

from __future__ import annotations

import mmap
from contextlib import suppress

from ossfs.runtime.budget import Budget

BLOCK = 1024 * 1024
"""Bytes of a block: the largest READ the kernel sends (256 pages)."""
SMALL = 128 * 1024
"""Bytes of a small block: the kernel's default readahead and the common small file."""

_MAP_NORESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000)
_PER_SLAB = BLOCK // SMALL


class Block:
    """Memory for up to `len(view)` bytes."""

    __slots__ = ("index", "resident", "slab", "view")

    def __init__(self, view: memoryview, index: int, slab: _Slab | None = None) -> None:
        self.view = view
        self.index = index
        self.slab = slab
        self.resident = True


class _Slab:
    """A BLOCK cut into small ones."""

    __slots__ = ("block", "free")

    def __init__(self, block: Block) -> None:
        self.block = block
        self.free = [
            Block(block.view[i * SMALL : (i + 1) * SMALL], i, self) for i in range(_PER_SLAB)
        ]


class BlockPool:
    """Hands out blocks of the arena against the budget."""

    def __init__(self, budget: Budget) -> None:
        """Reserve address space for the budget's limit; OSError where that cannot be had."""
        self._budget = budget
        # Charges may leave the budget overdrawn, never the arena: it has a block for every
        # one the limit can grant, and one for a limit below a single block.
        self._capacity = max(1, budget.limit // BLOCK)
        self._arena = mmap.mmap(
            -1,
            self._capacity * BLOCK,
            flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE,
        )
        with suppress(OSError):  # kernels without huge pages
            self._arena.madvise(mmap.MADV_HUGEPAGE)
        # A child, such as the one that unmounts, has no use for it and no room for a second one.
        self._arena.madvise(mmap.MADV_DONTFORK)
        self._view = memoryview(self._arena)
        self._touched = 0
        self._free: list[Block] = []
        self._slabs: list[_Slab] = []
        self._lowest_free = 0

    @property
    def capacity(self) -> int:
        """Bytes of all blocks together."""
        return self._capacity * BLOCK

    def try_take(self, size: int, *, reclaim: bool = False) -> Block | None:
        """Return a block of at least `size` (at most BLOCK) bytes, or None."""
        if size <= SMALL and not self._budget.waiting:
            # While others wait nobody takes from the slabs, so that these drain to whole blocks.
            if not self._slabs:
                block = self._try_block(reclaim)
                if block is None:
                    return None
                self._slabs.append(_Slab(block))
            return self._from_slab()
        return self._try_block(reclaim)

    async def take(self, size: int) -> Block:
        """Return a block of at least `size` bytes, waiting until one can be had."""
        block = self.try_take(size, reclaim=True)
        if block is not None:
            return block
        await self._budget.take(BLOCK)
        block = self._next()
        if size > SMALL:
            return block
        self._slabs.append(_Slab(block))
        return self._from_slab()

    def give(self, block: Block) -> int:
        """Take a block back, whose memory nobody may touch any more.

        Returns the bytes the budget got back: of a small block none, unless it was the last of
        those it shared a large one with.
        """
        slab = block.slab
        if slab is None:
            return self._release(block)
        slab.free.append(block)
        if len(slab.free) == 1:
            self._slabs.append(slab)
        elif len(slab.free) == _PER_SLAB:
            self._slabs.remove(slab)
            return self._release(slab.block)
        return 0

    def nudge(self) -> None:
        """Let whoever waits for a block look again: cells have arrived that may be taken back."""
        if self._budget.waiting:
            self._budget.nudge()

    def trim(self) -> int:
        """Return the memory of blocks that lay idle since the last trim; in bytes.

        The free list is a stack: its bottom, as deep as it never got emptied since the last
        call, has not been needed.
        """
        idle = [block for block in self._free[: self._lowest_free] if block.resident]
        for block in idle:
            self._arena.madvise(mmap.MADV_DONTNEED, block.index * BLOCK, BLOCK)
            block.resident = False
        self._lowest_free = len(self._free)
        return len(idle) * BLOCK

    def _try_block(self, reclaim: bool) -> Block | None:
        return self._next() if self._budget.try_take(BLOCK, reclaim=reclaim) else None

    def _from_slab(self) -> Block:
        slab = self._slabs[-1]
        block = slab.free.pop()
        if not slab.free:
            self._slabs.pop()
        return block

    def _next(self) -> Block:
        if self._free:
            block = self._free.pop()
            block.resident = True
            self._lowest_free = min(self._lowest_free, len(self._free))
            return block
        index = self._touched
        self._touched += 1
        return Block(self._view[index * BLOCK : (index + 1) * BLOCK], index)

    def _release(self, block: Block) -> int:
        self._free.append(block)
        self._budget.give(BLOCK)
        return BLOCK
