"""What is held in memory of one version of one object, shared by its handles.

A `Content` is cut into units of one block. A unit that is on its way or here is a
`Cell`; several neighbouring cells are filled by one GET, whose bytes land straight in
their blocks. Every GET is pinned to the version's ETag, so all cells of a content are
of one version; once the store says the object has changed, the content is dead: what
is here may still be read, nothing more is fetched, and the answer is `Changed`.

Concurrency: everything runs on the trio loop but `on_filled`, which a transfer thread
calls: it sets `cell.ready` and then looks at `cell.event`, while the loop creates the
event and then looks at `ready` again, so no wake-up is lost. A cell's block is free for
reuse only when the cell is unlinked, its GET is over and nobody pins it; `_settle` is
the one place that decides. Bytes handed to a caller stay valid until that caller next
awaits, which is what the FUSE reply needs: it is sent before anything else can run.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import trio

from ossfs.reading.disk import DiskCache, Shelf
from ossfs.reading.retained import Retained
from ossfs.runtime.blocks import BLOCK, SMALL, Block, BlockPool
from ossfs.store.api import GetReply
from ossfs.store.errors import Changed, NotFound, StoreError, Unavailable
from ossfs.store.watch import ClientStats

log = logging.getLogger(__name__)

_KEPT_SHARE = 4
"""The part of the memory that may be kept of removed objects: one in so many bytes."""
_TOUCHED = 4096
"""Units of a content that are remembered for a random read."""


class Fetcher(Protocol):
    """What reading needs of the store client."""

    stats: ClientStats

    async def get_range_into(
        self,
        key: bytes,
        offset: int,
        buffers: Sequence[memoryview],
        *,
        if_match: str | None,
        on_filled: Callable[[int], None] | None = None,
        prefetch: bool = False,
    ) -> GetReply: ...


class Cell:
    """One unit of a content: its block and how far it has come."""

    __slots__ = (
        "block",
        "consumed",
        "error",
        "event",
        "fetching",
        "linked",
        "pins",
        "pushed",
        "ready",
        "shelving",
        "size",
    )

    def __init__(self, block: Block, size: int) -> None:
        self.block = block
        self.size = size
        self.consumed = 0
        self.ready = False
        self.fetching = True
        self.linked = True
        self.pins = 0
        self.shelving = False
        """The disk cache is writing it: the memory stays though the cell may go."""
        self.pushed = False
        self.event: trio.Event | None = None
        self.error: StoreError | None = None

    @property
    def idle(self) -> bool:
        """Dropped now, its memory is free at once."""
        return not (self.fetching or self.pins or self.shelving)


class Pending:
    """Batches of pages that the kernel is being handed."""

    __slots__ = ("batches", "over")

    def __init__(self) -> None:
        self.batches = 0
        self.over = trio.Event()


class Source:
    """What all contents of a mount share: client, blocks, the nursery their GETs run in."""

    def __init__(
        self,
        fetcher: Fetcher,
        pool: BlockPool,
        nursery: trio.Nursery,
        disk: DiskCache | None = None,
        retained: Retained | None = None,
    ) -> None:
        """`disk` and `retained` are the caches that the user asked for."""
        self.fetcher = fetcher
        self.stats = fetcher.stats
        self.pool = pool
        self.nursery = nursery
        self.disk = disk
        self.retained = retained
        self.token = trio.lowlevel.current_trio_token()
        self.prefetching = 0
        """Prefetch GETs under way, over all contents."""
        self.kept = 0
        """Bytes of what is kept of removed objects, which nobody can be asked to give back."""
        self.contents: set[Content] = set()
        """Contents with at least one cell, for whoever must find memory."""


class Content:
    """The cells of one object version."""

    __slots__ = (
        "_source",
        "_touched",
        "arrived",
        "cells",
        "etag",
        "failure",
        "kept",
        "key",
        "over",
        "prefetching",
        "pushes",
        "read_to",
        "replaced",
        "shelf",
        "size",
    )

    def __init__(self, source: Source, key: bytes, size: int, etag: str) -> None:
        """`size` in bytes; `etag` pins every GET."""
        self._source = source
        self.key = key
        self.size = size
        self.etag = etag
        self.shelf = self._find_shelf()
        self._touched: set[int] = set()
        """Units that a random read was in, where there is a disk cache."""
        self.cells: dict[int, Cell] = {}
        self.arrived: Callable[[], None] | None = None
        """Called on the loop when a GET that start() began is over."""
        self.failure: Changed | None = None
        self.kept = False
        """The object is gone: what is here must last as long as the content."""
        self.over = False
        """Nobody will come for cells any more but those who wait just now."""
        self.prefetching = 0
        self.read_to = 0
        """End of the furthest READ of a sequence under way; other threads look at it."""
        self.pushes: dict[int, Pending] = {}
        """Pushes under way, by the group of units they are of (see reading.pushing)."""
        self.replaced = False
        """The inode's bytes are being written anew, so its pages are not these any more; the
        thread that pushes looks at it."""

    @property
    def units(self) -> int:
        """Number of units; the last may be short."""
        return -(-self.size // BLOCK)

    def covers(self, first: int, last: int) -> bool:
        """Say whether units first..last are all here or on their way."""
        cells = self.cells
        return all(unit in cells for unit in range(first, last + 1))

    def worth_whole(self, first: int, last: int, size: int) -> bool:
        """Say whether units first..last, of which a random read wants `size` bytes, are had whole.

        They are where something keeps them: memory, or the disk, which has them already or gets
        them where most is wanted or at the second look, so that a few looks in a large file are not
        a megabyte each.
        """
        if self._source.retained is not None:
            return True
        shelf, touched = self.shelf, self._touched
        if shelf is None:
            return False
        units = range(first, last + 1)
        whole = size * 2 >= len(units) * BLOCK or all(
            unit in touched or shelf.holds(unit) for unit in units
        )
        if len(touched) > _TOUCHED:
            touched.clear()
        touched.update(units)
        return whole

    def start(self, first: int, count: int, *, prefetch: bool) -> int:
        """Begin one GET for up to `count` absent units from `first`; return how many it covers.

        Stops at the first unit that is here already or has no block to land in; takes comfort
        memory from others only for demanded units. Never waits.
        """
        if self.failure is not None or self.over:
            return 0
        pool = self._source.pool
        cells: list[Cell] = []
        for unit in range(first, min(first + count, self.units)):
            if unit in self.cells:
                break
            size = min(BLOCK, self.size - unit * BLOCK)
            block = pool.try_take(size, reclaim=not prefetch)
            if block is None:
                break
            cell = Cell(block, size)
            self.cells[unit] = cell
            cells.append(cell)
        if cells:
            self._source.contents.add(self)
            if prefetch:
                self.prefetching += 1
                self._source.prefetching += 1
            self._source.nursery.start_soon(self._fetch, first, cells, prefetch)
        return len(cells)

    async def cell(self, unit: int) -> Cell:
        """Return the unit's cell once its bytes are here; the caller must use it before it awaits.

        Raises the StoreError of the GET that should have brought it.
        """
        while True:
            cell = self.cells.get(unit)
            if cell is None:
                if self.failure is not None:
                    raise self.failure
                size = min(BLOCK, self.size - unit * BLOCK)
                block = await self._source.pool.take(size)
                if unit in self.cells:  # somebody else was quicker while we waited
                    self._source.pool.give(block)
                    continue
                cell = Cell(block, size)
                self.cells[unit] = cell
                self._source.contents.add(self)
                await self._get(unit, [cell])
                if cell.ready:
                    return cell
            elif cell.ready:
                return cell
            else:
                await self.settled(cell)
                if cell.error is not None:
                    raise cell.error

    async def exact(self, offset: int, size: int) -> memoryview:
        """Fetch just these bytes (at most a block) past the cells, for random reads."""
        if self.failure is not None:
            raise self.failure
        pool = self._source.pool
        block = await pool.take(size)
        try:
            view = block.view[:size]
            await self.fetch_into(offset, [view], None, False)
        finally:
            pool.give(block)
        return view

    async def keep(self) -> None:
        """Have the object's bytes, a block at most, before it is removed, and keep them.

        Unavailable where what is kept already takes its share of the memory: the rest must be there
        for those who read.
        """
        if not self.size:
            return
        source = self._source
        if not self.kept:
            if source.kept + self._kept_bytes > source.pool.capacity // _KEPT_SHARE:
                raise Unavailable("too much is kept of removed files", key=self.key)
            source.kept += self._kept_bytes
            self.kept = True
        try:
            cell = await self.cell(0)
        except BaseException:
            self._keep_no_more()
            raise
        if source.retained is not None:
            source.retained.discard(cell)

    @property
    def _kept_bytes(self) -> int:
        return SMALL if self.size <= SMALL else BLOCK

    def _keep_no_more(self) -> None:
        if self.kept:
            self.kept = False
            self._source.kept -= self._kept_bytes

    def moved(self, key: bytes, etag: str) -> None:
        """Read the same bytes from another object from now on: the file was renamed."""
        self.key = key
        self.etag = etag
        self.shelf = self._find_shelf()

    def consume(self, unit: int, cell: Cell, size: int, *, alone: bool = False) -> None:
        """Note that `size` bytes went to the kernel; its pages keep what is wholly read.

        `alone`: the READ is of no sequence, so the rest may never be read.
        """
        cell.consumed += size
        if cell.consumed >= cell.size or (alone and self._source.retained is not None):
            self.pass_by(unit, cell)

    def pass_by(self, unit: int, cell: Cell) -> None:
        """Note that a reader is through with a cell: it goes, unless somebody keeps such."""
        if self.kept or not cell.linked:
            return
        retained = self._source.retained
        if retained is None:
            self.drop(unit)
        else:
            retained.add(self, unit, cell)

    def pin(self, cell: Cell) -> None:
        """Keep the cell's memory until unpin()."""
        cell.pins += 1

    def unpin(self, cell: Cell) -> None:
        cell.pins -= 1
        self._settle(cell)
        if cell.linked and not cell.pins:
            self._source.pool.nudge()  # it may be taken back again

    def drop(self, unit: int) -> int:
        """Forget a unit; return the bytes that the budget got back at once."""
        cell = self.cells.pop(unit, None)
        if cell is None:
            return 0
        cell.linked = False
        if self._source.retained is not None:
            self._source.retained.discard(cell)
        if not self.cells:
            self._source.contents.discard(self)
        return self._settle(cell)

    def rest(self) -> None:
        """Pass by every cell that is here and unpinned: nobody reads for the moment."""
        retained = self._source.retained
        for unit, cell in list(self.cells.items()):
            if cell.ready and not cell.pins and (retained is None or cell not in retained):
                self.pass_by(unit, cell)

    def drop_idle(self) -> int:
        """Forget what rest() would pass by, but for what is kept; return the bytes freed."""
        if self.kept:
            return 0
        retained = self._source.retained
        return sum(
            self.drop(unit)
            for unit, cell in list(self.cells.items())
            if cell.ready and cell.idle and (retained is None or cell not in retained)
        )

    def drop_all(self) -> None:
        """Forget every cell, for good; those on their way are let go when they arrive."""
        self.over = True
        for unit in list(self.cells):
            self.drop(unit)
        self._keep_no_more()

    def _settle(self, cell: Cell) -> int:
        if cell.linked or cell.fetching or cell.pins or cell.shelving:
            return 0
        return self._source.pool.give(cell.block)

    async def settled(self, cell: Cell) -> None:
        """Wait until the cell's bytes are here or its GET has failed."""
        if cell.event is None:
            cell.event = trio.Event()
        if cell.ready or not cell.fetching:
            return
        cell.pins += 1
        try:
            await cell.event.wait()
        finally:
            self.unpin(cell)

    async def _fetch(self, first: int, cells: list[Cell], prefetch: bool) -> None:
        """Run one GET as a task of its own: its failure belongs to those who wait for cells."""
        try:
            await self._get(first, cells, prefetch)
        except StoreError as error:
            log.debug("prefetch of %r at unit %d failed: %s", self.key, first, error)
        finally:
            if prefetch:
                self.prefetching -= 1
                self._source.prefetching -= 1
            if self.arrived is not None:
                self.arrived()

    async def _get(self, first: int, cells: list[Cell], prefetch: bool = False) -> None:
        token = self._source.token

        def on_filled(index: int) -> None:
            cell = cells[index]
            cell.ready = True
            if cell.event is not None:
                token.run_sync_soon(cell.event.set)

        try:
            views = [cell.block.view[: cell.size] for cell in cells]
            shelf = self.shelf
            if shelf is None:
                await self.fetch_into(first * BLOCK, views, on_filled, prefetch)
                return
            missing = await shelf.read(first, views, on_filled)
            for start, stop in _runs(missing):

                def filled(index: int, start: int = start) -> None:
                    on_filled(start + index)

                offset = (first + start) * BLOCK
                await self.fetch_into(offset, views[start:stop], filled, prefetch)
                self._keep_on_disk(shelf, first + start, cells[start:stop], views[start:stop])
        except StoreError as error:
            for cell in cells:
                if not cell.ready:
                    cell.error = error
            raise
        finally:
            for index, cell in enumerate(cells):
                cell.fetching = False
                if cell.linked and (self.over or not cell.ready):
                    self.drop(first + index)
                elif not cell.linked:
                    self._settle(cell)
                if cell.event is not None:
                    cell.event.set()
            self._source.pool.nudge()

    def _keep_on_disk(
        self, shelf: Shelf, first: int, cells: list[Cell], views: list[memoryview]
    ) -> None:
        """Have cells that have arrived written to the disk, while they are read."""
        if not shelf.has_room(sum(map(len, views))):
            return

        async def write() -> None:
            try:
                await shelf.write(first, views)
            finally:
                for cell in cells:
                    cell.shelving = False
                    self._settle(cell)
                self._source.pool.nudge()

        for cell in cells:
            cell.shelving = True
        self._source.nursery.start_soon(write)

    def _find_shelf(self) -> Shelf | None:
        disk = self._source.disk
        return None if disk is None else disk.shelf(self.key, self.etag, self.size)

    async def fetch_into(
        self,
        offset: int,
        buffers: list[memoryview],
        on_filled: Callable[[int], None] | None,
        prefetch: bool,
    ) -> None:
        """Fetch neighbouring bytes of this version into buffers, past the cells."""
        key, etag = self.key, self.etag
        try:
            await self._source.fetcher.get_range_into(
                key, offset, buffers, if_match=etag, on_filled=on_filled, prefetch=prefetch
            )
        except (Changed, NotFound) as error:
            if self.key != key or self.etag != etag:  # the same bytes, in another place since
                await self.fetch_into(offset, buffers, on_filled, prefetch)
                return
            if isinstance(error, Changed):
                self.failure = error
            raise
        except StoreError:
            raise
        except Exception as error:
            log.exception("unexpected failure of a GET of %r", self.key)
            raise Unavailable("internal error while reading", key=self.key) from error


def _runs(indexes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) of each run of neighbours in ascending indexes."""
    start = stop = -1
    for index in indexes:
        if index != stop:
            if start >= 0:
                yield start, stop
            start = index
        stop = index + 1
    if start >= 0:
        yield start, stop
