"""Pages pushed into the kernel ahead of a reader, where its readahead cannot be raised.

At the kernel's default readahead a reader has two requests of 128 KiB in flight, so a
distant or merely busy daemon stalls it. Fetched cells are therefore stored straight in
the page cache (`notify_store`), and the READs for them never come.

The first SMALL bytes of every group of GROUP units are left out: their READ is the
heartbeat that tells how far the reader has come, and it pushes the next DEPTH groups.
So no more than those lie unread in the page cache, and a push is ahead of the READs in
flight; what has a READ outstanding is never pushed, for notify_store would wait for
it. Pushing is done by another thread (`Push`), which reports back once a batch; cells
are pinned meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ossfs.reading.blocks import BLOCK, SMALL
from ossfs.reading.content import Cell, Content

GROUP = 8
"""Units between heartbeats: one READ in 8 MiB."""


DEPTH = 2
"""Groups pushed ahead: a reader runs through one faster than the next can be pushed."""
NEAR = 512 * 1024
"""Bytes beyond the last READ in which the next ones may be under way already."""


class Push(Protocol):
    """Hand pieces of (offset, bytes) to the kernel for `inode`.

    `wanted(offset)` is asked in the pushing thread just before each piece; `done(stored)` is
    called on the loop with a flag for each piece. Returns False, and never calls
    `done`, when there is no room for more pushes.
    """

    def __call__(
        self,
        inode: int,
        pieces: list[tuple[int, memoryview]],
        wanted: Callable[[int], bool],
        done: Callable[[list[bool]], None],
    ) -> bool: ...


class Pusher:
    """Decides what to push for every reader of a mount."""

    reach = (DEPTH + 2) * GROUP * BLOCK
    """Bytes a window must span for pushing to keep up: this group, those pushed, one on its way."""

    def __init__(self, push: Push) -> None:
        self._push = push

    def reading(self, inode: int, content: Content, unit: int) -> None:
        """Note that the kernel READs `unit`: push what is here of the next groups."""
        start = (unit // GROUP + 1) * GROUP
        cells: list[tuple[int, Cell]] = []
        pieces: list[tuple[int, memoryview]] = []
        for ahead in range(start, start + DEPTH * GROUP):
            cell = content.cells.get(ahead)
            if cell is None or not cell.ready or cell.pins or cell.consumed:
                continue
            skip = 0 if ahead % GROUP else SMALL
            if cell.size > skip:
                cells.append((ahead, cell))
                pieces.append((ahead * BLOCK + skip, cell.block.view[skip : cell.size]))
        if not pieces:
            return

        def wanted(offset: int) -> bool:
            return offset >= content.read_to + NEAR

        def done(stored: list[bool]) -> None:
            for (ahead, cell), (_, view), flag in zip(cells, pieces, stored, strict=True):
                content.unpin(cell)
                if flag and cell.linked:
                    content.consume(ahead, cell, len(view))

        if self._push(inode, pieces, wanted, done):
            for _, cell in cells:
                content.pin(cell)

    def gap(self, position: int, offset: int) -> int:
        """Return the bytes between `position` and `offset` that no push accounts for.

        A reader that ran through pushed units comes back at the next heartbeat, or wherever
        the kernel found a page missing: up to two groups on is still the same sequence.
        """
        gap = offset - position
        return 0 if 0 < gap <= self.reach else gap
