"""What options about caches change: absences, close-to-open, listings without nodes, eviction."""

from __future__ import annotations

import errno
import os
from dataclasses import replace

import pytest
import trio

from ossfs.store.errors import Denied
from ossfs.store.plan import Raise, Rule
from ossfs.tree.inodes import ROOT
from ossfs.vfs.files import WritePolicy
from ossfs.vfs.filesystem import Policy
from ossfs.vfs.names import NOREPLACE
from tests.support.core import core, run
from tests.unit.vfs.support import exists, late, refusal, start
from tests.unit.writing.support import overheard

ABSENT = Policy(attr_timeout=60, absence_timeout=30, kernel_absence=True)
CLOSE_TO_OPEN = Policy(attr_timeout=60, close_to_open=True)


def test_an_absence_costs_one_question_until_its_time_is_over() -> None:
    async def main() -> None:
        async with core(policy=ABSENT) as made:
            for _ in range(3):
                assert await refusal(made.fs.lookup(ROOT, b"none")) == errno.ENOENT
            assert made.requests() == ["head", "list_page"]
            made.put(b"none", b"1")
            await trio.sleep(29)
            assert await refusal(made.fs.lookup(ROOT, b"none")) == errno.ENOENT
            assert made.requests() == []
            await trio.sleep(2)
            assert (await made.fs.lookup(ROOT, b"none")).size == 1

    run(main)


def test_a_listing_ends_an_absence() -> None:
    async def main() -> None:
        async with core(policy=ABSENT) as made:
            assert await refusal(made.fs.lookup(ROOT, b"late")) == errno.ENOENT
            made.put(b"late", b"1")
            ((_, inode, _),) = await made.listing(ROOT)
            made.fs.forget([(inode.number, 1)])
            made.requests()
            assert (await made.fs.lookup(ROOT, b"late")).size == 1
            assert made.requests() == ["head"]

    run(main)


def test_what_is_made_here_was_never_absent_and_what_is_there_is_not_overwritten() -> None:
    async def main() -> None:
        async with core(policy=ABSENT) as made:
            assert await refusal(made.fs.lookup(ROOT, b"new")) == errno.ENOENT
            made.put(b"new", b"of another")
            _, handle = await made.fs.create(ROOT, b"new", 0)
            await made.fs.flush(handle)
            await made.fs.release(handle)
            assert (await made.fs.lookup(ROOT, b"new")).size == len(b"of another")

    run(main)


@pytest.mark.parametrize(("old", "op"), [(b"f", "delete"), (b"d", "delete_many")])
def test_what_a_rename_that_failed_has_copied_is_not_missing(old: bytes, op: str) -> None:
    async def main() -> None:
        policy = Policy(attr_timeout=0, absence_timeout=100)
        async with core(policy=policy) as made:
            made.put(b"f", b"file")
            made.put(b"d/x", b"file")
            await made.walk(old)
            assert not await exists(made, b"new")
            made.store.add(Rule(op, Raise(Denied("by plan", status=403))))
            with overheard():
                assert await refusal(made.fs.rename(ROOT, old, ROOT, b"new", 0)) == errno.EACCES
            assert made.stored({b"f": b"new", b"d": b"new/x"}[old]) == b"file"
            assert await exists(made, b"new")

    run(main)


def test_names_that_are_found_to_be_taken_stay_no_longer_than_the_kernel_knows_them() -> None:
    async def main() -> None:
        async with core(policy=replace(ABSENT, links=True)) as made:
            made.put(b"f", b"file")
            for name in (b"excl", b"mkdir", b"symlink", b"rename"):
                assert not await exists(made, name)
                made.put(name, b"by another")
            await made.walk(b"f")
            excl = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            for call in (
                made.fs.create(ROOT, b"excl", excl),
                made.fs.mkdir(ROOT, b"mkdir"),
                made.fs.symlink(ROOT, b"symlink", b"f"),
                made.fs.rename(ROOT, b"f", ROOT, b"rename", NOREPLACE),
            ):
                assert await refusal(call) == errno.EEXIST
            made.fs.sweep()
            assert [inode.name for inode in made.fs.inodes] == [b"", b"f"]

    run(main)


def test_close_to_open_finds_a_change_that_attributes_hide() -> None:
    async def main() -> None:
        async with core(policy=CLOSE_TO_OPEN) as made:
            made.put(b"file", b"old")
            old = await made.walk(b"file")
            first = await made.fs.open(old.number)
            assert bytes(await made.fs.read(first, 0, 10)) == b"old"
            made.put(b"file", b"new")
            assert await refusal(made.fs.open(old.number)) == errno.ESTALE
            assert (ROOT, b"file") in made.kernel.dropped_names
            new = await made.fs.lookup(ROOT, b"file")
            assert new is not old
            second = await made.fs.open(new.number)
            assert bytes(await made.fs.read(second, 0, 10)) == b"new"
            made.fs.close(first)
            made.fs.close(second)

    run(main)


