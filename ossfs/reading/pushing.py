"""Pages pushed into the kernel ahead of a reader, where its readahead cannot be raised.

At the kernel's default readahead a reader has two requests of 128 KiB in flight, so a
distant or merely busy daemon stalls it, and each costs the daemon as much as one of a
MiB. Fetched cells are therefore stored straight in the page cache (`notify_store`), and
the READs for them never come.

The first SMALL bytes of every group of GROUP units are left out: their READ is the
heartbeat that tells how far the reader has come, and it pushes this group and the next
DEPTH. So no more than those lie unread in the page cache. Any other READ, of a reader
that has caught up, pushes what follows from NEAR behind it on. A reader runs through pages
faster than they can be pushed, and would send READs for what is just being pushed. So a
heartbeat's answer waits until what is pushed of its group is there.

No READ that overlaps anything pushed ever waits for a push: notify_store waits for the
READs of its pages, and the two would wait for each other. A heartbeat that waits lies
wholly in what is never pushed, and waits PATIENCE at most, for the pushing thread has
other work too. Pushing is done by that thread (`Push`), which reports back once a
batch; cells are pinned meanwhile.

The inode stays when this mount writes its file anew, and its pages are then the writer's:
before that begins, `replace` ends the pushes of the bytes that were.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable
from typing import Protocol

import trio

from ossfs.reading.content import Cell, Content, Pending
from ossfs.runtime.blocks import BLOCK, SMALL

GROUP = 16
"""Units between heartbeats: one READ in 16 MiB."""
DEPTH = 1
"""Groups pushed beyond the one being read."""
NEAR = 128 * 1024
"""Bytes beyond the last READ in which the next one may be under way already: the kernel sends two
of its default readahead."""
PATIENCE = 0.1
"""Seconds a heartbeat waits at most; a group is pushed in 8 ms, in 40 on a busy machine."""


_GROUP_BYTES = GROUP * BLOCK
_PAGE = mmap.PAGESIZE


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


async def replace(content: Content) -> None:
    """Hand the kernel nothing more of a content whose inode is about to hold other bytes.

    Waits for the piece that is on its way just now, as a heartbeat does: PATIENCE at most.
    """
    content.replaced = True
    with trio.move_on_after(PATIENCE):
        for pending in list(content.pushes.values()):
            await pending.over.wait()


class Pusher:
    """Decides what to push for every reader of a mount."""

    reach = (DEPTH + 1) * GROUP * BLOCK
    """Bytes a window must span for pushing to keep up: this group, and those pushed ahead of it."""

    def __init__(self, push: Push) -> None:
        self._push = push

    def reading(self, inode: int, content: Content, end: int) -> None:
        """Note that the kernel's furthest READ ends at `end`: push what is here beyond it."""
        group = (end - 1) // _GROUP_BYTES
        for ahead in range(group, group + DEPTH + 1):
            self._push_group(inode, content, ahead)

    async def paced(self, inode: int, content: Content, offset: int, end: int) -> bool:
        """Wait, before a READ of [offset, end) is answered, for the group it is the heartbeat of.

        That is for its cells on their way and for their push. Returns whether cells were waited
        for: the reader needs more under way.
        """
        group = offset // _GROUP_BYTES
        stalled = False
        if end - group * _GROUP_BYTES > SMALL:
            return stalled
        units = range((group + 1) * GROUP - 1, group * GROUP, -1)
        with trio.move_on_after(PATIENCE):
            while True:
                pending = content.pushes.get(group)
                if pending is not None:
                    await pending.over.wait()
                    continue
                # The last of a request's cells is filled last.
                for unit in units:
                    cell = content.cells.get(unit)
                    if cell is not None and not cell.ready:
                        break
                else:
                    break
                stalled = True
                await content.settled(cell)
                self._push_group(inode, content, group)
        return stalled

    def _push_group(self, inode: int, content: Content, group: int) -> None:
        if content.replaced:
            return
        cells: list[tuple[int, Cell]] = []
        pieces: list[tuple[int, memoryview]] = []
        begin = max(group * _GROUP_BYTES + SMALL, -(-(content.read_to + NEAR) // _PAGE) * _PAGE)
        for unit in range(begin // BLOCK, (group + 1) * GROUP):
            cell = content.cells.get(unit)
            if cell is None or not cell.ready or cell.pins or cell.pushed:
                continue
            skip = max(0, begin - unit * BLOCK)
            if cell.size > skip:
                cells.append((unit, cell))
                pieces.append((unit * BLOCK + skip, cell.block.view[skip : cell.size]))
        if not pieces:
            return

        def wanted(offset: int) -> bool:
            return not content.replaced and offset >= content.read_to + NEAR

        def done(stored: list[bool]) -> None:
            for (unit, cell), (_, view), flag in zip(cells, pieces, stored, strict=True):
                content.unpin(cell)
                if flag and cell.linked:
                    cell.pushed = True
                    content.consume(unit, cell, len(view))
            pending.batches -= 1
            if not pending.batches:
                pending.over.set()
                del content.pushes[group]

        if self._push(inode, pieces, wanted, done):
            for _, cell in cells:
                content.pin(cell)
            pending = content.pushes.setdefault(group, Pending())
            pending.batches += 1

    def gap(self, position: int, offset: int) -> int:
        """Return the bytes between `position` and `offset` that no push accounts for.

        A reader that ran through pushed pages comes back where the kernel found one missing: at the
        next heartbeat at the latest.
        """
        heartbeat = ((position - 1) // _GROUP_BYTES + 1) * _GROUP_BYTES
        return offset - max(position, min(offset, heartbeat))
