"""Random reads of 4 KiB and 128 KiB: the mount beside the same GETs made by the store layer.

One reader and sixteen, each a program with a descriptor of its own, read distinct places of one
large object in random order, page cache dropped. A read must cost one GET of its own bytes: the run
fails where a GET is larger than 1 MiB or more was fetched than asked for. No two places are
neighbours, and none is in the first MiB: what follows other pages, or begins a file, the kernel
itself takes for the start of a sequence.
"""

from __future__ import annotations

import random
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.pop(1)  # the folder, whose requests.py is no library

import trio
from fastcrc import crc64

from bench.support.arguments import arguments
from bench.support.rig import (
    MIB,
    Crew,
    Sample,
    daemon_cpu,
    in_turns,
    medians,
    mounted,
    own_cpu,
    random_bytes,
    speed,
    table,
    timed,
)
from bench.support.servers import Put, Server, serving, store_on
from ossfs.store.api import Store
from ossfs.store.client import StoreClient
from ossfs.store.transfer import TransferPool
from tests.support.emulator import EmulatorProcess

KEY = b"big"
LARGEST_GET = MIB

READER = """
import os, struct
from fastcrc import crc64
path, places, part, step, size = *sys.argv[1:3], *map(int, sys.argv[3:])
with open(places, "rb") as file:
    mine = list(struct.iter_unpack("<QQ", file.read()))[part::step]
buffer = bytearray(size)
descriptor = os.open(path, os.O_RDONLY)
ready()
for offset, crc in mine:
    assert os.preadv(descriptor, [buffer], offset) == size, offset
    assert crc64.xz(buffer) == crc, f"wrong bytes at {offset}"
"""


class Place(NamedTuple):
    """Where one read is, and the CRC-64 of what is there."""

    offset: int
    crc: int


class Costs:
    """What the table shows besides the medians."""

    def __init__(self) -> None:
        self.memory = 0
        """Peak bytes of the daemon."""
        self.largest = 0
        """Bytes of the largest GET; 0 where the server does not tell."""

    def note_requests(self, server: Server) -> None:
        if isinstance(server, EmulatorProcess):
            gets = [it["bytes"] for it in server.requests() if it["method"] == "GET"]
            self.largest = max(self.largest, *gets)


def places_in(data: bytes, size: int, count: int) -> list[Place]:
    """Choose `count` aligned places of `size` bytes, in random order."""
    offsets = random.Random(size).sample(range(MIB, len(data), 2 * size), count)
    return [Place(offset, crc64.xz(data[offset : offset + size])) for offset in offsets]


def get_directly(store: Store, etag: str, size: int, places: Sequence[Place], readers: int) -> None:
    """Make the same GETs through the store layer, as many at once as there are readers."""

    async def main() -> None:
        pool = TransferPool(readers)
        client = StoreClient(store, request_timeout=60, transfer=pool)
        rest = iter(places)

        async def worker() -> None:
            view = memoryview(bytearray(size))
            for place in rest:
                await client.get_range_into(KEY, place.offset, [view], if_match=etag)
                if crc64.xz(view) != place.crc:
                    raise SystemExit(f"wrong bytes at {place.offset}")

        async with trio.open_nursery() as nursery:
            for _ in range(readers):
                nursery.start_soon(worker)
        await pool.aclose()

    trio.run(main)


def direct(
    server: Server,
    store: Store,
    etag: str,
    size: int,
    places: Sequence[Place],
    readers: int,
    costs: Costs,
) -> Sample:
    sample = timed(server, own_cpu, lambda: get_directly(store, etag, size, places, readers))
    costs.note_requests(server)
    return sample


def read_mounted(
    server: Server, size: int, places: Sequence[Place], readers: int, costs: Costs
) -> Sample:
    """Read through a mount that has just been made; exit where more was fetched than asked for."""
    with (
        mounted(server) as mount,
        tempfile.NamedTemporaryFile(prefix="ossfs-bench-") as file,
    ):
        for place in places:
            file.write(place.offset.to_bytes(8, "little") + place.crc.to_bytes(8, "little"))
        file.flush()

        def programs() -> list[list[str | Path]]:
            words = [str(readers), str(size)]
            return [
                [mount.path / KEY.decode(), file.name, str(part), *words] for part in range(readers)
            ]

        with Crew(READER, programs) as crew:
            sample = timed(server, lambda: daemon_cpu(mount.pid), crew.work, prepare=crew.assemble)
        costs.note_requests(server)
        costs.memory = max(costs.memory, mount.memory())
    traffic, asked = sample.traffic, size * len(places)
    if traffic.fetched > asked or costs.largest > LARGEST_GET:
        raise SystemExit(
            f"{readers} readers of {size} bytes: {traffic.gets} GETs, the largest of "
            f"{costs.largest} bytes, fetched {traffic.fetched} bytes of {asked}"
        )
    return sample


def main() -> None:
    given = arguments(__doc__)
    total = (64 if given.quick else 1024) * MIB
    data = random_bytes(total)
    etags: list[str] = []

    def load(put: Put) -> None:
        etags.append(put(KEY, data))

    with serving(given.store, load) as server:
        store = store_on(server)
        (etag,) = etags
        for size, count in ((4 << 10, 4000), (128 << 10, 2000)):
            places = places_in(data, size, 160 if given.quick else count)
            measure(server, store, etag, size, places, given.runs)
        store.close()


def measure(
    server: Server, store: Store, etag: str, size: int, places: Sequence[Place], runs: int
) -> None:
    rows: dict[str, Callable[[], Sample]] = {}
    bases: dict[str, str] = {}
    costs: dict[str, Costs] = {}
    for readers in (1, 16):
        alone, mount = f"direct, {readers} at once", f"mount, {readers} reader{'s'[: readers - 1]}"
        costs[alone], costs[mount] = Costs(), Costs()
        rows[alone] = partial(direct, server, store, etag, size, places, readers, costs[alone])
        rows[mount] = partial(read_mounted, server, size, places, readers, costs[mount])
        bases[alone] = bases[mount] = alone
    rounds = in_turns(rows, runs)
    count = len(places)
    table(
        f"{count} random reads of {size >> 10} KiB",
        [
            *["", "reads/s", "of direct", "CPU ms/read", "GETs/read", "fetched KiB/read"],
            *["largest GET KiB", "peak MB", "server busy"],
        ],
        [
            [
                name,
                f"{count / sample.wall:.0f}",
                f"{speed(rounds, name, bases[name]):.2f}",
                f"{sample.cpu / count * 1e3:.2f}",
                f"{sample.traffic.gets / count:.2f}",
                f"{sample.traffic.fetched / count / 1024:.1f}",
                f"{costs[name].largest / 1024:.0f}" if costs[name].largest else "-",
                f"{costs[name].memory / 1e6:.0f}" if costs[name].memory else "-",
                f"{sample.server / sample.wall:.2f}",
            ]
            for name, sample in medians(rounds).items()
        ],
        f"Medians of {runs}, turn about, ratios of two rows of a round; a new mount a run with the "
        "default options, page cache dropped; a process a reader, its start and open() not timed; "
        "CRC-64 of every read checked by its reader; CPU of the daemon, of this process for the "
        "direct GETs. Server busy: its CPU over the time; the emulator has one thread.",
    )


if __name__ == "__main__":
    main()
