"""Writing: one large file beside curl -T and the store layer's own upload, then small files.

The same 1 GiB four ways: `curl -T`; a multipart upload by the store layer alone, with the
mount's part size and concurrency; a program that writes 1 MiB at a time into the mount and closes;
`dd conv=fsync` into the mount. Then 400 files of 128 KiB by 8 writers into the mount beside the
same PUTs made directly, bare and with the requests that the kernel's lookups cost. After every run
all bytes are read back from the bucket and compared by CRC-64 with what was written, and so is the
CRC-64 the server tells.
"""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.pop(1)  # the folder, whose requests.py is no library

import trio
from fastcrc import crc64

from bench.support.arguments import arguments
from bench.support.large import Rig, source_of
from bench.support.rig import (
    MIB,
    Crew,
    Sample,
    check_object,
    daemon_cpu,
    in_turns,
    medians,
    mounted,
    own_cpu,
    quietly,
    speed,
    table,
    timed,
    waited_cpu,
)
from bench.support.servers import curl_headers, serving, store_on, url_of
from ossfs.config.derive import upload_concurrency
from ossfs.store.api import Expected, Store, UploadPart
from ossfs.store.client import StoreClient
from ossfs.store.crc import combine
from ossfs.store.errors import NotFound
from ossfs.store.transfer import TransferPool

PART = 8 * MIB
"""The mount's default."""
SMALL = 128 * 1024
WRITERS = 8

WRITE_SMALL = """
import os
source, folder, part, step, count = *sys.argv[1:3], *map(int, sys.argv[3:])
with open(source, "rb") as file:
    rest = file.read()
files = [(f"{folder}/{n:05d}", n.to_bytes(8, "big") + rest) for n in range(part, count, step)]
ready()
for path, data in files:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    assert os.write(descriptor, data) == len(data)
    os.close(descriptor)
"""


def check_small(rig: Rig, folder: str, count: int) -> None:
    """Check all small objects of a folder."""
    for number in range(count):
        start = number.to_bytes(8, "big")
        crc = combine(crc64.xz(start), rig.source.crc64, SMALL - 8)
        check_object(rig.store, f"{folder}/{number:05d}".encode(), SMALL, crc, start)


def upload_directly(store: Store, key: bytes, data: memoryview, at_once: int) -> None:
    """Upload as the mount does, from memory, with nothing in between."""

    async def main() -> None:
        pool = TransferPool(at_once)
        client = StoreClient(store, request_timeout=60, transfer=pool)
        identity = await client.create_upload(key)
        offsets = range(0, len(data), PART)
        numbers = iter(range(1, len(offsets) + 1))
        crcs = [0] * len(offsets)
        parts = [UploadPart(0, "")] * len(offsets)

        async def worker() -> None:
            for number in numbers:
                offset = offsets[number - 1]
                piece = data[offset : offset + PART]
                reply = await client.upload_part(key, identity, number, [piece])
                parts[number - 1] = UploadPart(number, reply.etag)
                crcs[number - 1] = reply.crc64 or 0

        async with trio.open_nursery() as nursery:
            for _ in range(at_once):
                nursery.start_soon(worker)
        crc = 0
        for offset, part_crc in zip(offsets, crcs, strict=True):
            crc = combine(crc, part_crc, min(PART, len(data) - offset))
        expect = Expected(len(data), crc if store.capabilities.crc64 else None)
        await client.complete_upload(key, identity, parts, expect=expect)
        await pool.aclose()

    trio.run(main)


def put_directly(store: Store, folder: str, count: int, rest: bytes, *, asking: bool) -> None:
    """Put small files, as many at once as there are writers.

    `asking` first whether the name is there, as the kernel has to: a HEAD, then a list of one key.
    """

    async def main() -> None:
        client = StoreClient(store, request_timeout=60)
        numbers = iter(range(count))

        async def worker() -> None:
            for number in numbers:
                key = f"{folder}/{number:05d}".encode()
                if asking:
                    with suppress(NotFound):
                        await client.head(key)
                    await client.list_page(key + b"/", max_keys=1)
                await client.put(key, [number.to_bytes(8, "big"), rest])

        async with trio.open_nursery() as nursery:
            for _ in range(WRITERS):
                nursery.start_soon(worker)

    trio.run(main)


# Rows


def curl_large(rig: Rig) -> Sample:
    server = rig.server
    url = url_of(server, "large")
    headers = [word for line in curl_headers(server, b"large", b"PUT") for word in ("-H", line)]
    command = ["curl", "-sf", "-T", str(rig.source.path), *headers, url]
    sample = timed(server, waited_cpu, lambda: quietly(*command))
    rig.check_and_drop(b"large")
    return sample


def upload_large(rig: Rig, at_once: int) -> Sample:
    sample = timed(
        rig.server, own_cpu, lambda: upload_directly(rig.store, b"large", rig.source.view, at_once)
    )
    rig.check_and_drop(b"large")
    return sample


