"""Directories that many list: few requests, nothing missed that was changed here, nothing twice."""

from __future__ import annotations

import errno
import os
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing

from ossfs.store.api import ListPage
from ossfs.store.errors import Denied
from ossfs.store.plan import Raise, Rule
from ossfs.tree.inodes import ROOT, Directory
from ossfs.vfs.files import WritePolicy
from ossfs.vfs.filesystem import Policy
from tests.support.core import Core, core, run
from tests.unit.vfs.support import exists, late, names, nothing_left, refusal, start

NAMES = [b"file-%02d" % number for number in range(50)]
PAGE = 10
LIVES = pytest.mark.parametrize("life", [0.0, 100.0])


def policy(life: float, **more: object) -> Policy:
    return Policy(attr_timeout=60, listing_life=life, **more)  # type: ignore[arg-type]


async def slowly(_op: str, _key: bytes) -> None:
    """Let every request take some time."""
    await trio.sleep(0.01)


def fill(made: Core, directory: bytes = b"") -> None:
    for name in NAMES:
        made.put(directory + name, b"old")


class AfterLast:
    """Lists on from the last name of a page, not from the one that came next then."""

    def __init__(self, made: Core) -> None:
        self._store = made.fs._store
        self.head = self._store.head
        self.get_symlink = self._store.get_symlink

    async def list_page(self, prefix: bytes, **position: Any) -> ListPage:
        token = position.pop("token", None)
        if token is not None:
            position["start_after"] = bytes.fromhex(token)
        page = await self._store.list_page(prefix, **position)
        if page.next_token is None:
            return page
        return ListPage(page.entries, page.prefixes, page.entries[-1].key.hex())


class Opened:
    """A directory that is read page by page."""

    def __init__(self, made: Core, number: int = ROOT) -> None:
        self._made = made
        self._handle = made.fs.open_directory(number)
        self._at = 0
        self.sizes: dict[bytes, int] = {}
        self.seen: list[bytes] = []

    async def step(self) -> bool:
        """Read a page; say whether there was one."""
        before = self._at

        def emit(name: bytes, inode: object, cookie: int) -> bool:
            self._at = cookie
            if name not in (b".", b".."):
                self.seen.append(name)
                self.sizes[name] = inode.size  # type: ignore[attr-defined]
            return True

        await self._made.fs.read_directory(self._handle, self._at, emit)
        return self._at != before

    def rewind(self) -> None:
        self._at = 0
        self.seen.clear()

    async def rest(self) -> list[bytes]:
        while await self.step():
            pass
        return self.seen

    def close(self) -> None:
        self._made.fs.close_directory(self._handle)


# Requests


@pytest.mark.parametrize(("attr_timeout", "requests"), [(60, 5), (0.5, 5), (0, 40)])
def test_a_directory_that_eight_list_at_once_is_fetched_once_where_that_may_be(
    attr_timeout: float, requests: int
) -> None:
    async def main() -> None:
        async with core(page=PAGE, gate=slowly, attr_timeout=attr_timeout) as made:
            fill(made)
            found = []

            async def one() -> None:
                found.append(await names(made))

            async with trio.open_nursery() as nursery:
                for _ in range(8):
                    nursery.start_soon(one)
            assert found == [NAMES] * 8
            assert made.requests() == ["list_page"] * requests
            assert await names(made) == NAMES
            assert made.requests() == ["list_page"] * 5, "nobody else is on it any more"
            await nothing_left(made)

    run(main)


def test_with_no_life_who_comes_a_second_later_or_rewinds_lists_afresh() -> None:
    async def main() -> None:
        async with core(page=PAGE) as made:
            fill(made)
            first, second = Opened(made), Opened(made)
            await first.rest()
            await second.rest()
            assert made.requests() == ["list_page"] * 5
            made.put(b"file-99", b"new")
            first.rewind()
            assert await first.rest() == [*NAMES, b"file-99"]
            assert made.requests() == ["list_page"] * 6
            await trio.sleep(1)
            third = Opened(made)
            await third.rest()
            assert made.requests() == ["list_page"] * 6
            for opened in (first, second, third):
                opened.close()
            await nothing_left(made)

    run(main)


def test_changes_elsewhere_are_seen_when_the_life_of_a_listing_is_over_and_not_before() -> None:
    async def main() -> None:
        async with core(page=PAGE, policy=policy(100)) as made:
            fill(made)
            assert await names(made) == NAMES
            made.delete(NAMES[0])
            made.put(b"file-99", b"new")
            made.put(NAMES[1], b"longer than before")
            made.requests()
            await trio.sleep(99)
            for _ in range(3):
                assert await names(made) == NAMES
            assert made.requests() == []
            await trio.sleep(1)
            found = await made.listing(ROOT)
            assert [name for name, _, _ in found] == [*NAMES[1:], b"file-99"]
            assert found[0][1].size == len(b"longer than before")
            assert made.requests() == ["list_page"] * 5
            await trio.sleep(100)
            made.fs.sweep()
            await nothing_left(made)

    run(main)


