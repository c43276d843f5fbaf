"""`ls -l` of a directory of 100,000 objects beside paging the same listing through the store.

Exits non-zero when the listing takes more than 101 list requests or any HEAD.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import trio

from bench.support.arguments import arguments
from bench.support.rig import (
    Sample,
    daemon_cpu,
    emulated,
    mounted,
    own_cpu,
    store_on,
    table,
    timed,
    turn_about,
)
from ossfs.emulator.storage import Bucket
from ossfs.store.client import StoreClient
from ossfs.store.oss import OssStore
from tests.support.emulator import EmulatorProcess


def page_through(store: OssStore, count: int) -> None:
    """Fetch and parse every page of the listing, one after another."""

    async def main() -> None:
        client = StoreClient(store, request_timeout=60)
        token, seen = None, 0
        while True:
            page = await client.list_page(b"", token=token)
            seen += len(page.entries)
            token = page.next_token
            if token is None:
                break
        if seen != count:
            raise SystemExit(f"{seen} entries listed, not {count}")

    trio.run(main)


def list_mounted(emulator: EmulatorProcess, count: int, command: list[str]) -> Sample:
    with mounted(emulator) as mount:

        def work() -> None:
            shown = subprocess.run(
                [*command, mount.path], capture_output=True, check=True
            ).stdout.count(b"\n")
            if shown != count + 1:  # one line for the total, or for the directory itself
                raise SystemExit(f"{command}: {shown} lines for {count} entries")

        sample = timed(emulator, lambda: daemon_cpu(mount.pid), work)
        records = emulator.requests()
        lists = sum(record["sub"] == "list-type" for record in records)
        heads = sum(record["method"] == "HEAD" for record in records)
        if lists > count // 1000 + 1 or heads:
            raise SystemExit(f"{command}: {lists} list requests and {heads} HEADs")
        return sample._replace(gets=lists)


def main() -> None:
    given = arguments(__doc__)
    count = 5_000 if given.quick else 100_000

    def load(bucket: Bucket) -> None:
        for number in range(count):
            bucket.put_bytes(b"file-%06d.txt" % number)

    with emulated(load) as emulator:
        store = store_on(emulator)
        rows = {
            "paging through the store": lambda: timed(
                emulator, own_cpu, lambda: page_through(store, count)
            )._replace(gets=-(-count // 1000)),
            "ls -l": lambda: list_mounted(emulator, count, ["ls", "-l"]),
            "ls -lU": lambda: list_mounted(emulator, count, ["ls", "-lU"]),
            "find": lambda: list_mounted(emulator, count, ["find"]),
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
                str(sample.gets),
            ]
            for name, sample in results.items()
        ],
        f"Medians of {given.runs}, turn about, a fresh mount each; the base is StoreClient."
        "list_page, page after page; no HEAD is sent, or this exits with an error.",
    )


if __name__ == "__main__":
    main()
