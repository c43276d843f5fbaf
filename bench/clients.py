"""Ours, s3fs and rclone on one SeaweedFS bucket, turn about: reading, writing, listing, names.

Every client is mounted afresh each round, alone, with its defaults; the page cache is dropped
before each workload. Bytes are held against their CRC-64: what is read while it is read, what is
written by reading the object from the store afterwards. A write lasts until its object can be read
through the store, since rclone returns from close before it uploads. Requests are counted by
SeaweedFS, whose own CPU, on the same two cores, is part of every figure. `curl` of the same object,
and `curl -T`, say what the server gives at all.

A client that is not installed is left out. rclone does not start while AWS_CA_BUNDLE is set, so
the peers get an environment without such names.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.pop(1)  # the folder, whose requests.py is no library

from fastcrc import crc64

from bench.support.arguments import arguments
from bench.support.rig import (
    MIB,
    check_crc,
    check_object,
    daemon_cpu,
    random_bytes,
    table,
)
from bench.support.servers import Traffic, counting, on_seaweed, put, put_many, soon, store_on
from ossfs.store.api import Store
from ossfs.store.errors import NotFound
from tests.support.mount import Mount, drop_caches, peak_memory
from tests.support.peers import peers_on
from tests.support.weed import WeedProcess

SMALL = 128 * 1024


class Scale(NamedTuple):
    big: int
    small: int
    listed: int
    folders: int
    each: int
    """Files in each of `folders`."""
    names: int
    """Files of a directory that is renamed or removed."""


class Served(NamedTuple):
    """One client's mount."""

    path: Path
    pid: int


class Figure(NamedTuple):
    rate: float
    """MB, files or entries a second."""
    cpu: float
    """Seconds of the client's process."""
    traffic: Traffic


@dataclass
class Bench:
    """The bucket, what is in it, and how it is loaded."""

    weed: WeedProcess
    store: Store
    scale: Scale
    crcs: dict[str, int] = field(default_factory=dict)

    def load(self) -> None:
        """Put everything that is only read."""
        data = random_bytes(self.scale.big)
        self.crcs["big"] = crc64.xz(data)
        put(self.store, b"big", data)
        self.put_many(self.small())
        self.put_many((f"listed/{number:05d}", b"x") for number in range(self.scale.listed))
        self.put_many(
            (f"tree/{folder:02d}/{number:05d}", b"x")
            for folder in range(self.scale.folders)
            for number in range(self.scale.each)
        )

    def small(self) -> Iterator[tuple[str, bytes]]:
        """Yield the small files, and keep their CRCs."""
        rest = random_bytes(SMALL)
        for number in range(self.scale.small):
            name, body = f"small/{number:05d}", number.to_bytes(8, "big") + rest[8:]
            self.crcs[name] = crc64.xz(body)
            yield name, body

    def prepare(self, turn: str) -> None:
        """Put what a turn renames and removes, before the mount: rclone remembers directories."""
        for directory in ("old", "gone"):
            count = self.scale.names
            self.put_many((f"{directory}-{turn}/{number:05d}", b"x") for number in range(count))

    def put_many(self, objects: Iterable[tuple[str, bytes]]) -> None:
        put_many(
            lambda key, data: put(self.store, key, data),
            ((name.encode(), data) for name, data in objects),
        )

    def wait_for(self, key: bytes, size: int, watch: Watch) -> None:
        """Wait until an object of that size can be read through the store."""
        limit = time.monotonic() + 120
        while True:
            watch.ours += 1
            try:
                if self.store.head(key, deadline=soon()).size == size:
                    return
            except NotFound:
                pass
            if time.monotonic() > limit:
                raise SystemExit(f"{key!r} is not in the bucket two minutes after its close")
            time.sleep(0.01)


class Watch:
    """What one workload takes: time, requests, the client's CPU; a context manager."""

    def __init__(self, weed: WeedProcess, client: int) -> None:
        self._weed = weed
        self._client = client
        self.wall = 0.0
        self.cpu = 0.0
        self.traffic = Traffic()
        self.ours = 0
        """HEADs that the benchmark itself has sent meanwhile."""

    def __enter__(self) -> None:
        self._answered = counting(self._weed)
        self._before = daemon_cpu(self._client)
        self._begun = time.perf_counter()

    def __exit__(self, *_error: object) -> None:
        self.wall = time.perf_counter() - self._begun
        self.cpu = daemon_cpu(self._client) - self._before
        traffic = self._answered()
        self.traffic = traffic._replace(heads=traffic.heads - self.ours)


Work = Callable[[Bench, Path, str, Watch], float]
"""(bench, mount, a name of this turn alone, watch) -> what was done: MB, files or entries."""


