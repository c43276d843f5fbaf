"""Pushing: what goes to the kernel ahead of its READs, and what becomes of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import trio
import trio.testing

from ossfs.reading.content import Content
from ossfs.reading.pushing import DEPTH, GROUP, NEAR, PATIENCE, Pusher
from ossfs.runtime.blocks import BLOCK, SMALL
from tests.support.core import Core, core, run

UNITS = (DEPTH + 2) * GROUP
TAIL = SMALL + 12_345
"""Bytes of the last unit."""


class Batch(NamedTuple):
    pieces: list[tuple[int, memoryview]]
    wanted: Callable[[int], bool]
    done: Callable[[list[bool]], None]


class Kernel:
    """A Push that keeps what it is given until the test says what became of it."""

    def __init__(self) -> None:
        self.room = True
        self.batches: list[Batch] = []

    def __call__(
        self,
        inode: int,
        pieces: list[tuple[int, memoryview]],
        wanted: Callable[[int], bool],
        done: Callable[[list[bool]], None],
    ) -> bool:
        assert inode == 7
        assert pieces, "nothing is no reason to wake a thread"
        if self.room:
            self.batches.append(Batch(pieces, wanted, done))
        return self.room

    @property
    def pieces(self) -> list[tuple[int, memoryview]]:
        return [piece for batch in self.batches for piece in batch.pieces]

    @property
    def ranges(self) -> list[tuple[int, int]]:
        """(first byte, end) of every piece."""
        return [(offset, offset + len(view)) for offset, view in self.pieces]

    def wanted(self, offset: int) -> bool:
        return self.batches[0].wanted(offset)

    def stored(self) -> None:
        """Say that all of it has gone into the page cache."""
        batches, self.batches = self.batches, []
        for batch in batches:
            batch.done([True] * len(batch.pieces))


async def fetched(made: Core, units: range) -> tuple[Content, Kernel, Pusher]:
    """A content with these units in memory, and someone who would push them."""
    size = (UNITS - 1) * BLOCK + TAIL
    made.put(b"key", b"".join(bytes([number]) * BLOCK for number in range(UNITS))[:size])
    info = made.bucket.head(b"key", deadline=1e9)
    content = Content(made.source, b"key", info.size, info.etag)
    assert content.start(units.start, len(units), prefetch=True) == len(units)
    await trio.testing.wait_all_tasks_blocked()
    kernel = Kernel()
    return content, kernel, Pusher(kernel)


def group(number: int) -> list[tuple[int, int]]:
    """The ranges of a whole group, its heartbeat left out."""
    first = number * GROUP
    return [
        (unit * BLOCK + (SMALL if unit == first else 0), (unit + 1) * BLOCK)
        for unit in range(first, first + GROUP)
    ]


def groups(first: int, last: int) -> list[tuple[int, int]]:
    """The ranges of all groups from `first` to `last`, as far as there are units."""
    size = (UNITS - 1) * BLOCK + TAIL
    ranges = [piece for number in range(first, last + 1) for piece in group(number)]
    return [(start, min(end, size)) for start, end in ranges if start < size]


def read_to(content: Content, pusher: Pusher, end: int) -> None:
    """What a reader does when the kernel's furthest READ ends at `end`."""
    content.read_to = end
    pusher.reading(7, content, end)


