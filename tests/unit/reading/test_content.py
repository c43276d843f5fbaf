"""Contents: one GET for all who want a unit, memory that is nobody else's until it is let go."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from ossfs.reading.content import Content
from ossfs.runtime.blocks import BLOCK, SMALL
from ossfs.store.errors import Changed, StoreError, Truncated, Unavailable
from ossfs.store.plan import Raise, Rule, TruncateBody
from tests.support.core import Core, core, run

DATA = random.Random(5).randbytes(6 * BLOCK + 777)


class Gate:
    """Holds requests until opened."""

    def __init__(self) -> None:
        self.open = trio.Event()

    async def __call__(self, _op: str, _key: bytes) -> None:
        await self.open.wait()


def content_of(made: Core, data: bytes = DATA, key: bytes = b"key") -> Content:
    made.put(key, data)
    info = made.bucket.head(key, deadline=1e9)
    return Content(made.source, key, info.size, info.etag)


def gets(made: Core) -> list[tuple[int, int]]:
    """(offset, size) of every GET so far."""
    return [(call.offset, call.size) for call in made.store.calls if call.op == "get_range_into"]


async def bytes_of(content: Content, number: int) -> bytes:
    cell = await content.cell(number)
    return bytes(cell.block.view[: cell.size])


def unit(number: int) -> bytes:
    return DATA[number * BLOCK : (number + 1) * BLOCK]


def test_all_who_want_a_unit_at_once_share_one_get() -> None:
    async def main() -> None:
        async with core() as made:
            content = content_of(made)
            got: list[bytes] = []

            async def want() -> None:
                got.append(await bytes_of(content, 2))

            async with trio.open_nursery() as nursery:
                for _ in range(10):
                    nursery.start_soon(want)
            assert got == [unit(2)] * 10
            assert gets(made) == [(2 * BLOCK, BLOCK)]

    run(main)


def test_neighbours_come_by_one_get_that_stops_at_what_is_here() -> None:
    async def main() -> None:
        async with core() as made:
            content = content_of(made)
            await content.cell(3)
            assert content.start(0, 7, prefetch=True) == 3
            assert content.start(4, 99, prefetch=True) == 3, "never past the end"
            assert content.start(0, 7, prefetch=True) == 0
            assert content.covers(0, 6)
            for number in range(content.units):
                assert await bytes_of(content, number) == unit(number)
            assert sorted(gets(made)) == [
                (0, 3 * BLOCK),
                (3 * BLOCK, BLOCK),
                (4 * BLOCK, 2 * BLOCK + 777),
            ]

    run(main)


def test_a_dropped_unit_keeps_its_memory_until_its_get_is_over() -> None:
    async def main() -> None:
        gate = Gate()
        async with core(memory=2 * BLOCK, gate=gate) as made:
            content = content_of(made)
            assert content.start(0, 2, prefetch=True) == 2
            await trio.testing.wait_all_tasks_blocked()
            content.drop_all()
            assert made.budget.used == 2 * BLOCK
            assert made.source.pool.try_take(BLOCK) is None, "a thread may still write there"
            gate.open.set()
            await trio.testing.wait_all_tasks_blocked()
            assert made.budget.used == 0
            assert not made.source.contents

    run(main)


def test_a_pinned_cells_memory_is_nobody_elses() -> None:
    async def main() -> None:
        async with core(memory=2 * BLOCK) as made:
            content = content_of(made)
            cell = await content.cell(0)
            content.pin(cell)
            assert content.drop_idle() == 0
            content.drop(0)
            other = made.source.pool.try_take(BLOCK, reclaim=True)
            assert other is not None
            other.view[:] = b"\xff" * BLOCK
            assert made.source.pool.try_take(BLOCK, reclaim=True) is None
            assert bytes(cell.block.view) == unit(0)
            content.unpin(cell)
            assert made.source.pool.try_take(BLOCK) is cell.block

    run(main)


def test_memory_goes_round_under_pressure_and_nobody_sees_anothers_bytes() -> None:
    async def main() -> None:
        async with core(memory=3 * BLOCK) as made:
            contents = [
                content_of(made, bytes([mark]) * (3 * BLOCK), b"key-%d" % mark)
                for mark in range(1, 6)
            ]

            async def watch(content: Content, mark: int) -> None:
                for number in [*range(3), *range(3)]:
                    cell = await content.cell(number)
                    content.pin(cell)
                    await trio.sleep(1)
                    assert bytes(cell.block.view) == bytes([mark]) * BLOCK
                    content.unpin(cell)
                    content.drop(number)

            with trio.fail_after(1_000):
                async with trio.open_nursery() as nursery:
                    for mark, content in enumerate(contents, 1):
                        nursery.start_soon(watch, content, mark)
            assert made.budget.used == 0
            assert made.budget.peak == 3 * BLOCK

    run(main)


def test_a_failure_is_everyones_who_waited_and_the_next_one_asks_again(
    expect_log: Callable[[str], None],
) -> None:
    expect_log("failed after")

    async def main() -> None:
        async with core() as made:
            content = content_of(made)
            made.store.add(Rule("get_range_into", Raise(Unavailable("down")), times=None))
            failed = 0

            async def want(number: int) -> None:
                nonlocal failed
                with pytest.raises(Unavailable):
                    await content.cell(number)
                failed += 1

            assert content.start(0, 4, prefetch=False) == 4
            async with trio.open_nursery() as nursery:
                for number in (0, 1, 1, 3):
                    nursery.start_soon(want, number)
            assert failed == 4
            assert (content.cells, made.budget.used) == ({}, 0)
            made.store.heal()
            assert await bytes_of(content, 1) == unit(1)

    run(main)


def test_what_a_broken_get_has_brought_is_kept_and_the_rest_resumed() -> None:
    async def main() -> None:
        async with core() as made:
            content = content_of(made)
            made.store.add(Rule("get_range_into", TruncateBody(2 * BLOCK + 5)))
            content.start(0, 7, prefetch=True)
            for number in range(7):
                assert await bytes_of(content, number) == unit(number)
            assert gets(made) == [(0, len(DATA)), (2 * BLOCK, len(DATA) - 2 * BLOCK)]

    run(main)


def test_a_prefetch_that_fails_for_good_costs_nothing_but_itself(
    expect_log: Callable[[str], None],
) -> None:
    expect_log("failed after")

    async def main() -> None:
        async with core() as made:
            content = content_of(made)
            made.store.add(Rule("get_range_into", Raise(Truncated("cut")), times=5))
            assert content.start(1, 3, prefetch=True) == 3
            await trio.sleep(60)
            assert (content.cells, content.prefetching, made.source.prefetching) == ({}, 0, 0)
            assert made.budget.used == 0
            assert await bytes_of(content, 1) == unit(1)

    run(main)


def test_a_changed_object_is_dead_but_for_what_is_here() -> None:
    async def main() -> None:
        async with core() as made:
            content = content_of(made)
            await content.cell(0)
            made.put(b"key", b"n" * len(DATA))
            for attempt in (content.cell(1), content.cell(1), content.exact(0, 10)):
                with pytest.raises(Changed):
                    await attempt
            assert content.start(1, 3, prefetch=True) == 0
            assert len(gets(made)) == 2, "a dead version is not asked for again"
            assert await bytes_of(content, 0) == unit(0)

    run(main)


def test_an_exact_range_leaves_no_trace_in_memory_whether_it_comes_or_not() -> None:
    async def main() -> None:
        async with core() as made:
            content = content_of(made)
            assert bytes(await content.exact(12_345, 678)) == DATA[12_345:13_023]
            assert (content.cells, made.budget.used) == ({}, 0)
            made.put(b"key", b"")
            with pytest.raises(Changed):
                await content.exact(0, 4096)
            assert made.budget.used == 0
            assert gets(made) == [(12_345, 678), (0, 4096)]

    run(main)


@pytest.mark.parametrize(("demand", "arguments"), [("cell", (0,)), ("exact", (0, 4096))])
def test_a_reader_that_is_cancelled_leaves_nothing_behind(
    demand: str, arguments: tuple[int, ...]
) -> None:
    async def main() -> None:
        gate = Gate()
        async with core(gate=gate) as made:
            content = content_of(made)
            call: Callable[..., Awaitable[object]] = getattr(content, demand)
            with trio.move_on_after(1):
                await call(*arguments)
            assert (content.cells, made.budget.used) == ({}, 0)
            gate.open.set()
            assert await bytes_of(content, 0) == unit(0)

    run(main)


def test_one_who_waits_when_all_is_dropped_gets_bytes_and_leaves_nothing() -> None:
    async def main() -> None:
        gate = Gate()
        async with core(gate=gate) as made, trio.open_nursery() as nursery:
            content = content_of(made)
            content.start(0, 1, prefetch=False)
            nursery.start_soon(content.cell, 0)
            await trio.testing.wait_all_tasks_blocked()
            content.drop_all()  # its version was replaced, or its last handle closed
            gate.open.set()
            await trio.testing.wait_all_tasks_blocked()
            assert made.budget.used == 0
            assert await bytes_of(content, 0) == unit(0)
            assert made.budget.used == 0
            assert content not in made.source.contents

    run(main)


def test_one_of_two_who_wait_may_leave_and_the_other_gets_its_bytes() -> None:
    async def main() -> None:
        gate = Gate()
        async with core(gate=gate) as made:
            content = content_of(made)
            content.start(0, 1, prefetch=False)
            with trio.move_on_after(1):
                await content.cell(0)
            gate.open.set()
            assert await bytes_of(content, 0) == unit(0)
            assert len(gets(made)) == 1
            content.drop_all()
            assert made.budget.used == 0

    run(main)


def test_what_nobody_expected_is_logged_and_an_error_like_any_other(
    expect_log: Callable[[str], None],
) -> None:
    expect_log("unexpected failure of a GET")

    class Broken:
        async def get_range_into(self, *_: object, **__: object) -> None:
            raise KeyError("a mistake of ours")

    async def main() -> None:
        async with core() as made:
            content = content_of(made)
            made.source.fetcher = Broken()  # type: ignore[assignment]
            with pytest.raises(StoreError):
                await content.cell(0)
            assert made.budget.used == 0

    run(main)


def test_a_cell_that_is_let_go_unread_wakes_who_waits_for_memory() -> None:
    async def main() -> None:
        async with core(memory=BLOCK) as made:
            first, second = content_of(made), content_of(made, DATA, b"other")
            made.reading.open(first, 2)
            cell = await first.cell(0)
            first.pin(cell)
            got: list[bytes] = []

            async def want() -> None:
                got.append(await bytes_of(second, 1))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(want)
                await trio.testing.wait_all_tasks_blocked()
                assert got == []
                first.unpin(cell)
                await trio.testing.wait_all_tasks_blocked()
                assert got == [unit(1)]

    run(main)


def test_small_cells_are_taken_back_until_a_whole_block_is_free() -> None:
    async def main() -> None:
        async with core(memory=4 * BLOCK) as made:
            readers = []
            for number in range(32):
                content = content_of(made, b"s" * SMALL, b"small-%d" % number)
                readers.append(made.reading.open(content, 2))
                await content.cell(0)
            assert made.budget.used == 4 * BLOCK
            # Quietest first, one of each block after the other: eight of them are a block's
            # worth, and free none.
            for number, reader in enumerate(readers):
                reader.last_read = number % 8 * 4 + number // 8
            with trio.fail_after(10):
                assert await bytes_of(content_of(made), 0) == unit(0)

    run(main)