def read_big(bench: Bench, mount: Path, turn: str, watch: Watch) -> float:
    with watch:
        check_crc(mount / "big", bench.crcs["big"])
    return bench.scale.big / 1e6


def write_big(bench: Bench, mount: Path, turn: str, watch: Watch) -> float:
    data = memoryview(random_bytes(bench.scale.big))
    name = f"written-{turn}"
    with watch:
        with (mount / name).open("wb", buffering=0) as file:
            for start in range(0, len(data), MIB):
                file.write(data[start : start + MIB])
        bench.wait_for(name.encode(), len(data), watch)
    check_object(bench.store, name.encode(), len(data), bench.crcs["big"])
    bench.store.delete(name.encode(), deadline=soon())
    return bench.scale.big / 1e6


def read_small(readers: int) -> Work:
    def work(bench: Bench, mount: Path, turn: str, watch: Watch) -> float:
        names = [f"small/{number:05d}" for number in range(bench.scale.small)]
        os.listdir(mount / "small")

        def read(name: str) -> None:
            if crc64.xz((mount / name).read_bytes()) != bench.crcs[name]:
                raise SystemExit(f"{name}: wrong bytes")

        with ThreadPoolExecutor(readers) as pool, watch:
            for _ in pool.map(read, names):
                pass
        return len(names)

    return work


def list_flat(bench: Bench, mount: Path, turn: str, watch: Watch) -> float:
    return counted(["ls", "-lU", mount / "listed"], bench.scale.listed + 1, watch)


def find_all(bench: Bench, mount: Path, turn: str, watch: Watch) -> float:
    scale = bench.scale
    wanted = scale.folders * (scale.each + 1) + 1
    return counted(["find", mount / "tree", "-printf", "%s %p\n"], wanted, watch)


def counted(command: Sequence[str | Path], wanted: int, watch: Watch) -> float:
    """Run a program that prints a line an entry."""
    with watch:
        done = subprocess.run(command, capture_output=True, check=True, timeout=600)
    lines = done.stdout.count(b"\n")
    if lines != wanted:
        raise SystemExit(f"{command[0]} shows {lines} lines, wanted {wanted}")
    return wanted


def rename_all(bench: Bench, mount: Path, turn: str, watch: Watch) -> float:
    count = bench.scale.names
    old, new = f"old-{turn}", f"new-{turn}"
    os.stat(mount / old)
    with watch:
        os.rename(mount / old, mount / new)
    names = keys_under(bench, new)
    if len(names) != count or keys_under(bench, old):
        raise SystemExit(f"{len(names)} of {count} files are at the new name")
    return count


def remove_all(bench: Bench, mount: Path, turn: str, watch: Watch) -> float:
    directory = f"gone-{turn}"
    os.stat(mount / directory)
    with watch:
        subprocess.run(["rm", "-r", mount / directory], check=True, timeout=600)
    if keys_under(bench, directory):
        raise SystemExit(f"{directory} is not empty after rm -r")
    return bench.scale.names


def keys_under(bench: Bench, directory: str) -> list[bytes]:
    """Return the files below a directory, without markers."""
    found: list[bytes] = []
    token = None
    while True:
        prefix = directory.encode() + b"/"
        page = bench.store.list_page(prefix, delimiter=b"", token=token, deadline=soon())
        found += [entry.key for entry in page.entries if not entry.key.endswith(b"/")]
        token = page.next_token
        if token is None:
            return found


WORKS: dict[str, tuple[str, Work]] = {
    "sequential read": ("MB/s", read_big),
    "sequential write": ("MB/s", write_big),
    "small files, 1 reader": ("files/s", read_small(1)),
    "small files, 16 readers": ("files/s", read_small(16)),
    "small files, 64 readers": ("files/s", read_small(64)),
    "ls -lU": ("entries/s", list_flat),
    "find": ("entries/s", find_all),
    "directory rename": ("files/s", rename_all),
    "rm -r": ("files/s", remove_all),
}


@contextmanager
def mounted(bench: Bench, client: str, directory: Path) -> Iterator[Served]:
    """Mount the bucket by one of the clients."""
    if client == "ossfs":
        with Mount(bench.weed, directory / client, "log_level=info") as ours:
            yield Served(ours.path, ours.pid)
    else:
        with peers_on(bench.weed, bench.weed.bucket, directory)[client]() as peer:
            yield Served(peer.path, peer.pid)


