"""The rig: a mount by the real command, honest counters, rows that take turns.

Daemon CPU is user plus system time of the serving process and its children, memory is
VmHWM plus shared memory, requests and the bytes they moved are counted by the server. What checks
the bytes comes before or after the timed part.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from fastcrc import crc64

from bench.support.servers import Server, Traffic, counting, soon
from ossfs.cli.terminal import in_columns
from ossfs.cli.usage import cpu_seconds as daemon_cpu
from ossfs.cli.workloads.content import Content
from ossfs.store.api import Store
from tests.support.mount import Mount, drop_caches

MIB = 1 << 20
ATTEMPTS = 10


class Sample(NamedTuple):
    """One timed run."""

    wall: float
    """Seconds."""
    cpu: float
    """Seconds of the process in question: the daemon, curl, or this one."""
    traffic: Traffic = Traffic()
    server: float = 0.0
    """Seconds of CPU that the server took."""


@contextmanager
def mounted(server: Server, *options: str) -> Iterator[Mount]:
    """Mount the server's bucket with `options`."""
    with (
        tempfile.TemporaryDirectory(prefix="ossfs-bench-") as directory,
        Mount(server, Path(directory) / "mount", "log_level=info", *options) as made,
    ):
        yield made


def own_cpu() -> float:
    """Seconds of user and system time of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def waited_cpu() -> float:
    """Seconds of user and system time of the commands that have been run and waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def timed(
    server: Server,
    cpu: Callable[[], float],
    work: Callable[[], None],
    prepare: Callable[[], None] = lambda: None,
) -> Sample:
    """Run `work` on a cold page cache and say what it cost.

    `prepare` runs between the two: dropping the caches makes the kernel forget names as well.
    Where somebody else drops them meanwhile, files are asked for twice and the run says
    nothing: it is made again.
    """
    for _ in range(ATTEMPTS):
        drop_caches()
        prepare()
        answered = counting(server)
        dropped = _caches_dropped()
        served, before, begun = daemon_cpu(server.pid), cpu(), time.perf_counter()
        work()
        wall, spent = time.perf_counter() - begun, cpu() - before
        served = daemon_cpu(server.pid) - served
        if _caches_dropped() == dropped:
            return Sample(wall, spent, answered(), served)
    raise SystemExit("another process keeps dropping the page cache; stop it, then start again")


def claim_memory(size: int) -> None:
    """Have the machine hold `size` bytes of free memory, for the page cache of what comes next.

    A virtual machine may give free memory back to its host and gets it again page by page, at
    many times the price of the copy that goes into it, whichever client is measured.
    """
    script = f"import mmap; mmap.mmap(-1, {size}, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x8000)"
    quietly(sys.executable, "-c", script)  # 0x8000: MAP_POPULATE


def in_turns(rows: dict[str, Callable[[], Sample]], runs: int) -> list[dict[str, Sample]]:
    """Run every row in turn, `runs` times over; return the rounds."""
    return [{name: run() for name, run in rows.items()} for _ in range(runs)]


def medians(rounds: Sequence[dict[str, Sample]]) -> dict[str, Sample]:
    """Return the median of each figure of each row."""
    return {name: _median([samples[name] for samples in rounds]) for name in rounds[0]}


def _median(samples: Sequence[Sample]) -> Sample:
    counts = zip(*(sample.traffic for sample in samples), strict=True)
    return Sample(
        statistics.median(sample.wall for sample in samples),
        statistics.median(sample.cpu for sample in samples),
        Traffic(*(int(statistics.median(each)) for each in counts)),
        statistics.median(sample.server for sample in samples),
    )


def turn_about(rows: dict[str, Callable[[], Sample]], runs: int) -> dict[str, Sample]:
    """Run every row in turn, `runs` times over; return the median of each figure."""
    return medians(in_turns(rows, runs))


def speed(rounds: Sequence[dict[str, Sample]], row: str, base: str) -> float:
    """Return the median, over the rounds, of how fast one row was beside another."""
    return statistics.median(samples[base].wall / samples[row].wall for samples in rounds)


