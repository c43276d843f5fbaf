"""The CRC is the one OSS computes, and parts combine to the whole."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossfs.store.crc import combine, crc64


def test_the_check_value_is_that_of_crc_64_xz() -> None:
    assert crc64([b"123456789"]) == 0x995DC9BBDF1939FA


def test_nothing_has_crc_zero() -> None:
    assert crc64([]) == 0
    assert crc64([b"", b""]) == 0


@given(st.lists(st.binary(max_size=40), max_size=6))
def test_a_sequence_of_buffers_has_the_crc_of_its_concatenation(parts: list[bytes]) -> None:
    views = [memoryview(bytearray(part)) for part in parts]
    assert crc64(views) == crc64([b"".join(parts)])


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_two_crcs_combine_to_that_of_the_whole(first: bytes, second: bytes) -> None:
    whole = crc64([first + second])
    assert combine(crc64([first]), crc64([second]), len(second)) == whole


@pytest.mark.parametrize("size", [1, 2, 255, 256, 100 * 1024, 1024**2, 1024**2 + 13])
def test_parts_of_usual_sizes_combine(size: int) -> None:
    data = random.Random(size).randbytes(2 * size + 7)
    head, middle, tail = data[:size], data[size : 2 * size], data[2 * size :]
    crc = combine(crc64([head]), crc64([middle]), size)
    assert combine(crc, crc64([tail]), len(tail)) == crc64([data])


def test_combining_is_associative_at_sizes_too_large_to_hold() -> None:
    a, b, c = 0x0123456789ABCDEF, 0xFEDCBA9876543210, 0x5555AAAA5555AAAA
    large, larger = 3 * 1024**4 + 5, 7 * 1024**4 + 11
    left = combine(combine(a, b, large), c, larger)
    assert left == combine(a, combine(b, c, larger), large + larger)
