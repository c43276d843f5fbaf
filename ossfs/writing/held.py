"""Consecutive bytes of a file that a writer has: in blocks of the arena, or spilled.

A part of an upload while it fills, and what is kept of a small file after it is in the bucket.
Blocks come one by one as bytes do, so a handle with one byte holds one small block; sizes of
blocks are the memory's choice. All on the trio loop; a transfer thread reads the views of
blocks whose holder keeps them meanwhile.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence

from ossfs.runtime.blocks import BLOCK, SMALL, Block
from ossfs.runtime.failure import FileSystemError
from ossfs.store.api import Buffer
from ossfs.store.crc import crc64
from ossfs.writing.memory import Memory
from ossfs.writing.spill import Spilled


class Held:
    """Bytes [start, start + size) of a file."""

    __slots__ = ("_last", "_memory", "_pieces", "_room", "crc64", "size", "start")

    def __init__(self, memory: Memory, start: int) -> None:
        self._memory = memory
        self.start = start
        self.size = 0
        self.crc64 = 0
        """Of these bytes alone."""
        self._pieces: list[tuple[Block | Spilled, int]] = []
        """Each with the number of bytes in it; only the last may still grow."""
        self._last: Block | None = None
        self._room = 0

    @property
    def end(self) -> int:
        return self.start + self.size

    @property
    def in_memory(self) -> int:
        """Bytes of memory that release() would give back."""
        return sum(len(piece.view) for piece, _ in self._pieces if isinstance(piece, Block))

    @property
    def spilled(self) -> bool:
        """Whether some bytes must be read from the disk before they can be sent."""
        return any(isinstance(piece, Spilled) for piece, _ in self._pieces)

    @property
    def wanted(self) -> int:
        """Bytes of the block that the next bytes want; 0 while the last has room."""
        if self._room:
            return 0
        return BLOCK if self.size >= SMALL else SMALL

    def fill(self, data: memoryview) -> int:
        """Take as much of `data` as the last block has room for; return how much that was."""
        size = min(self._room, len(data))
        if size:
            block, filled = self._pieces[-1]
            assert block is self._last
            self._last.view[filled : filled + size] = data[:size]
            self._pieces[-1] = (block, filled + size)
            self._room -= size
            self._grow(data[:size])
        return size

    def add(self, block: Block) -> None:
        """Let the next bytes go to `block`, which is empty."""
        self._pieces.append((block, 0))
        self._last = block
        self._room = len(block.view)

    def add_spilled(self, data: memoryview) -> bool:
        """Take `data`, a block at most, to the disk; False where that has no room."""
        spilled = self._memory.spill.put([data])
        if spilled is None:
            return False
        self._pieces.append((spilled, spilled.size))
        self._last = None
        self._room = 0
        self._grow(data)
        return True

    async def gather(self, data: memoryview) -> None:
        """Take all of `data` while no writer holds these bytes, so that none can shed them.

        So this waits for memory only while there are none; FileSystemError(ENOSPC) where neither
        memory nor the disk has room for more.
        """
        while data:
            taken = self.fill(data)
            if not taken:
                taken = min(len(data), BLOCK)
                block = self._memory.try_take(taken)
                if block is None and not self.add_spilled(data[:taken]):
                    block = None if self.size else await self._memory.take(taken)
                    if block is None:
                        raise FileSystemError(errno.ENOSPC)
                if block is not None:
                    self.add(block)
                    continue
            data = data[taken:]

    def spill(self) -> int:
        """Move all to the disk; return the bytes of memory given back (0: no room there)."""
        freed = 0
        for index, (piece, size) in enumerate(self._pieces):
            if not isinstance(piece, Block):
                continue
            if size:
                spilled = self._memory.spill.put([piece.view[:size]])
                if spilled is None:
                    return freed
                self._pieces[index] = (spilled, size)
            freed += len(piece.view)
            if piece is self._last:
                self._last = None
                self._room = 0
            self._memory.give(piece)
        self._pieces = [(piece, size) for piece, size in self._pieces if size]
        return freed

    def views(self) -> Sequence[Buffer]:
        """Return all bytes; good until release()."""
        return [
            piece.view[:size] if isinstance(piece, Block) else piece.read()
            for piece, size in self._pieces
            if size
        ]

    def read(self, offset: int, size: int) -> bytes:
        """Return bytes from `offset` of the file, which must lie here."""
        found: list[Buffer] = []
        at = self.start
        for piece, filled in self._pieces:
            first, last = max(offset - at, 0), min(offset + size - at, filled)
            if first < last:
                whole = piece.view if isinstance(piece, Block) else piece.read()
                found.append(whole[first:last])
            at += filled
        return b"".join(found)

    def release(self) -> None:
        """Give all memory and disk back."""
        pieces, self._pieces = self._pieces, []
        self._last = None
        self._room = 0
        for piece, _ in pieces:
            if isinstance(piece, Block):
                self._memory.give(piece)
            else:
                piece.free()

    def _grow(self, data: memoryview) -> None:
        self.size += len(data)
        self.crc64 = crc64([data], self.crc64)