def random_bytes(size: int) -> bytes:
    """Return `size` bytes that do not compress, the same in every run, no two pages alike."""
    return b"".join(random_pieces(size))


def random_pieces(size: int) -> Iterator[memoryview]:
    """Yield the same in pieces of 16 MiB, where all at once would fill the memory."""
    return Content(size).slices(0, size)


def check_crc(path: Path, wanted: int) -> None:
    """Exit with a message unless the file's CRC-64 is `wanted`."""
    crc = 0
    with path.open("rb", buffering=0) as file:
        while piece := file.read(4 * MIB):
            crc = crc64.xz(piece, crc)
    if crc != wanted:
        raise SystemExit(f"{path}: CRC-64 {crc:016x}, wanted {wanted:016x}: wrong bytes")


def check_object(store: Store, key: bytes, size: int, wanted: int, start: bytes = b"") -> None:
    """Exit with a message unless an object is as it should be, by its description and its bytes.

    `wanted` is the CRC-64 of all of them, `start` are the first ones.
    """
    info = store.head(key, deadline=soon())
    told = wanted if store.capabilities.crc64 else None
    if (info.size, info.crc64) != (size, told):
        raise SystemExit(f"{key!r} is {info}, wanted {size} bytes of CRC-64 {wanted}")
    crc = 0
    buffer = memoryview(bytearray(min(size, 8 * MIB)))
    for offset in range(0, size, len(buffer)):
        piece = buffer[: size - offset]
        store.get_range_into(key, offset, [piece], if_match=info.etag, deadline=soon())
        if not offset and piece[: len(start)] != start:
            raise SystemExit(f"{key!r} has the bytes of another object")
        crc = crc64.xz(piece, crc)
    if crc != wanted:
        raise SystemExit(f"{key!r}: CRC-64 {crc:016x}, wanted {wanted:016x}: wrong bytes")


class Crew:
    """Python programs that get ready, wait for each other, and work once; a context manager.

    The script calls `ready()` when it is, so that neither the start of the interpreters nor
    their end is timed; `words()` gives the arguments of each program.
    """

    def __init__(self, script: str, words: Callable[[], Sequence[Sequence[str | Path]]]) -> None:
        self._script = _CALLED_READY + script + _AFTERWARDS
        self._words = words
        self._programs: list[subprocess.Popen[bytes]] = []

    def assemble(self) -> None:
        """Start the programs, in place of former ones, and wait until all are ready."""
        self._leave()
        for words in self._words():
            command = [sys.executable, "-c", self._script, *map(str, words)]
            self._programs.append(
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            )
        self._wait_for(b"ready")

    def work(self) -> None:
        """Let them all work and wait until all have; exit with a message if one failed."""
        for program in self._programs:
            assert program.stdin is not None
            program.stdin.write(b"\n")
            program.stdin.flush()
        self._wait_for(b"done")

    def _wait_for(self, word: bytes) -> None:
        for program in self._programs:
            assert program.stdout is not None
            if program.stdout.readline().strip() != word:
                raise SystemExit("a program that works for the benchmark has failed")

    def _leave(self) -> None:
        for program in self._programs:
            program.kill()
            program.communicate()
        self._programs.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._leave()


_CALLED_READY = """
import sys
def ready():
    print("ready", flush=True)
    sys.stdin.readline()
"""
_AFTERWARDS = """
print("done", flush=True)
sys.stdin.readline()
"""


def quietly(*command: str) -> None:
    """Run a command whose output is of no interest; exit with its message if it fails."""
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        raise SystemExit(f"{command[0]} failed: {done.stderr.decode()[-500:]}")


def table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]], how: str) -> None:
    """Print a table and one line on how its figures were obtained."""
    print(f"\n{title}", *in_columns(header, rows), sep="\n")
    print(how)


def _caches_dropped() -> tuple[str, ...]:
    """Return how often this machine was told to drop its caches."""
    lines = Path("/proc/vmstat").read_text().splitlines()
    return tuple(line for line in lines if line.startswith("drop_"))
