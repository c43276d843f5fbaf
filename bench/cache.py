"""What has been read once is not fetched again: the disk cache over a restart, the memory cache.

Two GiB are read through a mount, and again through a new one with the page cache dropped: without a
cache, with one in memory, where the emulator's own files are, and with one on a disk. One GiB is
read by four processes at once, with and without the kernel's page cache, each with and without the
memory cache. Readers check every byte by CRC-64. Exits non-zero when the second reading of what is
cached takes a GET, or when the four readers who share a memory cache fetch a byte twice.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.pop(1)  # the folder, whose requests.py is no library

from fastcrc import crc64

from bench.support.arguments import arguments
from bench.support.rig import MIB, Crew, Sample, daemon_cpu, mounted, random_bytes, table, timed
from bench.support.servers import MEMORY, Put, Server, serving
from tests.support.mount import Mount

FILES = 8
READERS = 4
ATTEMPTS = 3
"""As often is read again what the disk was too busy to keep."""
SETTLING_S = 1.0
DISK = "/var/tmp"
PLACES = {"no cache": None, "cache in memory": MEMORY, f"cache in {DISK}": DISK}

SHARING = ", memory cache"

READER = """
from fastcrc import crc64
buffer = bytearray(1 << 20)
view = memoryview(buffer)
ready()
for path, wanted in zip(sys.argv[1::2], sys.argv[2::2]):
    file = open(path, "rb", buffering=0)  # the last one stays open
    crc = 0
    while size := file.readinto(buffer):
        crc = crc64.xz(view[:size], crc)
    assert crc == int(wanted), path