def test_a_reload_changes_the_life_of_listings_at_once() -> None:
    async def main() -> None:
        async with core(page=PAGE) as made:
            fill(made)
            for life, requests in ((100, 5), (100, 0), (0, 5), (0, 5)):
                made.fs.adopt(policy(life), WritePolicy())
                made.requests()
                assert await names(made) == NAMES
                assert len(made.requests()) == requests
            await nothing_left(made)

    run(main)


def test_a_failed_page_is_everybodys_error_once_and_the_next_listing_is_whole(
    expect_log: Callable[[str], None],
) -> None:
    expect_log("list_page .* failed")

    async def main() -> None:
        async with core(page=PAGE, gate=slowly, policy=policy(100)) as made:
            fill(made)
            made.store.add(Rule("list_page", Raise(Denied("no")), nth=3))
            failed = []

            async def one() -> None:
                failed.append(await refusal(names(made)))

            async with trio.open_nursery() as nursery:
                for _ in range(4):
                    nursery.start_soon(one)
            assert failed == [errno.EACCES] * 4
            assert await names(made) == NAMES

    run(main)


# Changes made here


async def create(made: Core) -> None:
    await made.write(b"file-20-new", b"new")


async def begin(made: Core) -> None:
    _, handle = await made.fs.create(ROOT, b"file-20-new", os.O_WRONLY)
    await made.fs.write(handle, 0, b"new")


async def grow(made: Core) -> None:
    await made.write(b"file-20", b"longer than before")


async def unlink(made: Core) -> None:
    await made.fs.unlink(ROOT, b"file-20")


async def rename(made: Core) -> None:
    await made.fs.rename(ROOT, b"file-20", ROOT, b"file-40-new", 0)


async def rename_over(made: Core) -> None:
    await made.fs.rename(ROOT, b"file-20", ROOT, b"file-21", 0)


async def rename_away(made: Core) -> None:
    other = await made.fs.mkdir(ROOT, b"other")
    await made.fs.rename(ROOT, b"file-20", other.number, b"file-20", 0)
    assert await names(made, other.number) == [b"file-20"]


async def mkdir(made: Core) -> None:
    await made.fs.mkdir(ROOT, b"file-20-dir")


async def link(made: Core) -> None:
    await made.fs.symlink(ROOT, b"file-20-link", b"file-30")


REMOVED = [name for name in NAMES if name != b"file-20"]
CHANGES: list[tuple[Callable[[Core], Awaitable[None]], list[bytes]]] = [
    (create, sorted([*NAMES, b"file-20-new"])),
    (begin, sorted([*NAMES, b"file-20-new"])),
    (grow, NAMES),
    (unlink, REMOVED),
    (rename, sorted([*REMOVED, b"file-40-new"])),
    (rename_over, REMOVED),
    (rename_away, [*REMOVED, b"other"]),
    (mkdir, sorted([*NAMES, b"file-20-dir"])),
    (link, sorted([*NAMES, b"file-20-link"])),
]


@LIVES
@pytest.mark.parametrize("others", [0, 1, 3])
@pytest.mark.parametrize(("change", "after"), CHANGES, ids=lambda one: getattr(one, "__name__", ""))
def test_a_listing_that_begins_after_a_change_here_shows_it(
    life: float,
    others: int,
    change: Callable[[Core], Awaitable[None]],
    after: list[bytes],
) -> None:
    async def main() -> None:
        async with core(page=PAGE, policy=policy(life, links=True)) as made:
            fill(made)
            assert await names(made) == NAMES
            on_it = [Opened(made) for _ in range(others)]
            for number, opened in enumerate(on_it):
                for _ in range(number + 1):
                    await opened.step()
            await change(made)
            new = Opened(made)
            assert await new.rest() == after
            if change is grow:
                assert new.sizes[b"file-20"] == len(b"longer than before")
            for opened in on_it:
                seen = await opened.rest()
                assert len(set(seen)) == len(seen)
                assert set(seen) >= set(after) & set(NAMES), "what was there all the time"
                opened.rewind()
                assert await opened.rest() == after
            assert await names(made) == after

    run(main)


