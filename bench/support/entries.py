"""Objects that are listed and never read, as varied as those of a real bucket."""

from __future__ import annotations

import subprocess
from pathlib import Path

from ossfs.emulator.records import NORMAL, PLAIN, Record

FOLDER = 1_000
"""Files in a directory of a tree."""
_FIRST_TIME = 1_700_000_000


def record(name: bytes, number: int) -> Record:
    """Return what the emulator's index holds of an object: size, ETag and time of its own."""
    etag = f"{number * 0x9E3779B97F4A7C15F39CC0605CEDC835 % (1 << 128):032X}"
    time = _FIRST_TIME + number * 7
    return Record(name, NORMAL, size_of(number), time, etag, 0, PLAIN, ())


def size_of(number: int) -> int:
    return 1_000 + number * 7919 % 50_000


def name_of(number: int) -> bytes:
    """Return a name in one flat directory."""
    return b"file-%06d.jpg" % number


def name_in_tree(number: int) -> bytes:
    """Return a name in directories of FOLDER files."""
    return b"folder-%03d/file-%03d.jpg" % divmod(number, FOLDER)


def check_shown(command: list[str], shown: bytes, count: int) -> None:
    """Exit with a message unless every flat name was shown, and its size where there are sizes."""
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


def find(path: Path, count: int) -> None:
    """Run find; exit with a message unless every file of the tree is found, once."""
    shown = subprocess.run(
        ["find", ".", "-type", "f"], cwd=path, capture_output=True, check=True
    ).stdout
    names = [line.removeprefix(b"./") for line in shown.splitlines()]
    if len(names) != count or set(names) != set(map(name_in_tree, range(count))):
        raise SystemExit(f"find: {len(names)} names for {count} files, or wrong ones")
