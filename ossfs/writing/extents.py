"""Sets of byte ranges of a file: sorted, apart from each other, merged where they touch."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

RANGE_BYTES = 90
"""What a range costs in memory (82, by tracemalloc, of many)."""


class Extents:
    """Ranges [start, end); an operation costs the number of ranges it touches."""

    __slots__ = ("_ends", "_starts")

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        for start, end in ranges:
            self.add(start, end)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self._starts, self._ends, strict=True)

    def __len__(self) -> int:
        return len(self._starts)

    def __bool__(self) -> bool:
        return bool(self._starts)

    def add(self, start: int, end: int) -> None:
        """Add a range."""
        if start >= end:
            return
        # All ranges that overlap or touch it become one with it.
        first, last = bisect_left(self._ends, start), bisect_right(self._starts, end)
        if first < last:
            start, end = min(start, self._starts[first]), max(end, self._ends[last - 1])
        self._starts[first:last] = [start]
        self._ends[first:last] = [end]

    def cut(self, size: int) -> None:
        """Drop everything from `size` on."""
        last = bisect_left(self._starts, size)
        del self._starts[last:], self._ends[last:]
        if self._ends and self._ends[-1] > size:
            self._ends[-1] = size

    def clear(self) -> None:
        """Drop everything."""
        self._starts.clear()
        self._ends.clear()

    def covers(self, start: int, end: int) -> bool:
        """Say whether all of [start, end) is in the set."""
        index = bisect_right(self._starts, start) - 1
        return start >= end or (index >= 0 and self._ends[index] >= end)

    def gaps(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield the parts of [start, end) that are not in the set."""
        index = bisect_right(self._ends, start)
        while start < end:
            if index == len(self._starts) or self._starts[index] >= end:
                yield start, end
                return
            if self._starts[index] > start:
                yield start, self._starts[index]
            start = self._ends[index]
            index += 1
