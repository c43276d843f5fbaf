"""Inodes that stay when the kernel has forgotten them: which, how many, and until when."""

from __future__ import annotations

import random

import trio

from ossfs.tree.inodes import ROOT, Directory, Inode, InodeTable
from ossfs.vfs.filesystem import Policy
from tests.support.core import Core, core, run
from tests.unit.vfs.support import exists

KEPT = Policy(attr_timeout=60, kept_inodes=100)


def table(most: int) -> InodeTable:
    made = InodeTable(b"")
    made.kept_most = most
    return made


def file(
    made: InodeTable, name: bytes, deadline: float = 60, parent: Directory | None = None
) -> Inode:
    """Return a file that the kernel has looked up once."""
    inode = made.add(Inode, parent or made.root, name)
    inode.lookups, inode.deadline = 1, deadline
    return inode


def directory(made: InodeTable, name: bytes, parent: Directory | None = None) -> Directory:
    inode = made.add(Directory, parent or made.root, name)
    assert isinstance(inode, Directory)
    inode.lookups, inode.deadline = 1, 60
    return inode


def forget(made: InodeTable, *inodes: Inode) -> None:
    for inode in inodes:
        made.forget(inode.number, inode.lookups)


# The table


def test_those_forgotten_last_stay_as_many_as_the_user_wants() -> None:
    made = table(3)
    files = [file(made, b"%d" % number) for number in range(6)]
    forget(made, *files)
    assert made.kept == 3
    assert set(made) == {made.root, *files[3:]}
    assert list(made.root.children.values()) == files[3:]
    made.forget(files[3].number, 1)  # it was listed again, say
    forget(made, file(made, b"new"))
    assert files[3] in made
    assert files[4] not in made


def test_without_the_option_nothing_stays() -> None:
    made = table(0)
    forget(made, file(made, b"f"))
    assert list(made) == [made.root]
    assert made.kept == 0


def test_they_go_when_they_are_no_longer_fresh() -> None:
    made = table(10)
    files = [file(made, b"%d" % number, deadline=number) for number in range(4)]
    forget(made, *files)
    made.drop_kept(1.0)
    assert set(made) == {made.root, *files[2:]}
    made.drop_kept(3.0)
    assert list(made) == [made.root]
    assert made.kept == 0


def test_one_whose_name_goes_or_stands_for_another_goes_at_once() -> None:
    made = table(10)
    gone, replaced, covered, moving = (file(made, name) for name in (b"a", b"b", b"c", b"d"))
    forget(made, gone, replaced, covered)
    made.detach(gone)
    newer = made.add(Inode, made.root, b"b")
    made.move(moving, made.root, b"c")
    assert set(made) == {made.root, newer, moving}
    assert made.kept == 0


def test_one_that_is_kept_goes_on_under_another_name() -> None:
    made = table(10)
    target, moved = directory(made, b"d"), file(made, b"f")
    forget(made, moved, target)
    made.move(moved, target, b"g")
    assert made.kept == 2
    assert moved.key == b"d/g"
    made.drop_kept(60)
    assert list(made) == [made.root]


def test_what_has_no_name_is_not_kept_and_the_root_needs_no_keeping() -> None:
    made = table(10)
    old = file(made, b"f")
    new = file(made, b"f")
    forget(made, old)
    made.retire(made.root)
    made.forget(ROOT, 1)
    assert set(made) == {made.root, new}
    assert made.kept == 0


def test_one_that_is_open_outlives_its_being_kept() -> None:
    made = table(1)
    opened = file(made, b"open")
    opened.opened = object()
    forget(made, opened, file(made, b"other"))
    assert opened in made
    opened.opened = None
    made.release(opened)
    assert opened not in made


