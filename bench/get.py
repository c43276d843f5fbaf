"""The store layer alone, without a mount: what a request, a GiB and a listing page cost.

Small requests one at a time, beside `curl` on one connection and oss2 as it ships; one
large object by one thread; a listing page of 1,000 keys through the parser. Bytes are
checked in a run of their own, requests are counted by the server.
"""

from __future__ import annotations

import http.client
import re
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.pop(1)  # the folder, whose requests.py is no library

import oss2.xml_utils
import trio
from fastcrc import crc64

from bench.support.arguments import arguments
from bench.support.rig import (
    MIB,
    Sample,
    own_cpu,
    quietly,
    random_bytes,
    table,
    timed,
    turn_about,
    waited_cpu,
)
from bench.support.servers import curl_headers, emulated, store_on, url_of
from ossfs.emulator.records import NORMAL, PLAIN, Record
from ossfs.emulator.storage import Bucket
from ossfs.store.api import Store
from ossfs.store.client import StoreClient
from ossfs.store.listing import parse_page, parse_page_strictly
from ossfs.store.transfer import TransferPool
from tests.support.emulator import EmulatorProcess

SMALL = 4096
RANGE = 8 * MIB
PAGE = 1000
PAGES = 8
"""Pages of different dates parsed in turn: no cache of dates holds them all."""


def main() -> None:
    given = arguments(__doc__, oss_only=True)
    calls = 200 if given.quick else 2000
    size = (16 if given.quick else 512) * MIB
    small, big = random_bytes(SMALL), random_bytes(size)
    etags: dict[bytes, str] = {}

    def load(bucket: Bucket) -> None:
        for key, data in ((b"small", small), (b"big", big)):
            etags[key] = bucket.put_bytes(key, data).etag
        for number in range(PAGE * PAGES):
            bucket.commit(listed(number))

    with emulated(load) as emulator:
        store = store_on(emulator)
        measure_requests(emulator, store, etags[b"small"], small, calls, given.runs)
        measure_bytes(emulator, store, etags[b"big"], big, given.runs)
        measure_parsing(listing_bodies(emulator), given.runs)
        store.close()


def listed(number: int) -> Record:
    """Return an object that is listed, never read."""
    etag = f"{number * 0x9E3779B97F4A7C15F39CC0605CEDC835 % (1 << 128):032X}"
    key = b"list/image-%08d.jpg" % number
    return Record(key, NORMAL, 100_000 + number, 1_700_000_000 + 7 * number, etag, 0, PLAIN, ())


# Requests


