"""The sample bucket of `ossfs demo`: small, made up on the spot, the same every time.

Everything a file system must get right at least once: nested directories, an empty object,
names with blanks and beyond ASCII, a Python package to import, and one object large enough for
reading ahead to show. SHA256SUMS lists them all, so that `sha256sum -c` on the mount proves every
byte.
"""

from __future__ import annotations

import hashlib
import random
import sys
from collections.abc import Iterator
from pathlib import Path

from ossfs.emulator.storage import Storage

BUCKET = "ossfs-demo"
LARGE = "large/random.bin"
_LARGE_BYTES = 64 * 1024**2

_README = """\
This is an object in a bucket, read as a file.
Nothing here is on this disk in this shape: ls, cat, tar and python see
a directory, the bucket sees list and get requests.
"""

_PACKAGE = '''\
"""A package that lives in the bucket."""

from greetings.words import WORDS


def greet(language: str) -> str:
    return f"{WORDS[language]}, bucket!"
'''

_WORDS = {"en": "Hello", "de": "Guten Tag", "fr": "Bonjour", "zh": "你好", "el": "Γειά σου"}


def fill(directory: Path) -> int:
    """Make the sample bucket in an emulator's directory; return how many objects it holds."""
    count = 0
    with Storage(directory) as storage:
        bucket = storage.bucket(BUCKET, create=True)
        with bucket.batch():
            for name, data in objects():
                bucket.put_bytes(name.encode(), data)
                count += 1
    return count


def objects() -> Iterator[tuple[str, bytes]]:
    """Yield every object's name and bytes, SHA256SUMS last."""
    sums = []
    for name, data in _objects():
        sums.append(f"{hashlib.sha256(data).hexdigest()}  {name}\n")
        yield name, data
    yield "SHA256SUMS", "".join(sums).encode()


def _objects() -> Iterator[tuple[str, bytes]]:
    yield "README.txt", _README.encode()
    yield "empty", b""
    yield "names/with blanks, commas & 100%.txt", b"blanks are fine\n"
    yield "names/größe-大小-μέγεθος.txt", b"so is the rest of Unicode\n"
    yield "library/greetings/__init__.py", _PACKAGE.encode()
    yield "library/greetings/words.py", f"WORDS = {_WORDS!r}\n".encode()
    yield "library/greetings/VERSION", sys.version.split()[0].encode() + b"\n"
    for year in range(2015, 2025):
        for month in range(1, 13):
            yield f"measurements/{year}/{month:02d}.csv", _table(year, month)
    yield LARGE, random.Random(2024).randbytes(_LARGE_BYTES)


def _table(year: int, month: int) -> bytes:
    dice = random.Random(year * 100 + month)
    rows = ["station,day,temperature"]
    for station in ("harbour", "hill", "airport"):
        rows += [
            f"{station},{year}-{month:02d}-{day:02d},{dice.gauss(15, 8):.1f}"
            for day in range(1, 29)
        ]
    return ("\n".join(rows) + "\n").encode()
