"""Several clients on one bucket, turn about: reading, writing, listing, names, near or far.

On SeaweedFS (`--store s3`) ours, s3fs and rclone; on the OSS emulator (`--store oss`) ours, ossfs 2
and ossfs 1. A client that is not installed is left out. Every client is mounted afresh each round,
alone, with its defaults; the page cache is dropped before each workload. The workloads are those
of `ossfs bench`, but the bucket is loaded past the clients, and what they have written is read
from the store: a write lasts until its object can be read there, since rclone returns from close
before it uploads. Requests are counted by the server, whose own CPU, on the same machine, is part
of every figure. `curl` of the large object, and `curl -T`, say what the server gives at all.

With `--distant` each request of a client (curl's too, not the benchmark's own) takes 20 ms longer
and a connection carries 100 MB/s, by a proxy whose CPU is part of the figures as well.
"""

from __future__ import annotations

import copy
import statistics
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.pop(1)  # the folder, whose requests.py is no library

from bench.support.arguments import arguments
from bench.support.distance import distant
from bench.support.rig import check_crc, check_object, claim_memory, daemon_cpu, quietly, table
from bench.support.servers import (
    MEMORY,
    Server,
    Traffic,
    counting,
    curl_headers,
    put,
    put_many,
    serving,
    soon,
    store_on,
    url_of,
)
from ossfs.cli.signals import raise_when_asked_to_end
from ossfs.cli.usage import peak_memory
from ossfs.cli.workloads.files import CONSUMED, DATASETS, FULL, QUICK, File, Scale, content
from ossfs.cli.workloads.judge import Judge
from ossfs.cli.workloads.rows import WORKLOADS, Outcome, Stage, Workload
from ossfs.cli.workloads.workers import WorkloadError
from ossfs.store.api import Store
from ossfs.store.errors import NotFound
from tests.support.mount import Mount, drop_caches
from tests.support.peers import installed, peers_on
from tests.support.weed import WeedProcess

OURS = "ours"
LATENCY_S = 0.020
BANDWIDTH = 100e6
PATIENCE_S = 120.0
_FEW = 4
"""Objects that are asked for one by one; more are looked for in listings."""
_DELETED_AT_ONCE = 1_000
_CHECKERS = 8


class Served(NamedTuple):
    """One client's mount."""

    path: Path
    pid: int


class Figure(NamedTuple):
    rate: float
    """In the workload's unit."""
    cpu: float
    """Seconds of the client's process."""
    requests: int


class StoreJudge(Judge):
    """Asks the store, past the client; `asked` counts its own requests, which are no client's."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.asked: Counter[str] = Counter()

    def settle(self, files: Sequence[File]) -> None:
        """Wait until each object of the files' sizes can be read through the store."""
        limit = time.monotonic() + PATIENCE_S
        missing = {file.path.encode(): file.size for file in files}
        while missing := self._missing(missing):
            if time.monotonic() > limit:
                raise SystemExit(f"{min(missing)!r} is not in the bucket {PATIENCE_S:.0f} s late")
            time.sleep(0.01)

    def _missing(self, wanted: dict[bytes, int]) -> dict[bytes, int]:
        if len(wanted) > _FEW:
            directory = min(wanted).rpartition(b"/")[0].decode()
            found = dict(self.listed(directory))
        else:
            found = {key: size for key in wanted if (size := self._size(key)) is not None}
        return {key: size for key, size in wanted.items() if found.get(key) != size}

    def _size(self, key: bytes) -> int | None:
        self.asked["heads"] += 1
        try:
            return self._store.head(key, deadline=soon()).size
        except NotFound:
            return None

    def check(self, file: File) -> None:
        crc = content().crc(file.offset, file.size)
        check_object(self._store, file.path.encode(), file.size, crc)

    def names(self, directory: str) -> set[str]:
        return {key.rpartition(b"/")[2].decode() for key, _ in self.listed(directory)}

    def listed(self, directory: str) -> Iterator[tuple[bytes, int]]:
        """Yield key and size of all objects below a directory, without markers."""
        token = None
        while True:
            self.asked["lists"] += 1
            prefix = directory.encode() + b"/"
            page = self._store.list_page(prefix, delimiter=b"", token=token, deadline=soon())
            for entry in page.entries:
                if not entry.key.endswith(b"/"):
                    yield entry.key, entry.size
            token = page.next_token
            if token is None:
                return


