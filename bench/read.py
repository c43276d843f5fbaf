"""Sequential read of one large object: the mount beside curl and the transfer threads alone.

`dd bs=1M` with the page cache dropped, at the kernel's default readahead (pages are
pushed ahead) and at the raised one. Every byte is checked by CRC in a run of its own.
"""

from __future__ import annotations

import mmap
import sys
from collections.abc import Callable
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
    mounted,
    own_cpu,
    quietly,
    random_bytes,
    table,
    timed,
    turn_about,
    waited_cpu,
)
from bench.support.servers import Put, Server, curl_headers, serving, store_on, url_of
from ossfs.store.api import Store
from ossfs.store.client import StoreClient
from ossfs.store.transfer import TransferPool

CHUNK = 8 * MIB
AT_ONCE = 3


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
    crc = crc64.xz(random_bytes(size))

    def load(put: Put) -> None:
        put(b"big", random_bytes(size))

    with serving(given.store, load) as server:
        headers = [word for line in curl_headers(server, b"big") for word in ("-H", line)]
        url = url_of(server, "big")
        store = store_on(server)
        memory: dict[str, int] = {}

        def dd(name: str, option: str) -> Callable[[], Sample]:
            return lambda: read_mounted(server, name, option, crc, memory)

        rows: dict[str, Callable[[], Sample]] = {
            "curl": lambda: timed(
                server,
                waited_cpu,
                lambda: quietly("curl", "-sf", "-o", "/dev/null", *headers, url),
            ),
            "transfer threads alone": lambda: timed(
                server, own_cpu, lambda: fetch_alone(store, size)
            ),
            "mount, readahead raised": dd("mount, readahead raised", "read_ahead_kb=8192"),
            "mount, default readahead": dd("mount, default readahead", "read_ahead_kb=0"),
        }
        results = turn_about(rows, given.runs)
        store.close()
    gib = size / (1024 * MIB)
    base = results["curl"]
    table(
        f"Sequential read of {size // MIB} MiB",
        ["", "MB/s", "of curl", "CPU s/GiB", "times curl's", "peak MB", "GETs", "fetched"],
        [
            [
                name,
                f"{size / 1e6 / sample.wall:.0f}",
                f"{base.wall / sample.wall:.2f}",
                f"{sample.cpu / gib:.2f}",
                f"{sample.cpu / base.cpu:.1f}",
                f"{memory[name] / 1e6:.0f}" if name in memory else "-",
                str(sample.traffic.gets),
                f"{sample.traffic.fetched / size:.2f}",
            ]
            for name, sample in results.items()
        ],
        f"Medians of {given.runs}, turn about; dd bs=1M, page cache dropped; CPU of the daemon, of "
        "curl, of this process for the threads alone; fetched: bytes sent over the size; CRC-64 "
        "of every byte checked on each mount, before the timed read.",
    )


def read_mounted(
    server: Server, name: str, option: str, crc: int, memory: dict[str, int]
) -> Sample:
    with mounted(server, option) as mount:
        path = mount.path / "big"
        check_crc(path, crc)  # also what the daemon does once: threads, connections, blocks
        sample = timed(
            server,
            lambda: daemon_cpu(mount.pid),
            lambda: quietly("dd", f"if={path}", "of=/dev/null", "bs=1M"),
        )
        memory[name] = max(memory.get(name, 0), mount.memory())
        return sample


if __name__ == "__main__":
    main()
