"""What the kernel holds of the file system, held against a plain model of the bucket.

Random operations as a kernel and its users send them: lookups below any inode still known,
attributes, listings in small pages with seeks back and rewinds, files left open while others
replace or delete them, forgetting in any order. The claims:

- an inode number is one version of one key, for ever;
- an answer is what the store held at the very moment its time-out is counted from;
- an open file's bytes are those of its version, or it is Changed because it did change;
- a listing gives each name once, and each name that stayed is given;
- lookup counts are exact: when all is forgotten and closed, the root is left and no memory.
"""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Awaitable
from typing import NamedTuple, TypeVar

import hypothesis
import pytest
import trio
import trio.testing
from hypothesis import strategies as st

from ossfs.runtime.blocks import BLOCK
from ossfs.runtime.failure import FileSystemError
from ossfs.store.errors import Changed, NotFound
from ossfs.tree.inodes import ROOT, Directory, Inode
from tests.model.bucket import DIRECTORY, NOTHING, Bucket, Version, shown, stands_for
from tests.support.core import MIB, Core, core, run

KEYS = [
    b"a",
    b"a-1",
    b"a/x",
    b"a/x/y",
    b"a/ab",
    b"a.b/x",
    b"ab",
    b"d/",
    b"d/e",
    b"d/e/a",
    b"d/e-1/a",
    b"d/f/",
    b"d/%s" % "ä".encode(),
    # and what no path can hold
    b"/a",
    b"../a",
    b"a//x",
    b"d/%s" % (b"n" * 256),
]
NAMES = [b"a", b"a-1", b"x", b"y", b"ab", b"a.b", b"d", b"e", b"f", b"..", b"n" * 256]
SIZES = [0, 1, 4_096, 200_000, MIB + 300_000, 3 * MIB + 1]
"""On both sides of what is fetched whole."""

ANY = st.integers(0, 10_000)
STEP = st.one_of(
    st.tuples(st.just("put"), st.sampled_from(range(len(KEYS))), st.sampled_from(SIZES)),
    st.tuples(st.just("replace"), ANY, st.sampled_from(SIZES)),
    st.tuples(st.just("delete"), ANY, st.just(0)),
    st.tuples(st.just("lookup"), ANY, ANY),
    st.tuples(st.just("lookup"), ANY, ANY),
    st.tuples(st.just("attributes"), ANY, st.just(0)),
    st.tuples(st.just("open"), ANY, st.just(0)),
    st.tuples(st.just("read"), ANY, st.sampled_from([0, 0, 0, 4_095, 70_000, BLOCK, 3 * MIB])),
    st.tuples(st.just("replace under a read"), ANY, st.sampled_from(SIZES)),
    st.tuples(st.just("close"), ANY, st.just(0)),
    st.tuples(st.just("opendir"), ANY, st.just(0)),
    st.tuples(st.just("readdir"), ANY, st.integers(0, 7)),
    st.tuples(st.just("seekdir"), ANY, ANY),
    st.tuples(st.just("closedir"), ANY, st.just(0)),
    st.tuples(st.just("forget"), ANY, st.integers(1, 3)),
    st.tuples(st.just("pass time"), st.sampled_from([0, 1, 4, 11]), st.just(0)),
)


T = TypeVar("T")


class OpenDirectory:
    """A listing under way, as its reader sees it."""

    def __init__(self, handle: int, number: int, prefix: bytes) -> None:
        self.handle = handle
        self.number = number
        self.prefix = prefix
        self.position = 0
        """The cookie the next readdir names."""
        self.given: list[bytes] = []
        """Names since the last seek."""
        self.cookies: dict[int, bytes] = {}
        """Every cookie told since the listing began, and the name it is the place after."""
        self.since = b""
        """The name the last seek went to."""
        self.stayed: set[bytes] | None = None
        """Names that have been there since the listing began; None before it has."""
        self.ever: set[bytes] = set()

    def changed(self, state: dict[bytes, bytes]) -> None:
        if self.stayed is not None:
            names = shown(state, self.prefix)
            self.stayed &= names
            self.ever |= names


class OpenFile(NamedTuple):
    handle: int
    inode: Inode
    position: list[int]


