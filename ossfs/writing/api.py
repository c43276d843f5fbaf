"""What the file system asks of whoever writes an object, whatever the mode.

One inode that is being written has one `Writer`; the file system decides which handle may use
it. A writer knows the version in the bucket that it started from (`base`) and the bytes that
are newer. Only `complete` makes them visible to others: all of them at once, as one object whose
CRC-64 is the one computed while the bytes passed.

Everything runs on the trio loop. A writer's methods may be called by several tasks at once; it
takes care of their order (first come, first served). A method that is cancelled leaves the
writer failed rather than unsure.
"""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

from ossfs.store.api import MARK, Buffer, ObjectInfo, ObjectType, PutOptions

MTIME = "mtime"
"""User metadata that holds a time set by utimens: seconds since the epoch as a decimal number
(as rclone and ossfs 1 write it)."""
_TYPES = mimetypes.MimeTypes()
_TIME = re.compile(r"([0-9]{1,11})(?:\.([0-9]+))?")


@dataclass(frozen=True, slots=True)
class Version:
    """One version of an object in the bucket."""

    etag: str
    size: int
    """Bytes."""
    crc64: int | None
    """Of all its bytes; None where the store does not tell."""
    type: ObjectType = ObjectType.NORMAL

    @classmethod
    def of(cls, info: ObjectInfo) -> Version:
        """Return the version that a full HEAD describes."""
        return cls(info.etag, info.size, info.crc64, info.type)


@dataclass(slots=True)
class Target:
    """The object that is written; the file system keeps it true while names change."""

    key: bytes
    exclusive: bool = False
    """Nothing may be replaced (O_EXCL); a writer clears it once its object is there."""
    mtime_ns: int | None = None
    """Set by utimens, nanoseconds since the epoch; travels in user metadata."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """The user metadata of the version started from."""
    content_type: str | None = None
    """Of the version started from; None: by the name's extension."""
    storage_class: str | None = None
    mark: str = ""
    """Value of MARK, for an exclusive create."""
    replaces: str = ""
    """ETag of the object that is written anew; empty where there was none."""

    def options(self) -> PutOptions:
        """Return what the next object carries besides its bytes."""
        metadata = dict(self.metadata)
        if self.mtime_ns is not None:
            metadata[MTIME] = shown_time(self.mtime_ns)
        if self.exclusive and self.mark:
            metadata[MARK] = self.mark
        return PutOptions(
            content_type=self.content_type or content_type_of(self.key),
            metadata=metadata,
            forbid_overwrite=self.exclusive,
            storage_class=self.storage_class,
        )


class Writer(Protocol):
    """The bytes of one file that is being written."""

    target: Target
    base: Version | None
    """The version in the bucket that the bytes start from; None: there is none, or it is being
    replaced whole."""
    size: int
    """Bytes of the file as its writer sees it."""
    failure: Exception | None
    """Why nothing more can be written; raised by every later call."""
    last_write: float
    """Monotonic seconds; who was idle longest gives memory back first."""
    shared: bool
    """Whether several handles may write at once."""

    @property
    def dirty(self) -> bool:
        """Whether `complete` has anything to do."""
        ...

    async def write(self, offset: int | None, data: Buffer) -> int:
        """Take `data`, which stays the caller's; None: at the end (O_APPEND).

        Return the bytes taken: all, unless there is no room for more, as the next call says then.
        Raises FileSystemError (EINVAL for a place this mode cannot write, EFBIG, ENOSPC), with
        nothing taken, or the StoreError that made the writer fail.
        """
        ...

    async def read(self, offset: int, size: int) -> bytes | None:
        """Return bytes of the file as written so far, short only at its end.

        None: the bytes lie in the bucket alone, in `base`, pinned to its ETag; whatever had to be
        completed for that has been.
        """
        ...

    async def truncate(self, size: int) -> None:
        """Cut or extend the file; FileSystemError(EINVAL) where the mode cannot."""
        ...

    async def complete(self) -> None:
        """Return when the bucket holds all bytes written before the call, CRC-checked.

        On success `base` is the version that holds them. Sends nothing when nothing is new. On
        failure the writer has failed for good and this and every later call raises why.
        """
        ...

    async def acknowledge(self) -> None:
        """Make the bytes so far survive this process where the mode can; nothing where not."""
        ...

    def still(self) -> AbstractAsyncContextManager[None]:
        """Complete, then let nobody change the file until the block is over, for a rename.

        The block may give the writer another `target.key` and `base`.
        """
        ...

    async def discard(self) -> None:
        """The file was unlinked or replaced: send nothing any more, abort what is under way.

        Its bytes stay readable and writable for those who have it open.
        """
        ...

    async def close(self) -> None:
        """Give everything back; nobody has the file open. Aborts what was not completed."""
        ...


Completed = Callable[[Version], None]
"""Called on the loop, with nothing awaited between, when `base` has become another version."""


def content_type_of(key: bytes) -> str:
    """Return the media type that the extension of a key tells."""
    name = key.rsplit(b"/", 1)[-1].decode("utf-8", "replace")
    return _TYPES.guess_type(name, strict=False)[0] or "application/octet-stream"


def shown_time(nanoseconds: int) -> str:
    """Write a time as MTIME holds it."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return f"{seconds}.{rest:09d}".rstrip("0").rstrip(".")


def read_time(metadata: Mapping[str, str]) -> int | None:
    """Return the time in an object's user metadata in nanoseconds, None where none is sound."""
    match = _TIME.fullmatch(metadata.get(MTIME, ""))
    if match is None:
        return None
    return int(match[1]) * 1_000_000_000 + int((match[2] or "").ljust(9, "0")[:9])
