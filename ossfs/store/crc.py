"""CRC-64/XZ: of buffers, and of a whole from the CRCs of its parts.

This is the checksum that OSS calls crc64ecma. `crc64` runs at memory speed with
the GIL released. `combine` never sees the data: appending n zero bytes to a
message is a linear map on its CRC, so the map for n is worked out once, kept as
sixteen tables of sixteen values, and applied in a few microseconds. Parts of an
upload nearly always have one length, so the cache nearly always hits.

Pure functions; any number of threads.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import TypeAlias

from fastcrc.crc64 import xz

from ossfs.store.api import Buffer

_POLYNOMIAL = 0xC96C5795D7870F42  # 0x42F0E1EBA9EA3693 with its bits reversed
_ONE = 1 << 63  # the polynomial 1: in reflected order the highest power is bit 0
_BYTE = 1 << 55  # x**8, one byte of zeros

_Operator: TypeAlias = tuple[tuple[int, ...], ...]


def crc64(buffers: Iterable[Buffer], initial: int = 0) -> int:
    """Return the CRC of the buffers' concatenation, going on from `initial`."""
    value = initial
    for buffer in buffers:
        value = xz(buffer, value)
    return value


def combine(first: int, second: int, second_size: int) -> int:
    """Return the CRC of A+B from the CRCs of A and B and the size of B in bytes."""
    shifted = 0
    for table in _zeros(second_size):
        shifted ^= table[first & 15]
        first >>= 4
    return shifted ^ second


@lru_cache(maxsize=64)
def _zeros(size: int) -> _Operator:
    """Return the map "append `size` zero bytes" as a table for each of the CRC's 16 nibbles."""
    power, square, left = _ONE, _BYTE, size
    while left:
        if left & 1:
            power = _multiply(power, square)
        square = _multiply(square, square)
        left >>= 1
    images = [_multiply(1 << bit, power) for bit in range(64)]
    tables = []
    for low in range(0, 64, 4):
        table = [0] * 16
        for value in range(1, 16):
            lowest = value & -value
            table[value] = table[value ^ lowest] ^ images[low + lowest.bit_length() - 1]
        tables.append(tuple(table))
    return tuple(tables)


def _multiply(left: int, right: int) -> int:
    """Multiply two polynomials over GF(2) modulo the CRC's own."""
    product = 0
    while left:
        if left & _ONE:
            product ^= right
        left = (left << 1) & 0xFFFFFFFFFFFFFFFF
        right = (right >> 1) ^ (_POLYNOMIAL if right & 1 else 0)
    return product