@LIVES
def test_a_page_whose_names_have_all_been_removed_here_ends_no_listing(life: float) -> None:
    async def main() -> None:
        async with core(page=PAGE, policy=policy(life)) as made:
            fill(made)
            opened = Opened(made)
            await opened.step()
            await trio.testing.wait_all_tasks_blocked()  # the second page is here already
            for name in [*NAMES[10:20], NAMES[29]]:
                await made.walk(name)
                await made.fs.unlink(ROOT, name)
            assert await opened.rest() == [*NAMES[:10], *NAMES[20:29], *NAMES[30:]]
            opened.close()

    run(main)


@LIVES
def test_a_directory_that_is_removed_takes_its_listing_along(life: float) -> None:
    async def main() -> None:
        async with core(policy=policy(life)) as made:
            outer = await made.fs.mkdir(ROOT, b"d")
            inner = await made.fs.mkdir(outer.number, b"e")
            await made.write(b"d/e/f", b"1")
            held = Opened(made, inner.number)
            for number, expected in ((ROOT, b"d"), (outer.number, b"e"), (inner.number, b"f")):
                assert await names(made, number) == [expected]
            await held.step()
            await made.fs.unlink(inner.number, b"f")
            assert await names(made, inner.number) == []
            await made.fs.rmdir(outer.number, b"e")
            assert await names(made, outer.number) == []
            await made.fs.rmdir(ROOT, b"d")
            assert await names(made) == []
            held.close()
            outer = await made.fs.mkdir(ROOT, b"d")
            inner = await made.fs.mkdir(outer.number, b"e")
            assert await names(made, inner.number) == []
            assert await names(made, outer.number) == [b"e"]

    run(main)


@LIVES
def test_a_renamed_directory_leaves_no_listing_of_it_or_below_behind(life: float) -> None:
    async def main() -> None:
        async with core(page=2, policy=policy(life)) as made:
            for number in range(5):
                made.put(b"a/f%d" % number, b"1")
                made.put(b"a/b/g%d" % number, b"1")
            made.put(b"z/other", b"1")
            outer, inner = await made.walk(b"a"), await made.walk(b"a/b")
            outside = await made.walk(b"z")
            held = [Opened(made, directory.number) for directory in (outer, inner)]
            for opened in held:
                await opened.step()
            for directory in (outer, inner, outside, made.fs.inodes.root):
                await names(made, directory.number)
            assert await exists(made, b"a/b/g0")
            await made.fs.rename(ROOT, b"a", outside.number, b"moved", 0)
            files = [b"f%d" % number for number in range(5)]
            below = [b"g%d" % number for number in range(5)]
            assert await names(made) == [b"z"]
            assert await names(made, outside.number) == [b"moved", b"other"]
            assert await names(made, outer.number) == [b"b", *files]
            assert await names(made, inner.number) == below
            assert [await opened.rest() for opened in held] == [[b"b", *files], below]
            again = await made.fs.mkdir(ROOT, b"a")
            assert await names(made, again.number) == []
            child = await made.fs.mkdir(again.number, b"b")
            assert await names(made, child.number) == []
            assert await names(made, again.number) == [b"b"]

    run(main)


@pytest.mark.parametrize("life", [0.0, 100.0])
def test_a_directory_whose_last_file_goes_is_shown_once_it_has_its_marker(life: float) -> None:
    """Others may have listed the directory above in the moment in which there was nothing."""

    async def main() -> None:
        async with core(policy=policy(life)) as made, trio.open_nursery() as nursery:
            made.put(b"d/e/f", b"1")
            inner = await made.walk(b"d/e")
            await made.walk(b"d/e/f")
            assert inner.parent is not None
            marking = late(made, "put", b"d/e/", performed=False)
            removal = start(nursery, made.fs.unlink, inner.number, b"f")
            await marking.here()
            between = Opened(made, inner.parent.number)
            await between.rest()
            marking.go()
            await removal.done.wait()
            assert removal.errno == 0
            assert await names(made, inner.parent.number) == [b"e"]
            between.close()

    run(main)


# Files that are being written


