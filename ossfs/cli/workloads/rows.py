"""The workloads: each gets ready, works under the stage's clock, and checks what came of it.

What is read is held against its CRC-64 by who reads it, what is written when the clock has
stopped. Readers and writers are processes of their own. Whoever calls drops the page cache before.
"""

from __future__ import annotations

import os
import random
import subprocess
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TypeAlias

from fastcrc.crc64 import xz

from ossfs.cli.workloads.files import (
    DATASETS,
    SMALL,
    File,
    Scale,
    content,
    write,
    written,
    written_small,
)
from ossfs.cli.workloads.judge import Judge, hold, read_whole
from ossfs.cli.workloads.workers import Workers, WorkloadError

Work: TypeAlias = Callable[[], "array[float]"]
"""What a reader or writer does under the clock; returns the seconds of each operation."""

MBS = "MB/s"
_SEVERAL = 4
"""How many more random reads several readers make than one."""
_SMALL_WRITERS = 8
_PROGRAM_TIMEOUT_S = 3600.0


@dataclass(frozen=True, slots=True)
class Stage:
    """Where a workload runs, and who watches."""

    directory: Path
    scale: Scale
    turn: str
    """A name that no other run in this directory has."""
    clock: AbstractContextManager[object]
    """What is timed happens inside of it; entered once."""
    judge: Judge

    def files(self, dataset: str) -> list[File]:
        return list(DATASETS[dataset](self.scale, self.turn))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What has been done, all of it right."""

    amount: float
    """Bytes where the unit is MB/s, else what the unit counts."""
    latencies: Sequence[float] = ()
    """Seconds of each operation, where one waits for single ones."""


@dataclass(frozen=True, slots=True)
class Workload:
    title: str
    unit: str
    needs: tuple[str, ...]
    """Datasets that must be there."""
    run: Callable[[Stage], Outcome]
    """Raises WorkloadError, or OSError."""
    unseen: bool = False
    """Means nothing unless the kernel has forgotten the names too."""
    writes: Callable[[Scale], int] = lambda scale: 0
    """Bytes that it leaves behind."""

    def rate(self, amount: float, seconds: float) -> float:
        """Return what it came to in `unit`."""
        return amount / seconds / (1e6 if self.unit == MBS else 1)


def _timed(stage: Stage, members: int, make: Callable[[int], Work]) -> array[float]:
    """Let members work under the clock; return all their latencies."""
    content()  # made once, and not by each of them
    with Workers(members, make) as workers:
        with stage.clock:
            workers.work()
        return array("d", [each for one in workers.results() for each in one])


def sequential_read(dataset: str) -> Callable[[Stage], Outcome]:
    """Read files of a dataset from beginning to end, a reader each."""

    def run(stage: Stage) -> Outcome:
        files = stage.files(dataset)

        def make(member: int) -> Work:
            file = files[member]
            path = stage.directory / file.path
            wanted = content().crc(file.offset, file.size)

            def work() -> array[float]:
                fd = os.open(path, os.O_RDONLY)
                try:
                    read_whole(fd, path, file, wanted)
                finally:
                    os.close(fd)
                return array("d")

            return work

        _timed(stage, len(files), make)
        return Outcome(sum(file.size for file in files))

    return run


def random_read(size: int, readers: int) -> Callable[[Stage], Outcome]:
    """Read aligned pieces of the large file, none twice; each reader has a handle of its own."""

    def run(stage: Stage) -> Outcome:
        (file,) = stage.files("large")
        path = stage.directory / file.path
        blocks = file.size // size
        count = min(blocks, stage.scale.reads * (_SEVERAL if readers > 1 else 1))
        places = random.Random(size + readers).sample(range(blocks), count)

        def make(member: int) -> Work:
            mine = [place * size for place in places[member::readers]]
            wanted = [content().crc(file.offset + place, size) for place in mine]
            fd = os.open(path, os.O_RDONLY)
            buffer = memoryview(bytearray(size))

            def work() -> array[float]:
                took = array("d")
                for place, crc in zip(mine, wanted, strict=True):
                    begun = perf_counter()
                    got = os.preadv(fd, [buffer], place)
                    took.append(perf_counter() - begun)
                    hold(path, xz(buffer[:got]), crc, f" at {place}")
                return took

            return work

        return Outcome(count, _timed(stage, readers, make))

    return run


def small_read(readers: int) -> Callable[[Stage], Outcome]:
    """Open, read and close small files after their directory was listed."""

    def run(stage: Stage) -> Outcome:
        files = stage.files("small")
        os.listdir(stage.directory / files[0].path.partition("/")[0])

        def make(member: int) -> Work:
            mine = files[member::readers]
            wanted = [content().crc(file.offset, file.size) for file in mine]
            paths = [stage.directory / file.path for file in mine]

            def work() -> array[float]:
                took = array("d")
                for path, crc in zip(paths, wanted, strict=True):
                    begun = perf_counter()
                    fd = os.open(path, os.O_RDONLY)
                    try:
                        data = os.read(fd, 2 * SMALL)
                    finally:
                        os.close(fd)
                    took.append(perf_counter() - begun)
                    hold(path, xz(data), crc)
                return took

            return work

        return Outcome(len(files), _timed(stage, readers, make))

    return run


def sequential_write(writers: int) -> Callable[[Stage], Outcome]:
    """Write large files, a writer each, until others can read them."""

    def run(stage: Stage) -> Outcome:
        files = written(stage.scale, f"written-{writers}-{stage.turn}", writers)
        _write(stage, writers, files)
        return Outcome(sum(file.size for file in files))

    return run


def small_write(stage: Stage) -> Outcome:
    """Write small files, by several writers, until others can read them."""
    files = written_small(stage.scale, f"written-small-{stage.turn}")
    return Outcome(len(files), _write(stage, _SMALL_WRITERS, files))


def _write(stage: Stage, writers: int, files: Sequence[File]) -> array[float]:
    os.mkdir(stage.directory / os.path.dirname(files[0].path))

    def make(member: int) -> Work:
        def work() -> array[float]:
            took = array("d")
            for file in files[member::writers]:
                begun = perf_counter()
                write(stage.directory, file)
                took.append(perf_counter() - begun)
            return took

        return work

    with Workers(writers, make) as workers, stage.clock:
        workers.work()
        took = [each for one in workers.results() for each in one]
        stage.judge.settle(files)
    for file in files:
        stage.judge.check(file)
    return array("d", took)


def list_flat(stage: Stage) -> Outcome:
    """`ls -lU` of one directory."""
    with stage.clock:
        shown = _program(["ls", "-lU", stage.directory / "listed"])
    words = [line.split() for line in shown.splitlines()[1:]]  # the first is the total
    _same("ls", stage.files("listed"), ((each[-1], each[4]) for each in words))
    return Outcome(stage.scale.listed)


def find_all(stage: Stage) -> Outcome:
    """`find` over a tree, with the sizes."""
    with stage.clock:
        shown = _program(["find", stage.directory / "tree", "-printf", "%y %f %s\n"])
    words = [line.split() for line in shown.splitlines()]
    files = [(name, size) for kind, name, size in words if kind == b"f"]
    _same("find", stage.files("tree"), files)
    folders = stage.scale.folders + 1
    if len(words) - len(files) != folders:
        raise WorkloadError(f"find shows {len(words) - len(files)} directories, wanted {folders}")
    return Outcome(len(words))


def _same(program: str, files: Sequence[File], shown: Iterable[tuple[bytes, bytes]]) -> None:
    """Raise WorkloadError unless each file was shown once, with its size."""
    wanted = Counter((os.path.basename(file.path).encode(), b"%d" % file.size) for file in files)
    found = Counter(shown)
    if found != wanted:
        wrong = (found - wanted) or (wanted - found)
        raise WorkloadError(
            f"{program} shows {found.total()} files, wanted {wanted.total()}; "
            f"{wrong.total()} are wrong or missing, such as {min(wrong)[0].decode()}"
        )


def _program(command: Sequence[str | Path]) -> bytes:
    """Return what a program prints; WorkloadError with its complaint if it fails."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PROGRAM_TIMEOUT_S,
            check=False,
        )
    except FileNotFoundError:
        raise WorkloadError(f"there is no program {command[0]} here") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["it said nothing"]
        raise WorkloadError(f"{command[0]} failed: {said[0]}")
    return done.stdout


