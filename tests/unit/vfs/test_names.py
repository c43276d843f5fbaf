"""Names that change: every combination, every step failing, and everything that is under way."""

from __future__ import annotations

import errno
import os
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from ossfs.store.api import Capabilities, PutOptions
from ossfs.store.errors import Denied
from ossfs.store.plan import Raise, Rule
from ossfs.tree.inodes import ROOT, Directory, Symlink
from ossfs.vfs.files import WritePolicy
from ossfs.vfs.filesystem import Policy
from ossfs.vfs.moves import MOST_WAITING
from ossfs.vfs.names import NOREPLACE
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

W, A, RW = os.O_WRONLY, os.O_WRONLY | os.O_APPEND, os.O_RDWR
LINKS = Policy(attr_timeout=0, links=True)
BIG = 20 * MIB


async def finish(made: Core, handle: int) -> None:
    """What close(2) sends."""
    await made.fs.flush(handle)
    await made.fs.release(handle)


async def number(made: Core, path: bytes) -> int:
    return (await made.walk(path)).number if path else ROOT


async def place(made: Core, path: bytes) -> tuple[int, bytes]:
    """Look up what a path's last name is in, and the name, as the kernel does."""
    directory, _, name = path.rpartition(b"/")
    await outcome(made.walk(path))
    return await number(made, directory), name


async def rename(made: Core, old: bytes, new: bytes, flags: int = 0) -> None:
    await made.fs.rename(*await place(made, old), *await place(made, new), flags)


async def unlink(made: Core, path: bytes) -> None:
    await made.fs.unlink(*await place(made, path))


async def rmdir(made: Core, path: bytes) -> None:
    await made.fs.rmdir(*await place(made, path))


async def begun(made: Core, path: bytes, data: bytes) -> int:
    """Create a file and write to it; nothing of it is in the bucket."""
    _, handle = await made.fs.create(*await place(made, path), RW | os.O_CREAT)
    await made.fs.write(handle, 0, data)
    return handle


def keys(made: Core) -> set[bytes]:
    page = made.bucket.list_page(b"", delimiter=b"", deadline=1e18)
    return {entry.key for entry in page.entries}


async def tree(made: Core, path: bytes = b"") -> dict[bytes, bytes]:
    """Return all files but links as the file system shows them, by path."""
    found: dict[bytes, bytes] = {}
    for name, inode, _ in await made.listing(await number(made, path)):
        below = path + b"/" + name if path else name
        if isinstance(inode, Directory):
            found |= await tree(made, below)
        elif not isinstance(inode, Symlink):
            found[below] = await made.contents(below)
    return found


async def agree(made: Core) -> None:
    """Once attributes are old, the file system shows what the bucket holds."""
    await trio.sleep(100)
    page = made.bucket.list_page(b"", delimiter=b"", deadline=1e18)
    files = [one.key for one in page.entries if not one.symlink and not one.key.endswith(b"/")]
    assert await tree(made) == {key: made.stored(key) for key in files}


# What POSIX lets happen


@pytest.mark.parametrize("fresh", [False, True])
def test_unlink_and_rmdir_refuse_what_they_must(fresh: bool) -> None:
    async def main() -> None:
        async with core(attr_timeout=60 if fresh else 0) as made:
            made.put(b"f", b"1")
            made.put(b"full/x", b"1")
            made.put(b"nested/d/", b"")
            made.put(b"empty/", b"")
            assert await refusal(unlink(made, b"full")) == errno.EISDIR
            assert await refusal(unlink(made, b"none")) == errno.ENOENT
            assert await refusal(rmdir(made, b"f")) == errno.ENOTDIR
            assert await refusal(rmdir(made, b"none")) == errno.ENOENT
            assert await refusal(rmdir(made, b"full")) == errno.ENOTEMPTY
            assert await refusal(rmdir(made, b"nested")) == errno.ENOTEMPTY
            file = await made.walk(b"f")
            assert await refusal(made.fs.unlink(file.number, b"x")) == errno.ENOTDIR
            handle = await begun(made, b"empty/new", b"1")
            assert await refusal(rmdir(made, b"empty")) == errno.ENOTEMPTY, "only here"
            await unlink(made, b"empty/new")
            await rmdir(made, b"empty")
            await made.fs.release(handle)
            assert keys(made) == {b"f", b"full/x", b"nested/d/"}
            assert await names(made) == [b"f", b"full", b"nested"]
            await agree(made)
            await nothing_left(made)

    run(main)


RENAMES = [
    (b"f", b"g", 0, 0),
    (b"f", b"new", 0, 0),
    (b"f", b"f", 0, 0),
    (b"f", b"d/f", 0, 0),
    (b"d/x", b"y", 0, 0),
    (b"f", b"d", 0, errno.EISDIR),
    (b"d", b"f", 0, errno.ENOTDIR),
    (b"d", b"d/e", 0, errno.EINVAL),
    (b"d", b"d/sub/e", 0, errno.EINVAL),
    (b"d", b"d", 0, 0),
    (b"d", b"e", 0, 0),
    (b"d", b"new", 0, 0),
    (b"d/sub", b"new", 0, 0),
    (b"e", b"d", 0, errno.ENOTEMPTY),
    (b"none", b"new", 0, errno.ENOENT),
    (b"f", b"n" * 256, 0, errno.ENAMETOOLONG),
    (b"f", b"\xff", 0, errno.EILSEQ),
    (b"f", b"g", NOREPLACE, errno.EEXIST),
    (b"f", b"d", NOREPLACE, errno.EEXIST),
    (b"d", b"e", NOREPLACE, errno.EEXIST),
    (b"f", b"new", NOREPLACE, 0),
    (b"d", b"new", NOREPLACE, 0),
    (b"f", b"g", 2, errno.EINVAL),
    (b"f", b"new", 4, errno.EINVAL),
]


