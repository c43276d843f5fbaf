"""Renames, and names while things change: what POSIX lets happen, and nothing comes back."""

from __future__ import annotations

import errno
import os
from contextlib import suppress

import pytest
import trio

from ossfs.runtime.failure import FileSystemError
from ossfs.store.errors import Denied
from ossfs.store.plan import Raise, Rule
from ossfs.tree.inodes import ROOT
from ossfs.vfs.filesystem import Policy
from ossfs.vfs.names import NOREPLACE, resolved
from tests.support.core import Core, core, run
from tests.unit.writing.support import overheard

EXCHANGE = 2


async def refused(made: Core, old: bytes, new: bytes, flags: int = 0) -> int:
    """Return the errno of a rename in the root directory, whose names the kernel has looked up."""
    for name in (old, new):
        with suppress(FileSystemError):
            await made.fs.lookup(ROOT, name)
    with pytest.raises(FileSystemError) as raised:
        await made.fs.rename(ROOT, old, ROOT, new, flags)
    return raised.value.errno


def test_a_rename_replaces_only_what_posix_lets_it_replace() -> None:
    async def main() -> None:
        async with core(attr_timeout=0) as made:
            for key in (b"f", b"g", b"full/x", b"d/", b"e/"):
                made.put(key, key)
            assert await refused(made, b"f", b"d") == errno.EISDIR
            assert await refused(made, b"d", b"f") == errno.ENOTDIR
            assert await refused(made, b"d", b"full") == errno.ENOTEMPTY
            assert await refused(made, b"none", b"f") == errno.ENOENT
            assert await refused(made, b"f", b"g", NOREPLACE) == errno.EEXIST
            assert await refused(made, b"f", b"g", EXCHANGE) == errno.EINVAL
            inside = await made.fs.lookup(ROOT, b"full")
            with pytest.raises(FileSystemError) as raised:
                await made.fs.rename(ROOT, b"full", inside.number, b"y", 0)
            assert raised.value.errno == errno.EINVAL
            await made.fs.rename(ROOT, b"f", ROOT, b"g", 0)
            await made.fs.lookup(ROOT, b"e")
            await made.fs.rename(ROOT, b"d", ROOT, b"e", 0)
            await made.fs.rename(ROOT, b"g", ROOT, b"h", NOREPLACE)
            assert made.stored(b"h") == b"f"
            assert {name for name, _, _ in await made.listing(ROOT)} == {b"h", b"full", b"e"}

    run(main)


def test_a_page_that_was_asked_for_before_a_removal_brings_nothing_back() -> None:
    async def main() -> None:
        async with core(page=2) as made:
            for key in (b"a", b"b", b"c", b"d"):
                made.put(key, key)
            handle = made.fs.open_directory(ROOT)
            seen: list[bytes] = []

            def emit(name: bytes, _inode: object, cookie: int) -> bool:
                seen.append(name)
                return True

            await made.fs.read_directory(handle, 0, emit)
            await trio.testing.wait_all_tasks_blocked()  # the next page is here
            await made.fs.lookup(ROOT, b"c")
            await made.fs.unlink(ROOT, b"c")
            found = await made.listing(ROOT, handle, 4)
            assert [name for name, _, _ in found] == [b"d"]
            assert b"c" not in made.fs.inodes.root.children
            made.fs.close_directory(handle)

    run(main)


def test_a_name_that_cannot_be_asked_for_takes_none_of_those_before_it_along() -> None:
    async def main() -> None:
        async with core() as made:
            for key in (b"a", b"b", b"c"):
                made.put(key, key)
            handle = made.fs.open_directory(ROOT)
            await made.fs.read_directory(handle, 0, lambda name, _inode, _at: name in (b".", b".."))
            await made.fs.lookup(ROOT, b"b")
            await made.fs.unlink(ROOT, b"b")  # the page that is here shows it still
            made.store.add(Rule("head", Raise(Denied("by plan", status=403)), times=None))
            seen: list[tuple[bytes, int]] = []

            def emit(name: bytes, _inode: object, cookie: int) -> bool:
                seen.append((name, cookie))
                return True

            with overheard():
                await made.fs.read_directory(handle, 2, emit)  # an error would give the kernel none
                assert seen == [(b"a", 3)]
                with pytest.raises(Denied):
                    await made.fs.read_directory(handle, 3, emit)
            assert seen == [(b"a", 3)]
            made.store.heal()
            assert [name for name, _, _ in await made.listing(ROOT, handle, 3)] == [b"c"]
            made.fs.close_directory(handle)
            assert made.fs.inodes.root.children[b"a"].lookups == 1

    run(main)


