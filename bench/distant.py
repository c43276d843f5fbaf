"""A distant bucket: 20 ms a request and 100 MB/s a connection, beside the same with neither.

One reader reads a large object 1 MiB at a time, from a mount that was just made, and notes when
each has come: so the ramp can be told from the speed that it leads to. Then one program writes a
large file and closes it. The bytes are the same and in memory in all rows; each run starts an
emulator on them, as far away as the row says.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.pop(1)  # the folder, whose requests.py is no library

from fastcrc import crc64

from bench.support.arguments import arguments
from bench.support.large import WRITE_LARGE, Source, source_of
from bench.support.rig import (
    MIB,
    Crew,
    Sample,
    check_object,
    claim_memory,
    daemon_cpu,
    in_turns,
    medians,
    mounted,
    random_pieces,
    table,
    timed,
)
from bench.support.servers import soon, store_on, stored
from ossfs.emulator.records import Metadata
from ossfs.emulator.storage import Bucket
from tests.support.emulator import EmulatorProcess

LATENCY_MS = 20.0
BANDWIDTH_MB = 100.0
LEFT_OUT_S = 1.0
"""The ramp, which the steady speed leaves out."""
SPAN_S = 0.1
"""Over which the speed at a time is taken."""

READ = """
import json, os, time
from fastcrc import crc64
path, wanted, told = sys.argv[1:]
buffer, crc, times = bytearray(1 << 20), 0, []
view = memoryview(buffer)
ready()
begun = time.perf_counter()
descriptor = os.open(path, os.O_RDONLY)
times.append(time.perf_counter() - begun)
while done := os.readv(descriptor, [buffer]):
    times.append(time.perf_counter() - begun)
    crc = crc64.xz(view[:done], crc)
    if len(times) % 64 == 0:  # what lies behind: see claim_memory why it is not to pile up
        os.posix_fadvise(descriptor, 0, (len(times) - 8) << 20, os.POSIX_FADV_DONTNEED)
os.close(descriptor)
assert crc == int(wanted), "wrong bytes"
with open(told, "w") as file:
    json.dump(times, file)
