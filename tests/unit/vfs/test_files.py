"""Files that are written: opening, racing answers, failed uploads, who may write when."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
import trio.testing

from ossfs.reading.pushing import Pusher
from ossfs.runtime.blocks import BLOCK, SMALL
from ossfs.runtime.failure import FileSystemError
from ossfs.store.api import PutOptions
from ossfs.store.errors import Denied
from ossfs.store.plan import Raise, Rule
from ossfs.tree.inodes import ROOT, Inode
from ossfs.vfs.files import WritePolicy
from ossfs.vfs.filesystem import Policy
from tests.support.core import MIB, Core, core, run
from tests.unit.vfs.support import (
    exists,
    late,
    names,
    nothing_left,
    outcome,
    refusal,
    settle,
    start,
    whole,
)
from tests.unit.writing.support import noise, overheard

EARLY = WritePolicy(sync_upload=False)
W, A, RW = os.O_WRONLY, os.O_WRONLY | os.O_APPEND, os.O_RDWR
TRUNC, EXCL, CREAT = os.O_TRUNC, os.O_EXCL, os.O_CREAT


async def finish(made: Core, handle: int) -> None:
    """What close(2) sends."""
    await made.fs.flush(handle)
    await made.fs.release(handle)


async def begun(made: Core, name: bytes, data: bytes) -> int:
    """Create a file and write to it; nothing of it is in the bucket."""
    _, handle = await made.fs.create(ROOT, name, RW | CREAT)
    await made.fs.write(handle, 0, data)
    return handle


# Answers that were asked for before a change of our own, and come after it


@pytest.mark.parametrize("sweeping", [False, True])
def test_a_late_lookup_does_not_bring_the_old_version_back(sweeping: bool) -> None:
    async def main() -> None:
        async with core(attr_timeout=1) as made:
            made.put(b"f", b"old")
            inode = await made.walk(b"f")
            await trio.sleep(2)
            head = late(made, "head", b"f")
            async with trio.open_nursery() as nursery:
                looks = [
                    start(nursery, made.fs.lookup, ROOT, b"f"),
                    start(nursery, made.fs.attributes, inode.number),
                ]
                await head.here()
                handle = await made.fs.open_for(inode.number, W | TRUNC)
                await made.fs.write(handle, 0, b"newer")
                await finish(made, handle)
                if sweeping:
                    made.fs.sweep()
                head.go()
            assert [look.value for look in looks] == [inode, inode]
            assert inode.size == 5
            assert made.kernel.dropped_names == []
            await nothing_left(made)

    run(main)


@pytest.mark.parametrize("op", ["head", "list_page"])
def test_a_late_absence_does_not_hide_a_file_that_was_made_since(op: str) -> None:
    async def main() -> None:
        async with core() as made:
            answer = late(made, op)
            async with trio.open_nursery() as nursery:
                look = start(nursery, made.fs.lookup, ROOT, b"f")
                await answer.here()
                handle = await begun(made, b"f", b"new")
                await finish(made, handle)
                made.fs.sweep()
                answer.go()
            assert isinstance(look.value, Inode)
            assert look.value.size == 3
            assert await made.contents(b"f") == b"new"
            await nothing_left(made)

    run(main)


def test_a_late_lookup_does_not_bring_a_removed_file_back() -> None:
    async def main() -> None:
        async with core(attr_timeout=1) as made:
            made.put(b"f", b"old")
            await made.walk(b"f")
            await trio.sleep(2)
            answer = late(made, "head")
            async with trio.open_nursery() as nursery:
                look = start(nursery, made.fs.lookup, ROOT, b"f")
                await answer.here()
                await names(made)  # by which it is fresh
                await made.fs.unlink(ROOT, b"f")
                made.fs.sweep()
                answer.go()
            assert look.errno == errno.ENOENT
            assert made.fs.inodes.root.children == {}

    run(main)


@pytest.mark.parametrize("sweeping", [False, True])
def test_a_late_page_shows_the_version_we_wrote_since(sweeping: bool) -> None:
    async def main() -> None:
        async with core() as made:
            made.put(b"f", b"old")
            inode = await made.walk(b"f")
            handle = made.fs.open_directory(ROOT)
            answer = late(made, "list_page")
            async with trio.open_nursery() as nursery:
                listing = start(nursery, made.listing, ROOT, handle)
                await answer.here()
                await made.write(b"f", b"newer")
                await made.write(b"created since", b"1")
                if sweeping:  # what an answer on its way may contradict is not forgotten
                    made.fs.sweep()
                answer.go()
            assert isinstance(listing.value, list)
            assert [(name, one) for name, one, _ in listing.value] == [(b"f", inode)]
            assert (await made.walk(b"f")) is inode
            assert inode.size == 5
            made.fs.close_directory(handle)
            await nothing_left(made)

    run(main)


def test_a_name_that_a_late_page_cannot_tell_of_is_asked_for() -> None:
    async def main() -> None:
        async with core() as made:
            made.put(b"f", b"old")
            answer = late(made, "list_page")
            async with trio.open_nursery() as nursery:
                listing = start(nursery, made.listing, ROOT)
                await answer.here()
                await made.write(b"f", b"newer")
                inode = await made.walk(b"f")
                made.fs.forget([(inode.number, inode.lookups)])
                assert b"f" not in made.fs.inodes.root.children
                answer.go()
            assert isinstance(listing.value, list)
            assert [(name, one.size) for name, one, _ in listing.value] == [(b"f", 5)]

    run(main)


def test_a_file_that_is_finished_while_a_page_is_on_its_way_is_not_missed() -> None:
    async def main() -> None:
        async with core() as made:
            handle = await begun(made, b"f", b"data")
            answer = late(made, "list_page")
            async with trio.open_nursery() as nursery:
                listing = start(nursery, names, made)
                await answer.here()
                await finish(made, handle)
                answer.go()
            assert listing.value == [b"f"]
            await nothing_left(made)

    run(main)


def test_unfinished_files_keep_their_places_over_pages_and_after_every_seek() -> None:
    async def main() -> None:
        async with core(page=2) as made:
            stored = [b"b", b"d", b"f", b"h/x", b"j"]
            for key in stored:
                made.put(key, b"1")
            new = [b"a", b"c", b"e", b"e2", b"g", b"h!", b"i", b"k"]
            handles = [await begun(made, name, b"22") for name in new]
            expected = sorted([*new, b"b", b"d", b"f", b"h", b"j"])
            expected.remove(b"h")
            expected.insert(expected.index(b"h!") + 1, b"h")  # in the order of their keys
            listing = made.fs.open_directory(ROOT)
            found = await made.listing(ROOT, listing)
            assert [name for name, _, _ in found] == expected
            for place in (8, 2, 11, 0, 5, 12, 4):
                _, _, cookie = found[place]
                rest = await made.listing(ROOT, listing, cookie)
                assert [name for name, _, _ in rest] == expected[place + 1 :], place
            for handle in handles[::2]:
                await finish(made, handle)
            rest = await made.listing(ROOT, listing, found[3][2])
            assert [name for name, _, _ in rest] == expected[4:]
            made.fs.close_directory(listing)
            for handle in handles[1::2]:
                await finish(made, handle)
            assert await names(made) == expected
            await nothing_left(made)

    run(main)


# Creating


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("there", ["object", "directory", "unfinished", "nothing", "gone"])
def test_an_exclusive_create_meets_whatever_is_there(there: str, known: bool) -> None:
    async def main() -> None:
        async with core() as made:
            handles = []
            if there in ("object", "gone"):
                made.put(b"f", b"old")
            elif there == "directory":
                made.put(b"f/x", b"old")
            elif there == "unfinished":
                handles.append(await begun(made, b"f", b"unfinished"))
            if known and there != "nothing":
                await made.walk(b"f")
            if there == "gone":
                made.delete(b"f")
            number, created = await outcome(made.fs.create(ROOT, b"f", W | CREAT | EXCL))
            # What is fresh is believed: the kernel would have answered from it.
            free = there == "nothing" or (there == "gone" and not known)
            assert number == (0 if free else errno.EEXIST)
            if created is not None:
                inode, handle = created
                assert inode.lookups == 1
                await made.fs.write(handle, 0, b"mine")
                await finish(made, handle)
                assert made.stored(b"f") == b"mine"
            for handle in handles:
                await finish(made, handle)
            await nothing_left(made)

    run(main)


def test_an_exclusive_create_loses_to_an_object_that_came_before_its_close() -> None:
    async def main() -> None:
        async with core() as made:
            _, handle = await made.fs.create(ROOT, b"f", W | CREAT | EXCL)
            await made.fs.write(handle, 0, b"mine")
            made.put(b"f", b"theirs")
            with overheard():
                assert await refusal(made.fs.flush(handle)) == errno.EEXIST
                assert await refusal(made.fs.flush(handle)) == errno.EEXIST
                await made.fs.release(handle)
            assert await made.contents(b"f") == b"theirs"
            await nothing_left(made)

    run(main)


def test_a_create_over_a_known_file_opens_it_and_over_a_stale_one_asks() -> None:
    async def main() -> None:
        async with core(attr_timeout=5) as made:
            made.put(b"f", b"old")
            inode = await made.walk(b"f")
            made.requests()
            found, handle = await made.fs.create(ROOT, b"f", A | CREAT)
            assert (found, found.lookups, made.requests()) == (inode, 2, ["head"])
            await made.fs.write(handle, 0, b"+")
            await finish(made, handle)
            assert made.stored(b"f") == b"old+"
            made.delete(b"f")
            await trio.sleep(10)
            fresh, handle = await made.fs.create(ROOT, b"f", A | CREAT)
            assert fresh is not inode
            await made.fs.write(handle, 0, b"new")
            await finish(made, handle)
            assert made.stored(b"f") == b"new"
            assert await refusal(made.fs.create(ROOT, b"n" * 256, W)) == errno.ENAMETOOLONG
            assert await refusal(made.fs.create(ROOT, b"\xff", W)) == errno.EILSEQ
            await nothing_left(made)

    run(main)


def test_where_the_kernel_remembers_absence_a_create_asks_first() -> None:
    async def main() -> None:
        policy = Policy(attr_timeout=0, kernel_absence=True)
        async with core(policy=policy) as made:
            made.put(b"f", b"theirs")
            _, handle = await made.fs.create(ROOT, b"f", A | CREAT)
            await made.fs.write(handle, 6, b"+")
            await finish(made, handle)
            assert made.stored(b"f") == b"theirs+"

    run(main)


def test_a_create_that_finds_no_place_for_its_stage_leaves_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with core(stage=tmp_path) as made:
            assert made.staging is not None
            made.put(b"there", b"old")
            inode = await made.walk(b"there")
            directory, made.staging.directory = made.staging.directory, "/nowhere"
            with pytest.raises(OSError):
                await made.fs.create(ROOT, b"f", W | CREAT)
            with pytest.raises(OSError):
                await made.fs.open_for(inode.number, W)
            made.staging.directory = directory
            assert not await exists(made, b"f")
            assert inode.opened is None
            assert await made.contents(b"there") == b"old"
            await nothing_left(made)

    run(main)


# Who may write


def test_a_second_writer_is_refused_until_the_first_has_closed_a_descriptor() -> None:
    async def main() -> None:
        async with core() as made:
            first = await begun(made, b"f", b"1")
            inode = await made.walk(b"f")
            for flags in (W, A, RW, W | TRUNC):
                assert await refusal(made.fs.open_for(inode.number, flags)) == errno.EBUSY
            await made.fs.fsync(first)
            assert await refusal(made.fs.open_for(inode.number, W)) == errno.EBUSY
            await made.fs.flush(first)
            await made.fs.write(first, 1, b"2")
            assert await refusal(made.fs.open_for(inode.number, W)) == errno.EBUSY
            await made.fs.flush(first)
            second = await made.fs.open_for(inode.number, A)
            assert await refusal(made.fs.write(first, 2, b"x")) == errno.EBUSY
            assert await refusal(made.fs.set_size(inode.number, 0, first)) == errno.EBUSY
            await made.fs.write(second, 0, b"3")
            await finish(made, first)
            await finish(made, second)
            assert made.stored(b"f") == b"123"
            await nothing_left(made)

    run(main)


def test_with_a_stage_all_write_one_file(tmp_path: Path) -> None:
    async def main() -> None:
        async with core(stage=tmp_path) as made:
            first = await begun(made, b"f", b"....")
            inode = await made.walk(b"f")
            second = await made.fs.open_for(inode.number, RW)
            await made.fs.write(second, 1, b"b")
            await made.fs.write(first, 0, b"a")
            reader = await made.fs.open(inode.number)
            assert await whole(made, reader) == b"ab.."
            await finish(made, first)
            assert made.stored(b"f") == b"ab.."
            await made.fs.write(second, 2, b"c")
            await finish(made, second)
            assert made.stored(b"f") == b"abc."
            await made.fs.release(reader)
            await nothing_left(made)

    run(main)


def test_an_open_waits_for_the_writer_that_is_finishing() -> None:
    async def main() -> None:
        async with core(writes=EARLY) as made:
            for flags, expected in ((A, b"one two"), (W | TRUNC, b"two")):
                put = late(made, "put")
                handle = await begun(made, b"f", b"one ")
                await finish(made, handle)
                await put.here()
                inode = await made.walk(b"f")
                async with trio.open_nursery() as nursery:
                    opening = start(nursery, made.fs.open_for, inode.number, flags)
                    await trio.testing.wait_all_tasks_blocked()
                    assert not opening.done.is_set()
                    put.go()
                assert isinstance(opening.value, int)
                await made.fs.write(opening.value, inode.size, b"two")
                await finish(made, opening.value)
                await settle(made)
                assert made.stored(b"f") == expected
                await made.fs.unlink(ROOT, b"f")
            await nothing_left(made)

    run(main)


def test_a_reader_that_comes_and_goes_while_a_writer_finishes_disturbs_nothing() -> None:
    async def main() -> None:
        async with core(writes=EARLY) as made:
            put = late(made, "put")
            await finish(made, await begun(made, b"f", b"data"))
            await put.here()
            inode = await made.walk(b"f")
            async with trio.open_nursery() as nursery:
                waiting = start(nursery, made.fs.open_for, inode.number, A)
                await trio.testing.wait_all_tasks_blocked()
                reader = await made.fs.open(inode.number)
                assert await whole(made, reader) == b"data"
                await finish(made, reader)
                put.go()
            assert isinstance(waiting.value, int)
            await finish(made, waiting.value)
            assert await made.contents(b"f") == b"data"
            await nothing_left(made)

    run(main)


def test_who_reads_while_a_finish_fails_gets_the_error_and_never_a_mixture() -> None:
    async def main() -> None:
        async with core(writes=EARLY) as made:
            made.put(b"f", b"o" * 100)
            inode = await made.walk(b"f")
            made.store.add(Rule("put", Raise(Denied("by plan", status=403)), times=None))
            put = late(made, "put")
            handle = await made.fs.open_for(inode.number, W | TRUNC)
            await made.fs.write(handle, 0, b"new")
            await finish(made, handle)
            await put.here()
            reader = await made.fs.open(inode.number)
            assert await whole(made, reader) == b"new"
            async with trio.open_nursery() as nursery:
                waiting = start(nursery, made.fs.open_for, inode.number, W | TRUNC)
                await trio.testing.wait_all_tasks_blocked()
                with overheard() as said:
                    put.go()
                    await settle(made)
            assert waiting.errno == errno.ESTALE
            assert any("could not be saved" in line for line in said)
            assert await refusal(made.fs.read(reader, 0, 10)) == errno.EACCES
            await made.fs.release(reader)
            assert await made.contents(b"f") == b"o" * 100
            await nothing_left(made)

    run(main)


def test_an_open_that_waited_does_not_bring_a_removed_file_back() -> None:
    async def main() -> None:
        async with core(writes=EARLY) as made:
            put = late(made, "put")
            await finish(made, await begun(made, b"f", b"data"))
            await put.here()
            inode = await made.walk(b"f")
            async with trio.open_nursery() as nursery:
                unlink = start(nursery, made.fs.unlink, ROOT, b"f")
                await trio.testing.wait_all_tasks_blocked()
                delete = late(made, "delete", performed=False)
                opening = start(nursery, made.fs.open_for, inode.number, W | TRUNC)
                put.go()
                await delete.here()
                delete.go()
            assert (unlink.errno, opening.errno) == (0, errno.ESTALE)
            await settle(made)
            assert made.stored(b"f") is None
            await nothing_left(made)

    run(main)


# Truncating


def test_an_open_with_trunc_empties_the_file_at_close_whoever_reads_it() -> None:
    async def main() -> None:
        async with core() as made:
            made.put(b"f", b"old")
            inode = await made.walk(b"f")
            reader = await made.fs.open(inode.number)
            assert bytes(await made.fs.read(reader, 0, 10)) == b"old"
            handle = await made.fs.open_for(inode.number, W | TRUNC)
            assert inode.size == 0
            assert bytes(await made.fs.read(reader, 0, 10)) == b""
            assert made.stored(b"f") == b"old"
            await finish(made, handle)
            assert made.stored(b"f") == b""
            await made.fs.release(reader)
            await nothing_left(made)

    run(main)


def test_a_file_that_is_cut_by_who_only_reads_is_empty_in_the_bucket_at_close() -> None:
    async def main() -> None:
        async with core() as made:
            made.put(b"f", b"old")
            inode = await made.walk(b"f")
            handle = await made.fs.open_for(inode.number, os.O_RDONLY | TRUNC)
            await made.fs.flush(handle)
            assert made.stored(b"f") == b""
            await made.fs.release(handle)

    run(main)


def test_truncate_goes_to_nothing_and_to_the_present_size_and_says_once_what_else_needs() -> None:
    async def main() -> None:
        async with core() as made:
            made.put(b"f", b"old")
            inode = await made.walk(b"f")
            with overheard() as said:
                for size in (1, 7):
                    assert await refusal(made.fs.set_size(inode.number, size, None)) == errno.EINVAL
                    assert len(said) == 1
                    assert "temp_dir" in said.pop()
            assert inode.size == 3
            made.requests()
            await made.fs.set_size(inode.number, 3, None)
            assert "put" not in made.requests()
            await made.fs.set_size(inode.number, 0, None)
            assert (made.stored(b"f"), inode.size) == (b"", 0)
            handle = await begun(made, b"g", b"data")
            g = await made.walk(b"g")
            await made.fs.set_size(g.number, 4, handle)
            with overheard():
                assert await refusal(made.fs.set_size(g.number, 2, handle)) == errno.EINVAL
            assert g.size == 4
            await made.fs.set_size(g.number, 0, handle)
            assert g.size == 0
            assert await refusal(made.fs.set_size(g.number, 0, None)) == errno.EBUSY
            await finish(made, handle)
            assert made.stored(b"g") == b""
            assert await refusal(made.fs.set_size(ROOT, 0, None)) == errno.EISDIR
            await nothing_left(made)

    run(main)


def test_truncate_by_name_fails_with_the_store_and_changes_nothing() -> None:
    async def main() -> None:
        async with core() as made:
            made.put(b"f", b"old")
            inode = await made.walk(b"f")
            made.store.add(Rule("put", Raise(Denied("by plan", status=403)), times=None))
            with overheard():
                assert await refusal(made.fs.set_size(inode.number, 0, None)) == errno.EACCES
            assert await made.contents(b"f") == b"old"
            await nothing_left(made)

    run(main)


def test_a_staged_file_is_cut_and_extended_by_name_and_by_handle(tmp_path: Path) -> None:
    async def main() -> None:
        async with core(stage=tmp_path) as made:
            made.put(b"f", b"0123456789")
            inode = await made.walk(b"f")
            await made.fs.set_size(inode.number, 4, None)
            assert made.stored(b"f") == b"0123"
            handle = await made.fs.open_for(inode.number, RW)
            await made.fs.set_size(inode.number, 6, handle)
            assert await whole(made, handle) == b"0123\0\0"
            await finish(made, handle)
            assert made.stored(b"f") == b"0123\0\0"
            await nothing_left(made)

    run(main)


# Failed uploads


@pytest.mark.parametrize("size", [3, 3 * MIB])
@pytest.mark.parametrize("there", [False, True])
def test_after_a_failed_upload_the_handle_has_the_error_and_the_name_the_old_object(
    there: bool, size: int
) -> None:
    async def main() -> None:
        async with core() as made:
            if there:
                made.put(b"f", b"old")
                inode = await made.walk(b"f")
                handle = await made.fs.open_for(inode.number, RW | TRUNC)
            else:
                inode, handle = await made.fs.create(ROOT, b"f", RW | CREAT)
            reader = await made.fs.open(inode.number)
            refused = Raise(Denied("by plan", status=403))
            made.store.add(Rule("put", refused, times=None))
            made.store.add(Rule("upload_part", refused, times=None))
            with overheard():
                await outcome(made.fs.write(handle, 0, noise(size)))
                await settle(made)
                calls: list[Callable[[], object]] = [
                    lambda: made.fs.flush(handle),
                    lambda: made.fs.fsync(handle),
                    lambda: made.fs.write(handle, size, b"x"),
                    lambda: made.fs.read(handle, 0, 1),
                    lambda: made.fs.read(reader, 0, 1),
                    lambda: made.fs.set_size(inode.number, 0, handle),
                    lambda: made.fs.flush(handle),
                ]
                for call in calls:
                    assert await refusal(call()) == errno.EACCES  # type: ignore[arg-type]
                assert made.kernel.dropped_names == [(ROOT, b"f")]
                assert made.kernel.dropped_attributes == [inode.number]
                assert await names(made) == ([b"f"] if there else [])
                assert await exists(made, b"f") == there
                if there:
                    assert await made.contents(b"f") == b"old"
                assert await refusal(made.fs.open_for(inode.number, W)) == errno.ESTALE
                made.store.heal()
                # The name is free again, whatever the old handles do.
                await made.write(b"f", b"another")
                await made.fs.release(handle)
                await made.fs.release(reader)
            assert made.stored(b"f") == b"another"
            await nothing_left(made)

    run(main)


def test_an_upload_that_fails_while_nobody_asks_keeps_no_other_from_the_name() -> None:
    async def main() -> None:
        async with core() as made:
            made.put(b"f", b"old")
            inode = await made.walk(b"f")
            handle = await made.fs.open_for(inode.number, A)
            made.store.add(Rule("upload_part", Raise(Denied("by plan", status=403)), times=None))
            with overheard():
                await made.fs.write(handle, 3, noise(3 * MIB))  # parts are on their way
                await settle(made)
                for flags in (os.O_RDONLY, A):
                    assert await refusal(made.fs.open_for(inode.number, flags)) == errno.ESTALE
                await made.write(b"f", b"+", A)  # as the kernel does: it looks the name up again
                assert await refusal(made.fs.flush(handle)) == errno.EACCES
                await made.fs.release(handle)
            assert await made.contents(b"f") == b"old+"
            await nothing_left(made)

    run(main)


# Reading what is written


@pytest.mark.parametrize("size", [1000, 5 * MIB // 2])
def test_another_handle_reads_unfinished_bytes_and_then_the_version_they_made(size: int) -> None:
    async def main() -> None:
        async with core() as made:
            data, more = noise(size), noise(size, 2)
            handle = await begun(made, b"f", data)
            inode = await made.walk(b"f")
            reader = await made.fs.open(inode.number)
            assert await whole(made, reader) == data
            await made.fs.flush(handle)
            assert await whole(made, reader) == data
            await made.fs.write(handle, size, more)
            assert await whole(made, reader) == data + more
            await finish(made, handle)
            assert await whole(made, reader) == data + more
            assert made.stored(b"f") == data + more
            assert await whole(made, await made.fs.open(inode.number)) == data + more
            for other in list(made.fs._files):
                await made.fs.release(other)
            await nothing_left(made)

    run(main)


@pytest.mark.parametrize("performed", [False, True])
@pytest.mark.parametrize("size", [1000, 20 * MIB])
def test_a_read_on_its_way_while_we_replace_the_file_gives_one_version(
    size: int, performed: bool
) -> None:
    async def main() -> None:
        async with core() as made:
            made.put(b"f", b"o" * size)
            inode = await made.walk(b"f")
            async with trio.open_nursery() as nursery:
                get = late(made, "get_range_into", performed=performed)
                opening = start(nursery, made.fs.open, inode.number)
                if size == 1000:
                    await get.here()
                    get.go()
                await opening.done.wait()
                reader = opening.value
                assert isinstance(reader, int)
                if size == 1000:
                    made.fs._forget_version(inode.opened)  # type: ignore[arg-type]
                    get = late(made, "get_range_into", performed=performed)
                at = size - 1000
                reading = start(nursery, made.fs.read, reader, at, 1000)
                await get.here()
                handle = await made.fs.open_for(inode.number, W | TRUNC)
                await made.fs.write(handle, 0, b"n" * size)
                await finish(made, handle)
                get.go()
            assert reading.errno == 0
            assert bytes(reading.value) in (b"o" * 1000, b"n" * 1000)  # type: ignore[call-overload]
            assert bytes(await made.fs.read(reader, at, 1000)) == b"n" * 1000
            await made.fs.release(reader)
            await nothing_left(made)

    run(main)


# Times


def test_the_time_shown_is_ours_while_a_file_is_written_and_then_the_stores() -> None:
    async def main() -> None:
        async with core() as made:
            made.bucket._wall = lambda: 1_600_000_000
            handle = await begun(made, b"f", b"1")
            inode = await made.walk(b"f")
            first = inode.mtime_ns
            await trio.sleep(1)
            await made.fs.write(handle, 1, b"2")
            assert inode.mtime_ns == first + 1_000_000_000
            await finish(made, handle)
            await made.fs.attributes(inode.number)
            assert inode.mtime_ns == 1_600_000_000 * 10**9
            # A time that was chosen stays, until bytes are written.
            await made.fs.set_mtime(inode.number, 5)
            await trio.sleep(100)
            assert (await made.fs.attributes(inode.number)).mtime_ns == 5
            handle = await made.fs.open_for(inode.number, A)
            assert inode.mtime_ns == 5
            await made.fs.write(handle, 2, b"3")
            await finish(made, handle)
            await made.fs.attributes(inode.number)
            assert inode.mtime_ns == 1_600_000_000 * 10**9
            assert made.bucket.head(b"f", full=True, deadline=1e18).metadata == {}
            await nothing_left(made)

    run(main)


@pytest.mark.parametrize("preserving", [False, True])
def test_a_time_set_before_the_close_travels_with_the_upload(preserving: bool) -> None:
    async def main() -> None:
        policy = Policy(attr_timeout=0, preserve_mtime=preserving)
        writes = WritePolicy(preserve_mtime=preserving)
        async with core(policy=policy, writes=writes) as made:
            handle = await begun(made, b"f", b"1")
            inode = await made.walk(b"f")
            await made.fs.set_mtime(inode.number, 1_500_000_000_250_000_000)
            await finish(made, handle)
            info = made.bucket.head(b"f", full=True, deadline=1e18)
            assert info.metadata == {"mtime": "1500000000.25"}
            await made.fs.set_mtime(inode.number, 2_000_000_000)
            info = made.bucket.head(b"f", full=True, deadline=1e18)
            assert info.metadata == {"mtime": "2" if preserving else "1500000000.25"}
            made.forget_everything()
            shown = (await made.walk(b"f")).mtime_ns
            assert shown == (2_000_000_000 if preserving else info.mtime * 10**9)
            assert made.stored(b"f") == b"1"

    run(main)


PRESERVING = WritePolicy(preserve_mtime=True)


def test_a_time_for_a_removed_file_is_not_written_to_what_has_its_name_now() -> None:
    async def main() -> None:
        policy = Policy(attr_timeout=0, preserve_mtime=True)
        async with core(policy=policy, writes=PRESERVING) as made:
            handle = await begun(made, b"f", b"1")
            inode = await made.walk(b"f")
            await made.fs.unlink(ROOT, b"f")
            await made.fs.set_mtime(inode.number, 5)
            made.put(b"f", b"another's")
            await made.fs.set_mtime(inode.number, 6)
            assert made.bucket.head(b"f", full=True, deadline=1e18).metadata == {}
            assert inode.mtime_ns == 6
            await finish(made, handle)
            await nothing_left(made)

    run(main)


def test_the_time_of_a_link_is_shown_and_no_object_is_touched_for_it() -> None:
    async def main() -> None:
        policy = Policy(attr_timeout=0, preserve_mtime=True, links=True)
        async with core(policy=policy, writes=PRESERVING) as made:
            made.put(b"target", b"x")
            for name, path in ((b"l", b"target"), (b"dangling", b"none")):
                link = await made.fs.symlink(ROOT, name, path)
                made.requests()
                assert (await made.fs.set_mtime(link.number, 5)).mtime_ns == 5
                assert made.requests() == []

    run(main)


def test_a_time_written_in_large_objects_does_not_make_late_answers_news() -> None:
    async def main() -> None:
        policy = Policy(attr_timeout=0, preserve_mtime=True)
        async with core(policy=policy, writes=PRESERVING, attr_timeout=1) as made:
            await made.write(b"f", noise(5 * MIB // 2))  # its ETag is no MD5, its copy's is another
            inode = await made.walk(b"f")
            await trio.sleep(2)
            head = late(made, "head", b"f")
            async with trio.open_nursery() as nursery:
                look = start(nursery, made.fs.lookup, ROOT, b"f")
                await head.here()
                await made.fs.set_mtime(inode.number, 5)
                head.go()
            assert look.value is inode
            assert await made.contents(b"f") == noise(5 * MIB // 2)

    run(main)


# All together


def test_with_early_closes_what_is_unsaved_is_named_and_saved_at_the_end() -> None:
    async def main() -> None:
        async with core(writes=EARLY) as made:
            handles = [await begun(made, name, name) for name in (b"a", b"b", b"c")]
            assert sorted(made.fs.unsaved) == [b"a", b"b", b"c"]
            await made.fs.fsync(handles[0])
            await made.fs.unlink(ROOT, b"b")
            assert made.fs.unsaved == [b"c"]
            await made.fs.flush_all()
            assert made.fs.unsaved == []
            assert (made.stored(b"a"), made.stored(b"b"), made.stored(b"c")) == (b"a", None, b"c")
            for handle in handles:
                await finish(made, handle)
            await nothing_left(made)

    run(main)


def test_what_an_object_carries_stays_with_it_when_it_is_appended_to() -> None:
    async def main() -> None:
        async with core() as made:
            options = PutOptions("text/x-odd", {"owner": "me", "mtime": "5"}, storage_class="IA")
            made.bucket.put(b"f", [b"old"], options, deadline=1e18)
            inode = await made.walk(b"f")
            handle = await made.fs.open_for(inode.number, A)
            await made.fs.write(handle, 3, b"+")
            await finish(made, handle)
            info = made.bucket.head(b"f", full=True, deadline=1e18)
            assert info.metadata == {"owner": "me"}
            assert (info.content_type, info.storage_class) == ("text/x-odd", "IA")
            handle = await made.fs.open_for(inode.number, W | TRUNC)
            await finish(made, handle)
            info = made.bucket.head(b"f", full=True, deadline=1e18)
            assert (info.metadata, info.content_type) == ({}, "application/octet-stream")

    run(main)


def test_every_way_to_make_a_name_counts_one_lookup() -> None:
    async def main() -> None:
        policy = Policy(attr_timeout=0, links=True)
        async with core(policy=policy) as made:
            inode, handle = await made.fs.create(ROOT, b"f", W | CREAT)
            directory = await made.fs.mkdir(ROOT, b"d")
            link = await made.fs.symlink(ROOT, b"l", b"f")
            assert [one.lookups for one in (inode, directory, link)] == [1, 1, 1]
            made.fs.forget([(one.number, 1) for one in (inode, directory, link)])
            assert len(made.fs.inodes) == 2, "the one that is open stays"
            await made.fs.write(handle, 0, b"1")
            await finish(made, handle)
            assert len(made.fs.inodes) == 1
            assert made.stored(b"f") == b"1"
            with pytest.raises(FileSystemError):
                made.fs.known(inode.number)
            await nothing_left(made)

    run(main)


# Pages that are pushed ahead of a reader


@pytest.mark.parametrize("staged", [False, True])
def test_no_page_of_the_version_that_was_is_pushed_once_it_is_written_anew(
    staged: bool, tmp_path: Path
) -> None:
    async def main() -> None:
        async with core(chunk=BLOCK, stage=tmp_path if staged else None) as made:
            made.put(b"f", b"o" * 8 * BLOCK)
            asked: list[tuple[list[tuple[int, memoryview]], Callable[[int], bool]]] = []
            over: list[Callable[[list[bool]], None]] = []

            def push(
                inode: int,
                pieces: list[tuple[int, memoryview]],
                wanted: Callable[[int], bool],
                done: Callable[[list[bool]], None],
            ) -> bool:
                asked.append((pieces, wanted))
                over.append(done)
                return True

            made.reading.pusher = Pusher(push)
            inode = await made.walk(b"f")
            reader = await made.fs.open_for(inode.number, os.O_RDONLY)
            for offset in range(0, BLOCK, SMALL):
                await made.fs.read(reader, offset, SMALL)
                await settle(made)
            pieces = [(offset, wanted) for each, wanted in asked for offset, _ in each]
            assert any(wanted(offset) for offset, wanted in pieces), "it waits for its turn"
            writer = await made.fs.open_for(inode.number, W if staged else W | TRUNC)
            assert not any(wanted(offset) for offset, wanted in pieces), "old bytes on new pages"
            count = len(asked)
            await made.fs.write(writer, 0, b"n" * BLOCK)
            await made.fs.read(reader, BLOCK, SMALL)
            await settle(made)
            assert len(asked) == count
            for (each, _), done in zip(asked, over, strict=True):
                done([False] * len(each))
            await finish(made, writer)
            await made.fs.release(reader)

    run(main)


def test_a_stage_that_cannot_be_removed_keeps_nobody_from_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expect_log: Callable[[str], None]
) -> None:
    expect_log("stays: Read-only file system")

    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    async def main() -> None:
        async with core(stage=tmp_path) as made, trio.open_nursery() as nursery:
            handle = await begun(made, b"f", b"first")
            saving = late(made, "put", b"f")
            await made.fs.release(handle)
            await saving.here()
            opening = start(nursery, made.fs.open_for, (await made.walk(b"f")).number, W)
            await trio.testing.wait_all_tasks_blocked()
            assert not opening.done.is_set(), "the last writer is not through"
            with monkeypatch.context() as patched:
                patched.setattr("ossfs.writing.staged.os.unlink", refuse)
                saving.go()
                with trio.fail_after(60):
                    await opening.done.wait()
            assert not opening.errno
            assert isinstance(opening.value, int)
            await finish(made, opening.value)

    run(main)