def test_files_that_are_being_written_are_listed_once_each() -> None:
    async def main() -> None:
        async with core(page=2) as made:
            for key in (b"b", b"d", b"f"):
                made.put(key, key)
            handles = []
            for name in (b"a", b"c", b"d", b"z"):
                if name == b"d":
                    number = (await made.fs.lookup(ROOT, b"d")).number
                    handles.append(await made.fs.open_for(number, os.O_WRONLY | os.O_TRUNC))
                else:
                    handles.append((await made.fs.create(ROOT, name, os.O_WRONLY))[1])
                await made.fs.write(handles[-1], 0, b"new " + name)
            found = [(name, inode.size) for name, inode, _ in await made.listing(ROOT)]
            assert found == [(b"a", 5), (b"b", 1), (b"c", 5), (b"d", 5), (b"f", 1), (b"z", 5)]
            for handle in handles:
                await made.fs.flush(handle)
                await made.fs.release(handle)
            assert [name for name, _, _ in await made.listing(ROOT)] == [n for n, _ in found]
            made.forget_everything()
            assert len(made.fs.inodes) == 1
            assert made.budget.used == 0

    run(main)


def test_a_failed_upload_gives_the_name_back_to_what_is_there() -> None:
    async def main() -> None:
        async with core() as made:
            made.put(b"f", b"old")
            number = (await made.fs.lookup(ROOT, b"f")).number
            handle = await made.fs.open_for(number, os.O_WRONLY | os.O_TRUNC)
            await made.fs.write(handle, 0, b"new")
            made.store.add(Rule("put", Raise(Denied("by plan", status=403)), times=None))
            with overheard():
                for _ in range(2):
                    with pytest.raises(Denied):
                        await made.fs.flush(handle)
                with pytest.raises(Denied):
                    await made.fs.write(handle, 3, b"more")
                await made.fs.release(handle)
            assert await made.contents(b"f") == b"old"
            assert made.kernel.dropped_names == [(ROOT, b"f")]
            made.forget_everything()
            assert len(made.fs.inodes) == 1
            assert made.memory.used == 0

    run(main)


def test_links_are_relative_and_stay_inside() -> None:
    async def main() -> None:
        policy = Policy(attr_timeout=0, links=True)
        async with core(policy=policy, prefix=b"p/") as made:
            made.put(b"p/d/f", b"data")
            directory = await made.fs.lookup(ROOT, b"d")
            link = await made.fs.symlink(directory.number, b"l", b"../d/./f")
            assert await made.fs.readlink(link.number) == b"f"
            for path in (b"/etc/passwd", b"../../x", b".."):
                with pytest.raises(FileSystemError):
                    await made.fs.symlink(directory.number, b"bad", path)
            await made.fs.rename(directory.number, b"l", ROOT, b"m", 0)
            moved = await made.fs.lookup(ROOT, b"m")
            assert await made.fs.readlink(moved.number) == b"d/f"

    run(main)


def test_a_path_is_resolved_within_the_mount() -> None:
    assert resolved(b"p/a/b/", b"p/", b"../c//d/.") == b"p/a/c/d"
    with pytest.raises(FileSystemError):
        resolved(b"p/a/", b"p/", b"../..")


def test_times_that_were_chosen_stay_and_travel() -> None:
    async def main() -> None:
        async with core(attr_timeout=0) as made:
            await made.write(b"f", b"x")
            inode = await made.fs.lookup(ROOT, b"f")
            await made.fs.set_mtime(inode.number, 1_500_000_000)
            assert (await made.fs.attributes(inode.number)).mtime_ns == 1_500_000_000
            await made.fs.rename(ROOT, b"f", ROOT, b"g", 0)
            info = made.bucket.head(b"g", full=True, deadline=1e18)
            assert info.metadata["mtime"] == "1.5"
            assert (await made.fs.lookup(ROOT, b"g")).mtime_ns == 1_500_000_000

    run(main)


def test_a_key_of_full_length_is_a_file_and_no_directory() -> None:
    async def main() -> None:
        async with core(attr_timeout=0, prefix=b"p" * 767 + b"/") as made:
            name = b"n" * 255
            assert await refused(made, b"none", name) == errno.ENOENT
            made.requests()
            with pytest.raises(FileSystemError) as raised:
                await made.fs.lookup(ROOT, name)
            assert raised.value.errno == errno.ENOENT
            assert made.requests() == ["head"], "a store refuses a prefix of 1,024 bytes"
            with pytest.raises(FileSystemError) as raised:
                await made.fs.mkdir(ROOT, name)
            assert raised.value.errno == errno.ENAMETOOLONG
            await made.fs.mkdir(ROOT, b"d")
            assert await refused(made, b"d", name) == errno.ENAMETOOLONG
            await made.write(name, b"file")
            assert made.stored(b"p" * 767 + b"/" + name) == b"file"

    run(main)


def test_directories_are_markers_and_made_once() -> None:
    async def main() -> None:
        async with core() as made:
            directory = await made.fs.mkdir(ROOT, b"d")
            assert made.stored(b"d/") == b""
            made.put(b"e/", b"")
            for name in (b"d", b"e"):  # the second was made elsewhere: nobody has looked it up
                with pytest.raises(FileSystemError) as raised:
                    await made.fs.mkdir(ROOT, name)
                assert raised.value.errno == errno.EEXIST
            made.put(b"d/f", b"x")
            with pytest.raises(FileSystemError) as raised:
                await made.fs.rmdir(ROOT, b"d")
            assert raised.value.errno == errno.ENOTEMPTY
            made.delete(b"d/f")
            await made.fs.rmdir(ROOT, b"d")
            assert made.stored(b"d/") is None
            assert not directory.attached

    run(main)
