"""CRC-64/XZ of a concatenation from the CRCs of its pieces, so that no part is read twice.

Appending n bytes to a message multiplies its CRC register by x^(8n) modulo the CRC's
polynomial; the factor of a length is kept, since the parts of an upload are of one size.
"""

from __future__ import annotations

from functools import lru_cache

_POLYNOMIAL = 0xC96C5795D7870F42  # ECMA-182's, reflected: bit 63 holds the coefficient of x^0
_ONE = 1 << 63


def _multiply(a: int, b: int) -> int:
    """Multiply two reflected polynomials modulo the CRC's."""
    product = 0
    while a:
        if a & _ONE:
            product ^= b
        a = (a << 1) & 0xFFFF_FFFF_FFFF_FFFF
        b = (b >> 1) ^ _POLYNOMIAL if b & 1 else b >> 1
    return product


@lru_cache(maxsize=256)
def _shift(length: int) -> int:
    """Return x^(8 * length) modulo the polynomial."""
    result = _ONE
    square = _ONE >> 8
    while length:
        if length & 1:
            result = _multiply(result, square)
        square = _multiply(square, square)
        length >>= 1
    return result


def combine(first: int, second: int, second_length: int) -> int:
    """Return the CRC of two pieces joined; `second_length` in bytes."""
    return _multiply(_shift(second_length), first) ^ second
