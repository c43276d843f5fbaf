"""Memory of a mount after `find` over very many files, beside the same with default options.

300,000 files in directories of a thousand. `readdirplus=false` leaves what is only listed without
an inode, in the kernel and in the daemon; with `inode_cache_eviction_threshold` it is what PAI
advises against running out of memory. A second find on the same mount shows whether memory stays
flat. Exits non-zero when a name is missing, or when such a mount has grown by more than 60 MB.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.pop(1)  # the folder, whose requests.py is no library

from bench.support.arguments import arguments
from bench.support.entries import FOLDER, find, name_in_tree, record
from bench.support.rig import Sample, daemon_cpu, mounted, table, timed
from bench.support.servers import Server, emulated
from ossfs.emulator.storage import Bucket

ALLOWED = 60_000_000
"""Bytes by which a mount that keeps no inodes may grow."""


@dataclass(frozen=True, slots=True)
class Memory:
    """One find, and the daemon's resident bytes around it."""

    sample: Sample
    start: int
    """When the mount was made, also for the second find."""
    end: int
    peak: int
    inodes: int

    @property
    def growth(self) -> int:
        return self.end - self.start


def resident(pid: int) -> int:
    """Resident bytes of a process, shared memory included."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) * 1024


def find_twice(server: Server, count: int, options: Sequence[str]) -> list[Memory]:
    with mounted(server, *options) as mount:
        start = resident(mount.pid)
        found = []
        for _ in range(2):
            sample = timed(server, lambda: daemon_cpu(mount.pid), lambda: find(mount.path, count))
            end = resident(mount.pid)
            inodes = int(mount.statistics()["inodes"])
            found.append(Memory(sample, start, end, mount.memory(), inodes))
    if options and found[-1].growth > ALLOWED:
        grown = [memory.growth // 1_000_000 for memory in found]
        raise SystemExit(f"{', '.join(options)}: memory grew by {grown} MB")
    return found


def main() -> None:
    given = arguments(__doc__, runs=3, oss_only=True)
    count = 3_000 if given.quick else 300_000
    threshold = count // 6
    few = ("readdirplus=false", f"inode_cache_eviction_threshold={threshold}")

    def records(bucket: Bucket) -> None:
        for number in range(count):
            bucket.commit(record(name_in_tree(number), number))

    kinds: dict[str, Sequence[str]] = {"default options": (), "without inodes": few}
    rounds: dict[str, list[list[Memory]]] = {name: [] for name in kinds}
    with emulated(records) as server:
        for _ in range(given.runs):
            for name, options in kinds.items():
                rounds[name].append(find_twice(server, count, options))
    # Of a figure of memory the run that grew most counts, of a time the median.
    worst = {
        name: [max(each, key=lambda memory: memory.growth) for each in zip(*found, strict=True)]
        for name, found in rounds.items()
    }
    lines = []
    for name, found in rounds.items():
        for at, (label, memory) in enumerate(zip((name, "  again"), worst[name], strict=True)):
            wall = median(mount[at].sample.wall for mount in found)
            lines.append(
                [
                    label,
                    *(f"{size / 1e6:.0f}" for size in (memory.start, memory.end, memory.peak)),
                    f"{memory.growth / 1e6:.1f}",
                    f"{memory.growth / worst['default options'][at].growth:.2f}",
                    str(memory.inodes),
                    f"{wall:.1f}",
                    f"{count / wall:.0f}",
                    str(memory.sample.traffic.lists),
                    str(memory.sample.traffic.heads),
                ]
            )
    table(
        f"find over {count} files in directories of {FOLDER}",
        [
            *("", "start MB", "end MB", "peak MB", "growth MB", "of default's"),
            *("inodes", "seconds", "files/s", "lists", "HEADs"),
        ],
        lines,
        f"Turn about, {given.runs} mounts each; seconds are medians; memory is what the daemon has "
        "resident right after find, of the run that grew most; peak is VmHWM "
        f"plus shared memory; without inodes: {', '.join(few)}; every name was checked.",
    )


if __name__ == "__main__":
    main()