def with_curl(bench: Bench, directory: Path) -> tuple[float, float]:
    """Return the MB/s at which curl gets the big object and puts one like it."""
    client, bucket = bench.weed.client(), bench.weed.bucket
    hour = timedelta(hours=1)
    get = client.presigned_get_object(bucket_name=bucket, object_name="big", expires=hour)
    put = client.presigned_put_object(bucket_name=bucket, object_name="by-curl", expires=hour)
    here = directory / "by-curl"
    begun = time.perf_counter()
    subprocess.run(["curl", "-sf", "-o", here, get], check=True, timeout=120)
    read = time.perf_counter() - begun
    check_crc(here, bench.crcs["big"])
    begun = time.perf_counter()
    subprocess.run(["curl", "-sf", "-o", "/dev/null", "-T", here, put], check=True, timeout=120)
    written = time.perf_counter() - begun
    here.unlink()
    bench.store.delete(b"by-curl", deadline=soon())
    return bench.scale.big / 1e6 / read, bench.scale.big / 1e6 / written


def main() -> None:
    given = arguments(__doc__, runs=3)
    scale = (
        Scale(16 * MIB, 20, 60, 3, 10, 20)
        if given.quick
        else Scale(1024 * MIB, 512, 20_000, 23, 1_000, 500)
    )
    clients = ["ossfs", *(name for name in ("s3fs", "rclone") if shutil.which(name))]
    figures: dict[str, dict[str, list[Figure]]] = {
        work: {client: [] for client in clients} for work in WORKS
    }
    memory = dict.fromkeys(clients, 0)
    curls: list[tuple[float, float]] = []
    with (
        on_seaweed(lambda put: None) as weed,
        closing(store_on(weed)) as store,
        tempfile.TemporaryDirectory() as name,
    ):
        bench = Bench(weed, store, scale)
        bench.load()
        for number in range(given.runs):
            curls.append(with_curl(bench, weed.directory))
            for client in clients[:: -1 if number % 2 else 1]:
                bench.prepare(f"{client}-{number}")
                with mounted(bench, client, Path(name) / f"{number}") as served:
                    for work, (_, run) in WORKS.items():
                        drop_caches()
                        watch = Watch(weed, served.pid)
                        done = run(bench, served.path, f"{client}-{number}", watch)
                        figure = Figure(done / watch.wall, watch.cpu, watch.traffic)
                        figures[work][client].append(figure)
                    memory[client] = max(memory[client], peak_memory(served.pid))
    show(figures, memory, curls, clients, given.runs, scale)


def sent(traffic: Traffic) -> int:
    """Requests of all kinds."""
    return sum(traffic) - traffic.fetched - traffic.stored


def show(
    figures: dict[str, dict[str, list[Figure]]],
    memory: dict[str, int],
    curls: list[tuple[float, float]],
    clients: list[str],
    runs: int,
    scale: Scale,
) -> None:
    rows: list[list[str]] = []
    for work, (unit, _) in WORKS.items():
        rates = {
            client: statistics.median(one.rate for one in figures[work][client])
            for client in clients
        }
        others = [rates[client] for client in clients[1:]]
        rows.append(
            [
                f"{work}, {unit}",
                *(f"{rates[client]:.0f}" for client in clients),
                f"{rates['ossfs'] / max(others):.2f}" if others else "-",
                *(
                    f"{statistics.median(one.cpu for one in figures[work][client]):.2f}"
                    for client in clients
                ),
                *(
                    f"{statistics.median(sent(one.traffic) for one in figures[work][client]):.0f}"
                    for client in clients
                ),
            ]
        )
    rows.append(
        ["peak memory, MB", *(f"{memory[client] / 1e6:.0f}" for client in clients), "-"]
        + ["-"] * 2 * len(clients)
    )
    read, written = (statistics.median(one[i] for one in curls) for i in (0, 1))
    ours = [
        statistics.median(one.rate for one in figures[work]["ossfs"]) for work in list(WORKS)[:2]
    ]
    table(
        f"Clients on SeaweedFS: {scale.big >> 20} MiB, {scale.small} files of 128 KiB, "
        f"{scale.listed} and {scale.folders * scale.each} entries, {scale.names} names",
        [
            *["", *clients, "ours/best"],
            *(f"{client} {what}" for what in ("CPU s", "requests") for client in clients),
        ],
        rows,
        f"Medians of {runs}, turn about. Ours reads at {ours[0] / read:.2f} of curl "
        f"({read:.0f} MB/s) and writes at {ours[1] / written:.2f} of curl -T ({written:.0f} MB/s). "
        "CPU of the client's process; writes last until the object can be read, which takes one "
        "HEAD at least; requests of all kinds, by SeaweedFS's count.",
    )


if __name__ == "__main__":
    main()