def measure_requests(
    emulator: EmulatorProcess, store: Store, etag: str, data: bytes, calls: int, runs: int
) -> None:
    view = memoryview(bytearray(SMALL))
    bucket = emulator.oss2_bucket()

    def get(pieces: Sequence[memoryview] = (view,)) -> None:
        store.get_range_into(b"small", 0, pieces, if_match=etag, deadline=deadline())

    def ours(call: Callable[[], object]) -> Callable[[], Sample]:
        return lambda: timed(emulator, own_cpu, lambda: repeat(call, calls))

    def by_tasks(pieces: Sequence[memoryview]) -> Callable[[], Sample]:
        return lambda: timed(
            emulator, own_cpu, lambda: get_by_client(store, etag, pieces, calls, view, data)
        )

    get()
    check(view, data, "get_range_into")
    check(bucket.get_object("small").read(), data, "oss2")
    with tempfile.NamedTemporaryFile("w", suffix=".curl") as config:
        config.writelines(f'header = "{line}"\n' for line in curl_headers(emulator, b"small"))
        url = url_of(emulator, "small")
        config.write(f'url = "{url}"\noutput = "/dev/null"\n' * calls + "fail\nsilent\n")
        config.flush()
        half = SMALL // 2
        rows: dict[str, Callable[[], Sample]] = {
            "curl, GET": lambda: timed(
                emulator, waited_cpu, lambda: quietly("curl", "-K", config.name)
            ),
            "oss2, GET": ours(lambda: bucket.get_object("small").read()),
            "OssStore, GET": ours(get),
            "StoreClient, GET on the loop": by_tasks([view]),
            # Two buffers are none of the loop's business: a transfer thread fills them.
            "StoreClient, GET by a thread": by_tasks([view[:half], view[half:]]),
            "oss2, HEAD": ours(lambda: bucket.head_object("small")),
            "OssStore, HEAD": ours(lambda: store.head(b"small", full=True, deadline=deadline())),
            "oss2, list of one key": ours(lambda: bucket.list_objects_v2("small", max_keys=1)),
            "OssStore, list of one key": ours(
                lambda: store.list_page(b"small", max_keys=1, deadline=deadline())
            ),
        }
        results = turn_about(rows, runs)
    for name, sample in results.items():
        if name.partition(", ")[2].startswith("GET") and sample.traffic.gets != calls:
            raise SystemExit(f"{name}: {sample.traffic.gets} GETs for {calls} calls")
    base = results["curl, GET"].wall
    table(
        f"Requests of {SMALL} bytes, one at a time",
        ["", "us a call", "of curl", "CPU us"],
        [
            [
                name,
                f"{sample.wall / calls * 1e6:.0f}",
                f"{base / sample.wall:.2f}",
                f"{sample.cpu / calls * 1e6:.0f}",
            ]
            for name, sample in results.items()
        ],
        f"Medians of {runs} runs of {calls} calls, turn about, on a connection that is kept; the "
        "server's time is in the wall time, not in the CPU time, which is the client's.",
    )


def get_by_client(
    store: Store,
    etag: str,
    pieces: Sequence[memoryview],
    calls: int,
    view: memoryview,
    data: bytes,
) -> None:
    """Make the GETs one after another from a trio task."""

    async def task() -> None:
        pool = TransferPool(1)
        client = StoreClient(store, request_timeout=60, transfer=pool)
        view[:] = bytes(len(view))
        for _ in range(calls):
            await client.get_range_into(b"small", 0, pieces, if_match=etag)
        check(view, data, "StoreClient")
        await pool.aclose()

    trio.run(task)


# Bytes


def measure_bytes(
    emulator: EmulatorProcess, store: Store, etag: str, data: bytes, runs: int
) -> None:
    size = len(data)
    arena = memoryview(bytearray(RANGE))
    bucket = emulator.oss2_bucket()
    url = url_of(emulator, "big")
    headers = [word for line in curl_headers(emulator, b"big") for word in ("-H", line)]

    def in_ranges(arrived: Callable[[memoryview], None] = lambda view: None) -> None:
        for offset in range(0, size, RANGE):
            length = min(RANGE, size - offset)
            blocks = [arena[at : min(at + MIB, length)] for at in range(0, length, MIB)]
            store.get_range_into(b"big", offset, blocks, if_match=etag, deadline=deadline())
            arrived(arena[:length])

    def by_oss2() -> None:
        reply = bucket.get_object("big")
        seen = 0
        while piece := reply.read(MIB):
            seen += len(piece)
        if seen != size:
            raise SystemExit(f"oss2: {seen} bytes of {size}")

    crc = 0

    def add(view: memoryview) -> None:
        nonlocal crc
        crc = crc64.xz(view, crc)

    in_ranges(add)
    if crc != crc64.xz(data):
        raise SystemExit("get_range_into: wrong bytes")
    rows: dict[str, Callable[[], Sample]] = {
        "curl": lambda: timed(
            emulator, waited_cpu, lambda: quietly("curl", "-sf", "-o", "/dev/null", *headers, url)
        ),
        "oss2": lambda: timed(emulator, own_cpu, by_oss2),
        "OssStore": lambda: timed(emulator, own_cpu, in_ranges),
    }
    results = turn_about(rows, runs)
    gib = size / (1024 * MIB)
    base = results["curl"].wall
    table(
        f"{size // MIB} MiB by one thread",
        ["", "MB/s", "of curl", "CPU s/GiB", "GETs"],
        [
            [
                name,
                f"{size / 1e6 / sample.wall:.0f}",
                f"{base / sample.wall:.2f}",
                f"{sample.cpu / gib:.2f}",
                str(sample.traffic.gets),
            ]
            for name, sample in results.items()
        ],
        f"Medians of {runs}, turn about; OssStore in ranges of {RANGE // MIB} MiB into blocks "
        "that are used again, its CRC-64 checked in a run before; oss2 with its own CRC, as it "
        "ships.",
    )