def put_small(rig: Rig, count: int, *, asking: bool) -> Sample:
    rest = bytes(rig.source.view)
    folder = f"direct-{time.monotonic_ns()}"  # no names that are there already
    sample = timed(
        rig.server,
        own_cpu,
        lambda: put_directly(rig.store, folder, count, rest, asking=asking),
    )
    check_small(rig, folder, count)
    return sample


def write_small(rig: Rig, count: int) -> Sample:
    """Write small files into a new directory of a mount that has just been made."""
    folder = ""
    with mounted(rig.server) as mount:

        def programs() -> list[list[str | Path]]:
            nonlocal folder
            folder = f"mount-{time.monotonic_ns()}"
            (mount.path / folder).mkdir()
            words = [rig.source.path, mount.path / folder]
            return [[*words, str(part), str(WRITERS), str(count)] for part in range(WRITERS)]

        with Crew(WRITE_SMALL, programs) as crew:
            sample = timed(
                rig.server, lambda: daemon_cpu(mount.pid), crew.work, prepare=crew.assemble
            )
    check_small(rig, folder, count)
    if sample.traffic.puts != count:
        raise SystemExit(f"{sample.traffic.puts} PUTs for {count} files")
    return sample


def others(sample: Sample) -> int:
    """Requests that are no PUT, POST or GET."""
    return sample.traffic.heads + sample.traffic.lists + sample.traffic.deletes


def main() -> None:
    given = arguments(__doc__)
    with serving(given.store, lambda put: None) as server:
        store = store_on(server)
        with source_of((48 if given.quick else 1024) * MIB) as source:
            measure_large(Rig(server, store, source), given.runs, upload_concurrency(given.store))
        with source_of(SMALL - 8) as source:
            measure_small(Rig(server, store, source), given.runs, 80 if given.quick else 400)
        store.close()


def measure_large(rig: Rig, runs: int, at_once: int) -> None:
    peaks: dict[str, list[int]] = {"mount, write and close": [], "mount, dd conv=fsync": []}
    program, dd = peaks
    rounds = in_turns(
        {
            "curl -T": lambda: curl_large(rig),
            "store layer alone": lambda: upload_large(rig, at_once),
            program: lambda: rig.write_large(peaks[program], dd=False),
            dd: lambda: rig.write_large(peaks[dd], dd=True),
        },
        runs,
    )
    size = len(rig.source.view)
    gib = size / (1024 * MIB)
    table(
        f"Sequential write of {size // MIB} MiB",
        [
            *["", "MB/s", "of curl", "of the store layer", "CPU s/GiB", "peak MB"],
            *["PUTs", "POSTs", "others", "sent", "server CPU s/GiB", "server busy"],
        ],
        [
            [
                name,
                f"{size / 1e6 / sample.wall:.0f}",
                f"{speed(rounds, name, 'curl -T'):.2f}",
                f"{speed(rounds, name, 'store layer alone'):.2f}",
                f"{sample.cpu / gib:.2f}",
                f"{max(peaks[name]) / 1e6:.0f}" if name in peaks else "-",
                *map(str, (sample.traffic.puts, sample.traffic.posts, others(sample))),
                f"{sample.traffic.stored / size:.2f}",
                f"{sample.server / gib:.2f}",
                f"{sample.server / sample.wall:.2f}",
            ]
            for name, sample in medians(rounds).items()
        ],
        f"Medians of {runs}, turn about, ratios of two rows of a round; parts of {PART // MIB} "
        f"MiB, up to {at_once} at once, from memory; a new mount a run; page cache dropped; CPU "
        "of curl, of this process, of the daemon; every byte read back from the bucket and "
        "compared by CRC-64 after each run. Server busy: its CPU over the time; the emulator has "
        "one thread, so near 1 it is the limit.",
    )


def measure_small(rig: Rig, runs: int, count: int) -> None:
    direct = f"direct, {WRITERS} at once"
    rounds = in_turns(
        {
            direct: lambda: put_small(rig, count, asking=False),
            "direct, asking first": lambda: put_small(rig, count, asking=True),
            f"mount, {WRITERS} writers": lambda: write_small(rig, count),
        },
        runs,
    )
    table(
        f"{count} new files of 128 KiB",
        [
            *["", "files/s", "of direct", "CPU ms/file", "PUTs", "others a file"],
            *["server ms/file", "server busy"],
        ],
        [
            [
                name,
                f"{count / sample.wall:.0f}",
                f"{speed(rounds, name, direct):.2f}",
                f"{sample.cpu / count * 1e3:.2f}",
                f"{sample.traffic.puts}",
                f"{others(sample) / count:.2f}",
                f"{sample.server / count * 1e3:.2f}",
                f"{sample.server / sample.wall:.2f}",
            ]
            for name, sample in medians(rounds).items()
        ],
        f"Medians of {runs}, turn about, ratios of two rows of a round; a process a writer, its "
        "start not timed; open, write, close; a new mount and directory a run; every file read "
        "back from the bucket and compared; CPU of this process, of the daemon. Asking first: a "
        "HEAD and a list of one key before each PUT, which is what a lookup of a new name costs.",
    )


if __name__ == "__main__":
    main()