"""


class Object(NamedTuple):
    key: str
    size: int
    crc: int


class Both(NamedTuple):
    """The first and the second reading."""

    first: Sample
    again: Sample
    missed: int
    """Bytes that the first reading left out of the cache: the disk was busy."""


class Shared(NamedTuple):
    """One reading by several processes."""

    sample: Sample
    peak: int


def read_by(processes: int, server: Server, mount: Mount, objects: Sequence[Object]) -> Sample:
    """Have each process read all the objects, one after another, on a cold page cache."""
    words = [word for it in objects for word in (mount.path / it.key, str(it.crc))]
    with Crew(READER, lambda: [words] * processes) as crew:
        return timed(server, lambda: daemon_cpu(mount.pid), crew.work, crew.assemble)


def read_twice(server: Server, objects: Sequence[Object], place: str | None) -> Both:
    """Read through a mount, end it, and read through another with the same cache."""
    size = sum(it.size for it in objects)
    with _folder(place) as options:
        with mounted(server, *options) as mount:
            first = read_by(1, server, mount, objects)
            if first.traffic.fetched != size:
                raise SystemExit(f"{place}: {first.traffic.fetched} bytes fetched of {size}")
            missed = left = size - written(mount, size) if options else 0
            for _ in range(ATTEMPTS):
                if left:
                    read_by(1, server, mount, objects)
                    left = size - written(mount, size)
            if left:
                raise SystemExit(f"cache in {place}: {left} bytes of {size} are never kept")
        with mounted(server, *options) as mount:
            again = read_by(1, server, mount, objects)
    if options and again.traffic.gets:
        told = f"{again.traffic.fetched} bytes fetched again by {again.traffic.gets} GETs"
        raise SystemExit(f"cache in {place}: {told}")
    return Both(first, again, missed)


def written(mount: Mount, size: int) -> int:
    """Return how much of `size` bytes is on the disk, once no more of it comes."""
    before, now = -1, 0
    while before < now < size:
        time.sleep(SETTLING_S)
        before, now = now, int(mount.statistics().get("disk_cache_written_bytes", 0))
    return now


@contextmanager
def _folder(place: str | None) -> Iterator[list[str]]:
    """Give the options for a cache in a fresh directory at `place`; none without a place."""
    if place is None:
        yield []
        return
    directory = tempfile.mkdtemp(prefix="ossfs-bench-cache-", dir=place)
    try:
        yield [f"disk_data_cache_dir={directory}", "disk_data_cache_size=4G"]
    finally:
        shutil.rmtree(directory)


def read_at_once(server: Server, item: Object, options: Sequence[str], *, once: bool) -> Shared:
    """Have several processes read one object; `once`: no byte may be fetched twice."""
    with mounted(server, *options) as mount:
        sample = read_by(READERS, server, mount, [item])
        if once and sample.traffic.fetched != item.size:
            told = f"{sample.traffic.fetched} bytes fetched of {item.size}"
            raise SystemExit(f"{', '.join(options)}: {told}")
        return Shared(sample, mount.memory())


def main() -> None:
    given = arguments(__doc__, runs=3)
    # Each of another size, which seeds it, so that no two have a page in common.
    sizes = [(12 if given.quick else 256) * MIB - 4096 * number for number in range(FILES)]
    big = (48 if given.quick else 1024) * MIB
    objects = [
        Object(f"file-{number}", size, crc64.xz(random_bytes(size)))
        for number, size in enumerate(sizes)
    ]
    shared = Object("big", big, crc64.xz(random_bytes(big)))

    def load(put: Put) -> None:
        for it in (*objects, shared):
            put(it.key.encode(), random_bytes(it.size))

    kinds = {
        name + suffix: ["total_mem_limit=3G", *direct, *cache]
        for name, direct in (("direct_io", ["direct_io"]), ("page cache", []))
        for suffix, cache in (("", []), (SHARING, ["memory_data_cache_size=1200M"]))
    }
    restarts: list[dict[str, Both]] = []
    sharing: list[dict[str, Shared]] = []
    with serving(given.store, load) as server:
        for _ in range(given.runs):
            restarts.append(
                {name: read_twice(server, objects, place) for name, place in PLACES.items()}
            )
            sharing.append(
                {
                    name: read_at_once(server, shared, options, once=name.endswith(SHARING))
                    for name, options in kinds.items()
                }
            )
    show_restarts(restarts, sum(sizes))
    show_sharing(sharing, big)


def show_restarts(rounds: Sequence[dict[str, Both]], size: int) -> None:
    lines = []
    for name in PLACES:
        pairs = [each[name] for each in rounds]
        first, again = [pair.first for pair in pairs], [pair.again for pair in pairs]
        faster = median(pair.first.wall / pair.again.wall for pair in pairs)
        lines.append(
            [
                name,
                *(_rate(samples, size) for samples in (first, again)),
                f"{faster:.2f}",
                *(_cpu(samples, size) for samples in (first, again)),
                *(str(samples[-1].traffic.gets) for samples in (first, again)),
                f"{max(pair.missed for pair in pairs) / 1e6:.0f}" if PLACES[name] else "-",
            ]
        )
    table(
        f"{FILES} files, {size / 1024 / MIB:.2f} GiB, read twice",
        ["", "MB/s", "again", "times as fast", "CPU s/GiB", "again", "GETs", "again", "missed MB"],
        lines,
        f"Medians of {len(rounds)}, turn about; the second reading is through a new mount; page "
        "cache dropped before each; one reader, CRC-64 of every byte within the timed part; CPU of "
        "the daemon. Memory is the file system the emulator serves from. Missed is what the first "
        "reading left out because the disk was behind, the most of all runs; it was read again, "
        "uncounted, before the mount was ended.",
    )


def show_sharing(rounds: Sequence[dict[str, Shared]], size: int) -> None:
    lines = []
    for name in rounds[0]:
        base = name.removesuffix(SHARING)
        found = [each[name] for each in rounds]
        samples = [each.sample for each in found]
        faster = median(each[base].sample.wall / each[name].sample.wall for each in rounds)
        lines.append(
            [
                name,
                _rate(samples, size * READERS),
                f"{faster:.2f}",
                f"{max(sample.traffic.fetched for sample in samples) / size:.2f}",
                str(samples[-1].traffic.gets),
                _cpu(samples, size * READERS),
                f"{max(each.peak for each in found) / 1e6:.0f}",
            ]
        )
    table(
        f"{READERS} readers at once of one file of {size // MIB} MiB",
        ["", "MB/s", "times without", "fetched", "GETs", "CPU s/GiB", "peak MB"],
        lines,
        f"Medians of {len(rounds)}, turn about, a fresh mount each, page cache dropped; MB/s and "
        "CPU s/GiB are of the bytes that all readers got, each CRC-64 checked within the timed "
        "part; fetched: bytes fetched a byte of the file, the most of all runs.",
    )


def _rate(samples: Sequence[Sample], size: int) -> str:
    return f"{size / 1e6 / median(sample.wall for sample in samples):.0f}"


def _cpu(samples: Sequence[Sample], size: int) -> str:
    return f"{median(sample.cpu for sample in samples) / (size / 1024 / MIB):.2f}"


if __name__ == "__main__":
    main()
