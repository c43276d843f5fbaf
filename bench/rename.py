"""Renaming a directory of 2,000 files beside the same copies and deletes made directly.

128 copies at once in each row, the mount's default. Directly: every key and ETag is known, nothing
is listed; then the deletes, 1,000 keys a request. Each run renames what the one before it has
renamed; all files must be at the new name with their ETags afterwards, and none at the old one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

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
from ossfs.writing.moving import move_tree
from tests.support.emulator import EmulatorProcess

CONCURRENCY = 128
SIZE = 4_096


class Names:
    """The two names that a row's directory has in turn."""

    def __init__(self, row: str) -> None:
        self.old, self.new = f"{row}-a", f"{row}-b"

    def turn(self) -> tuple[str, str]:
        """Return the old and the new name of the next rename."""
        names = self.old, self.new
        self.new, self.old = names
        return names


class Found(NamedTuple):
    """What a listing shows of a file."""

    name: bytes
    etag: str


def listed(client: StoreClient, directory: str) -> list[Found]:
    """Return all files of a directory by name."""

    async def main() -> list[Found]:
        prefix = directory.encode() + b"/"
        found: list[Found] = []
        token, more = None, True
        while more:
            page = await client.list_page(prefix, token=token)
            found += [Found(entry.key.removeprefix(prefix), entry.etag) for entry in page.entries]
            token = page.next_token
            more = token is not None
        return found

    return trio.run(main)


def rename_directly(client: StoreClient, files: list[Found], old: str, new: str) -> None:
    """Copy every file, pinned, then delete the sources."""
    source, target = old.encode() + b"/", new.encode() + b"/"

    async def copy(todo: Iterator[Found]) -> None:
        for name, etag in todo:
            await client.copy(source + name, target + name, if_match=etag)

    async def main() -> None:
        todo = iter(files)
        async with trio.open_nursery() as nursery:
            for _ in range(CONCURRENCY):
                nursery.start_soon(copy, todo)
        for first in range(0, len(files), 1_000):
            await client.delete_many([source + name for name, _ in files[first : first + 1_000]])

    trio.run(main)


def move(client: StoreClient, count: int, old: str, new: str) -> None:
    """Rename as the file system does."""

    async def main() -> None:
        moved = await move_tree(
            client,
            old.encode() + b"/",
            new.encode() + b"/",
            limit=count,
            concurrency=CONCURRENCY,
            on_moved=lambda _old, _new, _reply: None,
        )
        if (moved.moved, moved.kept, moved.vanished) != (count, 0, 0):
            raise SystemExit(f"move_tree: {moved}")

    trio.run(main)


def rename_mounted(emulator: EmulatorProcess, names: Names) -> Sample:
    with mounted(emulator) as mount:

        def work() -> None:
            old, new = names.turn()
            os.rename(mount.path / old, mount.path / new)

        return timed(emulator, lambda: daemon_cpu(mount.pid), work)


def main() -> None:
    given = arguments(__doc__)
    count = 200 if given.quick else 2_000
    rows = {"direct": Names("direct"), "move_tree": Names("move"), "mount": Names("mount")}

    def load(bucket: Bucket) -> None:
        for names in rows.values():
            for number in range(count):
                data = b"%d in %s" % (number, names.old.encode())
                bucket.put_bytes(b"%s/%05d" % (names.old.encode(), number), data.ljust(SIZE))

    with emulated(load) as emulator:
        store: OssStore = store_on(emulator)
        client = StoreClient(store, request_timeout=60)
        files = {name: listed(client, names.old) for name, names in rows.items()}

        def checked(name: str, run: Callable[[], Sample]) -> Callable[[], Sample]:
            def run_and_check() -> Sample:
                sample = run()
                names = rows[name]
                if listed(client, names.old) != files[name] or listed(client, names.new):
                    raise SystemExit(f"{name}: files are missing, wrong or still at the old name")
                return sample

            return run_and_check

        def directly() -> None:
            rename_directly(client, files["direct"], *rows["direct"].turn())

        def moving() -> None:
            move(client, count, *rows["move_tree"].turn())

        results = turn_about(
            {
                "direct": checked("direct", lambda: timed(emulator, own_cpu, directly)),
                "move_tree": checked("move_tree", lambda: timed(emulator, own_cpu, moving)),
                "mount": checked("mount", lambda: rename_mounted(emulator, rows["mount"])),
            },
            given.runs,
        )
        store.close()
    base = results["direct"].wall
    table(
        f"Renaming a directory of {count} files, {CONCURRENCY} copies at once",
        ["", "seconds", "time, of direct", "files/s", "CPU s"],
        [
            [
                name,
                f"{sample.wall:.2f}",
                f"{sample.wall / base:.2f}",
                f"{count / sample.wall:.0f}",
                f"{sample.cpu:.2f}",
            ]
            for name, sample in results.items()
        ],
        f"Medians of {given.runs}, turn about; files of {SIZE} bytes; through the mount one "
        "os.rename, a fresh mount each, nothing looked up before; CPU of this process, of the "
        "daemon for the mount; every file compared by its ETag afterwards.",
    )


if __name__ == "__main__":
    main()
