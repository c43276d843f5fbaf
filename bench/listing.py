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
from bench.support.entries import check_shown, name_of, record, size_of
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
from ossfs.emulator.storage import Bucket
from ossfs.store.api import Store
from ossfs.store.client import StoreClient


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


def main() -> None:
    given = arguments(__doc__)
    count = 1_500 if given.quick else 20_000 if given.store == "s3" else 100_000

    def records(bucket: Bucket) -> None:
        for number in range(count):
            bucket.commit(record(name_of(number), number))

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