@pytest.mark.parametrize(("old", "new", "flags", "expected"), RENAMES)
def test_a_rename_in_every_combination(old: bytes, new: bytes, flags: int, expected: int) -> None:
    async def main() -> None:
        async with core() as made:
            objects = {b"f": b"F", b"g": b"G", b"d/x": b"X", b"d/sub/y": b"Y", b"e/": b""}
            for key, data in objects.items():
                made.put(key, data)
            result, _ = await outcome(rename(made, old, new, flags))
            assert result == expected
            if not expected and old != new:
                for key in list(objects):
                    if key == old or key.startswith(old + b"/"):
                        objects[new + key[len(old) :]] = objects.pop(key)
            if not expected and old == b"d" and new == b"new":
                assert keys(made) == set(objects), "no marker where there was none"
            files = {key: data for key, data in objects.items() if not key.endswith(b"/")}
            assert await tree(made) == files, "at once"
            await agree(made)
            await nothing_left(made)

    run(main)


def test_a_rename_over_a_directory_that_is_empty_in_the_bucket_but_not_here() -> None:
    async def main() -> None:
        async with core() as made:
            made.put(b"d/x", b"1")
            await made.fs.mkdir(ROOT, b"e")
            handle = await begun(made, b"e/new", b"2")
            assert await refusal(rename(made, b"d", b"e")) == errno.ENOTEMPTY
            await finish(made, handle)
            assert await refusal(rename(made, b"d", b"e")) == errno.ENOTEMPTY
            assert await tree(made) == {b"d/x": b"1", b"e/new": b"2"}
            await nothing_left(made)

    run(main)


def test_an_emptied_directory_without_a_marker_gets_one() -> None:
    async def main() -> None:
        async with core() as made:
            for key in (b"a/f", b"b/f", b"c/d/f", b"m/", b"m/f"):
                made.put(key, b"1")
            await unlink(made, b"a/f")
            await rename(made, b"b/f", b"moved")
            await rename(made, b"c/d", b"d")
            await unlink(made, b"m/f")
            assert keys(made) == {b"a/", b"b/", b"moved", b"c/", b"d/f", b"m/"}
            for directory in (b"a", b"b", b"c", b"m"):
                assert await names(made, await number(made, directory)) == []
                await rmdir(made, directory)
            assert keys(made) == {b"moved", b"d/f"}
            await nothing_left(made)

    run(main)


def test_a_marker_is_not_made_while_something_is_left() -> None:
    async def main() -> None:
        async with core() as made:
            made.put(b"d/a", b"1")
            made.put(b"d/b", b"1")
            await unlink(made, b"d/a")
            assert keys(made) == {b"d/b"}
            handle = await begun(made, b"d/new", b"2")
            await unlink(made, b"d/b")
            assert keys(made) == {b"d/"}, "what is still written is not there yet"
            await finish(made, handle)
            await nothing_left(made)

    run(main)


# Every step fails

Scenario = Callable[[Core], Awaitable[None]]


async def replace_file(made: Core) -> None:
    await rename(made, b"f", b"g")


async def move_file(made: Core) -> None:
    await rename(made, b"f", b"d/f", NOREPLACE)


async def move_directory(made: Core) -> None:
    await rename(made, b"d", b"e")


async def remove_last(made: Core) -> None:
    await unlink(made, b"one/f")


async def remove_directory(made: Core) -> None:
    await rmdir(made, b"e")


async def make_directory(made: Core) -> None:
    await made.fs.mkdir(ROOT, b"new")


async def make_link(made: Core) -> None:
    await made.fs.symlink(ROOT, b"new", b"f")


SCENARIOS: list[tuple[Scenario, dict[bytes, set[bytes]]]] = [
    (replace_file, {b"F": {b"f", b"g"}}),
    (move_file, {b"F": {b"f", b"d/f"}}),
    (move_directory, {b"X": {b"d/x", b"e/x"}, b"Y": {b"d/sub/y", b"e/sub/y"}}),
    (remove_last, {}),
    (remove_directory, {}),
    (make_directory, {}),
    (make_link, {}),
]


