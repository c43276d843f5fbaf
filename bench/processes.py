"""Transfer threads in the process that answers the kernel, beside transfer processes.

The same object in ranges of 8 MiB, into memory that is shared, four ways of threads and processes.
Jobs (key, ETag, offset, length, block) go out and come back over a socket in all rows, so that they
differ in nothing but where the threads are. What has arrived is "answered" 1 MiB at a time as
pyfuse3 does, with the interpreter's lock held: by pwrite to a file in memory, a copy to the kernel
like that to /dev/fuse. Near, by https, and on a store at a distance, where all rows have more
threads. Then, of a real mount, the share of its CPU that another process could take over.
"""

from __future__ import annotations

import ctypes
import mmap
import multiprocessing
import os
import select
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.pop(1)  # the folder, whose requests.py is no library

from fastcrc import crc64

from bench.support.arguments import arguments
from bench.support.rig import (
    MIB,
    Sample,
    claim_memory,
    daemon_cpu,
    in_turns,
    medians,
    mounted,
    own_cpu,
    quietly,
    random_bytes,
    speed,
    table,
    timed,
)
from bench.support.servers import store_on, stored
from tests.support.emulator import EmulatorProcess
from tests.support.mount import drop_caches
from tests.support.tls import over_tls

RANGE = 8 * MIB
NEAR, FAR = 4, 8
"""Transfer threads."""
LATENCY_MS, BANDWIDTH_MB = 20.0, 100.0
TICK = os.sysconf("SC_CLK_TCK")
PASSES = 4
"""Reads of the object by which the threads of a mount are told apart."""

_JOB = struct.Struct("<16s64sQQq")
"""Key, ETag, offset, length, block; no block ends a thread."""
_NONE = -1
_PATIENCE_MS = 120_000
"""Longer than the deadline of a request: whoever says nothing by then has died of it."""
_RING = 64 * MIB
"""Bytes of the file that is written over and over."""
# Unlike os.pwrite, and like the reply of pyfuse3, this keeps the interpreter's lock.
_pwrite = ctypes.PyDLL(None, use_errno=True).pwrite
_pwrite.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int64]
_pwrite.restype = ctypes.c_ssize_t


class Way(NamedTuple):
    """How the threads are spread."""

    name: str
    workers: int
    """Processes beside this one; 0: all threads are here."""


WAYS = (
    Way("one process", 0),
    Way("a process for the threads", 1),
    Way("two such processes", 2),
)


class Source(NamedTuple):
    """The object that is read, and what it should be."""

    server: EmulatorProcess
    size: int
    etag: str
    crcs: Mapping[int, int]
    """CRC-64 by offset."""


def transfer(end: socket.socket, source: Source, memory: mmap.mmap, threads: int) -> None:
    """Do jobs with so many threads until each is told to end."""
    store = store_on(source.server)

    def work() -> None:
        while True:
            key, etag, offset, length, block = _JOB.unpack(end.recv(_JOB.size))
            if block == _NONE:
                return
            start = block * RANGE
            with memoryview(memory) as view:
                pieces = [
                    view[start + at : start + min(at + MIB, length)] for at in range(0, length, MIB)
                ]
                store.get_range_into(
                    key.rstrip(b"\0"),
                    offset,
                    pieces,
                    if_match=etag.rstrip(b"\0").decode(),
                    deadline=time.monotonic() + 60,
                )
            end.send(_JOB.pack(key, etag, offset, length, block))

    team = [threading.Thread(target=work) for _ in range(threads)]
    for thread in team:
        thread.start()
    for thread in team:
        thread.join()
    store.close()