def cold_stat(stage: Stage) -> Outcome:
    """Look at files that nobody has looked at, one after another and in no order."""
    files = stage.files("cold")
    random.Random(len(files)).shuffle(files)

    def make(member: int) -> Work:
        paths = [stage.directory / file.path for file in files]

        def work() -> array[float]:
            took = array("d")
            for path in paths:
                begun = perf_counter()
                size = os.stat(path).st_size
                took.append(perf_counter() - begun)
                if size != 1:
                    raise WorkloadError(f"{path} has {size} bytes, wanted 1")
            return took

        return work

    return Outcome(len(files), _timed(stage, 1, make))


def rename_directory(stage: Stage) -> Outcome:
    """Rename a directory of small files."""
    files = stage.files("old")
    old, new = f"old-{stage.turn}", f"new-{stage.turn}"
    os.stat(stage.directory / old)
    with stage.clock:
        os.rename(stage.directory / old, stage.directory / new)
    _expect(stage, new, (file.path.partition("/")[2] for file in files))
    _expect(stage, old, ())
    return Outcome(len(files))


def remove_directory(stage: Stage) -> Outcome:
    """`rm -r` of a directory of small files."""
    files = stage.files("gone")
    gone = f"gone-{stage.turn}"
    os.stat(stage.directory / gone)
    with stage.clock:
        _program(["rm", "-r", stage.directory / gone])
    _expect(stage, gone, ())
    return Outcome(len(files))


