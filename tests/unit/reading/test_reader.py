"""Readers: what is fetched for which READs, and what is given back."""

from __future__ import annotations

import itertools
import random
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing

from ossfs.reading.content import Content
from ossfs.reading.pushing import GROUP, Pusher
from ossfs.reading.reader import FAR_REQUESTS, QUIET, Reader, ReadingLimits
from ossfs.runtime.blocks import BLOCK
from ossfs.runtime.window import COMFORT
from ossfs.store.errors import Changed, StoreError, Unavailable
from ossfs.store.plan import Raise, Rule
from tests.support.core import MIB, Core, core, run

RNG = random.Random(3)


def opened(made: Core, data: bytes, key: bytes = b"key") -> Reader:
    made.put(key, data)
    info = made.bucket.head(key, deadline=1e9)
    content = Content(made.source, key, info.size, info.etag)
    return made.reading.open(content, 2)


def fetched(made: Core) -> int:
    """Bytes of all GETs so far."""
    return sum(call.size for call in made.store.calls if call.op == "get_range_into")


async def read_all(reader: Reader, size: int, step: int) -> bytes:
    pieces = []
    for offset in range(0, size, step):
        pieces.append(bytes(await reader.read(offset, step)))
    return b"".join(pieces)


@pytest.mark.parametrize("size", [1, 4096, BLOCK - 1, BLOCK, 3 * BLOCK + 7, 21 * BLOCK + 5])
@pytest.mark.parametrize("step", [65_536, 131_072, 1_000_000, BLOCK])
def test_a_sequential_read_is_right_and_fetches_every_byte_once(size: int, step: int) -> None:
    data = RNG.randbytes(size)

    async def main() -> None:
        async with core(memory=64 * MIB, chunk=4 * MIB) as made:
            reader = opened(made, data)
            assert await read_all(reader, size, step) == data
            assert fetched(made) == size
            reader.close()
            reader.content.drop_all()
            await trio.testing.wait_all_tasks_blocked()
            assert made.budget.used == 0

    run(main)


def test_reads_that_arrive_out_of_order_are_one_sequence() -> None:
    data = RNG.randbytes(64 * MIB)

    async def main() -> None:
        async with core(chunk=4 * MIB) as made:
            made.reading.tolerance = 16 * MIB
            reader = opened(made, data)
            offsets = list(range(0, len(data), BLOCK))
            for start in range(4, len(offsets) - 8, 8):
                offsets[start : start + 8] = RNG.sample(offsets[start : start + 8], 8)

            async def read(offset: int) -> None:
                assert bytes(await reader.read(offset, BLOCK)) == data[offset : offset + BLOCK]

            for offset in offsets[:4]:
                await read(offset)
            for start in range(4, len(offsets), 4):
                async with trio.open_nursery() as nursery:
                    for offset in offsets[start : start + 4]:
                        nursery.start_soon(read, offset)
            assert fetched(made) == len(data)

    run(main)


@pytest.mark.parametrize("head", [128 * 1024, 256 * 1024, BLOCK])
@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_reads_that_open_a_window_may_overtake_each_other(
    head: int, order: tuple[int, ...]
) -> None:
    """Whatever the kernel's first readahead is, and in whatever order its READs get here."""
    data = RNG.randbytes(12 * MIB)

    async def main() -> None:
        async with core(chunk=4 * MIB) as made:
            made.reading.tolerance = 16 * MIB
            reader = opened(made, data)
            offsets = list(range(head, len(data), BLOCK))
            offsets[:3] = [offsets[i] for i in order]

            async def read(offset: int, size: int = BLOCK) -> None:
                assert bytes(await reader.read(offset, size)) == data[offset : offset + size]

            await read(0, head)
            for start in range(0, len(offsets), 4):
                async with trio.open_nursery() as nursery:
                    for offset in offsets[start : start + 4]:
                        nursery.start_soon(read, offset)
                        await trio.testing.wait_all_tasks_blocked()
            assert fetched(made) == len(data)

    run(main)


def test_random_reads_fetch_just_what_they_ask_for() -> None:
    data = RNG.randbytes(40 * MIB)

    async def main() -> None:
        async with core() as made:
            reader = opened(made, data)
            for _ in range(100):
                offset = RNG.randrange(1, 9000) * 4096
                assert bytes(await reader.read(offset, 4096)) == data[offset : offset + 4096]
            assert fetched(made) <= 100 * 4096
            assert made.reading.streaming == 0
            assert made.budget.used == 0

    run(main)


