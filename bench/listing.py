"""`ls -l` of a directory of many objects beside paging the same listing through the store.

The entries are as varied as those of a real bucket: a size, an ETag and a time of its own
each; 100,000 of them, 20,000 on SeaweedFS, which takes real ones only. Exits non-zero when a name
or a size is missing, or when the listing takes more than one list request for each thousand and one
more, or any HEAD.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.pop(1)  # the folder, whose requests.py is no library

import trio

from bench.support.arguments import arguments
from bench.support.rig import (
    Sample,
    daemon_cpu,
    mounted,
    own_cpu,
    table,
    timed,
    turn_about,
)
from bench.support.servers import Put, Server, emulated, on_seaweed, put_many, store_on
from ossfs.emulator.records import NORMAL, PLAIN, Record
from ossfs.emulator.storage import Bucket
from ossfs.store.api import Store
from ossfs.store.client import StoreClient

FIRST_TIME = 1_700_000_000


def record(number: int) -> Record:
    """Return what the index holds of an object; nobody reads its bytes."""
    return Record(
        name_of(number),
        NORMAL,
        size_of(number),
        FIRST_TIME + number * 7,
        f"{number * 0x9E3779B97F4A7C15F39CC0605CEDC835 % (1 << 128):032X}",
        0,
        PLAIN,
        (),
    )


def name_of(number: int) -> bytes:
    return b"file-%06d.jpg" % number


def size_of(number: int) -> int:
    return 1_000 + number * 7919 % 50_000


def page_through(store: Store, count: int) -> None:
    """Fetch and parse every page of the listing, one after another."""

    async def main() -> None:
        client = StoreClient(store, request_timeout=60)
        token, seen, size = None, 0, 0
        while True:
            page = await client.list_page(b"", token=token)
            seen += len(page.entries)
            size += sum(entry.size for entry in page.entries)
            token = page.next_token
            if token is None:
                break
        if (seen, size) != (count, sum(map(size_of, range(count)))):
            raise SystemExit(f"{seen} entries of {size} bytes listed, not what {count} are")

    trio.run(main)


def list_mounted(server: Server, count: int, command: list[str]) -> Sample:
    with mounted(server) as mount:
        shown: list[bytes] = []

        def work() -> None:
            done = subprocess.run([*command, mount.path], capture_output=True, check=True)
            shown.append(done.stdout)

        sample = timed(server, lambda: daemon_cpu(mount.pid), work)
        check_shown(command, shown[-1], count)
        lists, heads = sample.traffic.lists, sample.traffic.heads
        if lists > count // 1000 + 1 or heads:
            raise SystemExit(f"{command}: {lists} list requests and {heads} HEADs")
        return sample


def check_shown(command: list[str], shown: bytes, count: int) -> None:
    """Exit with a message unless every name was shown, and its size where there are sizes."""
    names: set[bytes] = set()
    lines = shown.splitlines()[1:]  # the first is the total, or the directory itself
    for line in lines:
        words = line.split()
        name = words[-1].rpartition(b"/")[2]
        if len(words) > 1 and int(words[4]) != size_of(int(name[5:11])):
            raise SystemExit(f"{command}: wrong size in {line!r}")
        names.add(name)
    if len(lines) != count or names != {name_of(number) for number in range(count)}:
        raise SystemExit(f"{command}: {len(lines)} lines for {count} entries, or wrong names")


def main() -> None:
    given = arguments(__doc__)
    count = 1_500 if given.quick else 20_000 if given.store == "s3" else 100_000

    def records(bucket: Bucket) -> None:
        for number in range(count):
            bucket.commit(record(number))

    def objects(put: Put) -> None:
        put_many(put, ((name_of(number), bytes(size_of(number))) for number in range(count)))

    with on_seaweed(objects) if given.store == "s3" else emulated(records) as server:
        store = store_on(server)
        rows = {
            "paging through the store": lambda: timed(
                server, own_cpu, lambda: page_through(store, count)
            ),
            "ls -l": lambda: list_mounted(server, count, ["ls", "-l"]),
            "ls -lU": lambda: list_mounted(server, count, ["ls", "-lU"]),
            "find": lambda: list_mounted(server, count, ["find"]),
        }
        results = turn_about(rows, given.runs)
        store.close()
    base = results["paging through the store"].wall
    table(
        f"Listing {count} entries",
        ["", "seconds", "entries/s", "times paging", "CPU s", "lists"],
        [
            [
                name,
                f"{sample.wall:.2f}",
                f"{count / sample.wall:.0f}",
                f"{sample.wall / base:.2f}",
                f"{sample.cpu:.2f}",
                str(sample.traffic.lists),
            ]
            for name, sample in results.items()
        ],
        f"Medians of {given.runs}, turn about, a fresh mount each; the base is StoreClient."
        "list_page, page after page; no HEAD is sent, or this exits with an error.",
    )


if __name__ == "__main__":
    main()