@LIVES
@pytest.mark.parametrize("seed", range(25))
def test_what_is_written_here_is_shown_exactly_once_from_its_creation_on(
    life: float, seed: int
) -> None:
    """Many list while files begin, are completed, grow again and are closed; requests take time."""
    chance = random.Random(seed)

    async def gate(_op: str, _key: bytes) -> None:
        await trio.sleep(chance.choice([0, 0.01, 0.05, 0.3]))

    async def main() -> None:
        async with core(page=7, gate=gate, policy=policy(life)) as made:
            made.fs._store = AfterLast(made)
            for name in NAMES:
                made.put(b"d/" + name, b"old")
            directory = await made.walk(b"d")
            there: set[bytes] = set(NAMES)
            gone: set[bytes] = set()

            async def write(number: int) -> None:
                mine = random.Random(seed * 100 + number)
                for turn in range(3):
                    name = b"file-%02d-%d-%d" % (mine.randrange(50), number, turn)
                    _, handle = await made.fs.create(directory.number, name, os.O_WRONLY)
                    there.add(name)
                    for size in range(mine.randrange(4)):
                        await made.fs.write(handle, size, b"x")
                        await trio.sleep(mine.uniform(0, 0.2))
                        if mine.random() < 0.5:
                            await made.fs.flush(handle)
                    await made.fs.flush(handle)
                    await made.fs.release(handle)
                    await trio.sleep(mine.uniform(0, 0.2))
                    if mine.random() < 0.3:
                        there.discard(name)
                        await made.fs.unlink(directory.number, name)
                        gone.add(name)

            async def see(number: int) -> None:
                mine = random.Random(seed * 1000 + number)
                opened = None
                for _ in range(6):
                    if opened is None:
                        opened = Opened(made, directory.number)
                    else:
                        opened.rewind()
                    before, gone_before = set(there), set(gone)
                    while await opened.step():
                        await trio.sleep(mine.uniform(0, 0.1))
                    counts = Counter(opened.seen)
                    assert max(counts.values()) == 1
                    assert set(counts) >= before & there, "it was there all the time"
                    assert not set(counts) & gone_before, "it was removed before"
                    if mine.random() < 0.5:
                        opened.close()
                        opened = None
                    await trio.sleep(mine.uniform(0, 0.3))
                if opened is not None:
                    opened.close()

            async with trio.open_nursery() as nursery:
                for number in range(4):
                    nursery.start_soon(write, number)
                    nursery.start_soon(see, number)
            await made.writing.idle.wait()
            assert await names(made, directory.number) == sorted(there)
            await trio.sleep(max(life, 1))
            made.fs.sweep()
            await nothing_left(made)
            assert not made.fs._changes
            assert not made.fs._shared

    run(main)


@LIVES
def test_a_file_that_is_completed_between_two_pages_is_in_one_of_them(life: float) -> None:
    """It lies behind the last name of one page, and before the first of the next as it was then."""

    async def main() -> None:
        async with core(page=2, policy=policy(life)) as made, trio.open_nursery() as nursery:
            for name in (b"a", b"b", b"d", b"e"):
                made.put(name, b"1")
            _, handle = await made.fs.create(ROOT, b"c", os.O_WRONLY)
            first = late(made, "list_page")
            opened = Opened(made)
            step = start(nursery, opened.step)
            await first.here()
            await made.fs.flush(handle)
            await made.fs.release(handle)
            first.go()
            await step.done.wait()
            assert await opened.rest() == [b"a", b"b", b"c", b"d", b"e"]
            opened.close()

    run(main)


# What others have removed


def test_a_name_that_was_found_gone_ends_the_listing_that_has_it() -> None:
    async def main() -> None:
        async with core(attr_timeout=10, policy=policy(100)) as made:
            for name in (b"d/f", b"d/g"):
                made.put(name, b"1")
            directory = await made.walk(b"d")
            assert isinstance(directory, Directory)
            assert await names(made, directory.number) == [b"f", b"g"]
            made.delete(b"d/f")
            await trio.sleep(20)
            for _, inode, _ in await made.listing(directory.number):
                assert made.fs.remaining(inode) == 0, "older than attributes are believed"
            assert await refusal(made.fs.lookup(directory.number, b"f")) == errno.ENOENT
            assert await names(made, directory.number) == [b"g"]
            assert not await exists(made, b"d/f")
            assert await made.contents(b"d/g") == b"1"
            await made.write(b"d/f", b"back")
            assert await names(made, directory.number) == [b"f", b"g"]
            assert await made.contents(b"d/f") == b"back"
            await made.fs.unlink(directory.number, b"f")
            assert await names(made, directory.number) == [b"g"]
            await trio.sleep(100)
            made.fs.sweep()
            await nothing_left(made)

    run(main)


def test_an_older_page_takes_nothing_back_that_is_known_to_be_newer() -> None:
    async def main() -> None:
        async with core(attr_timeout=10, policy=policy(100)) as made:
            made.put(b"f", b"1")
            assert await names(made) == [b"f"]
            await trio.sleep(20)
            made.put(b"f", b"22")
            new = await made.fs.lookup(ROOT, b"f")
            ((_, listed, _),) = await made.listing(ROOT)
            assert listed is new
            assert listed.size == 2

    run(main)