async def outcome(call: Awaitable[T]) -> tuple[T | None, int]:
    """What a call returned, or None and the errno."""
    try:
        return await call, 0
    except FileSystemError as error:
        return None, error.errno
    except (Changed, NotFound):
        return None, errno.ESTALE


class Kernel:
    """What a kernel would hold: lookups, open files, open directories. Checks every answer."""

    def __init__(self, made: Core, bucket: Bucket, timeout: float) -> None:
        self.made = made
        self.fs = made.fs
        self.bucket = bucket
        self.timeout = timeout
        self.lookups: dict[int, int] = {}
        self.versions: dict[int, tuple[bytes, Version]] = {}
        """What each number was first seen to be, with its key."""
        self.files: list[OpenFile] = []
        self.directories: list[OpenDirectory] = []
        self.under_the_next_get: tuple[bytes, int] | None = None

    async def gate(self, op: str, _key: bytes) -> None:
        await trio.lowlevel.checkpoint()
        if op == "get_range_into" and self.under_the_next_get is not None:
            (key, size), self.under_the_next_get = self.under_the_next_get, None
            self.put(key, size)

    def put(self, key: bytes, size: int) -> None:
        self.bucket.put(key, size)
        self._tell_listings()

    def delete(self, key: bytes) -> None:
        self.bucket.delete(key)
        self._tell_listings()

    def _tell_listings(self) -> None:
        for opened in self.directories:
            opened.changed(self.bucket.now)

    def known(self, pick: int) -> int:
        """The number of the root or of an inode the kernel has not forgotten."""
        numbers = [ROOT, *self.lookups]
        return numbers[pick % len(numbers)]

    def known_file(self, pick: int) -> int:
        """The number of a file, mostly, and rather of one that is not what it was."""
        files = [one for one in self.lookups if self.versions[one][1] != DIRECTORY]
        changed = [one for one in files if not self._still(*self.versions[one])]
        for numbers, odds in ((changed, 3), (files, 20)):
            if numbers and pick % odds:
                return numbers[pick % len(numbers)]
        return self.known(pick)

    def known_directory(self, pick: int) -> int:
        """The number of a directory, mostly."""
        directories = [one for one in self.lookups if self.versions[one][1] == DIRECTORY]
        if pick % 5 > 1 and directories:
            return directories[pick % len(directories)]
        return self.known(pick) if pick % 20 == 0 else ROOT

    def name_in(self, number: int, pick: int) -> bytes:
        """A name in a directory: mostly one that is there."""
        there = sorted(shown(self.bucket.now, self.fs.inodes[number].key)) if pick % 4 else []
        return there[pick % len(there)].rstrip(b"/") if there else NAMES[pick % len(NAMES)]

    def _still(self, key: bytes, version: Version) -> bool:
        return stands_for(self.bucket.now, key) == version

    def _count(self, inode: Inode) -> None:
        if inode.number != ROOT:  # which no kernel ever forgets
            self.lookups[inode.number] = self.lookups.get(inode.number, 0) + 1

    def learned(self, inode: Inode) -> None:
        """Check an answer about an inode, and that it is what it always was."""
        if inode.number == ROOT:
            return
        key = inode.key.removesuffix(b"/")
        if isinstance(inode, Directory):
            seen = DIRECTORY
        else:
            # The bytes of its version: found by size and ETag among all states of the key.
            seen = self.versions.get(inode.number, (key, self._version_of(inode)))[1]
        assert self.versions.setdefault(inode.number, (key, seen)) == (key, seen)
        if seen.data is not None:
            assert inode.size == len(seen.data)
        asked = inode.deadline - self.timeout
        age = trio.current_time() - asked
        assert age >= 0
        assert self.fs.remaining(inode) == max(0.0, self.timeout - age), "the two never add up"
        assert any(self._agrees(state, key, seen) for state in self.bucket.at(asked))

    def fresh(self, inode: Inode) -> None:
        """Check that an answer is no older than the time-out allows."""
        self.learned(inode)
        if inode.number != ROOT:
            age = trio.current_time() - (inode.deadline - self.timeout)
            assert age < self.timeout or age == self.timeout == 0

    def _version_of(self, inode: Inode) -> Version:
        for state in self.bucket.ever():
            data = state.get(inode.key)
            if data is not None and hashlib.md5(data).hexdigest().upper() == inode.etag:
                return Version(data)
        raise AssertionError(f"{inode.key!r} never had the ETag {inode.etag}")

    @staticmethod
    def _agrees(state: dict[bytes, bytes], key: bytes, seen: Version) -> bool:
        if seen == DIRECTORY:
            # Believed to be a directory for as long as there is something below it.
            return any(other.startswith(key + b"/") for other in state)
        return stands_for(state, key) == seen

    # What a kernel sends

    async def lookup(self, pick: int, other: int) -> None:
        parent = self.known_directory(pick)
        name = self.name_in(parent, other)
        directory = self.fs.inodes[parent]
        inode, refused = await outcome(self.fs.lookup(parent, name))
        if inode is None:
            if not isinstance(directory, Directory):
                assert refused == errno.ENOTDIR
            elif len(name) > 255:
                assert refused == errno.ENAMETOOLONG
            else:
                assert refused == errno.ENOENT
                assert self._still(directory.key + name, NOTHING), "absence is not remembered"
            return
        self._count(inode)
        if name == b"..":
            self.learned(inode)
        else:
            self.fresh(inode)
            assert inode.name == name
            assert inode.parent is directory

    async def attributes(self, pick: int) -> None:
        number = self.known_file(pick)
        was = self.fs.inodes[number]
        self.made.kernel.dropped_names.clear()
        inode, refused = await outcome(self.fs.attributes(number))
        if inode is None:
            assert refused == errno.ESTALE
            assert not self._still(*self.versions[number])
            assert was.parent is not None
            assert self.made.kernel.dropped_names == [(was.parent.number, was.name)]
            assert (await self.fs.attributes(number)) is was, "stale is said once"
            return
        assert inode is was
        if inode.attached and inode.opened is None:
            self.fresh(inode)

    async def open(self, pick: int) -> None:
        number = self.known_file(pick)
        inode = self.fs.inodes[number]
        handle, refused = await outcome(self.fs.open(number))
        if handle is not None:
            self.files.append(OpenFile(handle, inode, [0]))
        elif isinstance(inode, Directory):
            assert refused == errno.EISDIR
        else:
            assert refused == errno.ESTALE
            self._did_change(inode)

    async def read(self, pick: int, jump: int) -> None:
        if not self.files:
            return
        file = self.files[pick % len(self.files)]
        data = self.versions[file.inode.number][1].data
        assert data is not None
        offset = (file.position[0] + jump) % (len(data) + 2)
        try:
            got = bytes(await self.fs.read(file.handle, offset, BLOCK))
        except (Changed, NotFound):
            self._did_change(file.inode)
        else:
            assert got == data[offset : offset + BLOCK]
            file.position[0] = offset + len(got)

    def _did_change(self, inode: Inode) -> None:
        assert not self._still(*self.versions[inode.number])
        assert not inode.attached, "the name is let go at once"

    def close(self, pick: int) -> None:
        if self.files:
            self.fs.close(self.files.pop(pick % len(self.files)).handle)

    def opendir(self, pick: int) -> None:
        number = self.known_directory(pick)
        inode = self.fs.inodes[number]
        if isinstance(inode, Directory):
            handle = self.fs.open_directory(number)
            self.directories.append(OpenDirectory(handle, number, inode.key))

    async def readdir(self, pick: int, room: int) -> None:
        """One readdir with room for so many names; `.` and `..` take none."""
        if not self.directories:
            return
        opened = self.directories[pick % len(self.directories)]
        if opened.stayed is None:
            opened.stayed = shown(self.bucket.now, opened.prefix)
            opened.ever = set(opened.stayed)
        full = False

        def emit(name: bytes, inode: Inode, cookie: int) -> bool:
            nonlocal full
            if name not in (b".", b".."):
                full = len(opened.given) - before == room
                if full:
                    return False
                self._count(inode)
                self.learned(inode)
                assert inode.name == name
                told = name + b"/" if isinstance(inode, Directory) else name
                assert opened.cookies.setdefault(cookie, told) == told
                opened.given.append(told)
            came.append(cookie)
            opened.position = cookie
            return True

        before = len(opened.given)
        came: list[int] = []
        await self.fs.read_directory(opened.handle, opened.position, emit)
        assert len(set(opened.cookies.values())) == len(opened.cookies)
        assert opened.given == sorted(opened.given)
        assert all(name > opened.since for name in opened.given)
        names = [name.rstrip(b"/") for name in opened.given]
        assert len(set(names)) == len(names)
        if not came and not full:  # the end
            still = {name for name in opened.stayed if name > opened.since}
            passed = {name for name in opened.cookies.values() if name <= opened.since}
            assert {name.rstrip(b"/") for name in still} <= {
                name.rstrip(b"/") for name in passed.union(opened.given)
            }

    def seekdir(self, pick: int, to: int) -> None:
        """Go to a place that was told, back or forward, or to the beginning."""
        if not self.directories:
            return
        opened = self.directories[pick % len(self.directories)]
        places = [(0, b""), *opened.cookies.items()]
        opened.position, opened.since = places[to % len(places)]
        opened.given = []
        if not opened.position:
            opened.stayed = None
            opened.cookies = {}

    def closedir(self, pick: int) -> None:
        if self.directories:
            self.fs.close_directory(self.directories.pop(pick % len(self.directories)).handle)

    def forget(self, pick: int, count: int) -> None:
        number = self.known(pick)
        count = min(count, self.lookups.get(number, 0))
        if count:
            self.fs.forget([(number, count)])
            self.lookups[number] -= count
            if not self.lookups[number]:
                del self.lookups[number]

    def leave(self) -> None:
        """Close and forget everything."""
        for number, count in self.lookups.items():
            assert self.fs.inodes[number].lookups == count
        while self.files:
            self.close(0)
        while self.directories:
            self.closedir(0)
        self.fs.sweep()
        for number, count in list(self.lookups.items()):
            self.fs.forget([(number, count)])
        assert [inode.number for inode in self.fs.inodes] == [ROOT]
        assert not self.fs.inodes.root.children