class Rig:
    """Threads somewhere, the blocks they fill, and the copy that answers the kernel."""

    def __init__(
        self, source: Source, memory: mmap.mmap, ends: Sequence[socket.socket], threads: int
    ) -> None:
        """`ends` lead to the threads, `threads` to each."""
        self._source = source
        self._memory = memory
        self._ends = ends
        self._threads = threads
        self._address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        self._answers = os.memfd_create("answers")
        os.truncate(self._answers, _RING)

    def answer(self, offset: int, block: int, length: int) -> None:
        """Copy a block to the kernel with the interpreter's lock held."""
        for at in range(0, length, MIB):
            count = min(MIB, length - at)
            address = self._address + block * RANGE + at
            if _pwrite(self._answers, address, count, (offset + at) % _RING) != count:
                raise SystemExit(f"pwrite: {os.strerror(ctypes.get_errno())}")

    def check(self, offset: int, block: int, length: int) -> None:
        """Exit with a message unless a block holds the right bytes."""
        with memoryview(self._memory) as view, view[block * RANGE :][:length] as got:
            if crc64.xz(got) != self._source.crcs[offset]:
                raise SystemExit(f"wrong bytes at {offset}")

    def fetch(self, consume: Callable[[int, int, int], None]) -> None:
        """Fetch the object; every thread has a job and another waiting for it."""
        source = self._source
        offsets = iter(range(0, source.size, RANGE))
        by_number = {end.fileno(): end for end in self._ends}
        poll = select.poll()
        for number in by_number:
            poll.register(number, select.POLLIN)
        waiting = 0

        def give(end: socket.socket, block: int) -> None:
            nonlocal waiting
            offset = next(offsets, None)
            if offset is not None:
                length = min(RANGE, source.size - offset)
                end.send(_JOB.pack(b"big", source.etag.encode(), offset, length, block))
                waiting += 1

        for block in range(2 * self._threads * len(self._ends)):
            give(self._ends[block % len(self._ends)], block)
        while waiting:
            ready = poll.poll(_PATIENCE_MS)
            if not ready:
                raise SystemExit("a transfer thread has failed")
            for number, _ in ready:
                end = by_number[number]
                _, _, offset, length, block = _JOB.unpack(end.recv(_JOB.size))
                waiting -= 1
                consume(offset, block, length)
                give(end, block)

    def close(self) -> None:
        for end in self._ends:
            for _ in range(self._threads):
                end.send(_JOB.pack(b"", b"", 0, 0, _NONE))
        os.close(self._answers)


@contextmanager
def team(source: Source, way: Way, threads: int) -> Iterator[tuple[Rig, Sequence[int]]]:
    """Start the threads; give the rig and the processes they are in, unless in this one."""
    groups = max(1, way.workers)
    pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(groups)]
    memory = mmap.mmap(-1, 2 * threads * RANGE, mmap.MAP_SHARED | mmap.MAP_ANONYMOUS)
    each = threads // groups
    started: list[threading.Thread | multiprocessing.process.BaseProcess] = []

    def work(number: int) -> None:
        if way.workers:
            for index, (near, far) in enumerate(pairs):
                near.close()
                if index != number:
                    far.close()
        transfer(pairs[number][1], source, memory, each)

    for number in range(groups):
        if way.workers:
            started.append(multiprocessing.get_context("fork").Process(target=work, args=(number,)))
        else:
            started.append(threading.Thread(target=work, args=(number,)))
    for one in started:
        one.start()
    rig = Rig(source, memory, [near for near, _ in pairs], each)
    try:
        pids = [one.pid for one in started if not isinstance(one, threading.Thread)]
        yield rig, [pid for pid in pids if pid is not None]
    finally:
        rig.close()
        for one in started:
            one.join()
        for near, far in pairs:
            near.close()
            far.close()