def test_close_to_open_finds_that_a_file_is_gone() -> None:
    async def main() -> None:
        async with core(policy=CLOSE_TO_OPEN) as made:
            made.put(b"file", b"old")
            inode = await made.walk(b"file")
            made.store.delete(b"file", deadline=1e9)
            assert await refusal(made.fs.open(inode.number)) == errno.ESTALE
            assert await refusal(made.fs.lookup(ROOT, b"file")) == errno.ENOENT

    run(main)


def test_an_open_does_not_take_an_answer_from_before_it() -> None:
    """Another's lookup is under way, and its answer older than what was closed meanwhile."""

    async def main() -> None:
        async with (
            core(policy=CLOSE_TO_OPEN, attr_timeout=0) as made,
            trio.open_nursery() as nursery,
        ):
            made.put(b"file", b"old")
            inode = await made.walk(b"file")
            slow = late(made, "head", b"file")
            lookup = start(nursery, made.fs.lookup, ROOT, b"file")
            await slow.here()
            made.put(b"file", b"new")
            opening = start(nursery, made.fs.open, inode.number)
            await opening.done.wait()
            assert opening.errno == errno.ESTALE
            slow.go()
            await lookup.done.wait()

    run(main)


def test_a_listing_without_nodes_leaves_no_inodes() -> None:
    async def main() -> None:
        async with core(policy=Policy(attr_timeout=60, list_nodes=False)) as made:
            for number in range(300):
                made.put(b"dir/file-%03d" % number, b"x")
            directory = await made.walk(b"dir")
            known = await made.walk(b"dir/file-007")
            found = await made.listing(directory.number)
            assert len(found) == 300
            assert {inode for inode in made.fs.inodes if inode.parent is directory} == {known}
            assert known.lookups == 1

    run(main)


def test_the_surplus_is_idle_files_that_nothing_is_mounted_on() -> None:
    async def main() -> None:
        async with core() as made:
            for number in range(4):
                made.put(b"dir/file-%d" % number, b"x")
            files = [await made.walk(b"dir/file-%d" % number) for number in range(4)]
            directory = files[0].parent
            assert directory is not None
            known = len(made.fs.inodes)
            handle = await made.fs.open(files[0].number)

            def surplus(excess: int, *covered: bytes) -> list[bytes]:
                names = made.fs.surplus(known - excess, covered)
                assert {parent for parent, _ in names} <= {directory.number}
                return [name for _, name in names]

            assert surplus(0) == []
            assert surplus(1, b"dir/file-1", b"elsewhere", b"dir") == [b"file-2"]
            # It has not gone, so somebody holds it: another one's turn.
            assert surplus(1, b"dir/file-1") == [b"file-3"]
            assert surplus(1) == [b"file-1"]
            assert surplus(9) == [b"file-1", b"file-2", b"file-3"]
            made.fs.close(handle)

    run(main)


def test_what_the_kernel_has_forgotten_is_not_remembered_as_asked() -> None:
    async def main() -> None:
        async with core() as made:
            for turn in range(20):
                for number in range(10):
                    made.put(b"file-%d-%d" % (turn, number), b"x")
                    await made.fs.lookup(ROOT, b"file-%d-%d" % (turn, number))
                names = made.fs.surplus(5)
                for _, name in names:
                    inode = made.fs.inodes.root.children[name]
                    made.fs.forget([(inode.number, inode.lookups)])
                assert len(made.fs.inodes) == 5
                assert len(made.fs._pinned) <= len(names)

    run(main)


def test_absences_that_the_kernel_may_remember_are_reckoned_with_ever_after() -> None:
    """A create is no longer preceded by a lookup only because new absences are not remembered."""

    async def main() -> None:
        async with core(policy=Policy(attr_timeout=60, kernel_absence=True)) as made:
            assert await refusal(made.fs.lookup(ROOT, b"new")) == errno.ENOENT
            made.fs.adopt(Policy(attr_timeout=60), WritePolicy())
            made.put(b"new", b"of another")
            inode, handle = await made.fs.create(ROOT, b"new", os.O_WRONLY | os.O_APPEND)
            await made.fs.write(handle, inode.size, b", and ours")
            await made.fs.flush(handle)
            await made.fs.release(handle)
            assert inode.size == len(b"of another, and ours")

    run(main)
