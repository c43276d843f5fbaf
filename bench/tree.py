"""What an inode costs: a million files in the tree alone, in bytes of resident memory."""

from __future__ import annotations

import gc
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.pop(1)  # the folder, whose requests.py is no library

from bench.support.arguments import arguments
from bench.support.rig import table
from ossfs.tree.inodes import Directory, Inode, InodeTable

PER_DIRECTORY = 1000


def resident() -> int:
    """Bytes of this process in memory."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise SystemExit("no VmRSS in /proc/self/status")


def main() -> None:
    given = arguments(__doc__, runs=1, oss_only=True)
    count = 50_000 if given.quick else 1_000_000
    inodes = InodeTable(b"data/")
    gc.collect()
    before, begun = resident(), time.perf_counter()
    for number in range(count):
        if number % PER_DIRECTORY == 0:
            made = inodes.add(Directory, inodes.root, b"train-%05d" % (number // PER_DIRECTORY))
            assert isinstance(made, Directory)
            folder = made
            folder.lookups = 1
            deadline = time.monotonic() + 60  # shared by the entries of a page
        inode = inodes.add(Inode, folder, b"image-%08d.jpg" % number)
        inode.size = 100_000 + number
        inode.mtime = 1_700_000_000 + number
        inode.etag = f"{number * 0x9E3779B97F4A7C15 % (1 << 128):032X}"
        inode.deadline = deadline
        inode.lookups = 1
    seconds = time.perf_counter() - begun
    gc.collect()
    cost = (resident() - before) / count
    if len(inodes) != count + count // PER_DIRECTORY + 1:
        raise SystemExit("the table has lost inodes")
    for inode in list(inodes):
        inodes.forget(inode.number, 1)
    if len(inodes) != 1:
        raise SystemExit("the table does not come back to the root")
    limit = 450
    table(
        f"A tree of {count} files",
        ["", "value", "of the limit"],
        [
            ["bytes an inode", f"{cost:.0f}", f"{cost / limit:.2f}"],
            ["inodes made a second", f"{count / seconds:.0f}", "-"],
        ],
        f"Growth of VmRSS over the number of files; limit {limit} bytes; names of 18 bytes, "
        f"{PER_DIRECTORY} files a directory, an ETag, size and mtime of its own each.",
    )


if __name__ == "__main__":
    main()
