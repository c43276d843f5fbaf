"""Pages pushed into the kernel ahead of a reader, where its readahead cannot be raised.

At the kernel's default readahead a reader has two requests of 128 KiB in flight, so a
distant or merely busy daemon stalls it. Fetched cells are therefore stored straight in
the page cache (`notify_store`), and the READs for them never come.

One unit in GROUP is left out: its READs are the heartbeat that tells how far the reader
has come, and each pushes the group after the next unit. So at most two groups lie unread
in the page cache, and a push is a group ahead of the READs in flight; a unit with a READ
outstanding is never pushed, for notify_store would wait for that READ. Pushing is done
by another thread (`Push`), which reports back; a unit is pinned meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ossfs.reading.blocks import BLOCK
from ossfs.reading.content import Cell, Content

GROUP = 8
"""Units between heartbeats: seven of eight MiB go without a READ."""


class Push(Protocol):
    """Hand `view` to the kernel at `offset` of `inode`; `done` is called on the loop.

    Returns False, and never calls `done`, when there is no room for more pushes.
    """

    def __call__(
        self, inode: int, offset: int, view: memoryview, done: Callable[[bool], None]
    ) -> bool: ...


class Pusher:
    """Decides what to push for every reader of a mount."""

    reach = 3 * GROUP * BLOCK
    """Bytes a window must span for pushing to keep up: two groups and the request on its way."""

    def __init__(self, push: Push) -> None:
        self._push = push

    def reading(self, inode: int, content: Content, unit: int) -> None:
        """Note that the kernel READs `unit`: push what is here of the group after the next."""
        start = (unit // GROUP + 1) * GROUP
        for ahead in range(start + 1, start + GROUP):
            cell = content.cells.get(ahead)
            if cell is None or not cell.ready or cell.pins or cell.consumed:
                continue
            self._start(inode, content, ahead, cell)

    def gap(self, content: Content, position: int, offset: int) -> int:
        """Return the bytes between `position` and `offset` that no push accounts for.

        A reader that ran through pushed units comes back at the next heartbeat, or wherever
        the kernel found a page missing: up to two groups on is still the same sequence.
        """
        gap = offset - position
        return 0 if 0 < gap <= self.reach else gap

    def _start(self, inode: int, content: Content, unit: int, cell: Cell) -> None:
        def done(stored: bool) -> None:
            content.unpin(cell)
            if stored and cell.linked:
                content.consume(unit, cell, cell.size)

        content.pin(cell)
        if not self._push(inode, unit * BLOCK, cell.block.view[: cell.size], done):
            content.unpin(cell)
