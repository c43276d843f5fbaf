"""Ours, s3fs and rclone on one SeaweedFS bucket, turn about: reading, writing, listing, names.

Every client is mounted afresh each round, alone, with its defaults; the page cache is dropped
before each workload. Bytes are held against their CRC-64: what is read while it is read, what is
written by reading the object from the store afterwards. A write lasts until its object can be read
through the store, since rclone returns from close before it uploads. SeaweedFS tells nobody how
many requests it has answered, so none are printed; its own CPU, on the same two cores, is part of
every figure. `curl` of the same object, and `curl -T`, say what the server gives at all.

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
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fastcrc import crc64

from bench.support.arguments import arguments
from bench.support.rig import (
    MEMORY,
    MIB,
    check_crc,
    check_object,
    daemon_cpu,
    random_bytes,
    soon,
    table,
)
from ossfs.credentials import Credentials, StaticCredentials
from ossfs.store.api import UploadPart
from ossfs.store.errors import NotFound
from ossfs.store.s3 import S3Store
from tests.support.mount import Mount, drop_caches, peak_memory
from tests.support.peers import peers_on
from tests.support.weed import WeedProcess

SMALL = 128 * 1024
PART = 8 * MIB


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


@dataclass
class Bench:
    """The bucket, what is in it, and how it is loaded."""

    weed: WeedProcess
    store: S3Store
    scale: Scale
    crcs: dict[str, int] = field(default_factory=dict)

    def load(self) -> None:
        """Put everything that is only read."""
        data = random_bytes(self.scale.big)
        self.crcs["big"] = crc64.xz(data)
        upload = self.store.create_upload(b"big", deadline=soon())
        parts = []
        for number, start in enumerate(range(0, len(data), PART), 1):
            body = memoryview(data)[start : start + PART]
            reply = self.store.upload_part(b"big", upload, number, [body], deadline=soon())
            parts.append(UploadPart(number, reply.etag))
        self.store.complete_upload(b"big", upload, parts, deadline=soon())
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

    def put_many(self, objects: Iterator[tuple[str, bytes]]) -> None:
        def put(one: tuple[str, bytes]) -> None:
            self.store.put(one[0].encode(), [one[1]], deadline=soon())

        with ThreadPoolExecutor(8) as pool:
            for _ in pool.map(put, objects):
                pass

    def wait_for(self, key: bytes, size: int) -> None:
        """Wait until an object of that size can be read through the store."""
        limit = time.monotonic() + 120
        while True:
            try:
                if self.store.head(key, deadline=soon()).size == size:
                    return
            except NotFound:
                pass
            if time.monotonic() > limit:
                raise SystemExit(f"{key!r} is not in the bucket two minutes after its close")
            time.sleep(0.01)


Work = Callable[[Bench, Served, str], float]
"""(bench, mount, a name of this turn alone) -> rate"""


def read_big(bench: Bench, served: Served, turn: str) -> float:
    begun = time.perf_counter()
    check_crc(served.path / "big", bench.crcs["big"])
    return bench.scale.big / 1e6 / (time.perf_counter() - begun)


def write_big(bench: Bench, served: Served, turn: str) -> float:
    data = memoryview(random_bytes(bench.scale.big))
    name = f"written-{turn}"
    begun = time.perf_counter()
    with (served.path / name).open("wb", buffering=0) as file:
        for start in range(0, len(data), MIB):
            file.write(data[start : start + MIB])
    bench.wait_for(name.encode(), len(data))
    wall = time.perf_counter() - begun
    check_object(bench.store, name.encode(), len(data), bench.crcs["big"])
    bench.store.delete(name.encode(), deadline=soon())
    return bench.scale.big / 1e6 / wall


def read_small(readers: int) -> Work:
    def work(bench: Bench, served: Served, turn: str) -> float:
        names = [f"small/{number:05d}" for number in range(bench.scale.small)]
        os.listdir(served.path / "small")

        def read(name: str) -> None:
            if crc64.xz((served.path / name).read_bytes()) != bench.crcs[name]:
                raise SystemExit(f"{name}: wrong bytes")

        with ThreadPoolExecutor(readers) as pool:
            begun = time.perf_counter()
            for _ in pool.map(read, names):
                pass
            return len(names) / (time.perf_counter() - begun)

    return work


def list_flat(bench: Bench, served: Served, turn: str) -> float:
    return counted(["ls", "-lU", served.path / "listed"], bench.scale.listed + 1)


def find_all(bench: Bench, served: Served, turn: str) -> float:
    scale = bench.scale
    wanted = scale.folders * (scale.each + 1) + 1
    return counted(["find", served.path / "tree", "-printf", "%s %p\n"], wanted)


def counted(command: Sequence[str | Path], wanted: int) -> float:
    """Run a program that prints a line an entry; return entries a second."""
    begun = time.perf_counter()
    done = subprocess.run(command, capture_output=True, check=True, timeout=600)
    wall = time.perf_counter() - begun
    lines = done.stdout.count(b"\n")
    if lines != wanted:
        raise SystemExit(f"{command[0]} shows {lines} lines, wanted {wanted}")
    return wanted / wall


def rename_all(bench: Bench, served: Served, turn: str) -> float:
    count = bench.scale.names
    old, new = f"old-{turn}", f"new-{turn}"
    os.stat(served.path / old)
    begun = time.perf_counter()
    os.rename(served.path / old, served.path / new)
    wall = time.perf_counter() - begun
    names = keys_under(bench, new)
    if len(names) != count or keys_under(bench, old):
        raise SystemExit(f"{len(names)} of {count} files are at the new name")
    return count / wall


def remove_all(bench: Bench, served: Served, turn: str) -> float:
    count = bench.scale.names
    directory = f"gone-{turn}"
    os.stat(served.path / directory)
    begun = time.perf_counter()
    subprocess.run(["rm", "-r", served.path / directory], check=True, timeout=600)
    wall = time.perf_counter() - begun
    if keys_under(bench, directory):
        raise SystemExit(f"{directory} is not empty after rm -r")
    return count / wall


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
    served_from = Path(tempfile.mkdtemp(prefix="ossfs-bench-", dir=MEMORY))
    try:
        with WeedProcess(served_from) as weed, tempfile.TemporaryDirectory() as name:
            keys = StaticCredentials(Credentials(weed.key_id, weed.key_secret))
            bench = Bench(weed, S3Store(weed.bucket, weed.endpoint, keys), scale)
            bench.load()
            for number in range(given.runs):
                curls.append(with_curl(bench, served_from))
                for client in clients[:: -1 if number % 2 else 1]:
                    bench.prepare(f"{client}-{number}")
                    with mounted(bench, client, Path(name) / f"{number}") as served:
                        for work, (_, run) in WORKS.items():
                            drop_caches()
                            before = daemon_cpu(served.pid)
                            rate = run(bench, served, f"{client}-{number}")
                            spent = daemon_cpu(served.pid) - before
                            figures[work][client].append(Figure(rate, spent))
                        memory[client] = max(memory[client], peak_memory(served.pid))
            bench.store.close()
    finally:
        shutil.rmtree(served_from, ignore_errors=True)
    show(figures, memory, curls, clients, given.runs, scale)


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
            ]
        )
    rows.append(
        ["peak memory, MB", *(f"{memory[client] / 1e6:.0f}" for client in clients), "-"]
        + ["-"] * len(clients)
    )
    read, written = (statistics.median(one[i] for one in curls) for i in (0, 1))
    ours = [
        statistics.median(one.rate for one in figures[work]["ossfs"]) for work in list(WORKS)[:2]
    ]
    table(
        f"Clients on SeaweedFS: {scale.big >> 20} MiB, {scale.small} files of 128 KiB, "
        f"{scale.listed} and {scale.folders * scale.each} entries, {scale.names} names",
        ["", *clients, "ours/best", *(f"{client} CPU s" for client in clients)],
        rows,
        f"Medians of {runs}, turn about. Ours reads at {ours[0] / read:.2f} of curl "
        f"({read:.0f} MB/s) and writes at {ours[1] / written:.2f} of curl -T ({written:.0f} MB/s). "
        "CPU of the client's process; writes last until the object can be read.",
    )


if __name__ == "__main__":
    main()