def test_a_directory_that_is_kept_or_leads_to_something_kept_stays() -> None:
    made = table(10)
    outer = directory(made, b"d")
    inner = directory(made, b"e", outer)
    leaf = file(made, b"f", parent=inner)
    forget(made, leaf, inner, outer)
    assert made.kept == 3
    outer.deadline = inner.deadline = 10
    made.drop_kept(59)
    assert made.kept, "in the order in which they were forgotten"
    assert leaf.key == b"d/e/f"
    made.drop_kept(60)
    assert list(made) == [made.root]

    made.kept_most = 1
    outer = directory(made, b"d")
    leaf = file(made, b"f", parent=outer)
    forget(made, outer, leaf)
    assert set(made) == {made.root, outer, leaf}, "it has a child"
    made.drop_kept(60)
    assert list(made) == [made.root]


def test_a_replaced_directory_leaves_nothing_behind() -> None:
    made = table(10)
    old = directory(made, b"d")
    below = file(made, b"f", parent=old)
    forget(made, below, old)
    new = file(made, b"d")
    assert made.kept == 1, "what was below it, until it is no longer fresh"
    made.drop_kept(60)
    assert set(made) == {made.root, new}


def test_a_smaller_limit_holds_from_the_next_one_on_and_none_lets_all_go_in_time() -> None:
    made = table(10)
    forget(made, *(file(made, b"%d" % number) for number in range(8)))
    made.kept_most = 3
    forget(made, file(made, b"next"))
    assert made.kept == 3
    made.kept_most = 0
    forget(made, file(made, b"last"))
    assert made.kept == 3
    made.drop_kept(60)
    assert list(made) == [made.root]


def test_whatever_is_done_to_it_the_table_has_what_is_needed_and_ends_empty() -> None:
    for seed in range(60):
        chance = random.Random(seed)
        made = table(chance.choice([0, 1, 5, 50]))
        now = 0.0
        for _ in range(300):
            parents = [made.root, *(one for one in made if isinstance(one, Directory))]
            parent = chance.choice([one for one in parents if one.attached])
            name = b"%d" % chance.randrange(5)
            known = [one for one in made if one is not made.root and one.attached]
            step = chance.randrange(7)
            if step <= 1:
                kind = chance.choice([Inode, Inode, Directory])
                inode = made.add(kind, parent, name, str(chance.random()))
                inode.deadline = now + chance.uniform(0, 10)
                inode.lookups += 1
            elif step <= 3 and known:
                inode = chance.choice(known)
                made.forget(inode.number, chance.randint(1, 2))
            elif step == 4 and known:
                made.detach(chance.choice(known))
            elif step == 5 and known:
                inode = chance.choice(known)
                above: Inode | None = parent
                while above is not None and above is not inode:
                    above = above.parent
                if above is None:
                    made.move(inode, parent, name)
            else:
                now += chance.uniform(0, 3)
                made.drop_kept(now)
            assert made.kept <= made.kept_most
            for inode in made:
                assert made[inode.number] is inode
                if inode.attached and inode.parent is not None:
                    assert inode.parent in made
        made.drop_kept(now + 10)
        assert made.kept == 0
        for inode in list(made):
            made.forget(inode.number, inode.lookups)
        made.drop_kept(now + 10)
        assert list(made) == [made.root], seed


# The file system


async def look(made: Core, *paths: bytes) -> int:
    """Look paths up and have the kernel forget all; return what it has cost."""
    made.requests()
    for path in paths:
        await made.walk(path)
    cost = len(made.requests())
    made.forget_everything()
    return cost


def test_looking_again_costs_no_request_until_attributes_are_no_longer_believed() -> None:
    async def main() -> None:
        async with core(policy=KEPT) as made:
            for name in (b"d/f", b"d/g"):
                made.put(name, b"1")
            first = await made.walk(b"d/f")
            number = first.number
            made.forget_everything()
            assert await look(made, b"d/f") == 0
            assert (await made.walk(b"d/f")).number == number
            made.forget_everything()
            await trio.sleep(59.9)
            assert await look(made, b"d/f") == 0
            await trio.sleep(0.1)
            made.fs.sweep()
            assert len(made.fs.inodes) == 1
            assert await look(made, b"d/f") > 0
            assert await look(made, b"d/f") == 0

    run(main)