@pytest.mark.parametrize("look", [200_000, 300_000, BLOCK, BLOCK + 4096, 2 * BLOCK])
@pytest.mark.parametrize("step", [131_072, BLOCK])
def test_a_look_into_the_middle_is_several_reads_and_no_sequence(look: int, step: int) -> None:
    data = RNG.randbytes(64 * MIB)

    async def main() -> None:
        async with core() as made:
            made.reading.pusher = Pusher(lambda *_: False)
            reader = opened(made, data)
            wanted = 0
            for slot in RNG.sample(range(1, 10), 9):  # far enough apart to be no sequence
                start = slot * 6 * BLOCK + RNG.randrange(BLOCK // 4096) * 4096
                for offset in range(start, start + look, step):
                    size = min(step, start + look - offset)
                    assert bytes(await reader.read(offset, size)) == data[offset : offset + size]
                wanted += look
            assert fetched(made) == wanted
            assert made.reading.streaming == 0

    run(main)


def test_what_the_kernel_itself_reads_ahead_in_the_middle_is_no_sequence() -> None:
    """It takes a random read for one that goes on where the pages before it are there already."""
    data = RNG.randbytes(96 * MIB)

    async def main() -> None:
        async with core() as made:
            made.reading.readahead_raised(8 * MIB)
            reader = opened(made, data)
            for start in (40 * MIB, 8 * MIB, 72 * MIB):
                for offset in range(start, start + 8 * MIB, MIB):
                    assert bytes(await reader.read(offset, MIB)) == data[offset : offset + MIB]
            assert fetched(made) == 24 * MIB
            assert made.reading.streaming == 0

    run(main)


@pytest.mark.parametrize("readahead", [0, 8 * MIB])
def test_reading_on_from_the_middle_becomes_a_sequence(readahead: int) -> None:
    data = RNG.randbytes(64 * MIB)

    async def main() -> None:
        async with core() as made:
            made.reading.readahead_raised(readahead)
            reader = opened(made, data)
            for offset in range(9 * MIB, 12 * MIB + readahead, 131_072):
                await reader.read(offset, 131_072)
            assert made.reading.streaming == 1
            reader.close()

    run(main)


def test_jumps_past_a_heartbeat_are_no_sequence_even_where_pages_are_pushed() -> None:
    data = RNG.randbytes(128 * MIB)

    async def main() -> None:
        async with core(memory=512 * MIB) as made:
            made.reading.pusher = Pusher(lambda *_: False)
            reader = opened(made, data)
            for offset in range(0, 4 * MIB, 131_072):
                await reader.read(offset, 131_072)
            await trio.testing.wait_all_tasks_blocked()
            before = fetched(made)
            for offset in range(20 * MIB, 125 * MIB, 15 * MIB):
                assert bytes(await reader.read(offset, 4096)) == data[offset : offset + 4096]
            assert fetched(made) - before <= 8 * 4096

    run(main)


@pytest.mark.parametrize("pushing", [False, True])
def test_where_pages_are_pushed_two_chunks_are_asked_for_at_once(pushing: bool) -> None:
    data = RNG.randbytes(64 * MIB)

    async def main() -> None:
        async with core(chunk=2 * MIB) as made:
            if pushing:
                made.reading.pusher = Pusher(lambda *_: False)
            reader = opened(made, data)
            assert await read_all(reader, len(data), 131_072) == data
            gets = [call.size for call in made.store.calls if call.op == "get_range_into"]
            assert sum(gets) == len(data)
            assert max(gets) == (4 * MIB if pushing else 2 * MIB)

    run(main)


def test_a_reader_past_the_page_cache_has_nothing_pushed() -> None:
    data = RNG.randbytes(64 * MIB)

    async def main() -> None:
        async with core(chunk=4 * MIB) as made:
            made.reading.pusher = Pusher(lambda *_: pytest.fail("pushed"))
            made.put(b"key", data)
            info = made.bucket.head(b"key", deadline=1e9)
            content = Content(made.source, b"key", info.size, info.etag)
            reader = made.reading.open(content, 2, direct=True)
            assert await read_all(reader, len(data), 131_072) == data
            assert fetched(made) == len(data)

    run(main)


def test_a_small_object_is_one_get_and_reading_past_its_end_is_empty() -> None:
    async def main() -> None:
        async with core() as made:
            reader = opened(made, b"x" * (3 * MIB))
            assert bytes(await reader.read(2 * MIB, BLOCK)) == b"x" * MIB
            assert bytes(await reader.read(0, BLOCK)) == b"x" * MIB
            assert bytes(await reader.read(3 * MIB, 10)) == b""
            assert bytes(await reader.read(3 * MIB - 5, 10)) == b"xxxxx"
            assert len([c for c in made.store.calls if c.op == "get_range_into"]) <= 3

    run(main)


def test_a_small_object_read_from_its_beginning_is_one_get() -> None:
    async def main() -> None:
        async with core(chunk=4 * MIB) as made:
            reader = opened(made, b"x" * (4 * MIB))
            await reader.prove()
            assert await read_all(reader, 4 * MIB, 131_072) == b"x" * (4 * MIB)
            assert made.store.count("get_range_into") == 1
            assert made.budget.used == 0, "what was read whole is the kernel's to keep"

    run(main)


class Slow:
    """A gate before each GET, and how many have stood before it at once."""

    def __init__(self, latency: float) -> None:
        self._latency = latency
        self._under_way = 0
        self.most = 0

    async def __call__(self, op: str, _key: bytes) -> None:
        if op == "get_range_into":
            self._under_way += 1
            self.most = max(self.most, self._under_way)
            await trio.sleep(self._latency)
            self._under_way -= 1


def test_a_window_widens_as_the_reader_goes_on_within_its_limits() -> None:
    chunk, per_file = 2 * MIB, 4
    slow = Slow(0.05)

    async def main() -> None:
        async with core(gate=slow) as made:
            made.reading.limits = ReadingLimits(chunk=chunk, per_file=per_file, total=32)
            reader = opened(made, bytes(48 * MIB))
            await read_all(reader, 48 * MIB, BLOCK)
            sizes = [call.size for call in made.store.calls]
            assert sizes[0] == BLOCK, "the first byte does not wait for a whole chunk"
            assert max(sizes) == chunk
            assert slow.most == per_file
            assert fetched(made) == 48 * MIB

    run(main)


@pytest.mark.parametrize(("latency", "requests"), [(0.001, (2, 3)), (0.05, (8, 16))])
@pytest.mark.parametrize("overtaken", [False, True])
def test_a_store_that_is_slow_to_begin_is_asked_more_at_once(
    latency: float, requests: tuple[int, int], overtaken: bool
) -> None:
    """The second READ, which may come before the first is answered, makes it a sequence."""
    slow = Slow(latency)

    async def main() -> None:
        async with core(gate=slow) as made:
            made.reading.limits = ReadingLimits(chunk=8 * MIB, per_file=64, total=256)
            reader = opened(made, bytes(64 * MIB))
            if overtaken:
                async with trio.open_nursery() as nursery:
                    for offset in (0, BLOCK // 2):
                        nursery.start_soon(reader.read, offset, BLOCK // 2)
            await read_all(reader, 16 * MIB, BLOCK)
            least, limit = requests
            assert least <= slow.most <= limit

    run(main)


def test_one_slow_reply_of_a_busy_machine_makes_no_store_distant() -> None:
    times = iter([0.05])

    async def gate(op: str, _key: bytes) -> None:
        await trio.sleep(next(times, 0.002) if op == "get_range_into" else 0)

    async def main() -> None:
        async with core(gate=gate, memory=512 * MIB) as made:
            made.reading.limits = ReadingLimits(chunk=8 * MIB, per_file=64, total=256)
            reader = opened(made, bytes(256 * MIB))
            most = 0
            for offset in range(0, 256 * MIB, BLOCK):
                await reader.read(offset, BLOCK)
                most = max(most, len(reader.content.cells))
            assert most <= COMFORT * 3 // 2 // BLOCK + 1

    run(main)


def test_where_many_read_at_once_no_store_counts_as_distant() -> None:
    slow = Slow(0.05)

    async def main() -> None:
        async with core(gate=slow) as made:
            made.reading.streaming = FAR_REQUESTS
            await read_all(opened(made, bytes(32 * MIB)), 16 * MIB, BLOCK)
            assert slow.most == 2

    run(main)


def test_all_windows_together_keep_to_the_mounts_limit() -> None:
    under_way, most = 0, 0

    async def main() -> None:
        async with core() as made:
            made.reading.limits = ReadingLimits(chunk=MIB, per_file=4, total=6)
            inner = made.source.fetcher.get_range_into

            async def counted(*args: Any, prefetch: bool = False, **kwargs: Any) -> Any:
                nonlocal under_way, most
                under_way += prefetch
                most = max(most, under_way)
                try:
                    await trio.sleep(0.05)
                    return await inner(*args, prefetch=prefetch, **kwargs)
                finally:
                    under_way -= prefetch

            made.source.fetcher = SimpleNamespace(get_range_into=counted)  # type: ignore[assignment]
            async with trio.open_nursery() as nursery:
                for number in range(5):
                    reader = opened(made, bytes(12 * MIB), b"key-%d" % number)
                    nursery.start_soon(read_all, reader, 12 * MIB, BLOCK)
            assert most == 6

    run(main)


def test_without_prefetch_only_what_is_asked_for_is_fetched() -> None:
    async def main() -> None:
        async with core(chunk=MIB) as made:
            made.reading.limits = ReadingLimits(chunk=MIB, per_file=4, total=0)
            reader = opened(made, bytes(12 * MIB))
            for offset in range(0, 6 * MIB, BLOCK):
                await reader.read(offset, BLOCK)
            await trio.testing.wait_all_tasks_blocked()
            assert fetched(made) == 6 * MIB
            assert made.budget.used == 0

    run(main)


def test_a_window_is_a_fair_share_of_the_memory() -> None:
    async def main() -> None:
        async with core(memory=32 * MIB) as made:
            readers = [opened(made, bytes(40 * MIB), b"key-%d" % number) for number in range(4)]
            for offset in range(0, 30 * MIB, BLOCK):
                for reader in readers:
                    await reader.read(offset, BLOCK)
            await trio.testing.wait_all_tasks_blocked()
            ahead = [len(reader.content.cells) for reader in readers]
            assert all(2 <= units <= 6 for units in ahead), ahead
            assert made.budget.peak <= 32 * MIB

    run(main)


def test_memory_is_taken_back_from_the_longest_quiet_first() -> None:
    async def main() -> None:
        async with core() as made:
            readers = []
            for number in range(3):
                reader = opened(made, bytes(8 * MIB), b"key-%d" % number)
                reader.content.start(0, 4, prefetch=True)
                await trio.testing.wait_all_tasks_blocked()
                readers.append(reader)
            for number in (1, 2, 0):
                await trio.sleep(1)
                await readers[number].read(0, 4096)
            assert made.reading.reclaim(3 * BLOCK) >= 3 * BLOCK
            assert [len(reader.content.cells) for reader in readers] == [4, 0, 4]
            assert made.reading.reclaim(5 * BLOCK) >= 5 * BLOCK
            assert [len(reader.content.cells) for reader in readers] == [0, 0, 0]
            assert made.budget.used == 0

    run(main)


def test_a_prefetch_that_fails_is_nobodys_failure(expect_log: Any) -> None:
    expect_log("failed after")

    async def main() -> None:
        async with core(chunk=2 * MIB) as made:
            data = RNG.randbytes(24 * MIB)
            reader, other = opened(made, data), opened(made, data, b"other")
            beginning = bytes(await reader.read(0, BLOCK))
            made.store.add(Rule("get_range_into", Raise(Unavailable("down")), key=b"key", times=5))
            reader.content.start(3, 2, prefetch=True)
            assert await read_all(other, len(data), BLOCK) == data
            await trio.sleep(60)
            assert 3 not in reader.content.cells
            rest = [bytes(await reader.read(at, BLOCK)) for at in range(BLOCK, len(data), BLOCK)]
            assert beginning + b"".join(rest) == data

    run(main)


def test_a_quiet_reader_gives_its_window_back() -> None:
    async def main() -> None:
        async with core() as made:
            reader = opened(made, bytes(64 * MIB))
            await read_all(reader, 4 * MIB, BLOCK)
            await trio.testing.wait_all_tasks_blocked()
            assert made.budget.used > 0
            made.reading.sweep()
            assert made.budget.used > 0, "not quiet for long enough"
            await trio.sleep(QUIET + 1)
            made.reading.sweep()
            assert made.budget.used == 0
            assert made.reading.streaming == 0
            assert bytes(await reader.read(4 * MIB, 10)) == bytes(10)

    run(main)


@pytest.mark.parametrize("blocks", [1, 2, 4])
def test_twenty_readers_finish_on_a_handful_of_blocks(blocks: int) -> None:
    async def main() -> None:
        async with core(memory=blocks * BLOCK, chunk=2 * MIB) as made:
            data = {number: RNG.randbytes(3 * MIB + number) for number in range(20)}

            async def read(number: int) -> None:
                reader = opened(made, data[number], b"key-%d" % number)
                assert await read_all(reader, len(data[number]), 131_072) == data[number]
                reader.close()
                reader.content.drop_all()

            with trio.fail_after(3600):
                async with trio.open_nursery() as nursery:
                    for number in data:
                        nursery.start_soon(read, number)
            assert made.budget.used == 0
            assert made.budget.peak <= blocks * BLOCK

    run(main)


def test_a_changed_object_fails_every_later_fetch_and_keeps_what_is_here() -> None:
    async def main() -> None:
        async with core() as made:
            reader = opened(made, b"o" * (20 * MIB))
            assert bytes(await reader.read(0, BLOCK)) == b"o" * MIB
            assert bytes(await reader.read(MIB, BLOCK)) == b"o" * MIB
            made.put(b"key", b"n" * (20 * MIB))
            seen = set()
            for offset in range(2 * MIB, 20 * MIB, MIB):
                try:
                    seen |= set(bytes(await reader.read(offset, BLOCK)))
                except Changed:
                    seen.add(0)
            assert seen <= {ord("o"), 0}
            assert 0 in seen
            made.store.calls.clear()
            with pytest.raises(Changed):
                await reader.read(19 * MIB, BLOCK)
            assert made.store.calls == [], "nothing more is asked of a version that is gone"

    run(main)


def test_a_failed_get_is_an_error_to_its_reader_and_the_next_read_tries_again(
    expect_log: object,
) -> None:
    expect_log("failed after")  # type: ignore[operator]

    async def main() -> None:
        async with core() as made:
            reader = opened(made, b"x" * BLOCK)
            made.store.add(Rule("get_range_into", Raise(Unavailable("down")), times=50))
            with pytest.raises(StoreError):
                await reader.read(0, BLOCK)
            made.store.heal()
            assert bytes(await reader.read(0, BLOCK)) == b"x" * BLOCK
            reader.close()
            reader.content.drop_all()
            assert made.budget.used == 0

    run(main)


def test_pages_are_pushed_a_group_ahead_without_heartbeats_and_never_past_the_end() -> None:
    size = 5 * GROUP * BLOCK + 12_345
    data = RNG.randbytes(size)

    async def main() -> None:
        async with core() as made:
            pushed: dict[int, bytes] = {}

            def push(inode: int, pieces: object, wanted: object, done: object) -> bool:
                assert inode == 2
                flags = []
                for offset, view in pieces:  # type: ignore[attr-defined]
                    flags.append(wanted(offset))  # type: ignore[operator]
                    if flags[-1]:
                        pushed[offset] = bytes(view)
                made.source.token.run_sync_soon(done, flags)
                return True

            made.reading.pusher = Pusher(push)
            reader = opened(made, data)
            position = 0
            while position < size:  # the kernel READs only what was not pushed
                if position in pushed:
                    position += len(pushed[position])
                    continue
                got = bytes(await reader.read(position, 131_072))
                assert got == data[position : position + len(got)]
                position += len(got)
                await trio.testing.wait_all_tasks_blocked()
            assert pushed
            for offset, piece in pushed.items():
                assert piece == data[offset : offset + len(piece)]
                assert offset % (GROUP * BLOCK) != 0, "the heartbeat is left out"
                assert offset + len(piece) <= size
            reader.close()
            reader.content.drop_all()
            await trio.testing.wait_all_tasks_blocked()
            assert made.budget.used == 0

    run(main)
