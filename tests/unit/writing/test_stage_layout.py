"""What is copied and what goes up: every byte once, in parts that the store takes."""

from __future__ import annotations

import errno

from hypothesis import given, settings
from hypothesis import strategies as st

from ossfs.store.api import Capabilities
from ossfs.writing.extents import Extents
from ossfs.writing.stage import lay_out, next_piece
from tests.unit.writing.support import KIB, MINIMUM, PART, raises_errno, room, run

FEW = Capabilities(minimum_part=MINIMUM, maximum_parts=20, maximum_copy_part=32 * KIB)
LARGEST = 20 * PART


def ranges(largest: int) -> st.SearchStrategy[list[tuple[int, int]]]:
    place = st.integers(0, largest)
    return st.lists(st.tuples(place, st.integers(1, 20 * KIB)), max_size=40).map(
        lambda found: [(start, start + size) for start, size in found]
    )


@settings(deadline=None)
@given(st.integers(1, LARGEST), st.integers(0, LARGEST), ranges(LARGEST))
def test_whatever_was_touched_a_file_that_fits_goes_up_in_parts_that_the_store_takes(
    size: int, kept: int, touched: list[tuple[int, int]]
) -> None:
    async def main() -> None:
        async with room(capabilities=FEW) as made:
            dirty = Extents(touched)
            dirty.cut(size)
            runs = lay_out(made.writing, dirty, min(kept, size), size)
            parts: list[int] = []
            at = 0
            for start, end, copied in runs:
                assert start == at < end
                at = end
                if copied:
                    assert end <= kept
                    assert list(dirty.gaps(start, end)) == [(start, end)]
                    pieces = made.writing.copies(end - start)
                    parts += [(end - start) // pieces] * pieces
                    continue
                while start < end:
                    parts.append(next_piece(end - start, PART, MINIMUM))
                    start += parts[-1]
            assert at == size
            assert len(parts) <= FEW.maximum_parts
            assert all(part >= MINIMUM for part in parts[:-1])

    run(main)


def test_a_file_that_is_too_large_to_go_up_is_possible_with_copies_and_refused_without() -> None:
    async def main() -> None:
        async with room(capabilities=FEW) as made:
            size = LARGEST + 100 * KIB
            assert sum(one.copied for one in lay_out(made.writing, Extents(), size, size)) == 1
            with raises_errno(errno.EFBIG):
                lay_out(made.writing, Extents([(0, size)]), size, size)

    run(main)


def test_nothing_is_copied_that_would_be_too_short_for_a_part() -> None:
    async def main() -> None:
        async with room(capabilities=FEW) as made:
            size, gap = 100 * KIB, 50 * KIB
            dirty = Extents([(0, gap), (gap + MINIMUM - 1, size)])
            assert lay_out(made.writing, dirty, size, size) == [(0, size, False)]
            dirty = Extents([(0, gap), (gap + MINIMUM, size)])
            assert [one.copied for one in lay_out(made.writing, dirty, size, size)] == [
                False,
                True,
                False,
            ]

    run(main)
