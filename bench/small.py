"""Small files: 64 readers through the mount beside the same GETs made directly and by curl -Z.

Three thousand files of 128 KiB, listed before (as a data loader does), page cache
dropped before the listing. No two files are alike, and the readers check every byte of
every file they read; each file must cost one GET.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.pop(1)  # the folder, whose requests.py is no library

import trio
from fastcrc import crc64

from bench.support.arguments import arguments
from bench.support.rig import (
    Sample,
    own_cpu,
    quietly,
    random_bytes,
    table,
    timed,
    turn_about,
    waited_cpu,
)
from bench.support.servers import Put, curl_headers, serving, store_on, url_of
from bench.support.small_files import PROCESSES, SIZE, read_mounted, small_files
from ossfs.store.api import Store
from ossfs.store.client import StoreClient
from ossfs.store.transfer import TransferPool


def get_directly(store: Store, etags: Sequence[str], readers: int, wanted: int) -> None:
    """Make the same GETs through the store layer, `readers` at once."""

    async def main() -> None:
        pool = TransferPool(readers)
        client = StoreClient(store, request_timeout=60, transfer=pool)
        files = iter(enumerate(etags))

        async def worker() -> None:
            view = memoryview(bytearray(SIZE))
            for number, etag in files:
                await client.get_range_into(b"files/%05d" % number, 0, [view], if_match=etag)
                if int.from_bytes(view[:8], "big") != number or crc64.xz(view[8:]) != wanted:
                    raise SystemExit(f"file {number} arrived wrong")

        async with trio.open_nursery() as nursery:
            for _ in range(readers):
                nursery.start_soon(worker)
        await pool.aclose()

    trio.run(main)


def main() -> None:
    given = arguments(__doc__)
    count = 200 if given.quick else 3000
    rest = random_bytes(SIZE - 8)
    wanted = crc64.xz(rest)
    etags: list[str] = []

    def load(put: Put) -> None:
        etags.extend(put(key, data) for key, data in small_files(count, rest))

    with (
        serving(given.store, load) as server,
        tempfile.NamedTemporaryFile("w", suffix=".curl") as config,
    ):
        for number in range(count):
            key = b"files/%05d" % number
            config.write(f'url = "{url_of(server, key.decode())}"\n')
            config.writelines(f'header = "{h}"\n' for h in curl_headers(server, key))
            config.write('output = "/dev/null"\nfail\nsilent\n' + "next\n" * (number < count - 1))
        config.flush()
        store = store_on(server)
        rows: dict[str, Callable[[], Sample]] = {
            "direct, 64 at once": lambda: timed(
                server, own_cpu, lambda: get_directly(store, etags, 64, wanted)
            ),
            "curl -Z, 64 at once": lambda: timed(
                server,
                waited_cpu,
                lambda: quietly("curl", "-Z", "--parallel-max", "64", "-K", config.name),
            ),
            **{
                f"mount, {readers} reader{'s'[: readers - 1]}": partial(
                    read_mounted, server, count, readers, wanted
                )
                for readers in (64, 16, 1)
            },
        }
        results = turn_about(rows, given.runs)
        store.close()
    base = results["direct, 64 at once"].wall
    table(
        f"{count} files of 128 KiB",
        ["", "files/s", "of direct", "CPU ms/file", "GETs"],
        [
            [
                name,
                f"{count / sample.wall:.0f}",
                f"{base / sample.wall:.2f}",
                f"{sample.cpu / count * 1000:.2f}",
                str(sample.traffic.gets),
            ]
            for name, sample in results.items()
        ],
        f"Medians of {given.runs}, turn about; {PROCESSES} reading processes share the threads, "
        "their start included; every byte checked by its reader (not by curl); CPU of the daemon, "
        "of curl, of this process for the direct GETs.",
    )


if __name__ == "__main__":
    main()
