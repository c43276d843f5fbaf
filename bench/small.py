"""Small files: 64 readers through the mount beside the same GETs made directly and by curl -Z.

Three thousand files of 128 KiB, listed before (as a data loader does), page cache
dropped before the listing. The readers check the CRC of every file they read.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import trio
from fastcrc import crc64

from bench.support.arguments import arguments
from bench.support.rig import (
    Sample,
    curl_headers,
    daemon_cpu,
    emulated,
    mounted,
    own_cpu,
    quietly,
    random_bytes,
    store_on,
    table,
    timed,
    turn_about,
)
from ossfs.emulator.storage import Bucket
from ossfs.store.client import StoreClient
from ossfs.store.oss import OssStore
from ossfs.store.transfer import TransferPool
from tests.support.emulator import EmulatorProcess

SIZE = 128 * 1024
PROCESSES = 4

READER = """
import os, sys
from concurrent.futures import ThreadPoolExecutor
from fastcrc import crc64
folder, part, step, count, threads, wanted = sys.argv[1], *map(int, sys.argv[2:])
def read(number):
    fd = os.open(f"{folder}/{number:05d}", os.O_RDONLY)
    data = os.read(fd, 1 << 18)
    os.close(fd)
    assert crc64.xz(data) == wanted, number
with ThreadPoolExecutor(threads) as pool:
    list(pool.map(read, range(part, count, step)))
"""


def get_directly(store: OssStore, count: int, readers: int, wanted: int) -> None:
    """Make the same GETs through the store layer, `readers` at once."""

    async def main() -> None:
        pool = TransferPool(readers)
        client = StoreClient(store, request_timeout=60, transfer=pool)
        page = await client.list_page(b"files/", max_keys=1)
        etag = page.entries[0].etag
        numbers = iter(range(count))

        async def worker() -> None:
            view = memoryview(bytearray(SIZE))
            for number in numbers:
                await client.get_range_into(b"files/%05d" % number, 0, [view], if_match=etag)
                if crc64.xz(view) != wanted:
                    raise SystemExit(f"file {number} arrived wrong")

        async with trio.open_nursery() as nursery:
            for _ in range(readers):
                nursery.start_soon(worker)
        await pool.aclose()

    trio.run(main)


def read_mounted(emulator: EmulatorProcess, count: int, readers: int, wanted: int) -> Sample:
    with mounted(emulator) as mount:
        folder = mount.path / "files"

        def work() -> None:
            processes = min(PROCESSES, readers)
            words = [str(processes), str(count), str(readers // processes), str(wanted)]
            started = [
                subprocess.Popen([sys.executable, "-c", READER, folder, str(part), *words])
                for part in range(processes)
            ]
            if any(process.wait() for process in started):
                raise SystemExit("a reader failed")

        return timed(
            emulator,
            lambda: daemon_cpu(mount.pid),
            work,
            prepare=lambda: quietly("ls", "-l", str(folder)),
        )


def main() -> None:
    given = arguments(__doc__)
    count = 200 if given.quick else 3000
    data = random_bytes(SIZE)
    wanted = crc64.xz(data)

    def load(bucket: Bucket) -> None:
        for number in range(count):
            bucket.put_bytes(b"files/%05d" % number, data)

    with emulated(load) as emulator, tempfile.NamedTemporaryFile("w", suffix=".curl") as config:
        for number in range(count):
            key = b"files/%05d" % number
            config.write(f'url = "{emulator.endpoint}/{emulator.bucket}/{key.decode()}"\n')
            config.writelines(f'header = "{h}"\n' for h in curl_headers(emulator, key))
            config.write('output = "/dev/null"\nfail\nsilent\n' + "next\n" * (number < count - 1))
        config.flush()
        store = store_on(emulator)
        rows = {
            "direct, 64 at once": lambda: timed(
                emulator, own_cpu, lambda: get_directly(store, count, 64, wanted)
            ),
            "curl -Z, 64 at once": lambda: timed(
                emulator,
                lambda: 0.0,
                lambda: quietly("curl", "-Z", "--parallel-max", "64", "-K", config.name),
            ),
            **{
                f"mount, {readers} readers": (
                    lambda readers=readers: read_mounted(emulator, count, readers, wanted)
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
                f"{sample.cpu / count * 1000:.2f}" if sample.cpu else "-",
                str(sample.gets),
            ]
            for name, sample in results.items()
        ],
        f"Medians of {given.runs}, turn about; {PROCESSES} reading processes share the threads, "
        "their start included; CRC-64 of every file checked by its reader (not by curl).",
    )


if __name__ == "__main__":
    main()