# Parsing


def listing_bodies(emulator: EmulatorProcess) -> list[bytes]:
    """Return the pages of the listing as the server sends them."""
    connection = http.client.HTTPConnection(urlsplit(emulator.endpoint).netloc)
    headers = [line.split(": ", 1) for line in curl_headers(emulator, b"")]
    bodies = []
    for number in range(PAGES):
        after = listed(number * PAGE - 1).key if number else b""
        query = f"list-type=2&encoding-type=url&max-keys={PAGE}&prefix=list/&start-after="
        target = f"/{emulator.bucket}/?{query}{after.decode()}"
        connection.request("GET", target, headers=dict(headers))
        reply = connection.getresponse()
        body = reply.read()
        if reply.status != 200:
            raise SystemExit(f"listing: {reply.status} {body[:200]!r}")
        bodies.append(body)
    connection.close()
    return bodies


def measure_parsing(bodies: Sequence[bytes], runs: int) -> None:
    # The dates of one upload at a time, as an archive unpacked into a bucket has them.
    stamp = re.search(rb"<LastModified>[^<]*", bodies[0])
    assert stamp is not None
    same = [re.sub(rb"<LastModified>[^<]*", stamp[0], body) for body in bodies]
    for number, body in enumerate(bodies):
        quick, strict = parse_page(body), parse_page_strictly(body)
        keys = [listed(number * PAGE + index).key for index in range(PAGE)]
        if quick != strict or [entry.key for entry in quick.entries] != keys:
            raise SystemExit(f"page {number} was parsed wrong")

    def parse_by_oss2(body: bytes) -> None:
        oss2.xml_utils.parse_list_objects_v2(SimpleNamespace(object_list=[], prefix_list=[]), body)

    def over(parse: Callable[[bytes], object], pages: Sequence[bytes]) -> Callable[[], Sample]:
        def run() -> Sample:
            before, begun = own_cpu(), time.perf_counter()
            for body in pages:
                parse(body)
            return Sample(time.perf_counter() - begun, own_cpu() - before)

        return run

    results = turn_about(
        {
            "oss2": over(parse_by_oss2, bodies),
            "parse_page_strictly": over(parse_page_strictly, bodies),
            "parse_page": over(parse_page, bodies),
            "parse_page, one date": over(parse_page, same),
        },
        runs,
    )
    base = results["oss2"].wall
    table(
        f"Parsing a listing page of {PAGE} keys",
        ["", "ms a page", "times oss2's speed"],
        [
            [name, f"{sample.wall / len(bodies) * 1e3:.2f}", f"{base / sample.wall:.1f}"]
            for name, sample in results.items()
        ],
        f"Medians of {runs} runs over {len(bodies)} pages, a date of its own for each key unless "
        "said otherwise; all parsers agree, or this exits with an error.",
    )


# Helpers


def deadline() -> float:
    return time.monotonic() + 60


def repeat(call: Callable[[], object], times: int) -> None:
    for _ in range(times):
        call()


def check(got: bytes | memoryview, wanted: bytes, who: str) -> None:
    if got != wanted:
        raise SystemExit(f"{who}: wrong bytes")


if __name__ == "__main__":
    main()
