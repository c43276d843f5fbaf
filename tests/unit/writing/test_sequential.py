"""The default mode: what requests a file costs, what the bucket holds, and what is never lost."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from ossfs.runtime.blocks import SMALL
from ossfs.runtime.failure import FileSystemError
from ossfs.store.api import Capabilities, ObjectType
from ossfs.store.errors import (
    Changed,
    Corrupt,
    Exists,
    NotFound,
    StoreError,
    Throttled,
    Unavailable,
)
from ossfs.store.plan import CorruptCrc, ExpireToken, Fault, Hang, LoseReply, Raise, Rule
from ossfs.writing.api import Target
from ossfs.writing.sequential import SequentialWriter
from tests.unit.writing.support import (
    KEY,
    KIB,
    MIB,
    MINIMUM,
    PART,
    Gate,
    closed,
    noise,
    overheard,
    part_of,
    raises_errno,
    room,
    run,
    whole,
)

ExpectLog = Callable[[str], None]
REAL = Capabilities()


# -- what a file costs ----------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, PART - 1, PART])
def test_a_file_that_fits_one_part_is_one_put(size: int) -> None:
    async def main() -> None:
        async with room() as made:
            writer = made.sequential(b"page.html")
            await writer.write(0, noise(size))
            assert made.requests() == []
            await writer.complete()
            assert made.requests() == ["put"]
            assert made.content(b"page.html") == noise(size)
            info = made.bucket.head(b"page.html", full=True, deadline=0)
            assert (info.type, info.content_type) == (ObjectType.NORMAL, "text/html")
            assert made.made == [writer.base] == [made.version(b"page.html")]
            await closed(made, writer)

    run(main)


@pytest.mark.parametrize("size", [PART + 1, 2 * PART - 1, 2 * PART, 2 * PART + 1, 30 * PART + 7])
def test_a_larger_file_is_an_upload_of_full_parts(size: int) -> None:
    async def main() -> None:
        async with room() as made:
            writer = made.sequential()
            for at in range(0, size, 4048):
                await writer.write(at, noise(size)[at : at + 4048])
            await writer.complete()
            seen = made.requests()
            assert seen.count("create_upload") == seen.count("complete_upload") == 1
            assert seen.count("upload_part") == -(-size // PART)
            assert made.content() == noise(size)
            assert made.made == [writer.base] == [made.version()]
            await closed(made, writer)

    run(main)


@pytest.mark.parametrize("old", [0, 1, 102_399, 102_400])
@pytest.mark.parametrize("new", [1, 8 * MIB])
def test_appending_keeps_the_stores_minimum(old: int, new: int) -> None:
    async def main() -> None:
        async with room(capabilities=REAL, part=8 * MIB, quota=64 * MIB) as made:
            base = made.put(noise(old))
            writer = made.sequential(base=base)
            assert not writer.dirty
            await writer.write(old, noise(new, 2))
            await writer.complete()
            assert made.content() == noise(old) + noise(new, 2)
            assert made.made == [writer.base] == [made.version()]
            seen = made.requests()
            assert ("copy_part" in seen) == (old >= 102_400)
            assert ("get_range_into" in seen) == (0 < old < 102_400)
            await closed(made, writer)

    run(main)


@pytest.mark.parametrize("old", [PART - 1, PART, PART + 1, 5 * PART])
@pytest.mark.parametrize("new", [1, PART - 1, PART, PART + 1, 3 * PART])
def test_appending_around_a_part_goes_on_from_a_copy(old: int, new: int) -> None:
    async def main() -> None:
        async with room() as made:
            writer = made.sequential(base=made.put(noise(old)))
            await writer.write(None, noise(new, 2))
            await writer.complete()
            assert made.content() == noise(old) + noise(new, 2)
            assert writer.base == made.version()
            assert "get_range_into" not in made.requests()
            await closed(made, writer)

    run(main)


def test_a_base_is_copied_in_even_pieces_none_under_the_minimum() -> None:
    async def main() -> None:
        old = 3 * 64 * KIB + 1
        async with room() as made:
            writer = made.sequential(base=made.put(noise(old)))
            await writer.write(None, b"more")
            await writer.complete()
            copies = [call for call in made.store.calls if call.op == "copy_part"]
            assert sorted((call.offset, call.size) for call in copies) == [
                (0, 49_153),
                (49_153, 49_152),
                (98_305, 49_152),
                (147_457, 49_152),
            ]
            assert made.content() == noise(old) + b"more"
            await closed(made, writer)

    run(main)


# -- flush, many times ----------------------------------------------------------------------------


def test_each_flush_of_a_small_file_puts_it_again_from_what_is_kept() -> None:
    async def main() -> None:
        async with room() as made:
            writer = made.sequential()
            await writer.write(None, b"a\n")
            await writer.complete()
            assert made.requests() == ["put"]
            await writer.write(None, b"b\n")
            await writer.complete()
            assert made.requests() == ["head", "put"]
            assert made.content() == b"a\nb\n"
            await closed(made, writer)

    run(main)


@pytest.mark.parametrize("size", [0, 10, 3 * PART])
def test_a_flush_sends_nothing_when_nothing_is_new(size: int) -> None:
    async def main() -> None:
        async with room() as made:
            writer = made.sequential()
            await writer.write(0, noise(size))
            await writer.complete()
            made.requests()
            for _ in range(1000):
                await writer.complete()
            await writer.write(size, b"")
            await writer.complete()
            assert not writer.dirty
            assert made.requests() == []
            assert len(made.made) == 1
            await closed(made, writer)

    run(main)


def test_a_large_file_is_flushed_often_and_goes_on_by_copies() -> None:
    async def main() -> None:
        data = noise(10 * PART)
        async with room() as made:
            writer = made.sequential()
            for at in range(0, len(data), 7001):
                await writer.write(None, data[at : at + 7001])
                await writer.complete()
                assert made.content() == data[: at + 7001]
            assert "get_range_into" not in made.requests()
            await closed(made, writer)

    run(main)


def test_a_small_file_that_is_not_kept_any_more_is_read_back() -> None:
    async def main() -> None:
        async with room() as made:
            writer = made.sequential()
            await writer.write(0, b"one")
            await writer.complete()
            assert writer.drop_kept() == SMALL
            assert made.memory.used == 0
            assert writer.drop_kept() == 0
            await writer.write(3, b"two")
            await writer.complete()
            assert made.requests() == ["put", "get_range_into", "head", "put"]
            assert made.content() == b"onetwo"
            await closed(made, writer)

    run(main)


def test_what_is_kept_is_not_dropped_by_the_write_that_needs_it() -> None:
    async def main() -> None:
        size = SMALL + MIB  # two blocks, both full
        large = Capabilities(minimum_part=2 * MIB)
        async with room(capabilities=large, part=4 * MIB, limit=17 * MIB) as made:
            writer = made.sequential()
            await writer.write(0, noise(size))
            await writer.complete()
            readers = 0
            while made.budget.try_take(SMALL):
                readers += SMALL
            async with trio.open_nursery() as nursery:
                nursery.start_soon(writer.write, size, b"more")
                await trio.testing.wait_all_tasks_blocked()
                made.budget.give(readers)
            await writer.complete()
            assert made.content() == noise(size) + b"more"
            await closed(made, writer)

    run(main)


# -- whose object it is ---------------------------------------------------------------------------


@pytest.mark.parametrize("old", [500, 2 * PART])
@pytest.mark.parametrize("new", [10, 2 * PART])
def test_a_base_replaced_elsewhere_is_not_overwritten(old: int, new: int) -> None:
    async def main() -> None:
        async with room() as made:
            writer = made.sequential(base=made.put(noise(old)))
            await writer.write(None, noise(new, 2))
            made.put(b"another client's")
            with pytest.raises(Changed):
                await writer.complete()
            assert made.content() == b"another client's"
            with pytest.raises(Changed):
                await writer.write(None, b"x")
            with pytest.raises(Changed):
                await writer.complete()
            with pytest.raises(Changed):
                await writer.read(0, 1)
            await closed(made, writer)

    run(main)


@pytest.mark.parametrize("size", [10, 2 * PART])
def test_a_base_removed_elsewhere_is_not_made_again(size: int) -> None:
    async def main() -> None:
        async with room() as made:
            writer = made.sequential()
            await writer.write(0, noise(size))
            await writer.complete()
            await writer.write(None, b"more")
            made.bucket.delete(KEY, deadline=0)
            with pytest.raises((Changed, NotFound)):
                await writer.complete()
            assert made.content() is None
            await closed(made, writer)

    run(main)


@pytest.mark.parametrize("size", [0, 10, 2 * PART])
def test_a_new_file_replaces_whatever_is_there(size: int) -> None:
    async def main() -> None:
        async with room() as made:
            for before in (made.put, made.append):
                made.bucket.delete(KEY, deadline=0)
                before(b"old")
                writer = made.sequential()
                await writer.write(0, noise(size))
                await writer.complete()
                assert made.content() == noise(size)
                await closed(made, writer)

    run(main)


@pytest.mark.parametrize("size", [0, 10, 2 * PART])
def test_of_two_exclusive_creations_one_gets_exists(size: int) -> None:
    async def main() -> None:
        async with room() as made:
            first = made.sequential(target=Target(KEY, exclusive=True, mark="A"))
            second = made.sequential(target=Target(KEY, exclusive=True, mark="B"))
            await first.write(0, noise(size))
            await second.write(0, noise(size))  # the very same bytes
            await first.complete()
            assert not first.target.exclusive
            with pytest.raises(Exists):
                await second.complete()
            assert made.content() == noise(size)
            await first.write(None, b"more")
            await first.complete()
            assert made.content() == noise(size) + b"more"
            await closed(made, first, second)

    run(main)


# -- limits ---------------------------------------------------------------------------------------


def test_only_the_end_can_be_written() -> None:
    async def main() -> None:
        async with room() as made:
            writer = made.sequential(base=made.put(b"0123"))
            for offset in (0, 3, 5):
                with raises_errno(errno.EINVAL):
                    await writer.write(offset, b"x")
            for size in (1, 5):
                with raises_errno(errno.EINVAL):
                    await writer.truncate(size)
            await writer.truncate(4)
            assert not writer.dirty
            await closed(made, writer)

    run(main)


def test_beyond_the_number_of_parts_is_efbig_and_what_was_taken_is_sound() -> None:
    async def main() -> None:
        limited = Capabilities(minimum_part=MINIMUM, maximum_parts=5)
        async with room(capabilities=limited) as made:
            writer = made.sequential()
            assert made.writing.largest == 5 * PART
            data = noise(5 * PART + 1)
            await writer.write(0, data[:-1])
            with raises_errno(errno.EFBIG):
                await writer.write(None, data[-1:])
            with raises_errno(errno.EFBIG):
                await writer.write(None, data[-1:])
            assert writer.size == 5 * PART
            await writer.complete()
            assert made.content() == data[:-1]
            await closed(made, writer)

    run(main)


def test_a_write_that_fits_in_part_tells_how_much_was_taken() -> None:
    async def main() -> None:
        limited = Capabilities(minimum_part=MINIMUM, maximum_parts=5)
        async with room(capabilities=limited) as made:
            writer = made.sequential()
            data = noise(5 * PART + 100)
            assert await writer.write(0, data) == 5 * PART
            with raises_errno(errno.EFBIG):  # and not EINVAL: the writer is where its caller is
                await writer.write(5 * PART, data[5 * PART :])
            await writer.complete()
            assert made.content() == data[: 5 * PART]
            await closed(made, writer)

    run(main)


def test_parts_double_in_size_so_that_their_number_reaches_further(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ossfs.writing.context.DOUBLING", 4)

    async def main() -> None:
        limited = Capabilities(minimum_part=MINIMUM, maximum_parts=10)
        async with room(capabilities=limited) as made:
            assert made.writing.largest == PART * (4 * 1 + 4 * 2 + 2 * 4)
            data = noise(made.writing.largest)
            writer = made.sequential()
            for at in range(0, len(data), 5000):
                await writer.write(at, data[at : at + 5000])
            with raises_errno(errno.EFBIG):
                await writer.write(None, b"x")
            await writer.complete()
            sizes = [call.size for call in made.store.calls if call.op == "upload_part"]
            assert sorted(sizes) == [PART] * 4 + [2 * PART] * 4 + [4 * PART] * 2
            assert made.content() == data
            await closed(made, writer)

    run(main)


def test_a_base_that_leaves_no_part_number_is_efbig_before_a_byte_is_taken() -> None:
    async def main() -> None:
        limited = Capabilities(minimum_part=MINIMUM, maximum_parts=3, maximum_copy_part=10_000)
        async with room(capabilities=limited) as made:
            writer = made.sequential(base=made.put(noise(20_001)))
            with raises_errno(errno.EFBIG):
                await writer.write(None, b"x")
            assert not writer.dirty
            writer.shed()
            await closed(made, writer)
            writer = made.sequential(base=made.put(noise(20_000)))
            await writer.write(None, b"x")
            await writer.complete()
            assert made.content() == noise(20_000) + b"x"
            await closed(made, writer)

    run(main)


# -- memory ---------------------------------------------------------------------------------------


def test_two_hundred_idle_writers_do_not_stop_a_large_one() -> None:
    async def main() -> None:
        data = noise(64 * MIB)
        async with room(
            capabilities=REAL, part=8 * MIB, quota=2 * MIB, limit=32 * MIB, most_waiting=4
        ) as made:
            idle = [made.sequential(b"%d" % number) for number in range(200)]
            for writer in idle:
                await writer.write(0, b"x")
            large = made.sequential()
            most = 0
            for at in range(0, len(data), MIB):
                await large.write(at, data[at : at + MIB])
                most = max(most, made.spill.used)
                assert made.memory.used <= made.memory.quota
            assert most > 0
            await large.complete()
            assert made.content() == data
            for writer in idle:
                await writer.write(None, b"y")
            async with trio.open_nursery() as nursery:
                for writer in idle:
                    nursery.start_soon(writer.complete)
            for writer in idle:
                assert made.content(writer.target.key) == b"xy"
            await closed(made, large, *idle)

    run(main)


def test_many_writers_on_a_store_that_stands_still_do_not_all_wait() -> None:
    async def main() -> None:
        gate = Gate("upload_part")
        most = 0
        async with room(
            gate=gate, quota=4 * MIB, part=MIB, capabilities=REAL, most_waiting=3, disk=64 * MIB
        ) as made:
            writers = [made.sequential(b"%d" % number) for number in range(12)]

            async def write(writer: SequentialWriter, seed: int) -> None:
                nonlocal most
                for at in range(0, 3 * MIB, 256 * KIB):
                    await writer.write(None, noise(3 * MIB, seed)[at : at + 256 * KIB])
                    most = max(most, made.memory.waiting)

            async with trio.open_nursery() as nursery:
                for seed, writer in enumerate(writers):
                    nursery.start_soon(write, writer, seed)
                await trio.testing.wait_all_tasks_blocked()
                assert made.memory.waiting <= 3
                gate.open()
            for seed, writer in enumerate(writers):
                await writer.complete()
                assert made.content(writer.target.key) == noise(3 * MIB, seed)
            assert most <= 3
            await closed(made, *writers)

    run(main)


def test_writers_with_many_parts_under_way_do_not_all_wait_for_room_either() -> None:
    async def main() -> None:
        gate = Gate("upload_part")
        async with room(gate=gate, most_waiting=3, concurrency=2) as made:
            writers = [made.sequential(b"%d" % number) for number in range(12)]
            async with trio.open_nursery() as nursery:
                for writer in writers:
                    nursery.start_soon(writer.write, 0, noise(8 * PART))
                await trio.testing.wait_all_tasks_blocked()
                assert 0 < made.memory.waiting <= 3
                gate.open()
            for writer in writers:
                await writer.complete()
                assert made.content(writer.target.key) == noise(8 * PART)
            await closed(made, *writers)

    run(main)


def test_who_waits_for_memory_gets_what_a_completion_leaves() -> None:
    async def main() -> None:
        gate = Gate("put")
        async with room(gate=gate, quota=2 * MIB, disk=0) as made:
            holders = [made.sequential(b"%d" % number) for number in range(16)]
            for writer in holders:
                await writer.write(0, b"x")
            assert made.memory.used == made.memory.quota
            late = made.sequential()
            async with trio.open_nursery() as nursery:
                for writer in holders:
                    nursery.start_soon(writer.complete)
                await trio.testing.wait_all_tasks_blocked()
                nursery.start_soon(late.write, 0, b"late")
                await trio.testing.wait_all_tasks_blocked()
                assert made.memory.waiting == 1
                gate.open()
                with trio.fail_after(60):
                    while made.memory.waiting:
                        await trio.sleep(1)
            await late.complete()
            assert made.content() == b"late"
            await closed(made, late, *holders)

    run(main)


def test_who_was_idle_longest_ships_what_it_holds_before_it_is_full() -> None:
    async def main() -> None:
        async with room(capabilities=REAL, part=8 * MIB, quota=2 * MIB, limit=32 * MIB) as made:
            idle, busy = made.sequential(b"idle"), made.sequential(b"busy")
            await idle.write(0, noise(300 * KIB))
            await trio.sleep(1)
            await busy.write(0, noise(MIB, 2))
            await trio.testing.wait_all_tasks_blocked()
            shipped = [call.key for call in made.store.calls if call.op == "upload_part"]
            assert shipped == [b"idle"]
            assert made.spill.used == 0
            await idle.write(None, b"more")
            await idle.complete()
            assert made.content(b"idle") == noise(300 * KIB) + b"more"
            await busy.complete()
            assert made.content(b"busy") == noise(MIB, 2)
            await closed(made, idle, busy)

    run(main)


def test_shed_again_a_writer_with_nothing_in_memory_does_nothing() -> None:
    async def main() -> None:
        async with room() as made:
            writer = made.sequential()
            await writer.write(0, noise(100))
            assert writer.shed() == SMALL
            assert made.spill.used == 100
            assert writer.shed() == 0
            await writer.write(None, noise(2000, 2))
            assert writer.shed() == SMALL
            assert writer.shed() == 0
            await trio.testing.wait_all_tasks_blocked()
            assert made.requests() == ["create_upload", "upload_part"]
            await writer.complete()
            assert made.content() == noise(100) + noise(2000, 2)
            await closed(made, writer)

    run(main)


def test_bytes_on_disk_are_not_kept_once_the_bucket_has_them() -> None:
    async def main() -> None:
        async with room() as made:
            writer = made.sequential()
            await writer.write(0, noise(100))
            writer.shed()
            await writer.complete()
            assert made.spill.used == 0
            await writer.write(None, b"more")
            await writer.complete()
            assert made.content() == noise(100) + b"more"
            await closed(made, writer)

    run(main)


def test_a_disk_that_fails_makes_writers_wait_instead(
    expect_log: ExpectLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    expect_log("cannot set bytes aside")

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("ossfs.writing.spill.os.pwritev", full)

    async def main() -> None:
        gate = Gate("upload_part")
        async with room(
            gate=gate, quota=2 * MIB, part=MIB, capabilities=REAL, most_waiting=0
        ) as made:
            writer = made.sequential()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(writer.write, 0, noise(4 * MIB))
                await trio.testing.wait_all_tasks_blocked()
                assert made.memory.waiting == 1
                gate.open()
            await writer.complete()
            assert made.content() == noise(4 * MIB)
            await closed(made, writer)

    run(main)


def test_a_base_that_is_read_back_takes_a_block_beyond_what_is_granted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        large = Capabilities(minimum_part=4 * MIB)
        async with room(capabilities=large, part=4 * MIB) as made:
            writer = made.sequential(base=made.put(noise(3 * MIB)))
            sizes: list[int] = []
            inner = made.client.get_range_into

            async def get(
                key: bytes, offset: int, buffers: list[memoryview], *, if_match: str | None
            ) -> None:
                sizes.append(sum(map(len, buffers)))
                await inner(key, offset, buffers, if_match=if_match)

            monkeypatch.setattr(made.client, "get_range_into", get)
            await writer.write(None, b"more")
            assert max(sizes) <= MIB
            await writer.complete()
            assert made.content() == noise(3 * MIB) + b"more"
            await closed(made, writer)

    run(main)


def test_who_waits_for_memory_that_nobody_will_give_back_is_refused_and_loses_nothing(
    expect_log: ExpectLog,
) -> None:
    expect_log("nothing was given back")

    async def main() -> None:
        async with room(quota=2 * MIB, part=MIB, capabilities=REAL, disk=0) as made:
            # Files without a name can neither be shipped nor, here, be set aside.
            nameless = [made.sequential(b"nameless") for _ in range(2 * MIB // SMALL)]
            for each in nameless:
                await each.discard()
                await each.write(0, noise(100))
            writer = made.sequential()
            with trio.fail_after(3_600), raises_errno(errno.ENOSPC):
                await writer.write(0, noise(100))
            await nameless.pop().close()
            await writer.write(0, noise(100))
            await writer.complete()
            assert made.content() == noise(100)
            await closed(made, writer, *nameless)

    run(main)


def test_a_base_for_which_there_is_no_room_is_not_put_again_in_part() -> None:
    async def main() -> None:
        large = Capabilities(minimum_part=4 * MIB)
        async with room(capabilities=large, quota=2 * MIB, disk=0) as made:
            writer = made.sequential(base=made.put(noise(3 * MIB)))
            with raises_errno(errno.ENOSPC):
                await writer.write(None, b"more")
            assert (writer.size, writer.dirty) == (3 * MIB, False)
            await writer.complete()
            assert made.content() == noise(3 * MIB)
            await closed(made, writer)

    run(main)


# -- reading one's own ----------------------------------------------------------------------------


def test_reads_find_own_bytes_in_buffers_in_base_and_across() -> None:
    async def main() -> None:
        data = noise(3000)
        async with room() as made:
            writer = made.sequential(base=made.put(data[:2000]))
            await writer.write(None, data[2000:])
            assert await writer.read(0, 2000) is None
            assert await writer.read(2000, 500) == data[2000:2500]
            assert await writer.read(1500, 1000) == data[1500:2500]
            assert await writer.read(2900, 500) == data[2900:]
            assert await writer.read(3000, 1) == b""
            assert made.requests() == ["get_range_into"]
            await closed(made, writer)

    run(main)


def test_a_read_of_a_part_already_shipped_completes_the_file_first() -> None:
    async def main() -> None:
        data = noise(2 * PART + 100)
        async with room() as made:
            writer = made.sequential()
            await writer.write(0, data)
            assert await writer.read(2 * PART, 50) == data[2 * PART : 2 * PART + 50]
            assert made.content() is None
            assert await writer.read(10, 50) is None
            assert made.content() == data
            await writer.write(None, b"more")
            assert await whole(writer, made) == data + b"more"
            await closed(made, writer)

    run(main)


def test_a_small_file_is_read_from_what_is_kept_of_it() -> None:
    async def main() -> None:
        async with room() as made:
            writer = made.sequential()
            await writer.write(0, b"0123456789")
            await writer.complete()
            made.requests()
            assert await writer.read(2, 5) == b"23456"
            assert made.requests() == []
            await closed(made, writer)

    run(main)


def test_a_read_across_the_base_fails_with_a_writer_that_failed_meanwhile() -> None:
    async def main() -> None:
        gate = Gate("get_range_into")
        async with room(gate=gate) as made, trio.open_nursery() as nursery:
            writer = made.sequential(base=made.put(noise(2000)))
            await writer.write(None, b"more")
            made.store.add(Rule("head", Raise(Changed("no"))))
            failed: list[Exception] = []

            async def read() -> None:
                try:
                    await writer.read(1900, 200)
                except Changed as error:
                    failed.append(error)

            nursery.start_soon(read)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(Changed):
                await writer.complete()
            gate.open()
            await trio.testing.wait_all_tasks_blocked()
            assert failed
            await closed(made, writer)

    run(main)


# -- ends -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [100, 3 * PART])
def test_truncated_to_nothing_a_file_begins_anew(size: int) -> None:
    async def main() -> None:
        async with room() as made:
            writer = made.sequential(base=made.put(noise(size)))
            await writer.write(None, noise(size, 2))
            await writer.truncate(0)
            assert (writer.size, writer.base, writer.dirty) == (0, None, True)
            assert await writer.read(0, 10) == b""
            assert made.content() == noise(size)
            await writer.write(0, b"new")
            await writer.complete()
            assert made.content() == b"new"
            await closed(made, writer)

    run(main)


def test_an_unlinked_file_aborts_its_upload_and_keeps_its_bytes() -> None:
    async def main() -> None:
        data = noise(2 * PART + 100)
        async with room() as made:
            writer = made.sequential()
            await writer.write(0, data)
            await trio.testing.wait_all_tasks_blocked()
            assert made.uploads == 1
            await writer.discard()
            await made.writing.idle.wait()
            assert made.uploads == 0
            made.requests()
            assert await writer.read(2 * PART, 999) == data[2 * PART :]
            with raises_errno(errno.ESTALE):
                await writer.read(0, 10)
            await writer.write(None, noise(3 * PART, 3))
            await writer.complete()
            assert writer.shed() > 0
            got = await writer.read(2 * PART, 9 * PART)
            assert got == data[2 * PART :] + noise(3 * PART, 3)
            assert made.requests() == []
            await closed(made, writer)
            assert made.content() is None

    run(main)


def test_an_unlinked_small_file_is_written_on_without_its_object() -> None:
    async def main() -> None:
        async with room() as made:
            writer = made.sequential(base=made.put(noise(100)))
            await writer.discard()
            made.bucket.delete(KEY, deadline=0)
            await writer.write(None, b"more")
            assert await writer.read(100, 10) == b"more"
            assert await writer.read(0, 10) is None
            await writer.complete()
            assert made.content() is None
            await closed(made, writer)

    run(main)


def test_a_rename_waits_until_all_is_there_and_goes_on_under_the_other_name() -> None:
    async def main() -> None:
        async with room() as made:
            for size in (10, 2 * PART):
                writer = made.sequential()
                await writer.write(0, noise(size))
                async with writer.still():
                    assert made.content() == noise(size)
                    made.bucket.copy(KEY, b"other", deadline=0)
                    made.bucket.delete(KEY, deadline=0)
                    writer.target.key = b"other"
                    writer.base = made.version(b"other")
                    kept = made.memory.used
                    assert writer.shed() == kept, "nobody waits for a rename's end to get memory"
                    assert made.memory.used == writer.drop_kept() == 0
                await writer.write(None, b"more")
                await writer.complete()
                assert made.content(b"other") == noise(size) + b"more"
                assert made.content() is None
                await closed(made, writer)

    run(main)


@pytest.mark.parametrize("op", ["put", "create_upload", "upload_part", "complete_upload"])
def test_cancelled_in_the_middle_a_writer_has_failed_and_memory_is_back(op: str) -> None:
    async def main() -> None:
        gate = Gate(op)
        async with room(gate=gate, concurrency=1) as made:
            writer = made.sequential()
            with trio.move_on_after(5) as scope:
                await writer.write(0, noise(100 if op == "put" else 2 * PART))
                await writer.complete()
            assert scope.cancelled_caught
            gate.open()
            for again in (writer.complete(), writer.write(None, b"x")):
                with raises_errno(errno.EIO):
                    await again
            await closed(made, writer)
            assert made.content() is None

    run(main)


def test_when_the_mount_ends_no_object_with_a_hole_is_made() -> None:
    async def main() -> None:
        gate = Gate("upload_part")
        async with trio.open_nursery() as outside:
            failed: list[Exception] = []

            async def complete(writer: SequentialWriter) -> None:
                try:
                    await writer.complete()
                except FileSystemError as error:
                    failed.append(error)

            async with room(gate=gate) as made:
                writer = made.sequential()
                await writer.write(0, noise(2 * PART))
                outside.start_soon(complete, writer)
                await trio.testing.wait_all_tasks_blocked()
        assert failed
        assert "complete_upload" not in made.requests()
        assert made.content() is None
        await writer.close()
        assert made.memory.used == 0

    run(main)


# -- a store that lies or breaks ------------------------------------------------------------------


@pytest.mark.parametrize("size", [100, 2 * PART])
@pytest.mark.parametrize("old", [None, 2000])
def test_an_object_that_is_wrong_for_ever_is_removed(
    old: int | None, size: int, expect_log: ExpectLog
) -> None:
    expect_log("(put|complete_upload) 'key' failed .*Corrupt")
    expect_log("removed b'key'")

    async def main() -> None:
        async with room() as made:
            writer = made.sequential(base=made.put(noise(old)) if old else None)
            await writer.write(None, noise(size, 2))
            made.store.add(
                *(Rule(op, CorruptCrc(), times=None) for op in ("put", "complete_upload", "head"))
            )
            with pytest.raises(Corrupt):
                await writer.complete()
            assert made.content() is None
            with pytest.raises(Corrupt):
                await writer.write(None, b"x")
            await closed(made, writer)

    run(main)


def test_cancelled_while_it_removes_a_wrong_object_a_writer_has_failed(
    expect_log: ExpectLog,
) -> None:
    expect_log("put 'key' failed .*Corrupt")

    async def main() -> None:
        gate = Gate("delete")
        async with room(gate=gate) as made:
            writer = made.sequential()
            await writer.write(0, b"x")
            made.store.add(*(Rule(op, CorruptCrc(), times=None) for op in ("put", "head")))
            with trio.move_on_after(1) as scope:
                await writer.complete()
            assert scope.cancelled_caught
            gate.open()
            made.store.heal()
            with pytest.raises(Corrupt):
                await writer.complete()
            await closed(made, writer)

    run(main)


def test_a_small_object_whose_bytes_do_not_have_its_crc_is_not_gone_on_from() -> None:
    async def main() -> None:
        async with room() as made:
            base = made.put(noise(100))
            writer = made.sequential(
                base=type(base)(base.etag, base.size, (base.crc64 or 0) ^ 1, base.type)
            )
            with pytest.raises(Corrupt):
                await writer.write(None, b"x")
            assert not writer.dirty
            await writer.complete()
            assert made.content() == noise(100)
            await closed(made, writer)

    run(main)


FAULTS: dict[str, Callable[[], Fault]] = {
    "error": lambda: Raise(Unavailable("down")),
    "lost reply": lambda: LoseReply(Unavailable("cut")),
    "hang": Hang,
    "wrong CRC": CorruptCrc,
    "expired token": ExpireToken,
    "throttled": lambda: Raise(Throttled("slow down")),
}


@pytest.mark.parametrize("times", [1, None])
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("size", [100, 2 * PART + 100])
@pytest.mark.parametrize("start", ["new", "over", "exclusive", "tiny", "small", "large"])
def test_whatever_fails_a_file_is_whole_or_its_writer_says_so(
    start: str, size: int, fault: str, times: int | None
) -> None:
    """Every call in turn; the object is then as of a completion, the old one, or none."""
    old = noise({"tiny": 50, "small": 2000, "large": 70 * KIB}.get(start, 30), 7)
    data = noise(size)
    goes_on = start in ("tiny", "small", "large")

    async def tried(nth: int) -> bool:
        async with room() as made:
            base = None if start in ("new", "exclusive") else made.put(old)
            exclusive = start == "exclusive"
            writer = made.sequential(
                base=base if goes_on else None,
                target=Target(KEY, exclusive=exclusive, mark="M" * exclusive),
            )
            rule = Rule(None, FAULTS[fault](), nth=nth, times=times)
            made.store.add(rule)
            before = old if goes_on else b""
            sound = [old] if base is not None else [None]
            done = False
            try:
                for half in (data[: size // 2], data[size // 2 :]):
                    await writer.write(None, half)
                    before += half
                    sound.append(before)  # it may be whole though nobody was told
                    await writer.complete()
                    assert made.content() == before
                    sound = [before]
                done = True
            except Corrupt:
                sound.append(None)
            except StoreError:
                assert writer.failure is not None or not writer.dirty
            fired = bool(made.store.fired(rule))
            made.store.heal()
            await writer.close()
            await trio.testing.wait_all_tasks_blocked()
            # Of an upload whose beginning got no answer nobody knows; `ossfs cleanup` finds it.
            for upload in made.bucket.list_uploads(b"", deadline=0) if fired else ():
                made.bucket.abort_upload(upload.key, upload.upload_id, deadline=0)
            await closed(made)
            there = made.content()
            assert there in sound
            assert not done or there == before
            return fired

    async def main() -> None:
        nth = 1
        with overheard():
            while await tried(nth):
                nth += 1
        assert nth > 2

    run(main)


# -- all of it at random --------------------------------------------------------------------------

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(0, 3 * PART)),
        st.tuples(st.just("write"), st.integers(0, 300)),
        st.tuples(st.just("read"), st.integers(0, 4 * PART)),
        st.tuples(st.just("complete"), st.just(0)),
        st.tuples(st.just("truncate"), st.just(0)),
        st.tuples(st.just("shed"), st.just(0)),
        st.tuples(st.just("drop"), st.just(0)),
        st.tuples(st.just("rest"), st.just(0)),
    ),
    max_size=25,
)


@settings(max_examples=200)
@given(start=st.sampled_from([None, 0, 100, 2000, 70 * KIB]), steps=STEPS)
def test_random_steps_leave_what_a_plain_buffer_would_hold(
    start: int | None, steps: list[tuple[str, int]]
) -> None:
    many = Capabilities(
        minimum_part=MINIMUM, maximum_parts=200, maximum_put=MIB, maximum_copy_part=64 * KIB
    )

    async def main() -> None:
        async with room(capabilities=many, quota=2 * MIB, most_waiting=2) as made:
            model = bytearray(noise(start or 0, 5))
            writer = made.sequential(base=None if start is None else made.put(bytes(model)))
            for number, (step, size) in enumerate(steps):
                if step == "write":
                    data = noise(size, number)
                    await writer.write(len(model), data)
                    model += data
                elif step == "read":
                    offset = size * len(model) // (4 * PART + 1)
                    got = await part_of(writer, made, offset, PART)
                    assert got == model[offset : offset + PART]
                elif step == "complete":
                    await writer.complete()
                    assert not writer.dirty
                    assert writer.base is not None
                    assert (writer.base.etag, writer.base.crc64) == (
                        made.version().etag,
                        made.version().crc64,
                    )
                    assert made.content() == model
                elif step == "truncate":
                    await writer.truncate(0)
                    model.clear()
                elif step == "shed":
                    writer.shed()
                elif step == "drop":
                    writer.drop_kept()
                else:
                    await trio.testing.wait_all_tasks_blocked()
                assert writer.size == len(model)
            await writer.complete()
            assert made.content() == model
            await closed(made, writer)

    run(main)


@pytest.mark.parametrize("seed", range(5))
def test_many_writers_at_once_under_pressure_leave_what_they_wrote(seed: int) -> None:
    """Tasks in any order (trio's own), memory for a few of them, a slow store."""

    async def gate(_op: str, _key: bytes) -> None:
        await trio.sleep(0.01)

    async def main() -> None:
        small = Capabilities(minimum_part=64 * KIB)
        async with room(
            capabilities=small,
            part=256 * KIB,
            quota=2 * MIB,
            limit=18 * MIB,
            most_waiting=4,
            gate=gate,
        ) as made:
            models = {b"%d" % number: noise(number * 20_011, number + seed) for number in range(40)}
            writers = {key: made.sequential(key) for key in models}

            async def write(key: bytes) -> None:
                writer, data = writers[key], models[key]
                for at in range(0, len(data), 50_000):
                    await writer.write(at, data[at : at + 50_000])
                    if at % 150_000 == 0:
                        await writer.complete()
                    if at % 250_000 == 0:
                        assert await part_of(writer, made, 0, at + 1) == data[: at + 1]
                await writer.complete()

            with trio.fail_after(600):
                async with trio.open_nursery() as nursery:
                    for key in models:
                        nursery.start_soon(write, key)
            for key, data in models.items():
                assert made.content(key) == data
            await closed(made, *writers.values())

    run(main)