@pytest.mark.parametrize(("scenario", "may_be_at"), SCENARIOS)
@pytest.mark.parametrize("opened", ["", "read", "written"])
def test_whatever_call_fails_no_file_is_lost_and_the_tree_is_the_buckets(
    scenario: Scenario, may_be_at: dict[bytes, set[bytes]], opened: str
) -> None:
    objects = {
        b"f": b"F",
        b"g": b"G",
        b"d/x": b"X",
        b"d/sub/y": b"Y",
        b"e/": b"",
        b"one/f": b"1",
    }

    async def attempt(nth: int) -> bool:
        async with core(policy=LINKS) as made:
            for key, data in objects.items():
                made.put(key, data)
            handles = []
            for key in (b"f", b"g", b"d/x", b"one/f") if opened else ():
                inode = await made.walk(key)
                handle = await made.fs.open_for(inode.number, A if opened == "written" else 0)
                handles.append((key, handle))
                if opened == "written":
                    await made.fs.write(handle, 1, b"+")
                else:
                    assert await whole(made, handle) == objects[key]
            rule = Rule(None, Raise(Denied("by plan", status=403)), nth=nth)
            made.store.add(rule)
            with overheard():
                result, _ = await outcome(scenario(made))
                fired = made.store.fired(rule) > 0
                made.store.heal()
                await settle(made)
                for data, places in may_be_at.items():
                    there = [made.stored(key) for key in places]
                    assert data in there or data + b"+" in there
                if not fired:
                    assert result == 0
                for key, handle in handles:
                    if opened == "read":
                        error, read = await outcome(whole(made, handle))
                        assert read == objects[key] or error == errno.ESTALE
                    saved, _ = await outcome(made.fs.flush(handle))
                    await made.fs.release(handle)
                    given_up = (scenario, key) in ((replace_file, b"g"), (remove_last, b"one/f"))
                    if opened == "written" and not saved and not given_up:
                        found = [made.stored(one) for one in keys(made)]
                        assert objects[key] + b"+" in found, key
            await agree(made)
            await nothing_left(made)
            return fired

    async def main() -> None:
        nth = 1
        while await attempt(nth):
            nth += 1
        assert nth > 1

    run(main)


# Files that are open


