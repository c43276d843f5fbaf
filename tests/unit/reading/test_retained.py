"""Cells kept in memory: each byte fetched once for all handles, within a size."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import trio
import trio.testing

from ossfs.reading.content import Content
from ossfs.reading.reader import QUIET, Reader
from ossfs.reading.retained import Retained
from ossfs.runtime.blocks import BLOCK, SMALL
from tests.support.core import MIB, Core, core, run

RNG = random.Random(8)
DATA = RNG.randbytes(20 * BLOCK + 999)


def keeping(made: Core, limit: int) -> Retained:
    retained = made.source.retained = Retained(limit)
    return retained


def content_of(made: Core, data: bytes = DATA, key: bytes = b"key") -> Content:
    made.put(key, data)
    info = made.bucket.head(key, deadline=1e9)
    return Content(made.source, key, info.size, info.etag)


def opened(made: Core, data: bytes = DATA, key: bytes = b"key") -> Reader:
    return made.reading.open(content_of(made, data, key), 2)


def fetched(made: Core) -> int:
    return sum(call.size for call in made.store.calls if call.op == "get_range_into")


async def read(reader: Reader, units: Sequence[int], data: bytes = DATA) -> None:
    for unit in units:
        for offset in range(unit * BLOCK, min((unit + 1) * BLOCK, len(data)), 131_072):
            piece = bytes(await reader.read(offset, 131_072))
            assert piece == data[offset : min(offset + 131_072, (unit + 1) * BLOCK)]


async def close(made: Core, *readers: Reader) -> None:
    for reader in readers:
        reader.close()
        reader.content.drop_all()
    await trio.testing.wait_all_tasks_blocked()
    assert made.budget.used == 0
    assert made.source.retained is not None
    assert made.source.retained.size == 0


def here(content: Content) -> set[int]:
    return set(content.cells)


@pytest.mark.parametrize("chunk", [MIB, 4 * MIB, 32 * MIB])
def test_handles_of_one_file_fetch_each_byte_once(chunk: int) -> None:
    async def main() -> None:
        async with core(chunk=chunk) as made:
            retained = keeping(made, 32 * MIB)
            content = content_of(made)
            readers = [made.reading.open(content, 2, direct=True) for _ in range(4)]
            async with trio.open_nursery() as nursery:
                for reader in readers[:3]:
                    nursery.start_soon(read, reader, range(21))
            await read(readers[3], RNG.sample(range(21), 21))
            assert fetched(made) == len(DATA)
            assert retained.size == 20 * BLOCK + SMALL
            await close(made, *readers)

    run(main)


@pytest.mark.parametrize("limit", [BLOCK, 4 * BLOCK])
def test_beyond_the_size_what_was_read_longest_ago_goes(limit: int) -> None:
    async def main() -> None:
        async with core(chunk=2 * MIB) as made:
            retained = keeping(made, limit)
            reader = opened(made)
            for unit in range(21):
                await read(reader, [unit])
                assert retained.size <= limit
            assert fetched(made) == len(DATA)
            await trio.testing.wait_all_tasks_blocked()
            assert here(reader.content) == set(range(21 - limit // BLOCK, 21))
            await close(made, reader)

    run(main)


def test_reading_again_is_a_use() -> None:
    async def main() -> None:
        async with core(chunk=32 * MIB) as made:
            keeping(made, 4 * BLOCK)
            first, second = opened(made, DATA[: 4 * BLOCK]), opened(made, DATA, b"other")
            await read(first, range(4), DATA[: 4 * BLOCK])
            await read(first, [0], DATA[: 4 * BLOCK])
            await read(second, [0, 1])
            assert here(first.content) == {0, 3}
            await close(made, first, second)

    run(main)


def test_being_quiet_is_no_use() -> None:
    async def main() -> None:
        async with core(chunk=32 * MIB) as made:
            keeping(made, 4 * BLOCK)
            quiet, busy = opened(made, DATA[: 2 * BLOCK]), opened(made, DATA, b"other")
            await read(quiet, range(2), DATA[: 2 * BLOCK])
            await trio.sleep(QUIET + 1)
            await read(busy, range(2))
            made.reading.sweep()
            await read(busy, range(2, 4))
            assert here(quiet.content) == set()
            assert {0, 1, 2, 3} <= here(busy.content)
            await close(made, quiet, busy)

    run(main)


def test_others_who_need_the_memory_get_it() -> None:
    async def main() -> None:
        async with core(memory=8 * BLOCK, chunk=MIB) as made:
            retained = keeping(made, 6 * BLOCK)
            reader, other = opened(made), opened(made, DATA, b"other")
            await read(reader, range(6))
            assert retained.size == 6 * BLOCK
            blocks = []
            with trio.fail_after(10):
                for _ in range(8):
                    blocks.append(await made.source.pool.take(BLOCK))
            assert retained.size == 0
            for block in blocks:
                made.source.pool.give(block)
            await read(other, range(21))
            await read(reader, range(21))
            assert made.budget.peak <= 8 * BLOCK
            await close(made, reader, other)

    run(main)


def test_small_files_are_kept_and_taken_back_too() -> None:
    async def main() -> None:
        async with core(memory=4 * BLOCK) as made:
            retained = keeping(made, 3 * BLOCK)
            readers = []
            for number in range(40):
                readers.append(opened(made, b"s" * SMALL, b"small-%d" % number))
                await read(readers[-1], [0], b"s" * SMALL)
                assert retained.size == min(number + 1, 24) * SMALL
            before = fetched(made)
            await read(readers[-1], [0], b"s" * SMALL)
            assert fetched(made) == before
            large = opened(made)
            with trio.fail_after(10):
                await read(large, range(21))
            await close(made, large, *readers)

    run(main)


def test_small_files_spread_over_blocks_give_way_until_a_whole_block_is_free() -> None:
    async def main() -> None:
        async with core(memory=64 * BLOCK) as made:
            retained = keeping(made, 64 * BLOCK)
            small = [content_of(made, bytes(SMALL), b"%d" % number) for number in range(256)]
            for content in small:
                content.consume(0, await content.cell(0), SMALL)
            others = []
            while (block := made.source.pool.try_take(BLOCK)) is not None:
                others.append(block)
            # In such an order that many have to go before all of one block have.
            for content in sorted(small, key=lambda content: RNG.random()):
                content.consume(0, content.cells[0], SMALL)
            assert retained.size == 256 * SMALL
            with trio.fail_after(1):
                others.append(await made.source.pool.take(BLOCK))
            for block in others:
                made.source.pool.give(block)
            for content in small:
                content.drop_all()
            assert (retained.size, made.budget.used) == (0, 0)

    run(main)


def test_the_last_close_drops_all_and_no_other_does() -> None:
    async def main() -> None:
        async with core(attr_timeout=60) as made:
            retained = keeping(made, 32 * MIB)
            made.put(b"file", DATA)
            number = (await made.fs.lookup(1, b"file")).number
            first, second = await made.fs.open(number), await made.fs.open(number)
            for handle in (first, second):
                for offset in range(0, len(DATA), BLOCK):
                    assert (
                        bytes(await made.fs.read(handle, offset, BLOCK))
                        == (DATA[offset : offset + BLOCK])
                    )
            assert fetched(made) == len(DATA)
            made.fs.close(first)
            assert retained.size == 20 * BLOCK + SMALL
            assert bytes(await made.fs.read(second, BLOCK, BLOCK)) == DATA[BLOCK : 2 * BLOCK]
            assert fetched(made) == len(DATA)
            used = made.budget.used
            made.fs.close(second)
            assert retained.size == 0
            assert used - made.budget.used == 21 * BLOCK

    run(main)


def test_random_reads_go_by_blocks_that_are_kept() -> None:
    async def main() -> None:
        async with core(chunk=MIB) as made:
            keeping(made, 32 * MIB)
            reader = opened(made)
            units = RNG.sample(range(1, 20), 8)
            for _ in range(3):
                for unit in units:
                    offset = unit * BLOCK + RNG.randrange(BLOCK - 4096)
                    assert bytes(await reader.read(offset, 4096)) == DATA[offset : offset + 4096]
            assert fetched(made) == 8 * BLOCK
            await close(made, reader)

    run(main)


def test_blocks_read_in_part_are_within_the_size_too() -> None:
    """A program that looks into a file larger than memory reads no block to its end."""

    async def main() -> None:
        async with core(memory=64 * MIB, chunk=MIB) as made:
            keeping(made, 4 * BLOCK)
            reader = opened(made)
            for unit in range(0, 20, 3):
                offset = unit * BLOCK + 200_000
                assert bytes(await reader.read(offset, 4096)) == DATA[offset : offset + 4096]
            assert made.budget.used <= 5 * BLOCK
            await close(made, reader)

    run(main)


def test_what_an_unlinked_file_needs_is_nobodys_to_take() -> None:
    async def main() -> None:
        async with core(memory=8 * BLOCK) as made:
            keeping(made, 2 * BLOCK)
            data = DATA[:BLOCK]
            reader, other = opened(made, data), opened(made, DATA, b"other")
            await read(reader, [0], data)
            await reader.content.keep()
            made.delete(b"key")
            await read(other, range(21))
            assert here(reader.content) == {0}
            made.reading.reclaim(99 * BLOCK)
            for _ in range(2):
                await read(reader, [0], data)
            await close(made, reader, other)

    run(main)


class Filled:
    """A fetcher whose GETs have brought all and are not over."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.over = trio.Event()

    async def get_range_into(
        self, *arguments: Any, on_filled: Callable[[int], None] | None = None, **named: Any
    ) -> Any:
        reply = await self._inner.get_range_into(*arguments, on_filled=on_filled, **named)
        await self.over.wait()
        return reply


