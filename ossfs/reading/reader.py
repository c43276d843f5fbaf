"""The reader of one open file: decides what to fetch, and when to run ahead.

Sequential reading grows a `Window` of cells ahead of the reader: READs end to end, or those of
the kernel's readahead in about that order, from the object's beginning, or for `Reading.sure` bytes
from elsewhere; then each within a tolerance of where the furthest one ended. Anything else gets
exactly the bytes it asks for and starts nothing. An object not larger than one prefetch chunk is
fetched whole on its first read. A reader that goes quiet gives its window back (`Reading.sweep`),
and under memory pressure what was fetched ahead is the first to go (`Reading.reclaim`).

Several READs of one handle run at once and may finish out of order; all state changes
happen before the first await of read() or after its last one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ossfs.reading.content import Content, Source
from ossfs.reading.pushing import Pusher
from ossfs.runtime.blocks import BLOCK
from ossfs.runtime.window import COMFORT, MEASURE, Window

TOLERANCE = 2 * BLOCK
"""Bytes a READ may be off and still continue the sequence (ossfs 2.0, file_prefetching.cpp)."""
SURE = 2 * BLOCK
"""Bytes of READs end to end that make a sequence of a reader that began in the middle: one look of
a program is several READs where the kernel sends no more than 128 KiB at once."""
READAHEAD = 128 * 1024
"""READs of the kernel's readahead have this size or more; single pages are looked up one by one."""
FAR = 0.01
"""Seconds that the first bytes take of a distant store: OSS answers in 20 ms and more, one on the
same machine in 1 or 2."""
FAR_COMFORT = 128 * 1024 * 1024
"""Bytes that the windows of a distant store's readers get without further proof, all together, as
fast as they go on: 16 requests of a chunk, at OSS's usual 100 MB/s a connection 1.3 GB/s."""
FAR_MEASURE = 1.0
"""Seconds the rate of a distant store is measured over: its chunks come in waves, 0.1 s apart."""
FAR_REQUESTS = 8
"""Requests that a distant store's window is cut into. A near one's is cut into two: each costs the
loop and a thread 0.8 ms of work."""
QUIET = 5.0
"""Seconds without a READ after which a handle gives back what was fetched ahead."""


@dataclass(frozen=True, slots=True)
class ReadingLimits:
    """Tunables of a mount; sizes in bytes."""

    chunk: int
    """prefetch_chunk_size: what a prefetch GET asks for, and the largest whole-object fetch."""
    per_file: int
    """prefetch_concurrency_per_file: prefetch GETs at once for one object."""
    total: int
    """prefetch_concurrency: prefetch GETs at once for the mount; 0 reads without prefetch."""


