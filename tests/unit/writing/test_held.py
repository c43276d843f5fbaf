"""Bytes a writer holds, in blocks and on disk: what comes out is what went in."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossfs.runtime.blocks import BLOCK, SMALL
from ossfs.store.crc import crc64
from ossfs.writing.held import Held
from ossfs.writing.spill import REST, Spill
from tests.unit.writing.support import KIB, MIB, Room, noise, raises_errno, room, run

ExpectLog = Callable[[str], None]


def put(made: Room, held: Held, data: bytes) -> None:
    """Add to the bytes as a writer does that need not wait."""
    rest = memoryview(data)
    while rest:
        taken = held.fill(rest)
        if not taken:
            block = made.memory.try_take(held.wanted)
            assert block is not None
            held.add(block)
        rest = rest[taken:]


def check(held: Held, data: bytes) -> None:
    assert (held.size, held.end) == (len(data), held.start + len(data))
    assert b"".join(held.views()) == data
    assert held.crc64 == crc64([data])
    for offset, size in ((0, len(data)), (len(data) // 3, 1000), (len(data) - 1, 10)):
        got = held.read(held.start + offset, size)
        assert got == data[offset : offset + size]


def test_one_byte_holds_one_small_block_and_many_hold_large_ones() -> None:
    async def main() -> None:
        async with room() as made:
            held = Held(made.memory, 7)
            assert (held.wanted, held.in_memory, held.read(7, 9)) == (SMALL, 0, b"")
            put(made, held, b"x")
            assert (held.wanted, held.in_memory) == (0, SMALL)
            data = noise(SMALL - 1)
            put(made, held, data)
            assert (held.wanted, held.in_memory) == (BLOCK, SMALL)
            put(made, held, b"y")
            assert held.in_memory == SMALL + BLOCK == made.memory.used
            check(held, b"x" + data + b"y")
            held.release()
            assert held.in_memory == made.memory.used == made.budget.used == 0

    run(main)


def test_bytes_moved_to_the_disk_are_the_same_and_can_be_added_to() -> None:
    async def main() -> None:
        async with room() as made:
            held = Held(made.memory, 100)
            data = noise(3 * MIB)
            put(made, held, data)
            assert not held.spilled
            assert held.spill() == SMALL + 3 * MIB
            assert held.spilled
            assert made.memory.used == 0
            assert made.spill.used == len(data)
            check(held, data)
            put(made, held, b"more")
            assert held.add_spilled(memoryview(b" on disk"))
            put(made, held, b" and not")
            check(held, data + b"more on disk and not")
            held.release()
            assert made.memory.used == made.spill.used == made.budget.used == 0

    run(main)


def test_after_few_bytes_went_to_the_disk_the_next_take_a_small_block_again() -> None:
    async def main() -> None:
        async with room() as made:
            held = Held(made.memory, 0)
            put(made, held, b"x")
            held.spill()
            assert held.wanted == SMALL
            held.release()

    run(main)


def test_what_the_disk_has_no_room_for_stays_in_memory() -> None:
    async def main() -> None:
        async with room(disk=2 * MIB) as made:
            held = Held(made.memory, 0)
            data = noise(3 * MIB)
            put(made, held, data)
            assert held.spill() == SMALL + MIB
            assert held.spill() == 0
            assert not held.add_spilled(memoryview(b"x"))
            check(held, data)
            held.release()
            assert made.memory.used == made.spill.used == 0

    run(main)


def test_gathered_bytes_go_to_the_disk_when_memory_is_short_and_are_refused_without_both() -> None:
    async def main() -> None:
        async with room(quota=2 * MIB, disk=3 * MIB) as made:
            held = Held(made.memory, 0)
            data = noise(4 * MIB)
            await held.gather(memoryview(data))
            check(held, data)
            assert made.memory.used <= made.memory.quota
            with raises_errno(errno.ENOSPC):
                await held.gather(memoryview(data))
            held.release()
            assert made.memory.used == made.spill.used == 0

    run(main)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("fill"), st.integers(1, 2 * MIB)),
            st.tuples(st.just("fill"), st.integers(1, 5000)),
            st.tuples(st.just("disk"), st.integers(1, BLOCK)),
            st.tuples(st.just("spill"), st.just(0)),
        ),
        max_size=8,
    ),
    st.integers(0, 1 << 40),
)
def test_any_order_of_blocks_and_disk_gives_the_bytes_back(
    steps: list[tuple[str, int]], start: int
) -> None:
    async def main() -> None:
        async with room(quota=32 * MIB) as made:
            held, data = Held(made.memory, start), b""
            for number, (step, size) in enumerate(steps):
                more = noise(size, number)
                if step == "fill":
                    put(made, held, more)
                elif step == "disk":
                    assert held.add_spilled(memoryview(more))
                else:
                    held.spill()
                data += more
            check(held, data)
            held.release()
            assert made.memory.used == made.spill.used == 0

    run(main)


# -- the file itself ------------------------------------------------------------------------------


def test_a_spill_file_leaves_nothing_in_its_directory(tmp_path: os.PathLike[str]) -> None:
    spill = Spill(os.fspath(tmp_path), 4 * MIB)
    assert spill.has_room
    kept = spill.put([b"some", b"thing"])
    assert kept is not None
    assert kept.read() == b"something"
    assert os.listdir(tmp_path) == []
    spill.close()


def test_slots_are_used_again_and_the_disk_gets_its_space_back(
    tmp_path: os.PathLike[str],
) -> None:
    spill = Spill(os.fspath(tmp_path), 64 * MIB)
    first, second = spill.put([b"first"]), spill.put([noise(BLOCK)])
    assert first is not None
    assert second is not None
    first.free()
    third = spill.put([b"third"])
    assert third is not None
    assert third.slot == first.slot
    assert (third.read(), second.read()) == (b"third", noise(BLOCK))
    third.free()
    second.free()
    assert spill.used == 0
    assert os.fstat(spill.descriptor).st_size == 0
    spill.close()


def test_a_disk_that_is_full_is_left_alone_until_all_of_it_is_back(
    tmp_path: os.PathLike[str], expect_log: ExpectLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    expect_log("cannot set bytes aside in .*: writers wait for memory instead")
    spill = Spill(os.fspath(tmp_path), 64 * MIB)
    kept = [spill.put([b"%d" % number]) for number in range(2)]
    assert kept[0] is not None
    assert kept[1] is not None
    kept[0].free()

    def short(*_: object) -> int:
        return 1

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwritev", short)
        assert spill.put([noise(10 * KIB)]) is None
    assert not spill.has_room
    assert spill.put([b"x"]) is None
    assert kept[1].read() == b"1"
    kept[1].free()
    assert spill.has_room
    again = spill.put([b"again"])
    assert again is not None
    assert again.slot == 0
    spill.close()


def test_a_spill_file_that_lost_bytes_says_so(tmp_path: os.PathLike[str]) -> None:
    spill = Spill(os.fspath(tmp_path), 4 * MIB)
    kept = spill.put([b"something"])
    assert kept is not None
    os.truncate(spill.descriptor, 3)
    with pytest.raises(OSError) as caught:
        kept.read()
    assert caught.value.errno == errno.EIO
    spill.close()


def test_a_directory_that_is_not_there_is_no_room(expect_log: ExpectLog) -> None:
    expect_log("cannot set bytes aside in /nonexistent")
    spill = Spill("/nonexistent", 4 * MIB)
    assert spill.put([b"x"]) is None
    assert not spill.has_room
    spill.close()


def test_a_disk_that_refused_the_first_bytes_is_asked_again_after_a_while(
    tmp_path: os.PathLike[str], expect_log: ExpectLog
) -> None:
    expect_log("cannot set bytes aside in")
    now = 0.0
    directory = os.path.join(tmp_path, "later")
    spill = Spill(directory, 4 * MIB, lambda: now)
    assert spill.put([b"x"]) is None
    now = REST - 1
    assert not spill.has_room
    os.mkdir(directory)
    now = REST
    assert spill.has_room, "nothing of it is here, whose end could tell"
    kept = spill.put([b"x"])
    assert kept is not None
    assert kept.read() == b"x"
    spill.close()
