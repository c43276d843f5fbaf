"""Files written by appending: what the bucket holds after each step, and what is never lost."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from ossfs.store.api import MARK, Capabilities, ObjectType, PutOptions
from ossfs.store.errors import Changed, Corrupt, Exists, StoreError, Throttled, Unavailable
from ossfs.store.plan import CorruptCrc, ExpireToken, Fault, Hang, LoseReply, Raise, Rule
from ossfs.writing.api import Target, Version
from ossfs.writing.appending import AppendWriter, suits
from tests.unit.writing.support import (
    KEY,
    KIB,
    MIB,
    PART,
    Gate,
    Room,
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


# -- what an append leaves ------------------------------------------------------------------------


def test_a_new_file_is_one_append_at_its_beginning() -> None:
    async def main() -> None:
        async with room() as made:
            writer = made.appending(b"dir/page.html")
            assert await writer.write(0, b"hello") == 5
            assert made.requests() == []
            await writer.complete()
            assert made.requests() == ["append"]
            assert made.content(b"dir/page.html") == b"hello"
            assert made.type(b"dir/page.html") is ObjectType.APPENDABLE
            info = made.bucket.head(b"dir/page.html", full=True, deadline=0)
            assert info.content_type == "text/html"
            assert made.made == [writer.base] == [made.version(b"dir/page.html")]
            await closed(made, writer)

    run(main)


def test_a_new_file_of_no_bytes_is_an_empty_appendable_object() -> None:
    async def main() -> None:
        async with room() as made:
            writer = made.appending()
            assert writer.dirty
            await writer.complete()
            assert made.content() == b""
            assert made.type() is ObjectType.APPENDABLE
            assert not writer.dirty
            await writer.write(0, b"more")
            await writer.complete()
            assert made.content() == b"more"
            await closed(made, writer)

    run(main)


def test_a_file_that_is_never_completed_nor_full_never_appears() -> None:
    async def main() -> None:
        async with room() as made:
            writer = made.appending()
            await writer.write(0, b"hello")
            await closed(made, writer)
            assert made.content() is None
            assert made.requests() == []

    run(main)


def test_each_flush_appends_what_is_new_and_nothing_when_nothing_is() -> None:
    async def main() -> None:
        async with room() as made:
            writer = made.appending()
            for count, line in enumerate([b"a\n", b"b\n", b"c\n"], 1):
                await writer.write(None, line)
                await writer.complete()
                await writer.complete()
                assert made.requests() == ["append"]
                assert len(made.made) == count
            assert made.content() == b"a\nb\nc\n"
            await closed(made, writer)

    run(main)


@pytest.mark.parametrize("size", [PART - 1, PART, PART + 1, 3 * PART, 3 * PART + 1])
def test_full_buffers_are_appended_one_after_another(size: int) -> None:
    async def main() -> None:
        data = noise(size)
        async with room() as made:
            writer = made.appending()
            for at in range(0, size, 1000):
                await writer.write(at, data[at : at + 1000])
            await writer.complete()
            assert made.requests() == ["append"] * -(-size // PART)
            assert made.content() == data
            assert [version.size for version in made.made] == [
                min(end, size) for end in range(PART, size + PART, PART)
            ]
            await closed(made, writer)

    run(main)


def test_others_see_whole_prefixes_while_it_is_written() -> None:
    async def main() -> None:
        data = noise(4 * PART)
        async with room() as made:
            writer = made.appending()
            seen = set()
            for at in range(0, len(data), 1024):
                await writer.write(at, data[at : at + 1024])
                await trio.testing.wait_all_tasks_blocked()
                there = made.content()
                seen.add(len(there or b""))
                assert there is None or data.startswith(there)
            assert seen == {0, PART, 2 * PART, 3 * PART}
            await closed(made, writer)

    run(main)


def test_an_appendable_object_is_gone_on_from_without_reading_it() -> None:
    async def main() -> None:
        async with room() as made:
            base = made.append(b"one\n")
            writer = made.appending(base=base)
            assert not writer.dirty
            await writer.complete()
            assert made.requests() == []
            await writer.write(None, b"two\n")
            await writer.complete()
            assert made.requests() == ["append"]
            assert made.content() == b"one\ntwo\n"
            assert made.made == [made.version()]
            await closed(made, writer)

    run(main)


def test_an_empty_appendable_object_is_gone_on_from() -> None:
    async def main() -> None:
        async with room() as made:
            writer = made.appending(base=made.append(b""))
            await writer.complete()
            assert made.requests() == []
            await writer.write(0, b"x")
            await writer.complete()
            assert made.requests() == ["append"]
            assert made.content() == b"x"
            await closed(made, writer)

    run(main)


def test_where_the_store_tells_no_crc_the_file_is_written_all_the_same() -> None:
    async def main() -> None:
        blind = Capabilities(crc64=False, maximum_put=MIB)
        async with room(capabilities=blind) as made:
            made.bucket.append(KEY, 0, [b"one"], deadline=0)
            base = Version.of(made.bucket.head(KEY, full=True, deadline=0))
            assert base.crc64 is None
            writer = made.appending(base=base)
            await writer.write(3, b"two")
            await writer.complete()
            await writer.write(6, b"three")
            await writer.complete()
            assert writer.base is not None
            assert writer.base.size == 11
            await closed(made, writer)

    run(main)


# -- what is refused ------------------------------------------------------------------------------


def test_only_the_end_can_be_written() -> None:
    async def main() -> None:
        async with room() as made:
            writer = made.appending(base=made.append(b"0123"))
            for offset in (0, 3, 5):
                with raises_errno(errno.EINVAL):
                    await writer.write(offset, b"x")
            with raises_errno(errno.EINVAL):
                await writer.truncate(2)
            with raises_errno(errno.EINVAL):
                await writer.truncate(9)
            await writer.truncate(4)
            assert not writer.dirty
            await closed(made, writer)

    run(main)


def test_beyond_the_stores_limit_no_byte_is_taken() -> None:
    async def main() -> None:
        limit = 3 * PART
        async with room(capabilities=Capabilities(maximum_put=limit)) as made:
            writer = made.appending()
            data = noise(limit)
            await writer.write(0, data[:-10])
            with raises_errno(errno.EFBIG):
                await writer.write(limit - 10, b"x" * 11)
            assert writer.size == limit - 10
            await writer.write(limit - 10, data[-10:])
            with raises_errno(errno.EFBIG):
                await writer.write(None, b"x")
            await writer.complete()
            assert made.content() == data
            await closed(made, writer)

    run(main)


def test_when_somebody_else_appended_nothing_is_written_over() -> None:
    async def main() -> None:
        async with room() as made:
            writer = made.appending(base=made.append(b"one"))
            made.append(b"other", position=3)
            await writer.write(3, b"mine")
            with pytest.raises(Changed):
                await writer.complete()
            assert made.content() == b"oneother"
            with pytest.raises(Changed):
                await writer.write(None, b"more")
            await closed(made, writer)

    run(main)


def test_when_the_object_was_replaced_by_another_kind_it_stays() -> None:
    async def main() -> None:
        async with room() as made:
            writer = made.appending(base=made.append(b"one"))
            made.put(b"new")
            await writer.write(3, b"mine")
            with pytest.raises(Changed):
                await writer.complete()
            assert made.content() == b"new"
            await closed(made, writer)

    run(main)


def test_when_the_object_was_removed_no_other_is_begun() -> None:
    async def main() -> None:
        async with room() as made:
            writer = made.appending(base=made.append(b"one"))
            made.bucket.delete(KEY, deadline=0)
            await writer.write(3, b"mine")
            with pytest.raises(Changed):
                await writer.complete()
            assert made.content() is None
            await closed(made, writer)

    run(main)


# -- replacing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["normal", "appendable", "symlink", "none"])
def test_a_new_file_replaces_whatever_is_there_at_its_first_append(kind: str) -> None:
    async def main() -> None:
        async with room() as made:
            if kind == "normal":
                made.put(b"old bytes")
            elif kind == "appendable":
                made.append(b"old bytes")
            elif kind == "symlink":
                made.bucket.put_symlink(KEY, b"elsewhere", deadline=0)
            writer = made.appending()
            await writer.write(0, b"new")
            assert made.requests() == []
            await writer.complete()
            assert made.content() == b"new"
            assert made.type() is ObjectType.APPENDABLE
            changes = [op for op in made.requests() if op != "head"]
            assert changes == (["append"] if kind == "none" else ["append", "delete", "append"])
            await closed(made, writer)

    run(main)


def test_truncation_to_nothing_deletes_at_the_next_append_and_not_before() -> None:
    async def main() -> None:
        async with room() as made:
            writer = made.appending(base=made.append(b"old bytes"))
            await writer.truncate(0)
            assert (writer.size, writer.base, writer.dirty) == (0, None, True)
            assert await writer.read(0, 9) == b""
            assert made.content() == b"old bytes"
            assert made.requests() == []
            await writer.write(0, b"new")
            await writer.complete()
            assert made.requests() == ["delete", "append"]
            assert made.content() == b"new"
            await closed(made, writer)

    run(main)


def test_a_file_truncated_while_it_is_appended_begins_anew() -> None:
    async def main() -> None:
        data = noise(2 * PART + 100)
        async with room() as made:
            writer = made.appending()
            await writer.write(0, data)
            await writer.truncate(0)
            await writer.complete()
            assert made.content() == b""
            await writer.write(0, b"after")
            await writer.complete()
            assert made.content() == b"after"
            await closed(made, writer)

    run(main)


def test_of_two_exclusive_creations_one_gets_exists() -> None:
    async def main() -> None:
        async with room() as made:
            first = made.appending(target=Target(KEY, exclusive=True, mark="A"))
            second = made.appending(target=Target(KEY, exclusive=True, mark="B"))
            await first.write(0, b"first")
            await second.write(0, b"second")
            await first.complete()
            assert not first.target.exclusive
            with pytest.raises(Exists):
                await second.complete()
            assert made.content() == b"first"
            await first.write(None, b" goes on")
            await first.complete()
            assert made.content() == b"first goes on"
            await closed(made, first, second)

    run(main)


@pytest.mark.parametrize("size", [0, 5])
def test_an_exclusive_creation_does_not_take_an_empty_object_for_its_own(size: int) -> None:
    async def main() -> None:
        async with room() as made:
            made.append(b"")
            writer = made.appending(target=Target(KEY, exclusive=True, mark="A"))
            await writer.write(0, b"x" * size)
            with pytest.raises(Exists):
                await writer.complete()
            assert made.content() == b""
            await closed(made, writer)

    run(main)


@pytest.mark.parametrize("size", [0, 5])
def test_an_exclusive_creation_whose_reply_was_lost_is_known_again(size: int) -> None:
    async def main() -> None:
        async with room() as made:
            made.store.add(Rule("append", LoseReply(Unavailable("cut"))))
            writer = made.appending(target=Target(KEY, exclusive=True, mark="A"))
            await writer.write(0, b"x" * size)
            await writer.complete()
            assert made.content() == b"x" * size
            info = made.bucket.head(KEY, full=True, deadline=0)
            assert info.metadata == {MARK: "A"}
            await closed(made, writer)

    run(main)


# -- objects of another kind ----------------------------------------------------------------------


def test_what_suits_is_appendable_or_small_enough() -> None:
    def of(kind: ObjectType, size: int) -> Version:
        return Version("etag", size, 0, kind)

    assert suits(of(ObjectType.APPENDABLE, 1 << 30), 0)
    assert suits(of(ObjectType.NORMAL, 100), 100)
    assert suits(of(ObjectType.MULTIPART, 100), 100)
    assert not suits(of(ObjectType.NORMAL, 101), 100)
    assert not suits(of(ObjectType.SYMLINK, 1), 100)


@pytest.mark.parametrize("old", [0, 1, PART - 1, PART, PART + 1, 3 * PART])
@pytest.mark.parametrize("new", [1, PART, 2 * PART + 1])
def test_a_normal_object_is_rewritten_with_all_its_bytes_in_the_first_append(
    old: int, new: int
) -> None:
    async def main() -> None:
        before, more = noise(old), noise(new, 2)
        async with room() as made:
            made.put(before, options=PutOptions("text/x-log", {"owner": "me"}))
            base = made.version()
            target = Target(KEY, content_type="text/x-log", metadata={"owner": "me"})
            writer = made.appending(base=base, target=target)
            await writer.write(old, more)
            await writer.complete()
            assert made.content() == before + more
            assert made.type() is ObjectType.APPENDABLE
            assert made.made[0].size >= old
            info = made.bucket.head(KEY, full=True, deadline=0)
            assert (info.content_type, info.metadata) == ("text/x-log", {"owner": "me"})
            sent = [op for op in made.requests() if op != "get_range_into"]
            assert sent[:3] == ["head", "delete", "append"]
            assert set(sent[3:]) <= {"append"}
            await closed(made, writer)

    run(main)


def test_a_normal_object_is_left_alone_until_something_is_appended() -> None:
    async def main() -> None:
        async with room() as made:
            base = made.put(b"old")
            writer = made.appending(base=base)
            await writer.complete()
            await writer.write(3, b"")
            await writer.complete()
            assert made.requests() == []
            await closed(made, writer)
            assert made.version() == base

    run(main)


def test_a_normal_object_replaced_meanwhile_is_not_rewritten() -> None:
    async def main() -> None:
        async with room() as made:
            writer = made.appending(base=made.put(b"old"))
            await writer.write(3, b"mine")
            made.put(b"other")
            with pytest.raises(Changed):
                await writer.complete()
            assert made.content() == b"other"
            await closed(made, writer)

            writer = made.appending(base=made.put(b"old"))
            made.put(b"another")
            with pytest.raises(Changed):
                await writer.write(3, b"mine")
            assert made.content() == b"another"
            await closed(made, writer)

    run(main)


def test_an_object_that_cannot_be_rewritten_is_put_back(expect_log: ExpectLog) -> None:
    expect_log("append 'key' failed")

    async def main() -> None:
        async with room() as made:
            writer = made.appending(base=made.put(noise(5000)))
            await writer.write(5000, b"mine")
            made.store.add(Rule("append", Raise(Unavailable("down")), times=None))
            with pytest.raises(Unavailable):
                await writer.complete()
            assert made.content() == noise(5000)
            assert made.type() is ObjectType.NORMAL
            await closed(made, writer)

    run(main)


def test_an_object_rewritten_wrong_is_put_back(expect_log: ExpectLog) -> None:
    expect_log("append 'key' failed .*Corrupt")
    expect_log("removed b'key'")

    async def main() -> None:
        async with room() as made:
            writer = made.appending(base=made.put(noise(5000)))
            await writer.write(5000, b"mine")
            made.store.add(
                Rule("append", CorruptCrc(), times=None), Rule("head", CorruptCrc(), times=None)
            )
            with pytest.raises(Corrupt):
                await writer.complete()
            assert made.content() == noise(5000)
            await closed(made, writer)

    run(main)


def test_an_object_that_cannot_be_put_back_is_named(expect_log: ExpectLog) -> None:
    expect_log(r"b'key' \(3 bytes\) is lost")
    expect_log("append 'key' failed")
    expect_log("put 'key' failed")

    async def main() -> None:
        async with room() as made:
            writer = made.appending(base=made.put(b"old"))
            await writer.write(3, b"mine")
            made.store.add(
                Rule("append", Raise(Unavailable("down")), times=None),
                Rule("put", Raise(Unavailable("down")), times=None),
            )
            with pytest.raises(Unavailable):
                await writer.complete()
            await closed(made, writer)

    run(main)


def test_a_normal_object_larger_than_memory_is_held_on_disk() -> None:
    async def main() -> None:
        old = noise(6 * MIB)
        large = Capabilities(maximum_put=64 * MIB)
        async with room(capabilities=large, quota=2 * MIB, part=MIB) as made:
            writer = made.appending(base=made.put(old))
            await writer.write(None, b"more")
            assert made.spill.used > 0
            assert made.memory.used <= made.memory.quota
            await writer.complete()
            assert made.content() == old + b"more"
            await closed(made, writer)

    run(main)


def test_a_normal_object_for_which_there_is_no_room_is_refused_and_stays() -> None:
    async def main() -> None:
        old = noise(6 * MIB)
        large = Capabilities(maximum_put=64 * MIB)
        async with room(capabilities=large, quota=2 * MIB, part=MIB, disk=MIB) as made:
            writer = made.appending(base=made.put(old))
            with raises_errno(errno.ENOSPC):
                await writer.write(None, b"more")
            assert not writer.dirty
            await closed(made, writer)
            assert made.content() == old

    run(main)


# -- reading one's own ----------------------------------------------------------------------------


def test_reads_find_own_bytes_wherever_they_are() -> None:
    async def main() -> None:
        data = noise(3 * PART + 500)
        async with room() as made:
            base = made.append(data[:1000])
            writer = made.appending(base=base)
            await writer.write(None, data[1000:1500])
            assert await writer.read(0, 1000) is None
            assert await writer.read(1000, 500) == data[1000:1500]
            assert await writer.read(900, 200) == data[900:1100]
            assert await writer.read(1400, 9999) == data[1400:1500]
            assert await writer.read(1500, 1) == b""
            await writer.write(None, data[1500:])
            assert await whole(writer, made) == data
            await writer.complete()
            assert await writer.read(0, 10) is None
            assert await whole(writer, made) == data
            await closed(made, writer)

    run(main)


def test_reads_are_right_while_an_append_is_on_its_way() -> None:
    async def main() -> None:
        data = noise(2 * PART)
        gate = Gate("append")
        async with room(gate=gate) as made, trio.open_nursery() as nursery:
            writer = made.appending(base=made.append(data[:2000]))
            await writer.write(None, data[2000:])
            nursery.start_soon(writer.complete)
            await trio.testing.wait_all_tasks_blocked()
            for offset, size in ((0, 100), (1500, 1000), (2000, 50), (PART, PART), (0, 2 * PART)):
                assert await writer.read(offset, size) == data[offset : offset + size]
            gate.open()
            await writer.complete()
            assert made.content() == data
            await closed(made, writer)

    run(main)


def test_a_read_of_the_object_waits_for_the_append_that_changed_its_etag() -> None:
    async def main() -> None:
        gate = Gate("head")
        async with room(gate=gate) as made, trio.open_nursery() as nursery:
            writer = made.appending(base=made.append(b"0123456789"))
            await writer.write(None, b"more")
            made.store.add(Rule("append", LoseReply(Unavailable("cut"))))
            nursery.start_soon(writer.complete)
            await trio.testing.wait_all_tasks_blocked()
            assert made.content() == b"0123456789more"  # done, and the writer cannot know
            got: list[bytes | None] = []

            async def read() -> None:
                got.append(await part_of(writer, made, 2, 10))

            nursery.start_soon(read)
            await trio.testing.wait_all_tasks_blocked()
            assert got == []
            gate.open()
            await writer.complete()
            await trio.testing.wait_all_tasks_blocked()
            assert got == [b"23456789mo"]
            await closed(made, writer)

    run(main)


def test_a_read_of_an_object_replaced_by_another_client_fails() -> None:
    async def main() -> None:
        async with room() as made:
            writer = made.appending(base=made.append(b"0123456789"))
            await writer.write(None, b"more")
            made.put(b"another thing")
            with pytest.raises(Changed):
                await writer.read(2, 10)
            await closed(made, writer)

    run(main)


# -- memory ---------------------------------------------------------------------------------------


def test_at_most_one_buffer_is_on_its_way_while_the_next_fills() -> None:
    async def main() -> None:
        data = noise(4 * MIB)
        gate = Gate("append")
        large = Capabilities(maximum_put=64 * MIB)
        async with room(gate=gate, part=MIB, capabilities=large) as made:
            async with trio.open_nursery() as nursery:
                writer = made.appending()
                nursery.start_soon(writer.write, 0, data)
                await trio.testing.wait_all_tasks_blocked()
                assert writer.size == 2 * MIB
                assert made.memory.used <= 2 * MIB + 256 * KIB
                assert made.memory.waiting == 1
                gate.open()
            await writer.complete()
            assert made.content() == data
            await closed(made, writer)

    run(main)


def test_where_too_many_wait_full_buffers_are_queued_on_disk() -> None:
    async def main() -> None:
        data = noise(4 * MIB)
        gate = Gate("append")
        large = Capabilities(maximum_put=64 * MIB)
        async with room(gate=gate, part=MIB, capabilities=large, most_waiting=0) as made:
            writer = made.appending()
            await writer.write(0, data)
            assert made.memory.waiting == 0
            assert made.spill.used > MIB
            assert made.memory.used <= 2 * MIB + 256 * KIB
            assert await whole(writer, made) == data
            gate.open()
            await writer.complete()
            assert made.content() == data
            assert made.spill.used == 0
            await closed(made, writer)

    run(main)


def test_one_who_is_idle_appends_what_it_holds_when_memory_is_short() -> None:
    async def main() -> None:
        async with room(quota=2 * MIB) as made:
            idle = [made.appending(b"%d" % number) for number in range(40)]
            for writer in idle:
                await writer.write(0, b"x")
                await trio.sleep(1)
            assert made.memory.used <= made.memory.quota
            assert made.content(b"0") == b"x"
            for writer in idle:
                await writer.write(None, b"y")
                await writer.complete()
                assert made.content(writer.target.key) == b"xy"
            await closed(made, *idle)

    run(main)


def test_what_is_shed_while_another_append_is_on_its_way_is_set_aside() -> None:
    async def main() -> None:
        gate = Gate("append")
        async with room(gate=gate) as made:
            writer = made.appending()
            await writer.write(0, b"one")
            assert writer.shed() == 128 * KIB
            await writer.write(None, b"two")
            assert writer.shed() == 128 * KIB
            assert made.spill.used == 3
            assert writer.shed() == 0
            assert await writer.read(0, 9) == b"onetwo"
            assert writer.drop_kept() == 0
            gate.open()
            await writer.complete()
            assert made.requests() == ["append", "append"]
            assert made.content() == b"onetwo"
            await closed(made, writer)

    run(main)


# -- ends -----------------------------------------------------------------------------------------


def test_an_unlinked_file_sends_nothing_and_keeps_its_bytes() -> None:
    async def main() -> None:
        data = noise(3 * PART)
        async with room() as made:
            writer = made.appending()
            await writer.write(0, data[:100])
            await writer.discard()
            await writer.write(None, data[100:])
            assert not writer.dirty
            await writer.complete()
            assert made.requests() == []
            assert await writer.read(0, len(data)) == data
            assert writer.shed() > 0
            assert await writer.read(0, len(data)) == data
            await writer.truncate(0)
            await writer.write(0, b"z")
            assert await writer.read(0, 9) == b"z"
            await closed(made, writer)
            assert made.content() is None

    run(main)


def test_an_unlink_waits_for_the_append_on_its_way_and_keeps_those_bytes_too() -> None:
    async def main() -> None:
        gate = Gate("append")
        async with room(gate=gate) as made, trio.open_nursery() as nursery:
            writer = made.appending()
            await writer.write(0, b"one")
            writer.shed()
            await trio.testing.wait_all_tasks_blocked()
            await writer.write(None, b"two")
            gone = trio.Event()

            async def unlink() -> None:
                await writer.discard()
                made.bucket.delete(KEY, deadline=0)
                gone.set()

            nursery.start_soon(unlink)
            await trio.testing.wait_all_tasks_blocked()
            assert not gone.is_set()
            gate.open()
            await gone.wait()
            await writer.write(None, b"three")
            await writer.complete()
            assert await writer.read(0, 99) == b"onetwothree"
            assert made.content() is None
            assert made.memory.shipping == 0
            assert writer.shed() == 2 * 128 * KIB
            assert await writer.read(0, 99) == b"onetwothree"
            await closed(made, writer)

    run(main)


def test_an_unlinked_file_with_much_on_its_way_is_truncated_and_all_comes_back() -> None:
    async def main() -> None:
        gate = Gate("append")
        async with room(gate=gate, most_waiting=0) as made, trio.open_nursery() as nursery:
            writer = made.appending()
            await writer.write(0, noise(4 * PART))
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(writer.discard)
            await trio.testing.wait_all_tasks_blocked()
            gate.open()
            await trio.testing.wait_all_tasks_blocked()
            assert made.content() == noise(4 * PART)[:PART]
            assert await writer.read(0, 9 * PART) == noise(4 * PART)
            await writer.truncate(0)
            assert made.memory.used == made.memory.shipping == made.spill.used == 0
            await writer.write(0, b"x")
            assert await writer.read(0, 9) == b"x"
            await closed(made, writer)

    run(main)


def test_after_close_nothing_is_on_its_way() -> None:
    async def main() -> None:
        gate = Gate("append")
        async with room(gate=gate) as made, trio.open_nursery() as nursery:
            writer = made.appending()
            await writer.write(0, noise(PART + 1))
            await trio.testing.wait_all_tasks_blocked()
            over = trio.Event()

            async def close() -> None:
                await writer.close()
                over.set()

            nursery.start_soon(close)
            await trio.testing.wait_all_tasks_blocked()
            assert not over.is_set()
            gate.open()
            await over.wait()
            assert made.content() == noise(PART + 1)[:PART]
            with raises_errno(errno.EBADF):
                await writer.write(None, b"x")
            await closed(made, writer)

    run(main)


def test_a_rename_waits_until_all_is_there_and_goes_on_under_the_other_name() -> None:
    async def main() -> None:
        async with room() as made:
            writer = made.appending()
            await writer.write(0, b"one")
            async with writer.still():
                assert made.content() == b"one"
                made.bucket.copy(KEY, b"other", deadline=0)
                made.bucket.delete(KEY, deadline=0)
                writer.target.key = b"other"
                writer.base = made.version(b"other")
                assert writer.base.type is ObjectType.NORMAL
                assert writer.shed() == 0
            await writer.write(None, b"two")
            await writer.complete()
            assert made.content(b"other") == b"onetwo"
            assert made.content() is None
            await closed(made, writer)

    run(main)


def test_cancelled_while_it_completes_a_writer_has_failed_and_memory_is_back() -> None:
    async def main() -> None:
        gate = Gate("append")
        async with room(gate=gate) as made:
            writer = made.appending()
            await writer.write(0, b"one")
            with trio.move_on_after(1) as scope:
                await writer.complete()
            assert scope.cancelled_caught
            with raises_errno(errno.EIO):
                await writer.write(None, b"two")
            with raises_errno(errno.EIO):
                await writer.complete()
            gate.open()
            await closed(made, writer)
            assert made.content() == b"one"

    run(main)


def test_cancelled_while_it_waits_in_line_a_writer_is_sound() -> None:
    async def main() -> None:
        gate = Gate("append")
        async with room(gate=gate) as made, trio.open_nursery() as nursery:
            writer = made.appending()
            await writer.write(0, b"one")
            nursery.start_soon(writer.complete)
            await trio.testing.wait_all_tasks_blocked()
            with trio.move_on_after(1) as scope:
                await writer.write(None, b"two")
            assert scope.cancelled_caught
            gate.open()
            await writer.write(None, b"two")
            await writer.complete()
            assert made.content() == b"onetwo"
            await closed(made, writer)

    run(main)


def test_when_the_mount_ends_its_writers_have_failed() -> None:
    async def main() -> None:
        gate = Gate("append")
        writer: AppendWriter | None = None
        async with room(gate=gate) as made:
            writer = made.appending()
            await writer.write(0, noise(PART + 1))
            await trio.testing.wait_all_tasks_blocked()
        assert writer is not None
        with raises_errno(errno.EIO):
            await writer.complete()
        await writer.close()
        assert made.memory.used == 0

    run(main)


# -- a store that lies or breaks ------------------------------------------------------------------


def test_a_new_object_that_is_wrong_for_ever_is_removed(expect_log: ExpectLog) -> None:
    expect_log("append 'key' failed .*Corrupt")
    expect_log("removed b'key'")

    async def main() -> None:
        async with room() as made:
            made.store.add(
                Rule("append", CorruptCrc(), nth=2, times=None),
                Rule("head", CorruptCrc(), times=None),
            )
            writer = made.appending()
            await writer.write(0, noise(2 * PART))
            with pytest.raises(Corrupt):
                await writer.complete()
            assert made.content() is None
            await closed(made, writer)

    run(main)


@pytest.mark.parametrize("own", [False, True])
def test_an_object_somebody_relies_on_stays_though_it_is_wrong(
    own: bool, expect_log: ExpectLog
) -> None:
    expect_log("append 'key' failed .*Corrupt")
    expect_log("b'key' does not hold what was written")

    async def main() -> None:
        async with room() as made:
            if own:
                writer = made.appending()
                await writer.write(0, b"one")
                await writer.complete()
            else:
                writer = made.appending(base=made.append(b"one"))
            made.store.add(
                Rule("append", CorruptCrc(), times=None), Rule("head", CorruptCrc(), times=None)
            )
            await writer.write(None, b"two")
            with pytest.raises(Corrupt):
                await writer.complete()
            assert made.content() == b"onetwo"
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
@pytest.mark.parametrize("start", ["new", "appendable", "normal", "replaced", "exclusive"])
def test_whatever_fails_a_file_is_whole_or_its_writer_says_so(
    start: str, fault: str, times: int | None
) -> None:
    """Every call in turn; the object is then a prefix of the file, the old one, or none."""
    old, data = noise(3000, 7), noise(2 * PART + 100)

    async def begin(made: Room) -> AppendWriter:
        if start == "appendable":
            return made.appending(base=made.append(old))
        if start == "normal":
            return made.appending(base=made.put(old))
        if start == "replaced":
            writer = made.appending(base=made.append(old))
            await writer.truncate(0)
            return writer
        exclusive = start == "exclusive"
        return made.appending(target=Target(KEY, exclusive=exclusive, mark="M" * exclusive))

    async def once(nth: int) -> bool:
        with overheard() as said:
            return await tried(nth, said)

    async def tried(nth: int, said: list[str]) -> bool:
        async with room() as made:
            writer = await begin(made)
            made.requests()
            rule = Rule(None, FAULTS[fault](), nth=nth, times=times)
            made.store.add(rule)
            expected = data if start in ("new", "replaced", "exclusive") else old + data
            durable = b""
            try:
                for at in range(0, len(data), 5000):
                    await writer.write(None, data[at : at + 5000])
                    if at == 10000:
                        await writer.complete()
                        durable = expected[: writer.size]
                await writer.complete()
                durable = expected
            except StoreError:
                assert writer.failure is not None or not writer.dirty
            fired = bool(made.store.fired(rule))
            made.store.heal()
            await closed(made, writer)
            there = made.content()
            if there == old and start in ("appendable", "normal", "replaced"):
                assert not durable
            elif there is None:
                assert not durable
                assert start != "appendable"
                assert start != "normal" or any("is lost" in line for line in said)
            else:
                assert expected.startswith(there)
                assert len(there) >= len(durable)
                assert start != "normal" or len(there) >= len(old)
            return fired

    async def main() -> None:
        nth = 1
        while await once(nth):
            nth += 1
        assert nth > 3

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
        st.tuples(st.just("rest"), st.just(0)),
    ),
    max_size=25,
)


@settings(max_examples=150)
@given(start=st.sampled_from(["new", "appendable", "normal"]), steps=STEPS)
def test_random_steps_leave_what_a_plain_buffer_would_hold(
    start: str, steps: list[tuple[str, int]]
) -> None:
    async def main() -> None:
        async with room(quota=2 * MIB, most_waiting=2) as made:
            model = bytearray() if start == "new" else bytearray(noise(2000, 5))
            base = None
            if start != "new":
                base = made.append(model) if start == "appendable" else made.put(bytes(model))
            writer = made.appending(base=base)
            for number, (step, size) in enumerate(steps):
                if step == "write":
                    if len(model) + size > made.bucket.capabilities.maximum_put:
                        continue
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
                    assert writer.base == made.version()
                    assert made.content() == model
                elif step == "truncate":
                    await writer.truncate(0)
                    model.clear()
                elif step == "shed":
                    writer.shed()
                else:
                    await trio.testing.wait_all_tasks_blocked()
                assert writer.size == len(model)
            await writer.complete()
            assert made.content() == model
            await closed(made, writer)

    run(main)