def test_what_changes_elsewhere_is_found_when_attributes_are_no_longer_believed() -> None:
    async def main() -> None:
        async with core(policy=KEPT) as made:
            made.put(b"f", b"1")
            made.put(b"g", b"1")
            await look(made, b"f", b"g")
            made.put(b"f", b"22")
            made.delete(b"g")
            assert (await made.walk(b"f")).size == 1
            made.forget_everything()
            await trio.sleep(60)
            assert (await made.walk(b"f")).size == 2
            assert not await exists(made, b"g")

    run(main)


def test_what_changes_here_is_known_at_once() -> None:
    async def main() -> None:
        async with core(policy=KEPT) as made:
            for name in (b"f", b"g", b"h"):
                made.put(name, b"1")
            await look(made, b"f", b"g", b"h")
            await made.write(b"f", b"22")
            await made.fs.unlink(ROOT, b"g")
            await made.fs.rename(ROOT, b"h", ROOT, b"i", 0)
            made.forget_everything()
            assert (await made.walk(b"f")).size == 2
            assert await made.contents(b"f") == b"22"
            assert [await exists(made, name) for name in (b"g", b"h", b"i")] == [False, False, True]

    run(main)


def test_what_was_only_listed_is_looked_up_without_a_request() -> None:
    policy = Policy(attr_timeout=60, list_nodes=False, kept_inodes=1_000)

    async def main() -> None:
        async with core(policy=policy) as made:
            for number in range(300):
                made.put(b"dir/file-%03d" % number, b"x")
            directory = await made.walk(b"dir")
            assert len(await made.listing(directory.number)) == 300
            made.requests()
            for number in range(300):
                assert (await made.fs.lookup(directory.number, b"file-%03d" % number)).size == 1
            assert made.requests() == []

    run(main)


def test_no_more_stays_of_a_listing_than_is_to_be_kept() -> None:
    async def main() -> None:
        async with core(policy=Policy(60, list_nodes=False, kept_inodes=10)) as made:
            for number in range(300):
                made.put(b"file-%03d" % number, b"x")
            await made.listing(ROOT)
            assert made.fs.inodes.kept == 10
            assert len(made.fs.inodes) == 11

    run(main)


def test_what_is_kept_is_no_surplus_for_the_kernel_to_forget() -> None:
    async def main() -> None:
        async with core(policy=KEPT) as made:
            for number in range(20):
                made.put(b"file-%02d" % number, b"x")
                await made.walk(b"file-%02d" % number)
            assert len(made.fs.surplus(5)) == 16
            made.forget_everything()
            assert made.fs.inodes.kept == 20
            assert made.fs.surplus(5) == []
            for number in range(20):
                await made.walk(b"file-%02d" % number)
            assert len(made.fs.surplus(5)) == 16, "the kernel knows them again"

    run(main)


def test_what_the_kernel_knows_again_takes_nobodys_place() -> None:
    async def main() -> None:
        async with core(policy=Policy(60, kept_inodes=2)) as made:
            for name in (b"1", b"again", b"2"):
                made.put(name, b"x")
            await look(made, b"1")
            await look(made, b"again")
            again = await made.walk(b"again")
            two = await made.walk(b"2")
            made.fs.forget([(two.number, 1)])
            assert made.fs.inodes.kept == 2
            assert again.lookups == 1
            assert await look(made, b"1", b"2") == 0

    run(main)


def test_those_that_are_looked_at_all_the_time_keep_no_others_alive() -> None:
    async def main() -> None:
        async with core(policy=KEPT) as made:
            for name in (b"busy", b"idle"):
                made.put(name, b"1")
                await look(made, name)
            for _ in range(10):
                await trio.sleep(30)
                await made.walk(b"busy")
                made.fs.sweep()
            assert {inode.name for inode in made.fs.inodes} == {b"", b"busy"}

    run(main)


def test_when_fewer_are_to_be_kept_the_others_go_soon() -> None:
    made = table(100)
    inodes = [file(made, b"%d" % number) for number in range(10)]
    forget(made, *inodes)
    for most in (4, 0):
        made.kept_most = most
        made.drop_kept(0)
        assert (made.kept, len(made)) == (most, most + 1)
