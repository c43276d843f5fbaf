"""What the emulator knows about an object, an upload and a part: plain frozen values.

A record is immutable and so are the bytes it points at: replacing an object makes a new record
with new segments, so a reader that holds the old record keeps reading the old bytes. Appending
extends a file past what any older record's size lets a reader see.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

NORMAL = "Normal"
MULTIPART = "Multipart"
APPENDABLE = "Appendable"
SYMLINK = "Symlink"

STORAGE_CLASSES = ("Standard", "IA", "Archive", "ColdArchive", "DeepColdArchive")
FROZEN_CLASSES = ("Archive", "ColdArchive", "DeepColdArchive")
"""Classes whose objects have to be restored before they can be read."""


class Segment(NamedTuple):
    """A run of bytes in one data file."""

    file: str
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Limits:
    """OSS's limits; tests scale them down. Sizes in bytes."""

    minimum_part: int = 100 * 1024
    maximum_part: int = 5 * 1024**3
    parts: int = 10_000
    put: int = 5 * 1024**3
    append: int = 5 * 1024**3
    """Largest appendable object, all appends together."""
    copy_across: int = 5 * 1024**3
    """Largest object that CopyObject takes to another bucket."""
    copy_converting: int = 1024**3
    """Largest object that CopyObject gives another storage class."""
    delete_many: int = 1_000
    list_page: int = 1_000
    key: int = 1_023
    metadata: int = 8 * 1024
    """All x-oss-meta-* names and values of an object together."""


@dataclass(frozen=True, slots=True)
class Metadata:
    """What an object carries besides its bytes, as it was given."""

    headers: Mapping[str, str] = field(default_factory=dict)
    """Content-Type, Cache-Control and their kin, by their usual spelling."""
    user: Mapping[str, str] = field(default_factory=dict)
    """Without the x-oss-meta- prefix, lower case."""
    storage_class: str = "Standard"

    def dump(self) -> str:
        return json.dumps([dict(self.headers), dict(self.user), self.storage_class])

    @classmethod
    def load(cls, text: str) -> Metadata:
        headers, user, storage_class = json.loads(text)
        return cls(headers, user, storage_class)


PLAIN = Metadata()


@dataclass(slots=True, eq=False)
class Record:
    """One version of one object. Never changed once it is in the index."""

    key: bytes
    type: str
    size: int
    mtime: int
    """Whole seconds since the epoch, as Last-Modified tells them."""
    etag: str
    """Without quotes."""
    crc64: int
    metadata: Metadata
    segments: tuple[Segment, ...]
    target: bytes | None = None
    """The key a symlink names."""
    head: bytes | None = None
    """The reply's header lines that depend on the record alone, made by the first GET or HEAD."""


@dataclass(frozen=True, slots=True)
class Upload:
    id: str
    key: bytes
    initiated: int
    metadata: Metadata
    forbid_overwrite: bool


@dataclass(frozen=True, slots=True)
class Part:
    number: int
    size: int
    mtime: int
    etag: str
    crc64: int
    segments: tuple[Segment, ...]


def dump_segments(segments: tuple[Segment, ...]) -> str:
    """The usual single segment from the start of its file is just the file's name."""
    if len(segments) == 1 and segments[0].offset == 0:
        return f"{segments[0].file} {segments[0].size}"
    return json.dumps(segments)


def load_segments(text: str) -> tuple[Segment, ...]:
    if text.startswith("["):
        return tuple(Segment(*item) for item in json.loads(text))
    file, size = text.split(" ")
    return (Segment(file, 0, int(size)),)
