"""How the cost grows: the same work at 1, 4 and 16 times the data, 1 to 100 times the entries.

Also with 1 to 64 readers, who share the same work: there the cost is to stay as it is. A mount of
its own a point. Nothing is subtracted for what a run costs however small it is (the start of dd, ls
or find, a first request): that makes the smallest size look dear, so the last point of a curve is
held against the cheapest unit before it, not against the first alone. A curve that has risen by
more than 15 % of it is named; only wrong bytes, names or counts make this exit with an error.
`--plot` draws the curves.
"""

from __future__ import annotations

import math
import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.pop(1)  # the folder, whose requests.py is no library

from fastcrc import crc64

from bench.support.arguments import arguments
from bench.support.entries import (
    FOLDER,
    check_shown,
    find,
    name_in_tree,
    name_of,
    record,
)
from bench.support.large import Rig, read_by_dd, source_of
from bench.support.rig import (
    MIB,
    Crew,
    Sample,
    claim_memory,
    daemon_cpu,
    mounted,
    quietly,
    random_bytes,
    table,
    timed,
    turn_about,
)
from bench.support.servers import Server, emulated, store_on
from bench.support.small_files import PROCESSES, SIZE, read_mounted, small_files
from ossfs.emulator.storage import Bucket

ALLOWED = 1.15
"""Times the cheapest unit before that the last may cost."""
PLOT = Path(__file__).resolve().parents[1] / "docs" / "scaling.png"

READ_FILES = """
import os
from concurrent.futures import ThreadPoolExecutor
from fastcrc import crc64
folder, part, step, count, threads, wanted = sys.argv[1], *map(int, sys.argv[2:])
def read(number):
    block = memoryview(bytearray(1 << 20))
    crc = 0
    with open(f"{folder}/{number:02d}", "rb", buffering=0) as file:
        start = file.read(8)
        while got := file.readinto(block):
            crc = crc64.xz(block[:got], crc)
    assert int.from_bytes(start, "big") == number and crc == wanted, number
with ThreadPoolExecutor(threads) as pool:
    ready()
    list(pool.map(read, range(part, count, step)))
"""

STAT_FILES = """
import os
folder, part, step, count = sys.argv[1], *map(int, sys.argv[2:])
ready()
for number in range(part, count, step):
    size = os.stat(f"{folder}/file-{number:06d}.jpg").st_size
    assert size == 1_000 + number * 7919 % 50_000, (number, size)
"""


SHARED = 64
"""Large files that readers share."""
PAGE = 1_000
"""Keys of a list request."""
FIGURES = {"wall": "time", "cpu": "CPU of the daemon"}


class Scale(NamedTuple):
    """The smallest size of each series, and what readers share."""

    data: int
    """MiB."""
    entries: int
    files: int
    """Of 128 KiB."""
    each: int
    """MiB of each of the large files."""
    readers: Sequence[int]


FULL = Scale(64, 1_000, 3_000, 16, (1, 2, 4, 8, 16, 32, 64))
QUICK = Scale(2, 20, 100, 1, (1, 4, 16))


class Series(NamedTuple):
    """One kind of work at several sizes."""

    name: str
    axis: str
    """What the sizes count."""
    sizes: Sequence[int]
    work: Callable[[int], Sample]
    unit: str
    """What the cost is given for."""
    shared: float = 0.0
    """Units that all readers together read, however many they are; 0: the size is what is read."""

    def units(self, size: int) -> float:
        return self.shared or size


class Curve(NamedTuple):
    """What a series has cost, in the order of its sizes."""

    series: Series
    samples: list[Sample]

    def costs(self, figure: str) -> list[float]:
        """Seconds of each size, of "cpu" or "wall"."""
        return [getattr(sample, figure) for sample in self.samples]

    def unit_costs(self, figure: str) -> list[float]:
        sizes = map(self.series.units, self.series.sizes)
        return [cost / units for cost, units in zip(self.costs(figure), sizes, strict=True)]

    def exponent(self, figure: str) -> float:
        """The slope of log cost over log size between the last two points."""
        (a, b), (c, d) = self.series.sizes[-2:], self.costs(figure)[-2:]
        return math.log(d / c) / math.log(b / a)

    def rise(self, figure: str) -> float:
        """Times the cheapest unit before it that a unit costs at the last point."""
        *before, last = self.unit_costs(figure)
        return last / min(before)


# What is done