"""


class Reading(NamedTuple):
    """When what a reader asked for had come, in seconds since just before it opened the file."""

    opened: float
    arrivals: Sequence[float]
    """Of each MiB."""

    @property
    def rate(self) -> float:
        """MB/s over all."""
        return len(self.arrivals) * MIB / 1e6 / self.arrivals[-1]

    @property
    def steady(self) -> float:
        """MB/s without the first second, or without the first half where all takes under two."""
        end = self.arrivals[-1]
        first = bisect_right(self.arrivals, LEFT_OUT_S if end > 2 * LEFT_OUT_S else end / 2)
        first = min(first, len(self.arrivals) - 2)
        return (len(self.arrivals) - 1 - first) * MIB / 1e6 / (end - self.arrivals[first])

    def rate_before(self, time: float) -> float:
        """MB/s over the 100 ms that end at a time, or since the start where that is less."""
        since = bisect_right(self.arrivals, time - SPAN_S)
        return (bisect_right(self.arrivals, time) - since) * MIB / 1e6 / min(time, SPAN_S)

    @property
    def half_speed(self) -> float:
        """Seconds to the first arrival at which `rate_before` is half the steady speed."""
        half = self.steady / 2
        reached = (time for time in self.arrivals if self.rate_before(time) >= half)
        return next(reached, self.arrivals[-1])  # in none where all takes hardly 100 ms

    @property
    def ramp(self) -> Sequence[float | None]:
        """MB/s in each 100 ms of the first second; None: the end was reached before."""
        ends = [SPAN_S * number for number in range(1, 11)]
        last = self.arrivals[-1]
        return [self.rate_before(end) if end - SPAN_S < last else None for end in ends]


class Row(NamedTuple):
    """What differs between rows."""

    distant: bool
    options: Sequence[str] = ()

    def emulator(self, directory: str) -> EmulatorProcess:
        if not self.distant:
            return EmulatorProcess(directory, fast_etags=True)
        return EmulatorProcess(
            directory, fast_etags=True, latency_ms=LATENCY_MS, bandwidth_mb=BANDWIDTH_MB
        )


NEAR = "no latency"
FAR = f"{LATENCY_MS:.0f} ms, {BANDWIDTH_MB:.0f} MB/s"
READERS = {
    NEAR: Row(False),
    FAR: Row(True),
    f"{NEAR}, pages pushed": Row(False, ["read_ahead_kb=0"]),
    f"{FAR}, pages pushed": Row(True, ["read_ahead_kb=0"]),
}
WRITERS = {NEAR: Row(False), FAR: Row(True)}


def base_of(name: str) -> str:
    """Return the row with no latency that a row is compared with."""
    return name.replace(FAR, NEAR)


def main() -> None:
    given = arguments(__doc__, oss_only=True)
    measure_reading((96 if given.quick else 4096) * MIB, given.runs)
    measure_writing((48 if given.quick else 1024) * MIB, given.runs)


# Reading


def measure_reading(size: int, runs: int) -> None:
    crc = 0
    for piece in random_pieces(size):
        crc = crc64.xz(piece, crc)

    def load(bucket: Bucket) -> None:
        with bucket.body(size) as body:
            for piece in random_pieces(size):
                body.write(piece)
            bucket.put(b"big", body, Metadata())

    readings: dict[str, list[Reading]] = {name: [] for name in READERS}
    memory: dict[str, list[int]] = {name: [] for name in READERS}
    with stored(load) as directory:
        rows: dict[str, Callable[[], Sample]] = {
            name: partial(read, directory, row, size, crc, readings[name], memory[name])
            for name, row in READERS.items()
        }
        samples = medians(in_turns(rows, runs))

    def ratio(name: str) -> float:
        pairs = zip(readings[name], readings[base_of(name)], strict=True)
        return statistics.median(one.steady / base.steady for one, base in pairs)

    def middle(name: str, figure: Callable[[Reading], float]) -> float:
        return statistics.median(map(figure, readings[name]))

    gib = size / (1024 * MIB)
    table(
        f"Sequential read of {size // MIB} MiB",
        [
            *["", "MB/s", "without 1st s", f"of {NEAR}", "open ms", "first byte ms"],
            *["half speed ms", "CPU s/GiB", "peak MB", "GETs", "fetched", "server busy"],
        ],
        [
            [
                name,
                f"{middle(name, lambda it: it.rate):.0f}",
                f"{middle(name, lambda it: it.steady):.0f}",
                f"{ratio(name):.2f}",
                f"{middle(name, lambda it: it.opened) * 1e3:.0f}",
                f"{middle(name, lambda it: it.arrivals[0]) * 1e3:.0f}",
                f"{middle(name, lambda it: it.half_speed) * 1e3:.0f}",
                f"{sample.cpu / gib:.2f}",
                f"{max(memory[name]) / 1e6:.0f}",
                str(sample.traffic.gets),
                f"{sample.traffic.fetched / size:.2f}",
                f"{sample.server / sample.wall:.2f}",
            ]
            for name, sample in samples.items()
        ],
        f"Medians of {runs}, turn about, ratios (of the speeds without the first second) within a "
        "round; a new mount and emulator a run, page cache dropped; one program reads 1 MiB at a "
        "time. Times since just before its open(); half speed: when the first MiB came before "
        f"whose arrival the last {SPAN_S * 1e3:.0f} ms (or all so far, if less) had half the speed "
        "without the first second. A run under two seconds leaves out its first half instead. "
        "CPU of the daemon; fetched: bytes sent over the size; the reader checks the CRC-64 of "
        "every byte; memory for the page cache is claimed before. The emulator has one thread: its "
        "busy share near 1 is the limit.",
    )
    table(
        "The ramp: MB/s in each 100 ms of the first second",
        ["", *(f"{SPAN_S * number:.1f} s" for number in range(1, 11))],
        [
            [name, *map(shown, zip(*(reading.ramp for reading in readings[name]), strict=True))]
            for name in READERS
        ],
        "Of the same runs, medians; -: all was read before.",
    )


def shown(rates: Sequence[float | None]) -> str:
    known = [rate for rate in rates if rate is not None]
    return f"{statistics.median(known):.0f}" if known else "-"


def read(
    directory: str, row: Row, size: int, crc: int, readings: list[Reading], memory: list[int]
) -> Sample:
    with (
        row.emulator(directory) as server,
        mounted(server, *row.options) as mount,
        tempfile.NamedTemporaryFile(prefix="ossfs-bench-") as told,
        Crew(READ, lambda: [(mount.path / "big", str(crc), told.name)]) as crew,
    ):

        def prepare() -> None:
            crew.assemble()
            claim_memory(size)

        sample = timed(server, lambda: daemon_cpu(mount.pid), crew.work, prepare=prepare)
        opened, *arrivals = json.load(told)
        readings.append(Reading(opened, arrivals))
        memory.append(mount.memory())
        return sample


# Writing


def measure_writing(size: int, runs: int) -> None:
    memory: dict[str, list[int]] = {name: [] for name in WRITERS}
    with source_of(size) as source, stored(lambda bucket: None) as directory:
        rows: dict[str, Callable[[], Sample]] = {
            name: partial(write, directory, row, source, memory[name])
            for name, row in WRITERS.items()
        }
        rounds = in_turns(rows, runs)
    gib = size / (1024 * MIB)
    table(
        f"Sequential write of {size // MIB} MiB",
        ["", "MB/s", f"of {NEAR}", "CPU s/GiB", "peak MB", "PUTs", "sent", "server busy"],
        [
            [
                name,
                f"{size / 1e6 / sample.wall:.0f}",
                f"{statistics.median(each[NEAR].wall / each[name].wall for each in rounds):.2f}",
                f"{sample.cpu / gib:.2f}",
                f"{max(memory[name]) / 1e6:.0f}",
                str(sample.traffic.puts),
                f"{sample.traffic.stored / size:.2f}",
                f"{sample.server / sample.wall:.2f}",
            ]
            for name, sample in medians(rounds).items()
        ],
        f"Medians of {runs}, turn about, ratios within a round; a new mount and emulator a run; "
        "from memory, 1 MiB at a time, until close() has returned; every byte read back from the "
        "bucket and compared by CRC-64 after each run.",
    )


def write(directory: str, row: Row, source: Source, memory: list[int]) -> Sample:
    with (
        row.emulator(directory) as server,
        mounted(server, *row.options) as mount,
        Crew(WRITE_LARGE, lambda: [(source.path, mount.path / "large")]) as crew,
    ):
        sample = timed(server, lambda: daemon_cpu(mount.pid), crew.work, prepare=crew.assemble)
        memory.append(mount.memory())
    with EmulatorProcess(directory, fast_etags=True) as server:
        store = store_on(server)
        check_object(store, b"large", len(source.view), source.crc64)
        store.delete(b"large", deadline=soon())
        store.close()
    return sample


if __name__ == "__main__":
    main()
