"""Cells of open files that stay after they were read, for other handles of the same file.

Off by default: the kernel keeps pages. `memory_data_cache_size` turns it on for what pages do not
do, several processes that load one model with direct_io or in little page cache. A cell is here
from its first reading to the last: the least recently read goes beyond the limit, or when somebody
needs the memory, and all of a file's at its last close.

On the trio loop, nothing awaits.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from ossfs.runtime.blocks import BLOCK, SMALL

if TYPE_CHECKING:
    from ossfs.reading.content import Cell, Content


class Retained:
    """What was read and is kept, by the last time it was read."""

    def __init__(self, limit: int) -> None:
        """`limit` is in bytes."""
        self._limit = limit
        self._cells: OrderedDict[Cell, tuple[Content, int]] = OrderedDict()
        self.size = 0
        """Bytes."""

    def __contains__(self, cell: Cell) -> bool:
        return cell in self._cells

    def add(self, content: Content, unit: int, cell: Cell) -> None:
        """Keep a content's cell, as the most recently read."""
        if cell in self._cells:
            self._cells.move_to_end(cell)
            return
        self._cells[cell] = (content, unit)
        self.size += _memory_of(cell)
        while self.size > self._limit:
            self._drop(next(iter(self._cells)))

    def discard(self, cell: Cell) -> None:
        """Take note that a cell is dropped."""
        if self._cells.pop(cell, None) is not None:
            self.size -= _memory_of(cell)

    def reclaim(self, wanted: int) -> int:
        """Drop what was read longest ago; return the bytes that the budget got back."""
        freed = 0
        # A small cell gives nothing back until those it shares a block with have gone too.
        while freed < wanted and (victims := self._oldest(wanted - freed)):
            freed += sum(map(self._drop, victims))
        return freed

    def _oldest(self, wanted: int) -> list[Cell]:
        victims: list[Cell] = []
        size = 0
        for cell in self._cells:
            if size >= wanted:
                break
            if cell.idle:  # of others the memory is not to be had
                victims.append(cell)
                size += _memory_of(cell)
        return victims

    def _drop(self, cell: Cell) -> int:
        content, unit = self._cells[cell]
        self.discard(cell)
        return content.drop(unit)


def _memory_of(cell: Cell) -> int:
    return SMALL if cell.size <= SMALL else BLOCK