def test_the_rest_of_a_group_and_the_next_ones_but_for_their_heartbeats_are_pushed() -> None:
    async def main() -> None:
        async with core() as made:
            content, kernel, pusher = await fetched(made, range(UNITS))
            end = (GROUP - 2) * BLOCK
            read_to(content, pusher, end - 1)
            rest = [(end + NEAR, end + BLOCK), (end + BLOCK, end + 2 * BLOCK)]
            assert kernel.ranges == [*rest, *groups(1, DEPTH)], "from whole pages on"
            for offset, view in kernel.pieces:
                assert bytes(view) == bytes([offset // BLOCK]) * len(view)

    run(main)


def test_nothing_is_pushed_past_the_end_of_the_object() -> None:
    async def main() -> None:
        async with core() as made:
            content, kernel, pusher = await fetched(made, range(UNITS))
            read_to(content, pusher, (UNITS - GROUP) * BLOCK)
            *_, last = kernel.ranges
            assert last == ((UNITS - 1) * BLOCK, content.size)
            kernel.batches = []
            read_to(content, pusher, content.size)
            assert kernel.pieces == []

    run(main)


def test_a_group_that_is_all_heartbeat_is_not_pushed() -> None:
    async def main() -> None:
        async with core() as made:
            made.put(b"key", bytes(GROUP * BLOCK + SMALL))
            info = made.bucket.head(b"key", deadline=1e9)
            content = Content(made.source, b"key", info.size, info.etag)
            await content.cell(GROUP)
            kernel = Kernel()
            Pusher(kernel).reading(7, content, BLOCK)
            assert kernel.pieces == []

    run(main)


def test_what_is_absent_on_its_way_pinned_or_pushed_already_is_not_pushed() -> None:
    async def main() -> None:
        release = trio.Event()
        held = False

        async def gate(_op: str, _key: bytes) -> None:
            if held:
                await release.wait()

        async with core(gate=gate) as made:
            content, kernel, pusher = await fetched(made, range(GROUP, 2 * GROUP - 1))
            held = True
            assert content.start(2 * GROUP - 1, 1, prefetch=True) == 1  # on its way; no third group
            await trio.testing.wait_all_tasks_blocked()
            content.drop(GROUP + 1)
            content.pin(content.cells[GROUP + 2])
            content.cells[GROUP + 3].pushed = True
            read_to(content, pusher, BLOCK)
            left = [0, *range(4, GROUP - 1)]
            assert kernel.ranges == [group(1)[index] for index in left]
            release.set()

    run(main)


def test_what_is_being_pushed_is_pinned_and_what_was_stored_is_given_back() -> None:
    async def main() -> None:
        async with core() as made:
            content, kernel, pusher = await fetched(made, range(GROUP, 2 * GROUP))
            pusher.reading(7, content, BLOCK)
            assert all(cell.pins for cell in content.cells.values())
            assert made.reading.reclaim(BLOCK) == content.drop_idle() == 0
            (batch,) = kernel.batches
            pushed, done = batch.pieces, batch.done
            kernel.batches = []
            pusher.reading(7, content, BLOCK)
            assert kernel.pieces == [], "nothing is pushed twice at once"
            done([True] * (len(pushed) - 2) + [False] * 2)
            assert sorted(content.cells) == [GROUP, 2 * GROUP - 2, 2 * GROUP - 1], (
                "kept: the heartbeat's cell, whose READ will come, and what was not stored"
            )
            assert made.budget.used == 3 * BLOCK
            assert not any(cell.pins for cell in content.cells.values())
            content.consume(GROUP, content.cells[GROUP], SMALL)
            assert GROUP not in content.cells, "the heartbeat's READ was all that was missing"

    run(main)


def test_a_push_there_is_no_room_for_pins_nothing() -> None:
    async def main() -> None:
        async with core() as made:
            content, kernel, pusher = await fetched(made, range(GROUP, 2 * GROUP))
            kernel.room = False
            pusher.reading(7, content, BLOCK)
            assert not any(cell.pins for cell in content.cells.values())
            kernel.room = True
            pusher.reading(7, content, BLOCK)
            assert kernel.ranges == group(1)

    run(main)


def test_pages_where_a_read_may_be_under_way_are_not_wanted_any_more() -> None:
    async def main() -> None:
        async with core() as made:
            content, kernel, pusher = await fetched(made, range(GROUP, 2 * GROUP))
            pusher.reading(7, content, BLOCK)
            offset = (GROUP + 2) * BLOCK
            content.read_to = offset - NEAR
            assert kernel.wanted(offset)
            content.read_to += 1  # the reader has caught up while the push stood in line
            assert not kernel.wanted(offset)
            assert kernel.wanted(offset + BLOCK)

    run(main)


def test_a_file_closed_while_it_is_pushed_gives_its_memory_back_afterwards() -> None:
    async def main() -> None:
        async with core(memory=GROUP * BLOCK) as made:
            content, kernel, pusher = await fetched(made, range(GROUP, 2 * GROUP))
            pusher.reading(7, content, BLOCK)
            content.drop_all()
            assert made.source.pool.try_take(BLOCK, reclaim=True) is None, (
                "the pushing thread still reads there"
            )
            kernel.stored()
            assert made.budget.used == 0

    run(main)


def test_a_reader_that_comes_back_after_pushed_pages_is_still_in_sequence() -> None:
    pusher = Pusher(Kernel())
    start, next_heartbeat = GROUP * BLOCK, 2 * GROUP * BLOCK
    for position in (start + SMALL, start + 3 * BLOCK, next_heartbeat):
        assert pusher.gap(position, position) == 0
        assert pusher.gap(position, position + 4096) == (4096 if position == next_heartbeat else 0)
        assert pusher.gap(position, next_heartbeat) == 0
        assert pusher.gap(position, next_heartbeat + 4096) == 4096, "a heartbeat was passed by"
        assert pusher.gap(position, position - BLOCK) == -BLOCK


def test_a_heartbeat_pushes_its_own_group_from_where_no_read_is_under_way() -> None:
    async def main() -> None:
        async with core() as made:
            content, kernel, pusher = await fetched(made, range(UNITS))
            end = GROUP * BLOCK + SMALL
            read_to(content, pusher, end)
            first, *others = group(1)
            assert kernel.ranges == [(end + NEAR, first[1]), *others, *groups(2, 1 + DEPTH)]
            kernel.batches = []
            read_to(content, pusher, end + 1)
            assert kernel.pieces == [], "all under way already"

    run(main)


def test_a_unit_read_from_both_sides_is_given_back_when_both_have_done_their_part() -> None:
    async def main() -> None:
        async with core() as made:
            content, kernel, pusher = await fetched(made, range(1))
            cell = content.cells[0]
            content.consume(0, cell, SMALL)
            read_to(content, pusher, SMALL)
            kernel.stored()
            read_to(content, pusher, SMALL)
            assert kernel.pieces == [], "nothing is pushed twice"
            assert 0 in content.cells
            content.consume(0, cell, NEAR)
            assert made.budget.used == 0

    run(main)


def test_a_heartbeat_is_answered_when_its_group_is_in_the_page_cache() -> None:
    async def main() -> None:
        async with core() as made:
            content, kernel, pusher = await fetched(made, range(GROUP, 2 * GROUP))
            offset = GROUP * BLOCK
            pusher.reading(7, content, offset)
            began = trio.current_time()
            answered: list[bool] = []

            async def heartbeat() -> None:
                answered.append(await pusher.paced(7, content, offset, offset + SMALL))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(heartbeat)
                await trio.testing.wait_all_tasks_blocked()
                assert not answered
                kernel.stored()
            assert answered == [False], "no cell was waited for"
            assert trio.current_time() == began
            assert content.pushes == {}

    run(main)


def test_a_heartbeat_waits_for_its_cells_and_their_push_but_not_for_ever() -> None:
    async def main() -> None:
        release = trio.Event()

        async def gate(op: str, _key: bytes) -> None:
            if op == "get_range_into":
                await release.wait()

        async with core(gate=gate) as made:
            made.put(b"key", bytes(2 * GROUP * BLOCK))
            info = made.bucket.head(b"key", deadline=1e9)
            content = Content(made.source, b"key", info.size, info.etag)
            kernel = Kernel()
            pusher = Pusher(kernel)
            assert content.start(GROUP, GROUP, prefetch=True) == GROUP
            offset = GROUP * BLOCK
            began = trio.current_time()
            assert await pusher.paced(7, content, offset, offset + SMALL)
            assert trio.current_time() == began + PATIENCE, "the READ needs its answer"
            async with trio.open_nursery() as nursery:
                nursery.start_soon(pusher.paced, 7, content, offset, offset + SMALL)
                await trio.testing.wait_all_tasks_blocked()
                assert kernel.batches == []
                release.set()
                await trio.testing.wait_all_tasks_blocked()
                assert kernel.ranges == group(1)
                kernel.stored()

    run(main)


def test_no_read_that_overlaps_what_is_pushed_waits_for_a_push() -> None:
    async def main() -> None:
        async with core() as made:
            content, kernel, pusher = await fetched(made, range(GROUP, 2 * GROUP))
            offset = GROUP * BLOCK
            pusher.reading(7, content, offset)
            assert content.pushes
            with trio.fail_after(0):  # no time passes: a wait would be noticed
                await pusher.paced(7, content, offset - 4096, offset + SMALL + 4096)
                await pusher.paced(7, content, offset + SMALL - 4096, offset + SMALL + 4096)
                await pusher.paced(7, content, offset + SMALL, offset + 2 * SMALL)
                await pusher.paced(7, content, offset - SMALL, offset)
            for first, end in kernel.ranges:
                assert end <= offset or first >= offset + SMALL
            kernel.stored()

    run(main)


def test_a_heartbeat_is_answered_although_its_group_cannot_be_fetched() -> None:
    async def main() -> None:
        release = trio.Event()

        async def gate(op: str, _key: bytes) -> None:
            if op == "get_range_into":
                await release.wait()

        async with core(gate=gate) as made:
            made.put(b"key", bytes(2 * GROUP * BLOCK))
            content = Content(made.source, b"key", 2 * GROUP * BLOCK, "another")
            pusher = Pusher(Kernel())
            assert content.start(GROUP, GROUP, prefetch=True) == GROUP
            async with trio.open_nursery() as nursery:
                nursery.start_soon(pusher.paced, 7, content, GROUP * BLOCK, GROUP * BLOCK + SMALL)
                await trio.testing.wait_all_tasks_blocked()
                release.set()  # the store finds the object changed: the READ itself will say so
            assert content.failure is not None

    run(main)
