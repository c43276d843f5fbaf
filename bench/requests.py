"""Requests that everyday programs cost, beside those they cost with ossfs 2.0.

Requests are what makes names slow and what a bucket bills, and their number does not depend on the
machine. Ours are counted by the emulator, each row on a mount of its own. Those of ossfs 2.0
follow from its documented rules, each a function below. An import is replayed: a mount that
remembers nothing tells which names the interpreter looks up, and the rules are put to that list.
Exits non-zero when a row takes more requests than ossfs 2.0, or a name, size or byte is wrong.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.pop(1)  # the folder, whose requests.py is no library

from bench.support.arguments import arguments
from bench.support.rig import Crew, mounted, quietly, table, timed
from bench.support.servers import emulated
from ossfs.emulator.storage import Bucket
from tests.support.emulator import EmulatorProcess
from tests.support.mount import drop_caches

PAGE = 100
"""Keys of ossfs 2.0's list requests (max_list_ret_count)."""
LISTED = 1_000
IN_FOLDER = 100
MODULES = 17
SUBMODULES = 3
PROCESSES = 8
SHALLOW, DEEP = b"file", b"one/two/three/file"
REMEMBERING: dict[str, Sequence[str]] = {
    "": (),
    ", absences remembered here": ("oss_negative_cache_timeout=60",),
    ", by the kernel": ("negative_timeout=60",),
}
"""Ways to remember missing names, and the options that choose them."""

STATTING = """
import os
ready()
assert os.stat(sys.argv[1]).st_size == int(sys.argv[2])
"""
LISTING = """
import os
ready()
assert len(set(os.listdir(sys.argv[1]))) == int(sys.argv[2])
"""


@dataclass(frozen=True, slots=True)
class Requests:
    """How many of each kind."""

    heads: int = 0
    lists: int = 0
    gets: int = 0

    @property
    def total(self) -> int:
        return self.heads + self.lists + self.gets

    def __add__(self, other: Requests) -> Requests:
        return Requests(self.heads + other.heads, self.lists + other.lists, self.gets + other.gets)

    def __mul__(self, times: int) -> Requests:
        return Requests(self.heads * times, self.lists * times, self.gets * times)


NONE = Requests()


# What ossfs 2.0 asks for.


def known_file() -> Requests:
    """A component of a path that is an object costs GetObjectMeta, a HEAD."""
    return Requests(heads=1)


def directory() -> Requests:
    """A directory costs that HEAD, which finds nothing, and a list of one key below it."""
    return Requests(heads=1, lists=1)


def absence() -> Requests:
    """A missing name costs both too, and again each time unless it is remembered."""
    return Requests(heads=1, lists=1)


def path(depth: int) -> Requests:
    """A cold path costs each of its components, once within attr_timeout."""
    return directory() * (depth - 1) + known_file()