class Watch:
    """What one workload takes: time, requests, the client's CPU; a context manager."""

    def __init__(self, server: Server, judge: StoreJudge, client: int) -> None:
        self._server = server
        self._judge = judge
        self._client = client
        self.wall = 0.0
        self.cpu = 0.0
        self.traffic = Traffic()

    def __enter__(self) -> None:
        self._answered = counting(self._server)
        self._judge.asked.clear()
        self._before = daemon_cpu(self._client)
        self._begun = time.perf_counter()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.wall = time.perf_counter() - self._begun
        self.cpu = daemon_cpu(self._client) - self._before
        asked = self._judge.asked
        traffic = self._answered()
        self.traffic = traffic._replace(
            heads=traffic.heads - asked["heads"], lists=traffic.lists - asked["lists"]
        )


@dataclass
class Bench:
    """The bucket as the benchmark reaches it and as the clients do, and what runs on it."""

    server: Server
    reached: Server
    store: Store
    scale: Scale
    rows: dict[str, Workload]

    def files(self, consumed: bool, turn: str) -> Iterator[File]:
        """Yield what the rows need: what one turn consumes, or what all of them read."""
        for name in dict.fromkeys(name for row in self.rows.values() for name in row.needs):
            if (name in CONSUMED) == consumed:
                yield from DATASETS[name](self.scale, turn)

    def load(self, files: Iterable[File]) -> None:
        """Put files past the clients."""
        put_many(
            lambda key, data: put(self.store, key, data),
            ((file.path.encode(), body_of(file)) for file in files),
        )

    def clear(self, judge: StoreJudge, turn: str) -> None:
        """Delete what a turn has written and renamed, so that memory lasts."""
        for directory in ("written-1", "written-4", "written-small", "new", "old", "gone"):
            keys = [key for key, _ in judge.listed(f"{directory}-{turn}")]
            for start in range(0, len(keys), _DELETED_AT_ONCE):
                self.store.delete_many(keys[start : start + _DELETED_AT_ONCE], deadline=soon())
        if isinstance(self.server, WeedProcess):
            self.server.vacuum()


def body_of(file: File) -> bytes:
    return b"".join(content().slices(file.offset, file.size))


@contextmanager
def mounted(server: Server, client: str, directory: Path) -> Iterator[Served]:
    """Mount the bucket by one of the clients."""
    if client == OURS:
        with Mount(server, directory / client, "log_level=info") as ours:
            yield Served(ours.path, ours.pid)
    else:
        with peers_on(server, server.bucket, directory)[client]() as peer:
            yield Served(peer.path, peer.pid)


@contextmanager
def far(server: Server) -> Iterator[Server]:
    """Give the server as a distant one; its counters are the same."""
    port = int(server.endpoint.rpartition(":")[2])
    with distant(("127.0.0.1", port), LATENCY_S, BANDWIDTH) as (_, proxy):
        if isinstance(server, WeedProcess):
            yield server.reached_at(proxy)
        else:
            other = copy.copy(server)
            other.port = proxy
            yield other


def with_curl(bench: Bench) -> tuple[float, float]:
    """Return the MB/s at which curl gets the large object and puts one like it."""
    (file,) = DATASETS["large"](bench.scale, "")
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        here = Path(name) / "large"
        read = curl(bench.reached, file.path, "GET", "-o", str(here))
        check_crc(here, content().crc(file.offset, file.size))
        written = curl(bench.reached, "by-curl", "PUT", "-o", "/dev/null", "-T", str(here))
    bench.store.delete(b"by-curl", deadline=soon())
    return file.size / 1e6 / read, file.size / 1e6 / written


def curl(server: Server, key: str, method: str, *words: str) -> float:
    """Return the seconds that a request of an object takes."""
    headers = curl_headers(server, key.encode(), method.encode())
    signed = [word for line in headers for word in ("-H", line)]
    begun = time.perf_counter()
    quietly("curl", "-sf", *signed, *words, url_of(server, key))
    return time.perf_counter() - begun


def turn(bench: Bench, client: str, name: str, directory: Path) -> tuple[dict[str, Figure], int]:
    """Run all rows on one client, mounted afresh; return their figures and its peak memory."""
    judge = StoreJudge(bench.store)
    bench.load(bench.files(True, name))  # before the mount: rclone remembers directories
    claim_memory(2 * bench.scale.large)
    figures: dict[str, Figure] = {}
    with mounted(bench.reached, client, directory) as served:
        for row, workload in bench.rows.items():
            drop_caches()
            watch = Watch(bench.server, judge, served.pid)
            stage = Stage(served.path, bench.scale, name, watch, judge)
            try:
                done: Outcome = workload.run(stage)
            except (WorkloadError, OSError) as error:
                raise SystemExit(f"{client}, {workload.title}: {error}") from error
            rate = workload.rate(done.amount, watch.wall)
            figures[row] = Figure(rate, watch.cpu, sent(watch.traffic))
        memory = peak_memory(served.pid)
    bench.clear(judge, name)
    return figures, memory