@pytest.mark.timeout(900)  # a failure is worth the minutes that shrinking it takes
@hypothesis.settings(max_examples=100, print_blob=True)
@hypothesis.given(
    st.lists(st.sampled_from(KEYS), min_size=4),
    st.lists(STEP, min_size=30, max_size=120),
    st.sampled_from([0.0, 10.0]),
    st.integers(1, 4),
)
def test_what_the_kernel_is_told_is_true_and_what_it_holds_is_counted(
    keys: list[bytes],
    steps: list[tuple[str, int, int]],
    timeout: float,
    page: int,
) -> None:
    async def main() -> None:
        kernel: Kernel

        async def gate(op: str, key: bytes) -> None:
            await kernel.gate(op, key)

        async with core(
            attr_timeout=timeout, chunk=MIB, memory=8 * MIB, page=page, gate=gate
        ) as made:
            made.fs._told_unspeakable = True  # the one warning has a test of its own
            kernel = Kernel(made, Bucket(made), timeout)
            for key in keys:
                kernel.put(key, 4_096)
            for what, pick, detail in steps:
                held = sorted(kernel.bucket.now)
                match what:
                    case "put":
                        kernel.put(KEYS[pick], detail)
                    case "replace" if held:
                        kernel.put(held[pick % len(held)], detail)
                    case "delete" if held:
                        kernel.delete(held[pick % len(held)])
                    case "lookup":
                        await kernel.lookup(pick, detail)
                    case "attributes":
                        await kernel.attributes(pick)
                    case "open":
                        await kernel.open(pick)
                    case "read":
                        await kernel.read(pick, detail)
                    case "replace under a read" if kernel.files:
                        file = kernel.files[pick % len(kernel.files)]
                        kernel.under_the_next_get = (file.inode.key, detail)
                        await kernel.read(pick, 0)
                        kernel.under_the_next_get = None
                    case "close":
                        kernel.close(pick)
                    case "opendir":
                        kernel.opendir(pick)
                    case "readdir":
                        await kernel.readdir(pick, detail)
                    case "seekdir":
                        kernel.seekdir(pick, detail)
                    case "closedir":
                        kernel.closedir(pick)
                    case "forget":
                        kernel.forget(pick, detail)
                    case "pass time":
                        await trio.sleep(pick)
            kernel.leave()
            await trio.testing.wait_all_tasks_blocked()
            assert made.budget.used == 0

    run(main)