def listing(entries: int) -> Requests:
    """A directory is listed in requests of PAGE keys, and what is listed is known (readdirplus)."""
    return Requests(lists=max(1, -(-entries // PAGE)))


def opening(*, close_to_open: bool) -> Requests:
    """An open costs nothing; with close_to_open a HEAD each time."""
    return Requests(heads=int(close_to_open))


def reading(*, again: bool) -> Requests:
    """A file of at most a chunk is fetched whole; after that the kernel has its pages."""
    return Requests(gets=int(not again))


class Replay:
    """What the same rules make of the steps of a program, one after another."""

    def __init__(self, keys: Iterable[bytes], *, remembering: bool) -> None:
        """`remembering`: missing names are not asked for again."""
        self._files = set(keys)
        self._entries: dict[bytes, set[bytes]] = {}
        for key in self._files:
            while key:
                above = key[: key.rstrip(b"/").rfind(b"/") + 1]
                self._entries.setdefault(above, set()).add(key)
                key = above
        self._remembering = remembering
        self._known: set[bytes] = set()
        self._read: set[bytes] = set()

    def run(self, steps: Iterable[tuple[str, bytes]]) -> Requests:
        """Return what the steps cost; what they made known stays known."""
        ask = {"lookup": self._lookup, "list": self._list, "read": self._fetch}
        return sum((ask[kind](key) for kind, key in steps), NONE)

    def _lookup(self, key: bytes) -> Requests:
        if key in self._files:
            cost = known_file()
        elif key + b"/" in self._entries:
            key, cost = key + b"/", directory()
        elif self._remembering:
            cost = absence()
        else:
            return absence()
        if key in self._known:
            return NONE
        self._known.add(key)
        return cost

    def _list(self, prefix: bytes) -> Requests:
        self._known |= self._entries[prefix]
        return listing(len(self._entries[prefix]))

    def _fetch(self, key: bytes) -> Requests:
        again = key in self._read
        self._read.add(key)
        return reading(again=again)


def steps_of(log: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, bytes]]:
    """Tell what a mount that remembers nothing was asked for, from the requests it made.

    A HEAD is a lookup, and the list of one key after it is part of that; without a HEAD before it,
    that list is about the attributes of a directory that has been looked up already.
    """
    for record in log:
        query = record["query"]
        if record["method"] == "HEAD":
            yield "lookup", record["key"].encode()
        elif record["sub"] != "list-type":
            yield "read", record["key"].encode()
        elif query.get("delimiter"):
            yield "list", query.get("prefix", "").encode()


# What is in the bucket.


def content_of(key: bytes) -> bytes:
    return key * (1 + len(key) % 3)


def many() -> list[bytes]:
    return [b"many/%04d" % number for number in range(LISTED)]


def tree(folders: int) -> list[bytes]:
    return [b"tree/%02d/%03d" % divmod(number, IN_FOLDER) for number in range(folders * IN_FOLDER)]


def package() -> dict[bytes, bytes]:
    """A package of modules with a number each, and a subpackage of some more."""
    numbers = range(MODULES + SUBMODULES)
    folders = [b"site/pkg/" if number < MODULES else b"site/pkg/sub/" for number in numbers]
    modules = {
        b"%sm%02d.py" % (folder, number): b"VALUE = %d\n" % number
        for number, folder in zip(numbers, folders, strict=True)
    }
    loads = b"from . import m%02d\nTOTAL %s m%02d.VALUE\n"
    begun: dict[bytes, bytes] = {}
    for number, folder in zip(numbers, folders, strict=True):
        text = loads % (number, b"+=" if folder in begun else b"=", number)
        begun[folder] = begun.get(folder, b"") + text
    return modules | {folder + b"__init__.py": text for folder, text in begun.items()}


# What programs do, each given the mount point.

Work = Callable[[Path], None]


def stat(*keys: bytes) -> Work:
    def work(root: Path) -> None:
        for key in keys:
            if (size := (root / key.decode()).stat().st_size) != len(content_of(key)):
                raise SystemExit(f"{key!r} shows {size} bytes")

    return work


def look_for(name: str, times: int) -> Work:
    def work(root: Path) -> None:
        for _ in range(times):
            if (root / name).exists():
                raise SystemExit(f"{name} is there, which nobody put into the bucket")

    return work


def ls(root: Path) -> None:
    """`ls -l`; every name and size must be shown."""
    shown = subprocess.run(["ls", "-l", root / "many"], capture_output=True, check=True).stdout
    lines = [line.split() for line in shown.splitlines()[1:]]
    if {b"many/" + words[-1]: int(words[4]) for words in lines} != {
        key: len(content_of(key)) for key in many()
    }:
        raise SystemExit("ls -l: wrong names or sizes")


def find(folders: int) -> Work:
    def work(root: Path) -> None:
        command = ["find", "tree", "-type", "f"]
        shown = subprocess.run(command, cwd=root, capture_output=True, check=True).stdout
        if sorted(shown.splitlines()) != tree(folders):
            raise SystemExit(f"find: {len(shown.splitlines())} names, or wrong ones")

    return work


def read(root: Path) -> None:
    with (root / SHALLOW.decode()).open("rb", buffering=0) as opened:
        if opened.read(1 << 16) != content_of(SHALLOW):
            raise SystemExit("wrong bytes")


def load_package(root: Path) -> None:
    """Import the packages in a fresh interpreter, which writes no bytecode."""
    total, below = sum(range(MODULES)), sum(range(MODULES, MODULES + SUBMODULES))
    program = f"import pkg.sub; assert (pkg.TOTAL, pkg.sub.TOTAL) == ({total}, {below})"
    quietly("env", f"PYTHONPATH={root / 'site'}", sys.executable, "-B", "-c", program)


def together(script: str, name: str, number: int) -> Work:
    """Have processes do the same at the same moment."""

    def work(root: Path) -> None:
        with Crew(script, lambda: [[root / name, str(number)]] * PROCESSES) as crew:
            crew.assemble()
            crew.work()

    return work


def nothing(root: Path) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Row:
    name: str
    theirs: Requests
    work: Work
    options: Sequence[str] = ()
    then: Row | None = None
    """What is done afterwards on the same mount."""


def rows_of(folders: int, steps: Sequence[tuple[str, bytes]]) -> Iterator[Row]:
    """Yield every row; `steps` are those of one import."""
    yield Row("stat /file", path(1), stat(SHALLOW))
    again = Row("  again", NONE, stat(DEEP))
    yield Row("stat /one/two/three/file", path(4), stat(DEEP), then=again)
    each = Row("  then stat of each", NONE, stat(*many()))
    yield Row(f"ls -l of {LISTED}", directory() + listing(LISTED), ls, then=each)
    cost = directory() + listing(folders) + listing(IN_FOLDER) * folders
    yield Row(f"find over {folders} directories of {IN_FOLDER}", cost, find(folders))
    for each_time in (False, True):
        how, options = (", close_to_open", ["close_to_open"]) if each_time else ("", [])
        asked = opening(close_to_open=each_time)
        again = Row("  again", asked + reading(again=True), read)
        cost = path(1) + asked + reading(again=False)
        yield Row(f"open and read{how}", cost, read, options, again)
    for how, chosen in REMEMBERING.items():
        cost = absence() * (1 if chosen else 2)
        yield Row(f"a missing name, twice{how}", cost, look_for("none", 2), chosen)
    for how, chosen in REMEMBERING.items():
        replay = Replay(package(), remembering=bool(chosen))
        cost = replay.run(steps)
        again = Row("  again", replay.run(steps), load_package)
        yield Row(f"import{how}", cost, load_package, chosen, again)
    # The kernel looks a name up once for all who wait for it. That the listings share anything no
    # rule says, and none denies.
    at_once = f"{PROCESSES} processes at once: "
    size = len(content_of(SHALLOW))
    yield Row(f"{at_once}stat /file", path(1), together(STATTING, SHALLOW.decode(), size))
    cost = directory() + listing(LISTED)
    yield Row(f"{at_once}list {LISTED}", cost, together(LISTING, "many", LISTED))


def traced(server: EmulatorProcess) -> list[tuple[str, bytes]]:
    """Return the steps of an import, every one of which reached the store."""
    with mounted(server, "attr_timeout=0", "readdirplus=false") as mount:
        drop_caches()
        server.clear_requests()
        load_package(mount.path)
        return list(steps_of(server.requests()))


def measured(server: EmulatorProcess, row: Row) -> list[tuple[Row, Requests]]:
    """Return what a row took on a fresh mount, and what the one after it."""
    found: list[tuple[Row, Requests]] = []
    with mounted(server, *row.options) as mount:
        before: Work = nothing
        step: Row | None = row
        while step is not None:
            work, prepare = partial(step.work, mount.path), partial(before, mount.path)
            answered = timed(server, lambda: 0.0, work, prepare).traffic
            if answered.puts or answered.posts or answered.deletes:
                raise SystemExit(f"{step.name}: something was written")
            ours = Requests(answered.heads, answered.lists, answered.gets)
            if ours.total > step.theirs.total:
                raise SystemExit(f"{step.name}: {ours}, ossfs 2.0 takes {step.theirs}")
            found.append((step, ours))
            before, step = step.work, step.then
    return found


def main() -> None:
    given = arguments(__doc__, runs=1, oss_only=True)
    folders = 5 if given.quick else 20

    def load(bucket: Bucket) -> None:
        for key in (SHALLOW, DEEP, *many(), *tree(folders)):
            bucket.put_bytes(key, content_of(key))
        for key, text in package().items():
            bucket.put_bytes(key, text)

    with emulated(load) as server:
        rows = list(rows_of(folders, traced(server)))
        rounds = [[it for row in rows for it in measured(server, row)] for _ in range(given.runs)]
    lines = []
    for same in zip(*rounds, strict=True):
        row = same[0][0]
        ours = max((requests for _, requests in same), key=lambda requests: requests.total)
        ratio = f"{ours.total / row.theirs.total:.2f}" if row.theirs.total else "-"
        lines.append([row.name, *_cells(ours), *_cells(row.theirs), ratio])
    table(
        "Requests, beside those of ossfs 2.0",
        ["", "HEAD", "LIST", "GET", "sum", "its HEAD", "LIST", "GET", "sum", "of ossfs 2.0"],
        lines,
        f"Ours counted by the emulator, the most of {given.runs}, a fresh mount a row, caches "
        "dropped; ossfs 2.0's by its documented rules, of an import by putting them to the "
        "lookups, listings and reads that a mount with attr_timeout=0 saw; of several processes "
        "the fewest that the rules allow.",
    )


def _cells(requests: Requests) -> list[str]:
    return [str(it) for it in (requests.heads, requests.lists, requests.gets, requests.total)]


if __name__ == "__main__":
    main()