class Reading:
    """All readers of a mount."""

    def __init__(
        self,
        source: Source,
        limits: ReadingLimits,
        now: Callable[[], float],
        pusher: Pusher | None = None,
    ) -> None:
        self.tolerance = TOLERANCE
        """Bytes a READ may be off its sequence."""
        self.sure = SURE
        """Bytes end to end that make a sequence."""
        self.source = source
        self.limits = limits
        self.now = now
        self.pusher = pusher
        self.readers: set[Reader] = set()
        self.streaming = 0
        """Readers with a window, among whom the pool is shared."""

    def readahead_raised(self, size: int) -> None:
        """Note that the kernel reads ahead as far as `size` bytes by itself.

        It sends the READs of two such windows in any order, and one of them for a single random
        read where pages next to it are there already, which is no sequence.
        """
        self.tolerance = max(TOLERANCE, 2 * size)
        self.sure = max(SURE, size)

    def open(self, content: Content, inode: int, *, direct: bool = False) -> Reader:
        """Return a reader for a new handle of `inode`; `direct`: it never sees pushed pages."""
        reader = Reader(self, content, inode, direct)
        self.readers.add(reader)
        return reader

    def share(self) -> int:
        """Bytes one window may take: an equal part of most of the pool, two blocks at least."""
        return max(2 * BLOCK, self.source.pool.capacity * 3 // 4 // max(1, self.streaming))

    def sweep(self) -> None:
        """Take back the windows of quiet handles and idle memory; call it every few seconds."""
        limit = self.now() - QUIET
        for reader in self.readers:
            if reader.last_read < limit:
                reader.rest()
        self.source.pool.trim()

    def reclaim(self, wanted: int) -> int:
        """Free up to `wanted` bytes of what was fetched ahead, longest quiet readers first."""
        retained = self.source.retained
        freed = retained.reclaim(wanted) if retained is not None else 0
        if freed >= wanted:
            return freed
        for reader in sorted(self.readers, key=lambda reader: reader.last_read):
            freed += reader.content.drop_idle()
            if freed >= wanted:
                break
        return freed


class Reader:
    """One open handle."""

    __slots__ = (
        "_ahead",
        "_behind",
        "_direct",
        "_far",
        "_position",
        "_reading",
        "_run",
        "_window",
        "content",
        "inode",
        "last_read",
    )

    def __init__(self, reading: Reading, content: Content, inode: int, direct: bool) -> None:
        self._reading = reading
        self._direct = direct
        self.content = content
        self.inode = inode
        self.last_read = reading.now()
        self._position = 0
        self._run = 0
        """Bytes read end to end; at the object's beginning enough from the start, 0 for none."""
        self._window: Window | None = None
        self._far = False
        """The store was slow to give the first bytes, while little else was read."""
        self._ahead = 0
        """First unit not asked for by the window."""
        self._behind = 0
        """First unit not yet given up as passed by."""

    @property
    def _pusher(self) -> Pusher | None:
        return None if self._direct else self._reading.pusher

    @property
    def _comfort(self) -> int:
        return COMFORT if self._pusher is None else self._pusher.reach

    @property
    def whole(self) -> bool:
        """The object is small enough to be fetched at once."""
        return self.content.size <= self._reading.limits.chunk

    async def prove(self) -> None:
        """Fetch the first bytes ahead of the first READ; raises Changed if the version is gone."""
        content = self.content
        if content.size:
            self._start_first()
            begun = self._reading.now()
            await content.cell(0)
            self._waited(begun)

    async def read(self, offset: int, size: int) -> bytes | memoryview:
        """Return the bytes [offset, offset + size), short only at the end of the object.

        The memory is good until the caller awaits. Raises StoreError: Changed when the object
        is another one by now.
        """
        content = self.content
        end = min(offset + size, content.size)
        self.last_read = now = self._reading.now()
        if offset >= end:
            return b""
        first, last = offset // BLOCK, (end - 1) // BLOCK
        sequential = self._note(offset, end, now)
        if not (
            self.whole or sequential or content.covers(first, last)
        ) and not content.worth_whole(first, last, end - offset):
            return await content.exact(offset, end - offset)
        if self.whole:
            if first not in content.cells and first + 1 < content.units:
                content.start(first, content.units - first, prefetch=False)
        elif self._window is not None:
            self._run_ahead(self._window, first)
        pusher = self._pusher
        if self._window is not None and pusher is not None:
            self._push()
            stalled = await pusher.paced(self.inode, content, offset, end)
            if stalled and self._window is not None:
                self._window.stalled()
        return await self._collect(offset, end, first, last)

    def rest(self) -> None:
        """Give back what was fetched ahead; the next READ starts afresh."""
        self._close_window()
        self._run = 0
        self.content.rest()

    def close(self) -> None:
        """End the handle. The content's owner drops it with its last handle."""
        self._close_window()
        self._reading.readers.discard(self)

    def _push(self) -> None:
        """Hand the kernel what has arrived for after the READs it has sent."""
        pusher = self._pusher
        if pusher is not None and self._window is not None:
            pusher.reading(self.inode, self.content, self._position)

    def _start_first(self) -> None:
        """Begin a small object's one GET; one block is fetched by whoever needs it."""
        content = self.content
        if self.whole and content.units > 1 and not content.cells:
            content.start(0, content.units, prefetch=False)

    async def _collect(self, offset: int, end: int, first: int, last: int) -> bytes | memoryview:
        content = self.content
        alone = self._window is None and not self.whole
        if first == last:
            cell = content.cells.get(first)
            if cell is None or not cell.ready:
                begun = self._reading.now()
                cell = await content.cell(first)
                if not offset:
                    self._waited(begun)
                if self._window is not None:
                    self._window.stalled()
            view = cell.block.view[offset - first * BLOCK : end - first * BLOCK]
            content.consume(first, cell, end - offset, alone=alone)
            return view
        pieces = bytearray(end - offset)
        for unit in range(first, last + 1):
            cell = await content.cell(unit)
            start, stop = max(offset, unit * BLOCK), min(end, (unit + 1) * BLOCK)
            pieces[start - offset : stop - offset] = cell.block.view[
                start - unit * BLOCK : stop - unit * BLOCK
            ]
            content.consume(unit, cell, stop - start, alone=alone)
        return memoryview(pieces)

    def _waited(self, begun: float) -> None:
        """Note since when the object's first bytes were waited for."""
        reading = self._reading
        # Where many read at once any store is slow, and more requests make it no faster.
        few = reading.streaming < FAR_REQUESTS
        self._far = few and reading.now() - begun > FAR

    def _note(self, offset: int, end: int, now: float) -> bool:
        """Follow the position; say whether this READ continues the sequence."""
        if self._window is None:
            beginning = not self._run and offset < BLOCK
            if self._run and self._continues(offset, end):
                self._run += end - offset
                self._position = max(self._position, end)
                if self._run > self._reading.sure and self._reading.limits.total:
                    self._open_window(self._position, now)
            else:
                if not self._run or abs(offset - self._position) > TOLERANCE:
                    self._begin_run(offset, end)
                self._position = end
            return self._window is not None or beginning
        gap = offset - self._position
        tolerance = self._reading.tolerance
        pusher = self._pusher
        if gap > tolerance and pusher is not None:
            gap = pusher.gap(self._position, offset)
        if -tolerance <= gap <= tolerance:
            if end > self._position:
                self._window.advance(end - self._position, now)
                self._position = self.content.read_to = end
                self._pass_by(tolerance)
            return True
        self._close_window()
        self._begin_run(offset, end)
        self._position = end
        return False

    def _continues(self, offset: int, end: int) -> bool:
        """Say whether a READ belongs to a run that has no window yet.

        Small ones must come end to end. Those of the kernel's readahead, several at once, may have
        overtaken each other on their way here.
        """
        off = offset - self._position
        return not off or (end - offset >= READAHEAD and -TOLERANCE <= off <= TOLERANCE)

    def _begin_run(self, offset: int, end: int) -> None:
        self._run = self._reading.sure if offset < BLOCK else end - offset
        self._behind = offset // BLOCK

    def _open_window(self, end: int, now: float) -> None:
        reading = self._reading
        reading.streaming += 1
        maximum = reading.limits.per_file * reading.limits.chunk
        self._window = Window(min(maximum, reading.share()), now, self._comfort)
        self._ahead = end // BLOCK
        self.content.read_to = end
        self.content.arrived = self._push

    def _close_window(self) -> None:
        if self._window is not None:
            self._window = None
            self._reading.streaming -= 1

    def _pass_by(self, tolerance: int) -> None:
        """Drop units the reader has left behind without reading them whole.

        Several READs are under way at once, so the position may be far beyond one that still
        waits for its cell: that one is pinned, and will be consumed.
        """
        limit = (self._position - tolerance) // BLOCK
        cells = self.content.cells
        while self._behind < limit:
            cell = cells.get(self._behind)
            if cell is not None and not cell.pins:
                self.content.pass_by(self._behind, cell)
            self._behind += 1

    def _run_ahead(self, window: Window, unit: int) -> None:
        """Ask for what the window spans beyond `unit`, in requests of some part of it.

        Where pages are pushed and the store is near, a GET is two chunks, by default a whole group.
        """
        content, limits = self.content, self._reading.limits
        # Of many readers each has its share of the bytes, and of rates that are all noise.
        window.measure = MEASURE * self._reading.streaming
        if self._far and self._reading.source.stats.quickest < FAR:
            self._far = False  # the machine was busy when the first bytes came
            window.shrink(self._comfort)
        if self._far:
            window.measure = max(FAR_MEASURE, window.measure)
            window.comfort = max(COMFORT, FAR_COMFORT // self._reading.streaming)
        size = min(window.size, self._reading.share())
        near = window.near and not self._far
        largest = limits.chunk * (2 if self._pusher is not None and near else 1)
        requests = min(FAR_REQUESTS, limits.per_file) if self._far else 2
        units = max(1, min(size // requests, largest) // BLOCK)
        self._ahead = max(self._ahead, unit)
        if unit not in content.cells and unit < self._ahead:
            content.start(unit, 1, prefetch=False)
        limit = min(content.units, unit + max(1, size // BLOCK))
        while self._ahead < limit:
            if self._ahead in content.cells:
                self._ahead += 1
                continue
            wanted = units - self._ahead % units  # so that requests end at multiples of their size
            if self._ahead + wanted > limit and limit < content.units and self._ahead > unit:
                return  # wait until a whole request fits, rather than dribble small ones
            if (
                content.prefetching >= limits.per_file
                or self._reading.source.prefetching >= limits.total
            ):
                return
            started = content.start(self._ahead, wanted, prefetch=True)
            if started == 0:
                return
            self._ahead += started
