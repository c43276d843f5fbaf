"""The local file that stands in for one object: the bytes that are here, and which those are.

Invariants:
- `present` are the ranges whose bytes lie in the file; everything else of it reads as zeros;
- bytes that could not be taken for want of room changed nothing that was here before.

All on the trio loop, and atomic: the file is read and written through the page cache, at most a
block at a time (0.3 ms a MiB, measured). Only `sync` waits for the disk, in a thread; its caller
lets nobody write meanwhile.

And what the upload of such a file is made of, as pure functions of its ranges: long ones that
nobody touched are copied within the bucket; all else is uploaded. No part but the last is under the
store's minimum: a short dirty range takes from what would be copied after it, a short untouched one
is uploaded with what surrounds it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import trio

from ossfs.runtime.failure import FileSystemError
from ossfs.store.api import Buffer
from ossfs.writing.context import Writing
from ossfs.writing.extents import Extents

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Stage:
    """A sparse file and its extents."""

    def __init__(
        self,
        descriptor: int,
        path: str,
        admit: Callable[[int], None],
        present: Iterable[tuple[int, int]] = (),
    ) -> None:
        """Own `descriptor`; `admit` raises where the disk may not take so many more bytes."""
        self._descriptor = descriptor
        self._admit = admit
        self._closed = False
        self.path = path
        self.present = Extents(present)

    def put(self, start: int, data: Buffer) -> None:
        """Take all of `data`, or nothing.

        FileSystemError (ENOSPC, EDQUOT, EFBIG, EIO): nothing has changed. OSError: some of what
        was here before is neither what it was nor `data`, so the file is of no use any more.
        """
        view = memoryview(data)
        end = start + len(view)
        gaps = list(self.present.gaps(start, end))
        new = sum(last - first for first, last in gaps)
        if new:
            self._admit(new)
            # What needs room comes first: overwriting then needs none, and cannot fail for it.
            self._fill(gaps, start, view)
        if new < len(view):
            self._write(start, view)
        self.present.add(start, end)

    def _fill(self, gaps: Iterable[tuple[int, int]], start: int, view: memoryview) -> None:
        """Write where nothing is yet; if that fails, nothing is there again."""
        filled: list[tuple[int, int]] = []
        try:
            for first, last in gaps:
                while first < last:
                    taken = os.pwrite(self._descriptor, view[first - start : last - start], first)
                    filled.append((first, first + taken))
                    first += taken
        except OSError as error:
            for first, last in filled:
                self._write(first, memoryview(bytes(last - first)))
            full = error.errno if error.errno in _FULL else None
            raise FileSystemError(full or errno.EIO) from error

    def _write(self, start: int, view: memoryview) -> None:
        done = 0
        while done < len(view):
            done += os.pwrite(self._descriptor, view[done:], start + done)

    def read(self, start: int, end: int) -> bytes:
        """Return a range, zeros where nothing is."""
        data = os.pread(self._descriptor, end - start, start)
        return data + bytes(end - start - len(data))

    def missing(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield the parts of a range whose bytes are not here."""
        return self.present.gaps(start, end)

    def cut(self, size: int) -> None:
        """Drop everything from `size` on: it would be there again after an extension."""
        os.ftruncate(self._descriptor, size)
        self.present.cut(size)

    def extend(self, size: int) -> None:
        """Give the file its full length, for others than us to read."""
        os.ftruncate(self._descriptor, size)

    async def sync(self) -> None:
        """Make the bytes durable; after an OSError they are not to be trusted any more."""
        await trio.to_thread.run_sync(os.fsync, self._descriptor)

    def close(self) -> bool:
        """Close the file, which keeps its name; False if it was closed already."""
        if self._closed:
            return False
        self._closed = True
        os.close(self._descriptor)
        return True


class Run(NamedTuple):
    """A range of the file that is copied, or else uploaded."""

    start: int
    end: int
    copied: bool


def lay_out(writing: Writing, dirty: Extents, kept: int, size: int) -> list[Run]:
    """Return what to do with a file of `size` bytes, in order.

    `kept` is how much of the old object counts: what is beyond it, or `dirty`, is uploaded.
    FileSystemError(EFBIG) where that takes more parts than an upload may have.
    """
    capabilities = writing.capabilities
    minimum = capabilities.minimum_part
    untouched = [
        (start, end) for start, end in dirty.gaps(0, min(kept, size)) if end - start >= minimum
    ]
    # Each may cost two part numbers more than uploading it would: the longest are worth it most.
    untouched.sort(key=lambda gap: gap[0] - gap[1])
    count = len(untouched)
    while True:
        runs = list(_runs(sorted(untouched[:count]), minimum, size))
        if _parts(writing, runs) <= capabilities.maximum_parts:
            return runs
        if not count:
            raise FileSystemError(errno.EFBIG)
        count //= 2


def next_piece(left: int, part: int, minimum: int) -> int:
    """Return how much of `left` bytes the next part takes, `part` at most but for a short rest."""
    return part if left >= part + minimum else left


def _runs(untouched: Iterable[tuple[int, int]], minimum: int, size: int) -> Iterator[Run]:
    at = 0
    for start, end in untouched:
        if at < start:
            start = max(start, at + minimum)  # it takes from what would be copied
            if start >= end or (end - start < minimum and end != size):
                continue
            yield Run(at, start, copied=False)
        yield Run(start, end, copied=True)
        at = end
    if at < size:
        yield Run(at, size, copied=False)


def _parts(writing: Writing, runs: Iterable[Run]) -> int:
    """Count the parts of an upload, up to where there are too many."""
    capabilities = writing.capabilities
    number = 0
    for start, end, copied in runs:
        if copied:
            number += writing.copies(end - start)
            continue
        while start < end and number <= capabilities.maximum_parts:
            number += 1
            start += next_piece(end - start, writing.part_size(number), capabilities.minimum_part)
    return number
