"""Sequential read of one large object: the mount beside curl and the transfer threads alone.

`dd bs=1M` with the page cache dropped, at the kernel's default readahead (pages are
pushed ahead) and at the raised one; then as many bytes by four readers, each of an object of its
own. Every byte is checked by CRC in a run of its own.
"""

from __future__ import annotations

import mmap
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.pop(1)  # the folder, whose requests.py is no library

import trio
from fastcrc import crc64

from bench.support.arguments import arguments
from bench.support.rig import (
    MIB,
    Sample,
    check_crc,
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
    waited_cpu,
)
from bench.support.servers import Put, Server, curl_headers, serving, store_on, url_of
from ossfs.store.api import Store
from ossfs.store.client import StoreClient
from ossfs.store.transfer import TransferPool

CHUNK = 8 * MIB
AT_ONCE = 3
READERS = 4
ONE = "mount, readahead raised"
"""The row of one reader with the options that users get."""


def fetch_alone(store: Store, size: int) -> None:
    """Fetch the object through the transfer threads, as the mount does, into reused blocks."""

    async def main() -> None:
        pool = TransferPool(AT_ONCE)
        client = StoreClient(store, request_timeout=60, transfer=pool)
        etag = (await client.head(b"big")).etag
        offsets = iter(range(0, size, CHUNK))

        async def worker() -> None:
            arena = mmap.mmap(-1, CHUNK, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            view = memoryview(arena)
            for offset in offsets:
                length = min(CHUNK, size - offset)
                blocks = [view[at : min(at + MIB, length)] for at in range(0, length, MIB)]
                await client.get_range_into(b"big", offset, blocks, if_match=etag)

        async with trio.open_nursery() as nursery:
            for _ in range(AT_ONCE):
                nursery.start_soon(worker)
        await pool.aclose()

    trio.run(main)


def main() -> None:
    given = arguments(__doc__)
    size = (48 if given.quick else 1024) * MIB
    quarter = size // READERS
    big: dict[str, int] = {}
    quarters: dict[str, int] = {}

    def load(put: Put) -> None:
        data = random_bytes(size)
        put(b"big", data)
        big["big"] = crc64.xz(data)
        for number in range(READERS):
            name, piece = f"quarter-{number}", data[number * quarter : (number + 1) * quarter]
            put(name.encode(), piece)
            quarters[name] = crc64.xz(piece)

    with serving(given.store, load) as server:
        headers = [word for line in curl_headers(server, b"big") for word in ("-H", line)]
        url = url_of(server, "big")
        store = store_on(server)
        memory: dict[str, int] = {}
        pushed, many = "mount, default readahead", f"mount, {READERS} readers"

        def dd(name: str, crcs: Mapping[str, int], *options: str) -> Callable[[], Sample]:
            return lambda: read_mounted(server, name, options, crcs, memory)

        rows: dict[str, Callable[[], Sample]] = {
            "curl": lambda: timed(
                server,
                waited_cpu,
                lambda: quietly("curl", "-sf", "-o", "/dev/null", *headers, url),
            ),
            "transfer threads alone": lambda: timed(
                server, own_cpu, lambda: fetch_alone(store, size)
            ),
            ONE: dd(ONE, big),
            pushed: dd(pushed, big, "read_ahead_kb=0"),
            many: dd(many, quarters),
        }
        rounds = in_turns(rows, given.runs)
        store.close()
    gib = size / (1024 * MIB)
    results = medians(rounds)
    base = results["curl"]
    table(
        f"Sequential read of {size // MIB} MiB",
        [
            *["", "MB/s", "of curl", "of one reader", "CPU s/GiB", "times curl's"],
            *["peak MB", "GETs", "fetched", "server busy"],
        ],
        [
            [
                name,
                f"{size / 1e6 / sample.wall:.0f}",
                f"{speed(rounds, name, 'curl'):.2f}",
                f"{speed(rounds, name, ONE):.2f}" if name in memory else "-",
                f"{sample.cpu / gib:.2f}",
                f"{sample.cpu / base.cpu:.1f}",
                f"{memory[name] / 1e6:.0f}" if name in memory else "-",
                str(sample.traffic.gets),
                f"{sample.traffic.fetched / size:.2f}",
                f"{sample.server / sample.wall:.2f}",
            ]
            for name, sample in results.items()
        ],
        f"Medians of {given.runs}, turn about, ratios of two rows of a round; dd bs=1M, page cache "
        f"dropped; {READERS} readers: a dd each, at once, of objects of a quarter of the size, "
        f"beside the row {ONE!r}; CPU of the daemon, of curl, of this process for the threads "
        "alone; fetched: bytes sent over the size; CRC-64 of every byte checked on each mount, "
        "before the timed read. Server busy: its CPU over the time; the emulator has one thread.",
    )


def read_mounted(
    server: Server,
    name: str,
    options: Sequence[str],
    crcs: Mapping[str, int],
    memory: dict[str, int],
) -> Sample:
    """Read all the files named at once, each by a dd of its own."""
    with mounted(server, *options) as mount:
        for file, crc in crcs.items():  # also what the daemon does once: threads, connections
            check_crc(mount.path / file, crc)
        sample = timed(
            server,
            lambda: daemon_cpu(mount.pid),
            lambda: read_together([mount.path / file for file in crcs]),
        )
        memory[name] = max(memory.get(name, 0), mount.memory())
        return sample


def read_together(paths: Sequence[Path]) -> None:
    started = [
        subprocess.Popen(["dd", f"if={path}", "of=/dev/null", "bs=1M", "status=none"])
        for path in paths
    ]
    statuses = [process.wait() for process in started]
    if any(statuses):
        raise SystemExit("dd failed")


if __name__ == "__main__":
    main()
