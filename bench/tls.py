"""The same reads by https and by http: the store layer alone, through a mount, by curl.

One large object and many files of 128 KiB, on one emulator, which a process in front of it offers
by https as well: it takes the encryption off and hands the bytes on, so that the server's side
costs twice as much there, on the same cores. CPU is the client's alone. Every byte is checked, of
the large object by CRC-64 before the timed runs, of the small files by their readers.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.pop(1)  # the folder, whose requests.py is no library

from fastcrc import crc64

from bench.support.arguments import arguments
from bench.support.large import read_by_dd
from bench.support.rig import (
    MIB,
    Sample,
    in_turns,
    medians,
    own_cpu,
    quietly,
    random_bytes,
    speed,
    table,
    timed,
    waited_cpu,
)
from bench.support.servers import curl_headers, emulated, store_on, url_of
from bench.support.small_files import SIZE, read_mounted, small_files
from ossfs.emulator.storage import Bucket
from ossfs.store.api import Store
from tests.support.emulator import EmulatorProcess
from tests.support.tls import TlsEmulator, over_tls

RANGE = 8 * MIB
READERS = (1, 16, 64)
Rows = dict[str, Callable[[], Sample]]


def get_in_ranges(
    store: Store, size: int, etag: str, arrived: Callable[[memoryview], None] = lambda view: None
) -> None:
    """Get the large object by one thread into blocks that are used again, as a mount does."""
    arena = memoryview(bytearray(RANGE))
    for offset in range(0, size, RANGE):
        length = min(RANGE, size - offset)
        blocks = [arena[at : min(at + MIB, length)] for at in range(0, length, MIB)]
        deadline = time.monotonic() + 60
        store.get_range_into(b"big", offset, blocks, if_match=etag, deadline=deadline)
        arrived(arena[:length])


def check_store(store: Store, size: int, etag: str, wanted: int) -> None:
    """Exit with a message unless the store layer gets the right bytes."""
    crc = 0

    def add(view: memoryview) -> None:
        nonlocal crc
        crc = crc64.xz(view, crc)

    get_in_ranges(store, size, etag, add)
    if crc != wanted:
        raise SystemExit("get_range_into: wrong bytes")


def curl(server: EmulatorProcess) -> Sample:
    words = [word for line in curl_headers(server, b"big") for word in ("-H", line)]
    if isinstance(server, TlsEmulator):
        words += ["--cacert", str(server.certificate)]
    url = url_of(server, "big")
    return timed(server, waited_cpu, lambda: quietly("curl", "-sf", "-o", "/dev/null", *words, url))


def measure_large(
    servers: dict[str, EmulatorProcess], size: int, etag: str, wanted: int, runs: int
) -> None:
    rows: Rows = {}
    stores = {scheme: store_on(server) for scheme, server in servers.items()}

    def add(scheme: str, server: EmulatorProcess, store: Store) -> None:
        rows[f"curl, {scheme}"] = lambda: curl(server)
        rows[f"store layer, {scheme}"] = lambda: timed(
            server, own_cpu, lambda: get_in_ranges(store, size, etag)
        )
        rows[f"mount, {scheme}"] = lambda: read_by_dd(server, "big", wanted)

    for scheme, server in servers.items():
        check_store(stores[scheme], size, etag, wanted)
        add(scheme, server, stores[scheme])
    rounds = in_turns(rows, runs)
    for store in stores.values():
        store.close()
    gib = size / (1024 * MIB)
    results = medians(rounds)
    table(
        f"{size // MIB} MiB by http and https",
        ["", "MB/s", "of curl", "of http", "CPU s/GiB", "times curl's", "times http's", "GETs"],
        [
            [
                name,
                f"{size / 1e6 / sample.wall:.0f}",
                f"{speed(rounds, name, f'curl, {scheme}'):.2f}",
                f"{speed(rounds, name, f'{client}, http'):.2f}",
                f"{sample.cpu / gib:.2f}",
                f"{sample.cpu / results[f'curl, {scheme}'].cpu:.1f}",
                f"{sample.cpu / results[f'{client}, http'].cpu:.1f}",
                str(sample.traffic.gets),
            ]
            for name, sample in results.items()
            for client, _, scheme in [name.partition(", ")]
        ],
        f"Medians of {runs}, turn about, ratios of two rows of a round; the store layer by one "
        f"thread in ranges of {RANGE // MIB} MiB; the mount by dd bs=1M, page cache dropped; of "
        "curl: of the same scheme; CPU of curl, of this process, of the daemon.",
    )


def measure_small(
    servers: dict[str, EmulatorProcess], count: int, wanted: int, readers: Sequence[int], runs: int
) -> None:
    rows: Rows = {}

    def add(scheme: str, server: EmulatorProcess, number: int) -> None:
        rows[f"{number} readers, {scheme}"] = lambda: read_mounted(server, count, number, wanted)

    for number in readers:
        for scheme, server in servers.items():
            add(scheme, server, number)
    rounds = in_turns(rows, runs)
    results = medians(rounds)
    table(
        f"{count} files of 128 KiB through a mount by http and https",
        ["", "files/s", "of http", "CPU ms/file", "times http's", "GETs"],
        [
            [
                name,
                f"{count / sample.wall:.0f}",
                f"{speed(rounds, name, plain):.2f}",
                f"{sample.cpu / count * 1e3:.2f}",
                f"{sample.cpu / results[plain].cpu:.1f}",
                str(sample.traffic.gets),
            ]
            for name, sample in results.items()
            for plain in [f"{name.partition(', ')[0]}, http"]
        ],
        f"Medians of {runs}, turn about, ratios of two rows of a round; listed before; the readers "
        "are started within the time; CPU of the daemon.",
    )


def main() -> None:
    given = arguments(__doc__, oss_only=True)
    size = (24 if given.quick else 512) * MIB
    count = 100 if given.quick else 2000
    big, rest = random_bytes(size), random_bytes(SIZE - 8)
    etags: list[str] = []

    def load(bucket: Bucket) -> None:
        etags.append(bucket.put_bytes(b"big", big).etag)
        for key, data in small_files(count, rest):
            bucket.put_bytes(key, data)

    with emulated(load) as emulator, over_tls(emulator) as encrypted:
        servers = {"http": emulator, "https": encrypted}
        readers = READERS[:2] if given.quick else READERS
        measure_large(servers, size, etags[0], crc64.xz(big), given.runs)
        measure_small(servers, count, crc64.xz(rest), readers, given.runs)


if __name__ == "__main__":
    main()
