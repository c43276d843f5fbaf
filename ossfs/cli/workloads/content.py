"""Bytes without end that do not compress, the same in every run, no two pages of them alike.

The stream is pieces of 16 MiB, each the first one turned by an odd number of bytes times its
number: bytes in the wrong place are wrong bytes, over 64 GiB. Only the first piece is in memory,
twice, so that a turned one is a slice.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from fastcrc.crc64 import xz

PIECE = 16 << 20
_TURN = 65_537


class Content:
    """One stream; two of different seeds have nothing in common."""

    def __init__(self, seed: int = 0) -> None:
        self._twice = memoryview(random.Random(seed).randbytes(PIECE) * 2)

    def slices(self, offset: int, size: int) -> Iterator[memoryview]:
        """Yield the bytes from `offset` on, in as few slices as there are pieces."""
        while size > 0:
            number, inside = divmod(offset, PIECE)
            length = min(size, PIECE - inside)
            start = number * _TURN % PIECE + inside
            start -= PIECE if start >= PIECE else 0
            yield self._twice[start : start + length]
            offset, size = offset + length, size - length

    def crc(self, offset: int, size: int) -> int:
        """Return the CRC-64 of `size` bytes from `offset` on."""
        crc = 0
        for piece in self.slices(offset, size):
            crc = xz(piece, crc)
        return crc
