"""Byte ranges against a plain set of bytes."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ossfs.writing.extents import Extents

EDGE = st.integers(0, 40)


@given(st.lists(st.tuples(st.sampled_from(["add", "cut"]), EDGE, EDGE), max_size=30), EDGE, EDGE)
def test_ranges_are_what_a_set_of_bytes_would_be(
    steps: list[tuple[str, int, int]], start: int, end: int
) -> None:
    extents, model = Extents(), set[int]()
    for what, first, second in steps:
        if what == "add":
            extents.add(first, second)
            model |= set(range(first, second))
        else:
            extents.cut(first)
            model = {one for one in model if one < first}
        found = list(extents)
        assert {one for low, high in found for one in range(low, high)} == model
        assert all(low < high for low, high in found)
        assert all(high < low for (_, high), (low, _) in pairwise(found))
    asked = set(range(start, end))
    assert extents.covers(start, end) is (asked <= model)
    gaps = list(extents.gaps(start, end))
    assert {one for low, high in gaps for one in range(low, high)} == asked - model
    assert bool(extents) is bool(model)
