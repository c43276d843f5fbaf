"""Renaming a directory of 2,000 files beside the same copies and deletes made directly.

128 copies at once in each row, the mount's default. Directly: every key and ETag is known, nothing
is listed; then the deletes, 1,000 keys a request. Each round renames what the one before it has
renamed. All files must be at the new name with their ETags afterwards and none at the old one, and
each row must have sent as many copies and deletes as the direct one. The mount sends SeaweedFS,
which keeps directories for a while, one delete more.

A rename takes less than a second, and a machine that others use may be twice as slow for several
seconds, so rows are compared within a round only, in an order that turns round by round.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.pop(1)  # the folder, whose requests.py is no library

import trio

from bench.support.arguments import arguments
from bench.support.rig import daemon_cpu, mounted, own_cpu, table
from bench.support.servers import Put, Server, Traffic, counting, serving, store_on
from ossfs.store.client import StoreClient
from ossfs.writing.moving import move_tree

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
            found += [
                Found(entry.key.removeprefix(prefix), entry.etag)
                for entry in page.entries
                if entry.key != prefix  # SeaweedFS keeps it for some seconds
            ]
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
            on_moved=lambda _old, _new, _reply, _etag: None,
        )
        if (moved.moved, moved.kept, moved.vanished) != (count, 0, 0):
            raise SystemExit(f"move_tree: {moved}")

    trio.run(main)


class Cost(NamedTuple):
    """What one rename took."""

    wall: float
    """Seconds."""
    cpu: float
    """Seconds of the process in question."""
    traffic: Traffic


def cost_of(server: Server, cpu: Callable[[], float], work: Callable[[], None]) -> Cost:
    """Run `work` once."""
    answered = counting(server)
    before, begun = cpu(), time.perf_counter()
    work()
    wall, spent = time.perf_counter() - begun, cpu() - before
    return Cost(wall, spent, answered())


def others(cost: Cost) -> int:
    return cost.traffic.heads + cost.traffic.lists


def main() -> None:
    given = arguments(__doc__, runs=15)
    count = 200 if given.quick else 2_000
    rows = {"direct": Names("direct"), "move_tree": Names("move"), "mount": Names("mount")}

    def load(put: Put) -> None:
        for names in rows.values():
            for number in range(count):
                data = b"%d in %s" % (number, names.old.encode())
                put(b"%s/%05d" % (names.old.encode(), number), data.ljust(SIZE))

    with serving(given.store, load) as server, mounted(server) as mount:
        store = store_on(server)
        client = StoreClient(store, request_timeout=60)
        files = {name: listed(client, names.old) for name, names in rows.items()}

        def rename(name: str) -> None:
            old, new = rows[name].turn()
            if name == "direct":
                rename_directly(client, files[name], old, new)
            elif name == "move_tree":
                move(client, count, old, new)
            else:
                os.rename(mount.path / old, mount.path / new)

        def run(name: str) -> Cost:
            cpu = (lambda: daemon_cpu(mount.pid)) if name == "mount" else own_cpu
            cost = cost_of(server, cpu, lambda: rename(name))
            names = rows[name]
            if listed(client, names.old) != files[name] or listed(client, names.new):
                raise SystemExit(f"{name}: files are missing, wrong or still at the old name")
            copies, deletes = cost.traffic.puts, cost.traffic.deletes
            wanted = -(-count // 1_000)
            if given.store == "s3" and name == "mount":
                wanted += 1
            if (copies, deletes) != (count, wanted):
                raise SystemExit(f"{name}: {copies} copies, {deletes} deletes")
            return cost

        for name in rows:  # threads and connections are made
            run(name)
        rounds: list[dict[str, Cost]] = []
        for number in range(given.runs):
            order = list(rows)[:: -1 if number % 2 else 1]
            rounds.append({name: run(name) for name in order})
        store.close()
    shown: list[list[str]] = []
    for name in rows:
        ratios = sorted(costs[name].wall / costs["direct"].wall for costs in rounds)
        shown.append(
            [
                name,
                f"{statistics.median(costs[name].wall for costs in rounds):.2f}",
                f"{statistics.median(ratios):.2f}",
                f"{ratios[0]:.2f}-{ratios[-1]:.2f}",
                f"{statistics.median(costs[name].cpu for costs in rounds):.2f}",
                f"{max(others(costs[name]) for costs in rounds)}",
            ]
        )
    table(
        f"Renaming a directory of {count} files, {CONCURRENCY} copies at once",
        ["", "seconds", "time, of direct", "least-most", "CPU s", "other requests"],
        shown,
        f"Medians of {given.runs} rounds after one to warm up; a ratio is of two rows of one "
        f"round; files of {SIZE} bytes; through the mount one os.rename; CPU of this process, of "
        "the daemon for the mount; other requests are listings and HEADs.",
    )


if __name__ == "__main__":
    main()
