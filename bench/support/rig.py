"""The rig: an emulator on memory-backed storage, a mount by the real command, honest counters.

Daemon CPU is user plus system time of the serving process and its children, memory is
VmHWM plus shared memory, GETs and the bytes they brought are counted from the emulator's
request log. Rows take turns, and what checks the bytes comes before or after the timed part.
"""

from __future__ import annotations

import os
import random
import resource
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from fastcrc import crc64

from ossfs.credentials import Credentials, StaticCredentials
from ossfs.emulator.storage import Bucket, Storage
from ossfs.store.oss import OssStore
from ossfs.store.signing import make_signer
from tests.support.emulator import EmulatorProcess
from tests.support.mount import Mount, drop_caches

MIB = 1 << 20
TICK = os.sysconf("SC_CLK_TCK")
ATTEMPTS = 10


class Sample(NamedTuple):
    """One timed run."""

    wall: float
    """Seconds."""
    cpu: float
    """Seconds of the process in question: the daemon, curl, or this one."""
    gets: int
    """GETs of objects."""
    fetched: int
    """Bytes those GETs brought."""


@contextmanager
def emulated(load: Callable[[Bucket], None]) -> Iterator[EmulatorProcess]:
    """Serve what `load` puts into the bucket, from memory where there is /dev/shm."""
    place = "/dev/shm" if os.path.isdir("/dev/shm") else None
    directory = tempfile.mkdtemp(prefix="ossfs-bench-", dir=place)
    try:
        with Storage(directory, fast_etags=True) as storage:
            bucket = storage.bucket("test-bucket", create=True)
            with bucket.batch():
                load(bucket)
        with EmulatorProcess(directory, fast_etags=True) as emulator:
            yield emulator
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def mounted(emulator: EmulatorProcess, *options: str) -> Iterator[Mount]:
    """Mount the emulator's bucket with `options`."""
    with (
        tempfile.TemporaryDirectory(prefix="ossfs-bench-") as directory,
        Mount(emulator, Path(directory) / "mount", "log_level=info", *options) as made,
    ):
        yield made


def store_on(emulator: EmulatorProcess) -> OssStore:
    """Return the store layer on the emulator, without a mount."""
    return OssStore(emulator.bucket, emulator.endpoint, _keys(emulator))


def curl_headers(emulator: EmulatorProcess, key: bytes) -> list[str]:
    """Return the header lines that let curl GET `key`, or list the bucket where it is empty."""
    signer = make_signer(_keys(emulator), emulator.bucket, "")
    return signer.sign(b"GET", key, (), ()).decode().splitlines()


def daemon_cpu(pid: int) -> float:
    """Seconds of user and system time of a process and the children it has waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return sum(map(int, fields[11:15])) / TICK


def own_cpu() -> float:
    """Seconds of user and system time of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def waited_cpu() -> float:
    """Seconds of user and system time of the commands that have been run and waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def timed(
    emulator: EmulatorProcess,
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
        emulator.clear_requests()
        dropped = _caches_dropped()
        before, begun = cpu(), time.perf_counter()
        work()
        wall, spent = time.perf_counter() - begun, cpu() - before
        if _caches_dropped() == dropped:
            break
    else:
        raise SystemExit("another process keeps dropping the page cache; stop it, then start again")
    sent = [
        record["bytes"]
        for record in emulator.requests()
        if record["method"] == "GET" and record["sub"] != "list-type"
    ]
    return Sample(wall, spent, len(sent), sum(sent))


def turn_about(rows: dict[str, Callable[[], Sample]], runs: int) -> dict[str, Sample]:
    """Run every row in turn, `runs` times over; return the median of each figure."""
    samples: dict[str, list[Sample]] = {name: [] for name in rows}
    for _ in range(runs):
        for name, run in rows.items():
            samples[name].append(run())
    return {
        name: Sample(
            statistics.median(sample.wall for sample in taken),
            statistics.median(sample.cpu for sample in taken),
            int(statistics.median(sample.gets for sample in taken)),
            int(statistics.median(sample.fetched for sample in taken)),
        )
        for name, taken in samples.items()
    }


def random_bytes(size: int) -> bytes:
    """Return `size` bytes that do not compress, the same in every run.

    No two pages are alike, so that bytes in the wrong place are wrong bytes: each 16 MiB are the
    first ones turned by an odd number of bytes.
    """
    piece = random.Random(size).randbytes(min(size, 16 * MIB))
    turns = (index * 65_537 % len(piece) for index in range(-(-size // len(piece))))
    return b"".join(piece[turn:] + piece[:turn] for turn in turns)[:size]


def check_crc(path: Path, wanted: int) -> None:
    """Exit with a message unless the file's CRC-64 is `wanted`."""
    crc = 0
    with path.open("rb", buffering=0) as file:
        while piece := file.read(4 * MIB):
            crc = crc64.xz(piece, crc)
    if crc != wanted:
        raise SystemExit(f"{path}: CRC-64 {crc:016x}, wanted {wanted:016x}: wrong bytes")


def quietly(*command: str) -> None:
    """Run a command whose output is of no interest; exit with its message if it fails."""
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        raise SystemExit(f"{command[0]} failed: {done.stderr.decode()[-500:]}")


def table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]], how: str) -> None:
    """Print a table and one line on how its figures were obtained."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    print(f"\n{title}")
    for row in [header, ["-" * width for width in widths], *rows]:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        print("  ".join(cells))
    print(how)


def _caches_dropped() -> tuple[str, ...]:
    """Return how often this machine was told to drop its caches."""
    lines = Path("/proc/vmstat").read_text().splitlines()
    return tuple(line for line in lines if line.startswith("drop_"))


def _keys(emulator: EmulatorProcess) -> StaticCredentials:
    return StaticCredentials(Credentials(emulator.key_id, emulator.key_secret))