def list_flat(server: Server, count: int) -> Sample:
    with mounted(server) as mount:
        folder = mount.path / f"flat-{count}"
        command = ["ls", "-lU"]
        shown: list[bytes] = []

        def work() -> None:
            done = subprocess.run([*command, folder], capture_output=True, check=True)
            shown.append(done.stdout)

        sample = timed(server, lambda: daemon_cpu(mount.pid), work, prepare=lambda: known(folder))
        check_shown(command, shown[-1], count)
        check_traffic("ls -lU", sample, lists=count // PAGE + 1, heads=0)
        return sample


def find_tree(server: Server, count: int) -> Sample:
    with mounted(server) as mount:
        folder = mount.path / f"tree-{count}"
        sample = timed(
            server,
            lambda: daemon_cpu(mount.pid),
            lambda: find(folder, count),
            prepare=lambda: known(folder),
        )
        check_traffic("find", sample, lists=2 * (count // FOLDER + 1), heads=0)
        return sample


def stat_each(server: Server, count: int) -> Sample:
    """Stat every file of a directory that has never been listed."""
    with mounted(server) as mount:
        folder = mount.path / f"flat-{count}"
        words = [[folder, str(part), str(PROCESSES), str(count)] for part in range(PROCESSES)]

        def prepare() -> None:
            crew.assemble()
            known(folder)

        with Crew(STAT_FILES, lambda: words) as crew:
            sample = timed(server, lambda: daemon_cpu(mount.pid), crew.work, prepare)
        check_traffic("stat", sample, lists=0, heads=count)
        return sample


def read_shared(server: Server, wanted: int, size: int, readers: int) -> Sample:
    """Read the files, `readers` at once, each file by one of them; check every byte."""
    with mounted(server) as mount:
        processes = min(PROCESSES, readers)
        numbers = [processes, SHARED, readers // processes, wanted]
        words = [
            [mount.path / "shared", str(part), *map(str, numbers)] for part in range(processes)
        ]

        def prepare() -> None:
            crew.assemble()
            claim_memory(3 * size)  # for the page cache, the daemon's blocks and sockets
            quietly("ls", "-l", str(mount.path / "shared"))

        with Crew(READ_FILES, lambda: words) as crew:
            return timed(server, lambda: daemon_cpu(mount.pid), crew.work, prepare)


def known(folder: Path) -> None:
    """Let the kernel know the directory, whose own requests are no part of the work."""
    if not folder.is_dir():
        raise SystemExit(f"{folder} is not there")


def check_traffic(name: str, sample: Sample, *, lists: int, heads: int) -> None:
    """Exit with a message where there were more list requests, or not so many HEADs."""
    told = sample.traffic
    if told.lists > lists or told.heads != heads:
        raise SystemExit(f"{name}: {told.lists} list requests and {told.heads} HEADs")


# The series, each on a server of its own


def large_reads(scale: Scale, runs: int) -> list[Curve]:
    sizes = [scale.data * times for times in (1, 4, 16)]
    crcs: dict[int, int] = {}

    def load(bucket: Bucket) -> None:
        for mib in sizes:
            data = random_bytes(mib * MIB)
            crcs[mib] = crc64.xz(data)
            bucket.put_bytes(b"big-%d" % mib, data)

    with emulated(load) as server:

        def work(mib: int) -> Sample:
            return read_by_dd(server, f"big-{mib}", crcs[mib], claimed=2 * mib * MIB)

        return measured([Series("sequential read", "MiB", sizes, work, "MiB")], runs)


def large_writes(scale: Scale, runs: int) -> list[Curve]:
    sizes = [scale.data * times for times in (1, 4, 16)]
    with emulated(lambda bucket: None) as server, ExitStack() as stack:
        store = stack.enter_context(closing(store_on(server)))
        rigs = {mib: Rig(server, store, stack.enter_context(source_of(mib * MIB))) for mib in sizes}

        def work(mib: int) -> Sample:
            claim_memory(2 * mib * MIB)
            return rigs[mib].write_large([], dd=False)

        return measured([Series("sequential write", "MiB", sizes, work, "MiB")], runs)


def entries(scale: Scale, runs: int) -> list[Curve]:
    sizes = [scale.entries * times for times in (1, 10, 100)]

    def load(bucket: Bucket) -> None:
        for count in sizes:
            for number in range(count):
                bucket.commit(record(b"flat-%d/%b" % (count, name_of(number)), number))
                bucket.commit(record(b"tree-%d/%b" % (count, name_in_tree(number)), number))

    works = {"ls -lU": list_flat, "find": find_tree, "stat, never listed": stat_each}
    with emulated(load) as server:
        return measured(
            [
                Series(name, "entries", sizes, partial(work, server), "entry")
                for name, work in works.items()
            ],
            runs,
        )


def readers(scale: Scale, runs: int) -> list[Curve]:
    small, large = random_bytes(SIZE - 8), random_bytes(scale.each * MIB - 8)

    def load(bucket: Bucket) -> None:
        for key, data in small_files(scale.files, small):
            bucket.put_bytes(key, data)
        for number in range(SHARED):
            bucket.put_bytes(b"shared/%02d" % number, number.to_bytes(8, "big") + large)

    with emulated(load) as server:

        def read_small(count: int) -> Sample:
            return read_mounted(server, scale.files, count, crc64.xz(small))

        def read_large(count: int) -> Sample:
            return read_shared(server, crc64.xz(large), SHARED * scale.each * MIB, count)

        return measured(
            [
                Series(
                    f"{scale.files} files of 128 KiB",
                    *("readers", scale.readers, read_small, "file", scale.files),
                ),
                Series(
                    f"{SHARED} files of {scale.each} MiB",
                    *("readers", scale.readers, read_large, "MiB", SHARED * scale.each),
                ),
            ],
            runs,
        )


def measured(series: Sequence[Series], runs: int) -> list[Curve]:
    """Measure every size of every series, turn about."""
    rows = {
        f"{each.name}, {size}": partial(each.work, size) for each in series for size in each.sizes
    }
    results = turn_about(rows, runs)
    return [
        Curve(each, [results[f"{each.name}, {size}"] for size in each.sizes]) for each in series
    ]


# What is shown


def show_costs(curves: Sequence[Curve], runs: int) -> None:
    lines = []
    for curve in curves:
        series, samples = curve
        walls, cpus = curve.unit_costs("wall"), curve.unit_costs("cpu")
        for index, (size, sample) in enumerate(zip(series.sizes, samples, strict=True)):
            traffic = sample.traffic
            lines.append(
                [
                    f"{series.name}, {size} {series.axis}" if not index else f"  {size}",
                    f"{sample.wall:.2f}",
                    f"{sample.cpu:.2f}",
                    f"{series.units(size) / sample.wall:.0f}",
                    f"{walls[index] / walls[0]:.2f}",
                    f"{cpus[index] * 1e6:.0f}",
                    f"{cpus[index] / cpus[0]:.2f}",
                    series.unit,
                    *map(str, (traffic.gets, traffic.heads, traffic.lists, traffic.puts)),
                ]
            )
    table(
        "How the cost grows",
        [
            *("", "seconds", "CPU s", "units/s", "times 1x", "CPU us/unit", "times 1x", "unit"),
            *("GETs", "HEADs", "lists", "PUTs"),
        ],
        lines,
        f"Medians of {runs}, turn about, a fresh mount each; CPU of the daemon; times 1x: the cost "
        "of a unit over that at the series' first size; nothing is subtracted for the start of dd, "
        "ls, find and the readers of small files; every byte, name and size was checked.",
    )


def show_growth(curves: Sequence[Curve]) -> None:
    lines = []
    bent = []
    for curve in curves:
        for figure, name in FIGURES.items():
            rise = curve.rise(figure)
            label = f"{curve.series.name}, {name}"
            if rise > ALLOWED:
                bent.append(label)
            lines.append(
                [
                    label,
                    f"{curve.exponent(figure):.2f}",
                    "0" if curve.series.shared else "1",
                    f"{rise:.2f}",
                    "bends upward" if rise > ALLOWED else "no more than linear",
                ]
            )
    table(
        "Does a curve bend upward?",
        ["", "exponent", "linear", "last unit's cost of the cheapest before", ""],
        lines,
        "Exponent: slope of log cost over log size between the last two points; 0 is linear where "
        "readers share the same work.",
    )
    allowed = f"{ALLOWED - 1:.0%}"
    if bent:
        print(f"MORE THAN {allowed} ABOVE LINEAR: {'; '.join(bent)}")
    else:
        print(f"No series is more than {allowed} above linear.")


def draw(curves: Sequence[Curve], runs: int, path: Path) -> None:
    """Draw a panel a series, each with the line that exactly linear growth would be."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullLocator

    figure = Figure(figsize=(14, 7), layout="constrained")
    panels = figure.subplots(2, 4).flatten()
    for panel, curve in zip(panels, curves, strict=False):
        series = curve.series
        sizes = series.sizes
        for (kind, name), colour in zip(FIGURES.items(), ("C1", "C0"), strict=True):
            costs = curve.costs(kind)
            linear = [costs[0] * (1 if series.shared else size / sizes[0]) for size in sizes]
            panel.plot(sizes, costs, "o-", color=colour, label=name)
            panel.plot(sizes, linear, "--", color=colour, label=f"{name}, exactly linear")
        panel.set(xscale="log", yscale="log", title=series.name, xlabel=series.axis)
        panel.set_xticks(sizes, [f"{size:,}" for size in sizes])
        panel.xaxis.set_minor_locator(NullLocator())
        if series.shared:  # flat, so the scale must not make much of little
            shown = [cost for kind in FIGURES for cost in curve.costs(kind)]
            panel.set_ylim(min(shown) / 5, max(shown) * 5)
        panel.set_ylabel("seconds")
        panel.grid(alpha=0.3)
    handles, labels = panels[0].get_legend_handles_labels()
    for panel in panels[len(curves) :]:
        panel.axis("off")
        panel.legend(handles, labels, loc="center", frameon=False)
    figure.suptitle(f"How the cost grows (medians of {runs})")
    figure.savefig(path, dpi=100, format="png")


def more(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--plot", type=Path, nargs="?", const=PLOT, help=f"draw to a PNG file (default {PLOT})"
    )


def main() -> None:
    given = arguments(__doc__, oss_only=True, more=more)
    scale = QUICK if given.quick else FULL
    curves = [
        curve
        for measure in (large_reads, large_writes, entries, readers)
        for curve in measure(scale, given.runs)
    ]
    show_costs(curves, given.runs)
    show_growth(curves)
    path: Path | None = given.more.plot
    if path is not None:
        draw(curves, given.runs, path)
        print(f"\nDrawn to {path}")


if __name__ == "__main__":
    main()