def measure(source: Source, way: Way, threads: int) -> Sample:
    """Fetch once to check every byte, and once again for the figures."""
    with team(source, way, threads) as (rig, pids):
        rig.fetch(rig.check)
        sample = timed(
            source.server,
            lambda: own_cpu() + sum(map(daemon_cpu, pids)),
            lambda: rig.fetch(rig.answer),
        )
    if sample.traffic.gets != -(-source.size // RANGE):
        raise SystemExit(f"{way.name}: {sample.traffic.gets} GETs")
    return sample


def compare(title: str, source: Source, threads: int, runs: int) -> None:
    def row(way: Way) -> Callable[[], Sample]:
        return lambda: measure(source, way, threads)

    rounds = in_turns({way.name: row(way) for way in WAYS}, runs)
    results = medians(rounds)
    base, gib = results[WAYS[0].name], source.size / (1024 * MIB)
    table(
        f"{source.size // MIB} MiB by {threads} transfer threads, {title}",
        ["", "MB/s", "of one process", "CPU s/GiB", "times one's", "GETs"],
        [
            [
                name,
                f"{source.size / 1e6 / sample.wall:.0f}",
                f"{speed(rounds, name, WAYS[0].name):.2f}",
                f"{sample.cpu / gib:.2f}",
                f"{sample.cpu / base.cpu:.2f}",
                str(sample.traffic.gets),
            ]
            for name, sample in results.items()
        ],
        f"Medians of {runs}, turn about, ratios of two rows of a round; {os.cpu_count()} cores, "
        "the server on them too; CPU of all processes but the server; each block copied to the "
        "kernel by this process with the lock held; every byte checked in a run before.",
    )


# What is left to gain


class Spent(NamedTuple):
    """Seconds of CPU of a process's threads."""

    loop: float
    """Of the first thread, in both modes."""
    user: float
    """Of all others, outside the kernel."""
    system: float

    def __sub__(self, other: Spent) -> Spent:
        return Spent(*(now - then for now, then in zip(self, other, strict=True)))


def spent(pid: int) -> Spent:
    loop = user = system = 0.0
    for task in Path(f"/proc/{pid}/task").iterdir():
        fields = (task / "stat").read_text().rpartition(") ")[2].split()
        mine = [int(ticks) / TICK for ticks in fields[11:13]]
        if task.name == str(pid):
            loop = sum(mine)
        else:
            user += mine[0]
            system += mine[1]
    return Spent(loop, user, system)


def show_what_is_left(server: EmulatorProcess, size: int) -> None:
    """Tell a mount's threads apart while it reads the object."""
    with mounted(server) as mount:
        read = ("dd", f"if={mount.path / 'big'}", "of=/dev/null", "bs=1M")
        quietly(*read)  # what the daemon does once: threads, connections, blocks
        before = spent(mount.pid)
        for _ in range(PASSES):
            drop_caches()
            claim_memory(size)
            quietly(*read)
        took = spent(mount.pid) - before
    gib = PASSES * size / (1024 * MIB)
    whole = sum(took) or 1.0
    table(
        f"Where a mount's CPU goes, {PASSES} reads of {size // MIB} MiB",
        ["", "CPU s/GiB", "of the whole"],
        [
            [name, f"{seconds / gib:.3f}", f"{seconds / whole:.2f}"]
            for name, seconds in (
                ("the loop's thread: answers, and what decides", took.loop),
                ("the others, outside the kernel", took.user),
                ("the others, in the kernel", took.system),
            )
        ],
        "By the clock ticks of each thread; the kernel's part of the transfer threads runs "
        "without the interpreter's lock, so that with cores enough the two others are what one "
        "process is bound by, and processes could take over the second of them: "
        f"at most {(took.loop + took.user) / (took.loop or 1 / TICK):.2f} times the speed.",
    )


def main() -> None:
    given = arguments(__doc__, oss_only=True)
    size = (32 if given.quick else 1024) * MIB
    data = random_bytes(size)
    view = memoryview(data)
    crcs = {offset: crc64.xz(view[offset : offset + RANGE]) for offset in range(0, size, RANGE)}
    etags: list[str] = []
    with stored(lambda bucket: etags.append(bucket.put_bytes(b"big", data).etag)) as directory:
        with EmulatorProcess(directory, fast_etags=True) as server:
            source = Source(server, size, etags[0], crcs)
            compare("near", source, NEAR, given.runs)
            with over_tls(server) as encrypted:
                compare("by https", source._replace(server=encrypted), NEAR, given.runs)
            show_what_is_left(server, size)
        with EmulatorProcess(
            directory, fast_etags=True, latency_ms=LATENCY_MS, bandwidth_mb=BANDWIDTH_MB
        ) as server:
            title = f"{LATENCY_MS:.0f} ms away, {BANDWIDTH_MB:.0f} MB/s a connection"
            compare(title, source._replace(server=server), FAR, given.runs)


if __name__ == "__main__":
    main()