def _expect(stage: Stage, directory: str, names: Iterable[str]) -> None:
    found, wanted = stage.judge.names(directory), set(names)
    if found != wanted:
        raise WorkloadError(
            f"{stage.directory / directory} has {len(found)} files, wanted {len(wanted)}"
            + (": others" if len(found) == len(wanted) else "")
        )


def _large(scale: Scale) -> int:
    return scale.large


def _all_small(scale: Scale) -> int:
    return scale.small * SMALL


_READS = "reads/s"
_FILES = "files/s"
_ENTRIES = "entries/s"

WORKLOADS: dict[str, Workload] = {
    "read-1": Workload("sequential read, 1 reader", MBS, ("large",), sequential_read("large")),
    "read-4": Workload(
        "sequential read, 4 readers", MBS, ("quarters",), sequential_read("quarters")
    ),
    **{
        f"random-{size >> 10}k-{readers}": Workload(
            f"random {size >> 10} KiB reads, {readers} reader{'s'[: readers - 1]}",
            _READS,
            ("large",),
            random_read(size, readers),
        )
        for size in (4096, SMALL)
        for readers in (1, 16)
    },
    **{
        f"small-{readers}": Workload(
            f"128 KiB files, {readers} reader{'s'[: readers - 1]}",
            _FILES,
            ("small",),
            small_read(readers),
        )
        for readers in (1, 16, 64)
    },
    "write-1": Workload("sequential write, 1 writer", MBS, (), sequential_write(1), writes=_large),
    "write-4": Workload("sequential write, 4 writers", MBS, (), sequential_write(4), writes=_large),
    "small-write": Workload(
        "128 KiB files written, 8 writers", _FILES, (), small_write, writes=_all_small
    ),
    "list": Workload("ls -lU", _ENTRIES, ("listed",), list_flat),
    "find": Workload("find", _ENTRIES, ("tree",), find_all),
    "stat": Workload("cold stats", "stats/s", ("cold",), cold_stat, unseen=True),
    "rename": Workload("directory rename", _FILES, ("old",), rename_directory),
    "remove": Workload("rm -r", _FILES, ("gone",), remove_directory),
}
"""Every row, by the name it is asked for by, in the order they run in."""