def test_a_cell_taken_back_as_it_arrives_is_not_kept() -> None:
    """Nothing else would drop it, and whoever takes back the oldest would go round for ever."""

    async def main() -> None:
        async with core(memory=4 * BLOCK) as made:
            retained = keeping(made, 2 * BLOCK)
            reader = opened(made, DATA[:BLOCK])
            inner = made.source.fetcher
            made.source.fetcher = fetcher = Filled(inner)
            async with trio.open_nursery() as nursery:

                async def want() -> None:
                    assert bytes(await reader.read(0, BLOCK)) == DATA[:BLOCK]

                nursery.start_soon(want)
                await trio.testing.wait_all_tasks_blocked()
                made.reading.reclaim(BLOCK)  # somebody needs memory just now
                fetcher.over.set()
            made.source.fetcher = inner
            kept = set(reader.content.cells.values())
            assert all(cell in kept for cell in retained._cells)
            assert retained.size == len(kept) * BLOCK
            await close(made, reader)

    run(main)


def test_whatever_happens_the_count_is_right_and_nothing_is_left() -> None:
    rng = random.Random(6)
    sizes = [1, SMALL, SMALL + 1, BLOCK, 5 * BLOCK + 10, 12 * BLOCK]
    bodies = {b"key-%d" % number: rng.randbytes(size) for number, size in enumerate(sizes)}

    async def main() -> None:
        async with core(memory=12 * BLOCK, chunk=2 * MIB) as made:
            retained = keeping(made, 6 * BLOCK)
            contents = {key: content_of(made, data, key) for key, data in bodies.items()}
            readers: list[tuple[Reader, bytes]] = []

            async def job(reader: Reader, data: bytes) -> None:
                offset = rng.randrange(len(data))
                for _ in range(rng.randrange(1, 12)):
                    size = rng.choice([4096, 131_072, BLOCK])
                    assert bytes(await reader.read(offset, size)) == data[offset : offset + size]
                    offset += size

            def settled() -> bool:
                held = [cell for content in contents.values() for cell in content.cells.values()]
                sizes = {cell: SMALL if cell.size <= SMALL else BLOCK for cell in held}
                return retained.size == sum(sizes[cell] for cell in retained._cells) <= 6 * BLOCK

            with trio.fail_after(3600):
                for _ in range(120):
                    key = rng.choice(list(bodies))
                    readers.append((made.reading.open(contents[key], 2), bodies[key]))
                    async with trio.open_nursery() as nursery:
                        for reader, data in rng.sample(readers, min(4, len(readers))):
                            nursery.start_soon(job, reader, data)
                    if rng.random() < 0.2:
                        await trio.sleep(rng.randrange(10))
                        made.reading.sweep()
                    if rng.random() < 0.2:
                        made.reading.reclaim(rng.randrange(6) * BLOCK)
                    while len(readers) > 10 or (readers and rng.random() < 0.4):
                        reader, _ = readers.pop(rng.randrange(len(readers)))
                        reader.close()
                        if all(other.content is not reader.content for other, _ in readers):
                            reader.content.drop_all()
                    await trio.testing.wait_all_tasks_blocked()
                    assert settled()
            assert made.budget.peak <= 12 * BLOCK
            await close(made, *(reader for reader, _ in readers))

    run(main)


def test_a_mount_without_it_keeps_nothing() -> None:
    async def main() -> None:
        async with core(chunk=32 * MIB) as made:
            reader = opened(made)
            await read(reader, range(21))
            await read(reader, range(21))
            assert fetched(made) == 2 * len(DATA)
            assert made.budget.used == 0

    run(main)