@pytest.mark.parametrize("flushed", [False, True])
@pytest.mark.parametrize("size", [10, 5 * MIB // 2])
def test_a_removed_file_that_is_written_stays_its_writers_and_is_never_sent(
    size: int, flushed: bool
) -> None:
    async def main() -> None:
        async with core() as made:
            handle = await begun(made, b"f", noise(size))
            inode = await made.walk(b"f")
            if flushed:
                await made.fs.flush(handle)
            await unlink(made, b"f")
            assert not await exists(made, b"f")
            await made.fs.write(handle, size, b"more")
            assert bytes(await made.fs.read(handle, size, 10)) == b"more"
            if size == 10:
                assert await whole(made, handle) == noise(size) + b"more"
            assert (await made.fs.attributes(inode.number)).size == size + 4
            await finish(made, handle)
            await settle(made)
            assert keys(made) == set()
            await nothing_left(made)

    run(main)


def test_a_removal_waits_for_the_completion_that_is_on_its_way() -> None:
    async def main() -> None:
        async with core() as made:
            handle = await begun(made, b"f", b"data")
            put = late(made, "put")
            async with trio.open_nursery() as nursery:
                flush = start(nursery, made.fs.flush, handle)
                await put.here()
                removal = start(nursery, made.fs.unlink, ROOT, b"f")
                await trio.testing.wait_all_tasks_blocked()
                assert not removal.done.is_set()
                put.go()
            assert (flush.errno, removal.errno) == (0, 0)
            assert keys(made) == set()
            await finish(made, handle)
            assert not await exists(made, b"f")
            await nothing_left(made)

    run(main)


@pytest.mark.parametrize("change", ["unlink", "rename over"])
def test_readers_of_what_is_gone_have_small_files_whole_and_large_ones_stale(change: str) -> None:
    async def main() -> None:
        async with core() as made:
            made.put(b"small", b"s" * 1000)
            made.put(b"big", b"b" * BIG)
            handles = {}
            for name in (b"small", b"big"):
                inode = await made.walk(name)
                handles[name] = await made.fs.open(inode.number)
                made.fs._forget_version(inode.opened)  # type: ignore[arg-type]  # nothing is held
            written = await made.fs.open_for((await made.walk(b"small")).number, RW)
            for name in (b"small", b"big"):
                if change == "unlink":
                    await unlink(made, name)
                else:
                    made.put(b"new", b"new")
                    await rename(made, b"new", name)
            assert await whole(made, handles[b"small"]) == b"s" * 1000
            assert await whole(made, written) == b"s" * 1000
            assert await refusal(made.fs.read(handles[b"big"], BIG // 2, 10)) == errno.ESTALE
            for handle in (*handles.values(), written):
                await finish(made, handle)
            expected = {} if change == "unlink" else {b"small": b"new", b"big": b"new"}
            assert await tree(made) == expected
            await nothing_left(made)

    run(main)


def test_a_renamed_file_is_completed_first_and_goes_on_under_its_new_names() -> None:
    async def main() -> None:
        async with core() as made:
            for size in (10, 5 * MIB // 2):
                handle = await begun(made, b"a", noise(size))
                inode = await made.walk(b"a")
                reader = await made.fs.open(inode.number)
                await rename(made, b"a", b"b")
                assert made.stored(b"b") == noise(size)
                await made.fs.write(handle, size, b"+")
                await rename(made, b"b", b"c")
                assert made.stored(b"c") == noise(size) + b"+"
                await made.fs.write(handle, size + 1, b"+")
                assert await whole(made, reader) == noise(size) + b"++"
                await finish(made, handle)
                await made.fs.release(reader)
                assert keys(made) == {b"c"}
                assert made.stored(b"c") == noise(size) + b"++"
                assert (await made.walk(b"c")) is inode
            await nothing_left(made)

    run(main)


@pytest.mark.parametrize("op", ["complete_upload", "delete"])
@pytest.mark.parametrize("parent", [b"", b"d/"])
def test_a_read_on_its_way_during_a_rename_goes_on_from_the_new_key(op: str, parent: bytes) -> None:
    async def main() -> None:
        async with core() as made:
            made.put(parent + b"f", b"x" * BIG)
            inode = await made.walk(parent + b"f")
            reader = await made.fs.open(inode.number)
            get = late(made, "get_range_into", parent + b"f", performed=False)
            step = late(made, "delete_many" if parent and op == "delete" else op)
            async with trio.open_nursery() as nursery:
                reading = start(nursery, made.fs.read, reader, BIG // 2, 10)
                await get.here()
                old, new = (b"d", b"e") if parent else (b"f", b"g")
                renaming = start(nursery, made.fs.rename, ROOT, old, ROOT, new, 0)
                await step.here()
                if op == "delete":  # it is gone, and nobody has been told so yet
                    get.go()
                    await reading.done.wait()
                step.go()
                await renaming.done.wait()
                get.go()
            assert (reading.errno, renaming.errno) == (0, 0)
            assert bytes(await made.fs.read(reader, BIG - 5, 10)) == b"x" * 5
            await made.fs.release(reader)
            await nothing_left(made)

    run(main)


@pytest.mark.parametrize("parent", [b"", b"d/"])
def test_a_file_opened_while_its_old_key_is_being_deleted_is_read_from_the_new_one(
    parent: bytes,
) -> None:
    async def main() -> None:
        at_once = Capabilities(maximum_copy_part=2 * BIG)  # a copy has the source's ETag
        async with core(capabilities=at_once) as made:
            made.put(parent + b"f", b"x" * BIG)
            inode = await made.walk(parent + b"f")
            delete = late(made, "delete_many" if parent else "delete")
            async with trio.open_nursery() as nursery:
                old, new = (b"d", b"e") if parent else (b"f", b"g")
                renaming = start(nursery, made.fs.rename, ROOT, old, ROOT, new, 0)
                await delete.here()
                reader = await made.fs.open(inode.number)
                reading = start(nursery, made.fs.read, reader, BIG // 2, 10)
                await trio.testing.wait_all_tasks_blocked()
                delete.go()
            assert (renaming.errno, reading.errno) == (0, 0)
            assert bytes(reading.value) == b"x" * 10  # type: ignore[call-overload]
            await made.fs.release(reader)
            await nothing_left(made)

    run(main)


def test_a_rename_right_after_close_meets_the_release_on_its_way() -> None:
    async def main() -> None:
        async with core() as made:
            for early in range(4):
                handle = await begun(made, b"f", b"data")
                inode = await made.walk(b"f")
                await made.fs.flush(handle)
                await made.fs.attributes(inode.number)
                async with trio.open_nursery() as nursery:
                    release = start(nursery, made.fs.release, handle)
                    for _ in range(early):
                        await trio.lowlevel.checkpoint()
                    renaming = start(nursery, made.fs.rename, ROOT, b"f", ROOT, b"g", 0)
                assert (release.errno, renaming.errno) == (0, 0)
                assert keys(made) == {b"g"}
            await nothing_left(made)

    run(main)


def test_a_file_whose_early_close_fails_is_not_renamed_as_what_it_was_before() -> None:
    async def main() -> None:
        async with core(writes=WritePolicy(sync_upload=False)) as made:
            made.put(b"tmp", b"old")
            made.put(b"target", b"precious")
            made.store.add(Rule("put", Raise(Denied("by plan", status=403)), times=None))
            put = late(made, "put")
            handle = await made.fs.open_for((await made.walk(b"tmp")).number, W | os.O_TRUNC)
            await made.fs.write(handle, 0, b"new")
            await finish(made, handle)
            await put.here()
            async with trio.open_nursery() as nursery:
                await made.walk(b"target")
                renaming = start(nursery, made.fs.rename, ROOT, b"tmp", ROOT, b"target", 0)
                await trio.testing.wait_all_tasks_blocked()
                with overheard():
                    put.go()
                    await renaming.done.wait()
            assert renaming.errno == errno.EACCES
            assert made.stored(b"target") == b"precious"
            assert made.stored(b"tmp") == b"old"
            await nothing_left(made)

    run(main)


def test_a_rename_of_what_was_replaced_elsewhere_mixes_nothing() -> None:
    async def main() -> None:
        async with core() as made:
            made.put(b"f", b"o" * BIG)
            inode = await made.walk(b"f")
            reader = await made.fs.open(inode.number)
            assert bytes(await made.fs.read(reader, 0, 10)) == b"o" * 10
            made.put(b"f", b"n" * BIG)
            assert await refusal(made.fs.rename(ROOT, b"f", ROOT, b"g", 0)) == errno.ESTALE
            await made.fs.rename(ROOT, b"f", ROOT, b"g", 0)  # as the kernel does after ESTALE
            assert await refusal(made.fs.read(reader, BIG // 2, 10)) == errno.ESTALE
            assert (await made.walk(b"g")) is not inode
            assert made.stored(b"g") == b"n" * BIG
            await made.fs.release(reader)
            await nothing_left(made)

    run(main)


def test_a_rename_of_a_directory_mixes_nothing_that_was_replaced_elsewhere() -> None:
    async def main() -> None:
        async with core() as made:
            made.put(b"d/f", b"o" * BIG)
            inode = await made.walk(b"d/f")
            reader = await made.fs.open(inode.number)
            assert bytes(await made.fs.read(reader, 0, 10)) == b"o" * 10
            made.put(b"d/f", b"n" * BIG)
            await rename(made, b"d", b"e")
            error, data = await outcome(made.fs.read(reader, BIG // 2, 10))
            await made.fs.release(reader)
            assert error == errno.ESTALE, data

    run(main)


# Answers that come late


def test_a_file_that_changes_elsewhere_while_it_is_removed_is_gone_all_the_same() -> None:
    async def main() -> None:
        async with core() as made:
            made.put(b"f", b"old")
            inode = await made.walk(b"f")
            handle = await made.fs.open(inode.number)
            await trio.sleep(59.5)
            made.put(b"f", b"newer")
            delete = late(made, "delete", performed=False)
            async with trio.open_nursery() as nursery:
                removal = start(nursery, made.fs.unlink, ROOT, b"f")
                await delete.here()
                await trio.sleep(1)
                await made.fs.attributes(inode.number)
                delete.go()
            assert removal.errno == 0
            assert not await exists(made, b"f")
            await made.fs.release(handle)
            await nothing_left(made)

    run(main)


@pytest.mark.parametrize("performed", [False, True])
@pytest.mark.parametrize("step", ["copy", "delete"])
def test_a_look_at_a_file_that_is_renamed_meanwhile_finds_it(step: str, performed: bool) -> None:
    async def main() -> None:
        async with core(attr_timeout=0) as made:
            made.put(b"f", b"data")
            inode = await made.walk(b"f")
            held = late(made, step, performed=performed)
            async with trio.open_nursery() as nursery:
                renaming = start(nursery, made.fs.rename, ROOT, b"f", ROOT, b"g", 0)
                await held.here()
                look = start(nursery, made.fs.attributes, inode.number)
                await trio.testing.wait_all_tasks_blocked()
                held.go()
            assert (renaming.errno, look.errno) == (0, 0)
            assert inode.attached
            assert (await made.walk(b"g")) is inode
            assert not await exists(made, b"f")
            await nothing_left(made)

    run(main)


@pytest.mark.parametrize("performed", [False, True])
@pytest.mark.parametrize("look_first", [False, True])
def test_a_look_below_a_directory_that_is_renamed_meanwhile_finds_it(
    look_first: bool, performed: bool
) -> None:
    async def main() -> None:
        async with core(attr_timeout=1) as made:
            made.put(b"d/f", b"data")
            inode = await made.walk(b"d/f")
            handle = await made.fs.open_for(inode.number, A)  # its writer is clean
            await trio.sleep(5)
            await made.walk(b"d")
            head = late(made, "head", b"d/f", performed=performed)
            delete = late(made, "delete_many", performed=performed)
            async with trio.open_nursery() as nursery:
                if look_first:
                    look = start(nursery, made.fs.attributes, inode.number)
                    await head.here()
                    delete.go()
                    await made.fs.rename(ROOT, b"d", ROOT, b"e", 0)
                    head.go()
                else:
                    head.go()
                    renaming = start(nursery, made.fs.rename, ROOT, b"d", ROOT, b"e", 0)
                    await delete.here()
                    look = start(nursery, made.fs.attributes, inode.number)
                    absent = start(nursery, made.fs.lookup, inode.parent.number, b"none")  # type: ignore[union-attr]
                    await trio.testing.wait_all_tasks_blocked()
                    delete.go()
                    await renaming.done.wait()
                    await absent.done.wait()
                    assert absent.errno == errno.ENOENT
            assert look.value is inode
            assert inode.attached
            assert (await made.walk(b"e/f")) is inode
            assert made.kernel.dropped_names == []
            await made.fs.write(handle, 4, b"+")
            await finish(made, handle)
            assert keys(made) == {b"e/f"}
            assert made.stored(b"e/f") == b"data+"
            await nothing_left(made)

    run(main)


# What happens below a directory, or to a file, while it is renamed


async def create_below(made: Core, directory: int) -> None:
    _, handle = await made.fs.create(directory, b"new", W)
    await made.fs.write(handle, 0, b"new")
    await finish(made, handle)


async def append_below(made: Core, directory: int) -> None:
    inode = made.fs.inodes[directory].children[b"x"]  # type: ignore[attr-defined]
    handle = await made.fs.open_for(inode.number, A)
    await made.fs.write(handle, 1, b"+")
    await finish(made, handle)


async def replace_below(made: Core, directory: int) -> None:
    inode = made.fs.inodes[directory].children[b"x"]  # type: ignore[attr-defined]
    handle = await made.fs.open_for(inode.number, W | os.O_TRUNC)
    await made.fs.write(handle, 0, b"replaced")
    await finish(made, handle)


async def unlink_below(made: Core, directory: int) -> None:
    await made.fs.unlink(directory, b"x")


async def mkdir_below(made: Core, directory: int) -> None:
    await made.fs.mkdir(directory, b"sub")


async def rename_below(made: Core, directory: int) -> None:
    await made.fs.rename(directory, b"x", directory, b"z", 0)


async def rename_out(made: Core, directory: int) -> None:
    await made.fs.rename(directory, b"x", ROOT, b"out", 0)


async def link_below(made: Core, directory: int) -> None:
    await made.fs.symlink(directory, b"l", b"x")


Below = Callable[[Core, int], Awaitable[None]]
BELOW: list[tuple[Below, str, set[bytes], bytes]] = [
    (create_below, "put", {b"e/x", b"e/y", b"e/new"}, b"x"),
    (append_below, "head", {b"e/x", b"e/y"}, b"x+"),
    (replace_below, "put", {b"e/x", b"e/y"}, b"replaced"),
    (unlink_below, "delete", {b"e/y"}, b""),
    (mkdir_below, "put", {b"e/x", b"e/y", b"e/sub/"}, b"x"),
    (rename_below, "copy", {b"e/z", b"e/y"}, b""),
    (rename_out, "copy", {b"out", b"e/y"}, b""),
    (link_below, "put_symlink", {b"e/x", b"e/y", b"e/l"}, b"x"),
]
"""What is done below a directory, its first request, what is there after it, and in e/x."""


@pytest.mark.parametrize("performed", [False, True])
@pytest.mark.parametrize("step", ["list_page", "copy", "delete_many"])
@pytest.mark.parametrize(("change", "_op", "expected", "written"), BELOW)
def test_a_change_below_a_directory_that_is_renamed_is_under_its_new_name(
    change: Below, _op: str, expected: set[bytes], written: bytes, step: str, performed: bool
) -> None:
    async def main() -> None:
        async with core(policy=LINKS) as made:
            for key in (b"d/x", b"d/y"):
                made.put(key, key[-1:])
            directory = await made.walk(b"d")
            await made.walk(b"d/x")
            held = late(made, step, performed=performed)
            async with trio.open_nursery() as nursery:
                renaming = start(nursery, made.fs.rename, ROOT, b"d", ROOT, b"e", 0)
                await held.here()
                changing = start(nursery, change, made, directory.number)
                await trio.testing.wait_all_tasks_blocked()
                held.go()
            assert (renaming.errno, changing.errno) == (0, 0)
            assert keys(made) == expected
            x = written if b"e/x" in expected else None
            assert made.stored(b"e/x") == x
            assert await names(made) == sorted({key.split(b"/")[0] for key in expected})
            await nothing_left(made)

    run(main)


@pytest.mark.parametrize(("change", "op", "expected", "written"), BELOW)
def test_a_rename_of_a_directory_waits_for_the_change_below_it_that_has_begun(
    change: Below, op: str, expected: set[bytes], written: bytes
) -> None:
    async def main() -> None:
        async with core(policy=LINKS) as made:
            for key in (b"d/x", b"d/y"):
                made.put(key, key[-1:])
            directory = await made.walk(b"d")
            await made.walk(b"d/x")
            held = late(made, op)
            async with trio.open_nursery() as nursery:
                changing = start(nursery, change, made, directory.number)
                await held.here()
                renaming = start(nursery, made.fs.rename, ROOT, b"d", ROOT, b"e", 0)
                await trio.testing.wait_all_tasks_blocked()
                assert not renaming.done.is_set()
                held.go()
            assert (renaming.errno, changing.errno) == (0, 0)
            assert keys(made) == expected
            assert made.stored(b"e/x") == (written or None)
            await nothing_left(made)

    run(main)


@pytest.mark.parametrize("performed", [False, True])
@pytest.mark.parametrize("step", ["head", "copy", "delete"])
@pytest.mark.parametrize("flags", [A, W | os.O_TRUNC])
def test_what_is_written_while_a_file_is_renamed_is_in_it(
    flags: int, step: str, performed: bool
) -> None:
    async def main() -> None:
        async with core() as made:
            made.put(b"f", b"old")
            inode = await made.walk(b"f")

            async def write() -> None:
                handle = await made.fs.open_for(inode.number, flags)
                await made.fs.write(handle, inode.size, b"new")
                await finish(made, handle)

            held = late(made, step, performed=performed)
            async with trio.open_nursery() as nursery:
                renaming = start(nursery, made.fs.rename, ROOT, b"f", ROOT, b"g", 0)
                await held.here()
                writing = start(nursery, write)
                await trio.testing.wait_all_tasks_blocked()
                held.go()
            assert (renaming.errno, writing.errno) == (0, 0)
            assert keys(made) == {b"g"}
            assert made.stored(b"g") == (b"oldnew" if flags == A else b"new")
            await nothing_left(made)

    run(main)


@pytest.mark.parametrize("step", ["copy", "delete"])
def test_a_target_that_is_opened_for_writing_while_it_is_replaced_is_stale(step: str) -> None:
    async def main() -> None:
        async with core() as made:
            made.put(b"f", b"new")
            made.put(b"g", b"old")
            await made.walk(b"f")
            target = await made.walk(b"g")
            held = late(made, step)
            async with trio.open_nursery() as nursery:
                renaming = start(nursery, made.fs.rename, ROOT, b"f", ROOT, b"g", 0)
                await held.here()
                opening = start(nursery, made.fs.open_for, target.number, W | os.O_TRUNC)
                await trio.testing.wait_all_tasks_blocked()
                held.go()
            assert (renaming.errno, opening.errno) == (0, errno.ESTALE)
            assert keys(made) == {b"g"}
            assert made.stored(b"g") == b"new"
            await nothing_left(made)

    run(main)


def test_changes_that_wait_for_a_rename_are_few_and_the_next_are_busy() -> None:
    async def main() -> None:
        async with core() as made:
            for index in range(MOST_WAITING + 2):
                made.put(b"d/%02d" % index, b"1")
            directory = await made.walk(b"d")
            await made.listing(directory.number)
            files = list(directory.children.values())  # type: ignore[attr-defined]
            copy = late(made, "copy")
            async with trio.open_nursery() as nursery:
                renaming = start(nursery, made.fs.rename, ROOT, b"d", ROOT, b"e", 0)
                await copy.here()
                waiting = [start(nursery, made.fs.open_for, one.number, A) for one in files]
                await trio.testing.wait_all_tasks_blocked()
                busy = [one for one in waiting if one.done.is_set()]
                assert [one.errno for one in busy] == [errno.EBUSY] * 2
                assert (await made.fs.attributes(files[0].number)) is files[0]
                copy.go()
            assert renaming.errno == 0
            opened = [one.value for one in waiting if one not in busy]
            assert len(opened) == MOST_WAITING
            for handle in opened:
                await made.fs.release(handle)  # type: ignore[arg-type]
            await nothing_left(made)

    run(main)


@pytest.mark.parametrize("marked", [False, True])
@pytest.mark.parametrize("over", [False, True])
def test_a_renamed_directory_takes_its_open_files_along(marked: bool, over: bool) -> None:
    async def main() -> None:
        async with core() as made:
            if marked:
                made.put(b"d/", b"")
            if over:
                made.put(b"e/", b"")
            made.put(b"d/read", b"r" * BIG)
            made.put(b"d/sub/small", b"small")
            reader = await made.fs.open((await made.walk(b"d/read")).number)
            small = await made.fs.open((await made.walk(b"d/sub/small")).number)
            new = await begun(made, b"d/sub/new", noise(10))
            large = await begun(made, b"d/large", noise(5 * MIB // 2))
            await rename(made, b"d", b"e")
            files = {b"e/read", b"e/sub/small", b"e/sub/new", b"e/large"}
            assert keys(made) == files | ({b"e/"} if marked or over else set())
            await made.fs.write(new, 10, b"+")
            await made.fs.write(large, 5 * MIB // 2, b"+")
            assert bytes(await made.fs.read(reader, BIG // 2, 10)) == b"r" * 10
            assert await whole(made, small) == b"small"
            assert await whole(made, large) == noise(5 * MIB // 2) + b"+"
            for handle in (reader, small, new, large):
                await finish(made, handle)
            assert made.stored(b"e/sub/new") == noise(10) + b"+"
            assert made.stored(b"e/large") == noise(5 * MIB // 2) + b"+"
            assert keys(made) == files | ({b"e/"} if marked or over else set())
            await agree(made)
            await nothing_left(made)

    run(main)


def test_a_listing_goes_on_where_it_was_when_its_directory_is_renamed() -> None:
    async def main() -> None:
        async with core(page=2) as made:
            for letter in b"abcdefg":
                made.put(b"d/%c" % letter, b"1")
            directory = await made.walk(b"d")
            handle = made.fs.open_directory(directory.number)
            first: list[tuple[bytes, int]] = []

            def emit(name: bytes, _inode: object, cookie: int) -> bool:
                first.append((name, cookie))
                return True

            await made.fs.read_directory(handle, 0, emit)
            assert [name for name, _ in first] == [b".", b"..", b"a", b"b"]
            await rename(made, b"d", b"e")
            made.put(b"d/stranger", b"1")
            rest = await made.listing(directory.number, handle, first[-1][1])
            assert [name for name, _, _ in rest] == [b"%c" % one for one in b"cdefg"]
            again = await made.listing(directory.number, handle)
            assert [name for name, _, _ in again] == [b"%c" % one for one in b"abcdefg"]
            made.fs.close_directory(handle)
            await nothing_left(made)

    run(main)


# Links and extended attributes


def test_links_point_inside_whatever_they_hang_from_and_may_dangle() -> None:
    async def main() -> None:
        async with core(policy=LINKS, prefix=b"p/", attr_timeout=0) as made:
            made.put(b"p/f", b"data")
            made.put(b"p/a/b/f", b"deep")
            deep = await number(made, b"a/b")
            for name, path, shown in (
                (b"up", b"../../f", b"../../f"),
                (b"odd", b".././b//f", b"f"),
                (b"dangling", b"none/at/all", b"none/at/all"),
            ):
                link = await made.fs.symlink(deep, name, path)
                assert await made.fs.readlink(link.number) == shown
                assert (await made.walk(b"a/b/" + name)).size == len(shown)
                assert await refusal(made.fs.symlink(deep, name, path)) == errno.EEXIST
            for path in (b"/f", b"../../../f", b"../..", b"", b"."):
                assert await refusal(made.fs.symlink(ROOT, b"bad", path)) == errno.EINVAL
            file = await made.walk(b"f")
            assert await refusal(made.fs.readlink(file.number)) == errno.EINVAL
            listed = {name: inode for name, inode, _ in await made.listing(deep)}
            assert sorted(listed) == [b"dangling", b"f", b"odd", b"up"]
            await rename(made, b"a/b/up", b"top")
            await rename(made, b"a/b/dangling", b"a/dangling", NOREPLACE)
            assert await made.fs.readlink(await number(made, b"top")) == b"f"
            assert await made.fs.readlink(await number(made, b"a/dangling")) == b"b/none/at/all"
            await rename(made, b"a", b"moved")
            assert await made.fs.readlink(await number(made, b"moved/b/odd")) == b"../../a/b/f"
            await unlink(made, b"moved/dangling")
            await unlink(made, b"top")
            assert await exists(made, b"f"), "the link is gone, not what it names"
            await nothing_left(made)

    run(main)


def test_without_links_none_are_made_and_those_there_are_what_they_name() -> None:
    async def main() -> None:
        async with core() as made:
            made.put(b"f", b"data")
            made.bucket.put_symlink(b"l", b"f", deadline=1e18)
            assert await refusal(made.fs.symlink(ROOT, b"new", b"f")) == errno.ENOTSUP
            link = await made.walk(b"l")
            assert await refusal(made.fs.readlink(link.number)) == errno.EINVAL
            assert await made.contents(b"l") == b"data"
            await unlink(made, b"l")
            assert await tree(made) == {b"f": b"data"}

    run(main)


def test_an_object_tells_of_itself_in_attributes() -> None:
    async def main() -> None:
        async with core() as made:
            options = PutOptions("text/plain", {"owner": "mé"}, storage_class="IA")
            reply = made.bucket.put(b"f", [b"data"], options, deadline=1e18)
            inode = await made.walk(b"f")
            shown = await made.fs.extended(inode.number)
            assert shown == {
                b"user.oss.etag": reply.etag.encode(),
                b"user.oss.storage_class": b"IA",
                b"user.oss.type": b"Normal",
                b"user.oss.crc64": str(reply.crc64).encode(),
                b"user.oss.content_type": b"text/plain",
                b"user.owner": "mé".encode(),
            }
            assert await made.fs.extended(ROOT) == {}
            new, handle = await made.fs.create(ROOT, b"new", W)
            assert await made.fs.extended(new.number) == {}
            await finish(made, handle)
            assert (await made.fs.extended(new.number))[b"user.oss.type"] == b"Normal"
            await unlink(made, b"f")
            assert await made.fs.extended(inode.number) == {}

    run(main)


def test_removed_files_that_are_open_leave_memory_for_those_who_read() -> None:
    async def main() -> None:
        async with core(memory=32 * MIB) as made:
            made.put(b"other", bytes(20 * MIB))
            handles = []
            with trio.fail_after(3_600):
                for number in range(40):
                    name = b"f%d" % number
                    made.put(name, bytes([number]) * MIB)
                    handles.append(await made.fs.open((await made.walk(name)).number))
                    await made.fs.unlink(ROOT, name)
                other = await made.fs.open((await made.walk(b"other")).number)
                for offset in range(0, 20 * MIB, MIB):
                    assert len(await made.fs.read(other, offset, MIB)) == MIB
            for number, handle in enumerate(handles[:8]):
                assert await whole(made, handle) == bytes([number]) * MIB
            beyond = {(await outcome(made.fs.read(each, 0, MIB)))[0] for each in handles[8:]}
            assert errno.ESTALE in beyond
            assert beyond <= {0, errno.ESTALE}
            for handle in (*handles, other):
                made.fs.close(handle)
            await nothing_left(made)
            assert made.source.kept == made.budget.used == 0

    run(main)


def test_a_rename_that_takes_long_keeps_no_memory_from_those_who_write() -> None:
    async def main() -> None:
        async with core(memory=64 * MIB, quota=4 * MIB) as made:
            made.put(b"d/old", b"old")
            directory = await made.walk(b"d")
            handles = []
            for number in range(4):
                _, handle = await made.fs.create(directory.number, b"%d" % number, W)
                assert await made.fs.write(handle, 0, noise(MIB)) == MIB
                handles.append(handle)
            _, other = await made.fs.create(ROOT, b"other", W)
            async with trio.open_nursery() as nursery:
                copy = late(made, "copy")
                renaming = start(nursery, made.fs.rename, ROOT, b"d", ROOT, b"e", 0)
                await copy.here()
                with trio.fail_after(1):
                    assert await made.fs.write(other, 0, noise(MIB)) == MIB
                copy.go()
                await renaming.done.wait()
                assert not renaming.errno
            for handle in handles:
                assert await made.fs.write(handle, MIB, b"more") == 4
            for handle in (*handles, other):
                await finish(made, handle)
            assert made.stored(b"other") == noise(MIB)
            for number in range(4):
                assert made.stored(b"e/%d" % number) == noise(MIB) + b"more"
            await nothing_left(made)

    run(main)