def sent(traffic: Traffic) -> int:
    """Requests of all kinds."""
    return sum(traffic) - traffic.fetched - traffic.stored


def more(parser: ArgumentParser) -> None:
    parser.add_argument("--distant", action="store_true", help="20 ms a request, 100 MB/s a line")
    parser.add_argument(
        "--only", action="append", choices=list(WORKLOADS), metavar="ROW", help=", ".join(WORKLOADS)
    )


def main() -> None:
    given = arguments(__doc__, runs=3, store="s3", more=more)
    raise_when_asked_to_end()  # or a killed run would leave mounts behind
    scale = QUICK if given.quick else FULL
    rows = {
        name: row
        for name, row in WORKLOADS.items()
        if given.more.only is None or name in given.more.only
    }
    clients = [OURS, *installed(given.store)]
    figures: list[dict[str, dict[str, Figure]]] = []
    memory = dict.fromkeys(clients, 0)
    curls: list[tuple[float, float]] = []
    with (
        serving(given.store, lambda put: None) as server,
        far(server) if given.more.distant else nullcontext(server) as reached,
        closing(store_on(server)) as store,
        tempfile.TemporaryDirectory(prefix="ossfs-bench-") as name,
    ):
        bench = Bench(server, reached, store, scale, rows)
        (large,) = DATASETS["large"](scale, "")
        bench.load({large, *bench.files(False, "")})
        for number in range(given.runs):
            curls.append(with_curl(bench))
            found = {}
            for client in clients[:: -1 if number % 2 else 1]:
                directory = Path(name) / f"{number}"
                found[client], peak = turn(bench, client, f"{client}-{number}", directory)
                memory[client] = max(memory[client], peak)
            figures.append(found)
    show(rows, figures, memory, curls, clients, scale, given.store, far=given.more.distant)


def show(
    rows: dict[str, Workload],
    figures: Sequence[dict[str, dict[str, Figure]]],
    memory: dict[str, int],
    curls: Sequence[tuple[float, float]],
    clients: Sequence[str],
    scale: Scale,
    store: str,
    *,
    far: bool,
) -> None:
    lines: list[list[str]] = []
    rates: dict[str, dict[str, float]] = {}
    for name, row in rows.items():

        def median(client: str, field: int, name: str = name) -> float:
            return statistics.median(found[client][name][field] for found in figures)

        rates[name] = {client: median(client, 0) for client in clients}
        others = [rates[name][client] for client in clients[1:]]
        lines.append(
            [
                f"{row.title}, {row.unit}",
                *(f"{rates[name][client]:.0f}" for client in clients),
                f"{rates[name][OURS] / max(others):.2f}" if others else "-",
                *(f"{median(client, 1):.2f}" for client in clients),
                *(f"{median(client, 2):.0f}" for client in clients),
            ]
        )
    lines.append(
        ["peak memory, MB", *(f"{memory[client] / 1e6:.0f}" for client in clients), "-"]
        + ["-"] * 2 * len(clients)
    )
    read, written = (statistics.median(one[i] for one in curls) for i in (0, 1))
    beside = [
        f"{words} at {rates[name][OURS] / curled:.2f} of curl{flag} ({curled:.0f} MB/s)"
        for name, words, flag, curled in (
            ("read-1", "reads", "", read),
            ("write-1", "writes", " -T", written),
        )
        if name in rates
    ]
    table(
        f"Clients on {'SeaweedFS' if store == 's3' else 'the OSS emulator'}"
        f"{', 20 ms and 100 MB/s a connection away' if far else ''}: "
        f"{scale.large >> 20} MiB, {scale.small} files of 128 KiB, {scale.listed} and "
        f"{scale.folders * scale.each} entries, {scale.names} names",
        [
            *["", *clients, "ours/best"],
            *(f"{client} {what}" for what in ("CPU s", "requests") for client in clients),
        ],
        lines,
        f"Medians of {len(figures)}, turn about. "
        + (f"Ours {' and '.join(beside)}. " if beside else "")
        + "CPU of the client's process; writes last until the object can be read, which takes one "
        "HEAD or LIST at least; requests of all kinds, by the server's count.",
    )


if __name__ == "__main__":
    main()
