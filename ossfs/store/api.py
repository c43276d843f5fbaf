"""The contract between the file system and a bucket.

A `Store` is synchronous and thread-safe: every method may be called from any
number of threads at once, blocks, and finishes or fails by its `deadline`. It
never retries and never waits between attempts; that is `store.client`'s work,
in one place. Every failure is a `store.errors.StoreError`.

Keys are bytes (UTF-8 without a leading slash) as the tree holds them. A key
that the store cannot hold (not UTF-8, empty, over 1,023 bytes) raises `Invalid`
from mutations and `NotFound` from lookups. ETags are str without their quotes.
Deadlines are absolute seconds of `time.monotonic()`.

The conformance suite in tests/store/ is this docstring as code; memory, oss
and faulty all pass it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple, Protocol, TypeAlias

Buffer: TypeAlias = bytes | bytearray | memoryview


class ObjectType(Enum):
    """OSS's x-oss-object-type."""

    NORMAL = "Normal"
    MULTIPART = "Multipart"
    APPENDABLE = "Appendable"
    SYMLINK = "Symlink"


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the layers above must ask before they rely on it."""

    minimum_part: int = 100 * 1024
    """Bytes every part but the last must have (OSS: 100 KiB; S3: 5 MiB)."""
    maximum_parts: int = 10_000
    maximum_put: int = 5 * 1024**3
    """Largest single PutObject, and AppendObject total, in bytes."""
    maximum_copy_part: int = 5 * 1024**3
    append: bool = True
    symlink: bool = True
    crc64: bool = True
    """Replies carry the CRC-64/XZ of the whole object."""
    forbid_overwrite: bool = True
    directories_linger: bool = False
    """A directory is listed for a while after its last key has gone, unless its marker, though
    there be none, is deleted too."""
    delete_many: int = 1_000
    list_page: int = 1_000
    """Largest page a listing can return."""


class ListEntry(NamedTuple):
    """One object of a listing page. A tuple, because a listing makes thousands."""

    key: bytes
    size: int
    mtime: int
    """Last-Modified, whole seconds since the epoch."""
    etag: str
    symlink: bool = False
    """Size and ETag are the link's own, not the target's."""
    plain: bool = True
    """Of class Standard and not appendable: a CopyObject keeps all that belongs to it."""


@dataclass(frozen=True, slots=True)
class ListPage:
    """One page of a listing, both sequences in ascending byte order of the key.

    So are the pages among each other, but for servers that keep keys as paths (SeaweedFS): there
    `a/` and what is below it come where `a` would, before `a-`.
    """

    entries: Sequence[ListEntry]
    prefixes: Sequence[bytes]
    """Common prefixes, each ending in the delimiter."""
    next_token: str | None
    """Pass to the next call; None when the listing is complete."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What HEAD tells."""

    size: int
    mtime: int
    etag: str
    type: ObjectType = ObjectType.NORMAL
    storage_class: str = "Standard"
    crc64: int | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    """User metadata without the x-oss-meta- prefix; empty unless asked with full=True."""
    content_type: str | None = None


class GetReply(NamedTuple):
    """What a ranged GET delivered besides its bytes."""

    etag: str
    total: int
    """Size of the whole object in bytes."""


class PutReply(NamedTuple):
    """What an upload left in the bucket."""

    etag: str
    crc64: int | None
    """CRC-64 of the whole object as the store computed it; None where it has none."""


class PartReply(NamedTuple):
    etag: str
    crc64: int | None


class UploadPart(NamedTuple):
    """One part as complete_upload names it."""

    number: int
    etag: str


class PendingUpload(NamedTuple):
    key: bytes
    upload_id: str
    initiated: int
    """Seconds since the epoch."""


class AppendReply(NamedTuple):
    next_position: int
    crc64: int | None
    etag: str


@dataclass(frozen=True, slots=True)
class PutOptions:
    """What a new object carries besides its bytes."""

    content_type: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    forbid_overwrite: bool = False
    """Fail with Exists rather than replace an object (x-oss-forbid-overwrite)."""
    storage_class: str | None = None


PLAIN = PutOptions()

MARK = "ossfs-mark"
"""User metadata that tells our own exclusive create from another client's of the same bytes."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What a mutation leaves in the bucket, to know it again when its reply is lost."""

    size: int
    """Bytes of the whole object."""
    crc64: int | None
    """Of the whole object; None where it is not known."""
    mark: str = ""
    """Value of the user metadata MARK; empty where the object carries none."""
    etag: str = ""
    """That which only these bytes can have; empty where it is not known."""


class Store(Protocol):
    """One bucket."""

    capabilities: Capabilities

    def probe(self, prefix: bytes, *, deadline: float) -> None:
        """Raise unless the bucket answers a list of one key under `prefix`."""

    def head(self, key: bytes, *, full: bool = False, deadline: float) -> ObjectInfo:
        """Describe an object; with `full`, of the kind, class and user metadata too.

        Without `full` a symlink object is described as the link itself and its type may be
        reported NORMAL (OSS's objectMeta says no more); with `full` size and ETag are the
        target's and the type is SYMLINK.
        """
        ...

    def list_page(
        self,
        prefix: bytes,
        *,
        delimiter: bytes = b"/",
        token: str | None = None,
        start_after: bytes = b"",
        max_keys: int = 1_000,
        deadline: float,
    ) -> ListPage:
        """Return keys under `prefix` after `start_after`, or the page that `token` names."""
        ...

    def get_range_into(
        self,
        key: bytes,
        offset: int,
        buffers: Sequence[memoryview],
        *,
        if_match: str | None,
        on_filled: Callable[[int], None] | None = None,
        deadline: float,
    ) -> GetReply:
        """Fill `buffers` one after another with the object's bytes from `offset`.

        `on_filled(i)` is called from the calling thread as soon as buffers[i] is full; bytes of
        a filled buffer are final, and when all are full it succeeds, however the body ends. Raises
        Changed when the object is not `if_match` any more, Truncated when it ends before the
        buffers do. After an error no buffer is touched again.
        """
        ...

    def put(
        self, key: bytes, data: Sequence[Buffer], options: PutOptions = PLAIN, *, deadline: float
    ) -> PutReply:
        """Store the concatenation of `data` as one object."""
        ...

    def create_upload(self, key: bytes, options: PutOptions = PLAIN, *, deadline: float) -> str:
        """Begin a multipart upload; return its id."""
        ...

    def upload_part(
        self, key: bytes, upload_id: str, number: int, data: Sequence[Buffer], *, deadline: float
    ) -> PartReply:
        """Upload part `number` (1 to maximum_parts), replacing an earlier one of that number."""
        ...

    def copy_part(
        self,
        key: bytes,
        upload_id: str,
        number: int,
        source: bytes,
        offset: int,
        size: int,
        *,
        if_match: str,
        deadline: float,
    ) -> PartReply:
        """Make bytes [offset, offset+size) of `source` part `number`; Changed if not `if_match`."""
        ...

    def complete_upload(
        self,
        key: bytes,
        upload_id: str,
        parts: Sequence[UploadPart],
        *,
        forbid_overwrite: bool = False,
        deadline: float,
    ) -> PutReply:
        """Make the parts, in ascending order, the object."""
        ...

    def abort_upload(self, key: bytes, upload_id: str, *, deadline: float) -> None:
        """Drop an upload and its parts; an upload that is gone already is no error."""
        ...

    def list_uploads(self, prefix: bytes, *, deadline: float) -> Sequence[PendingUpload]:
        """Return every upload in progress under `prefix`, all pages."""
        ...

    def append(
        self,
        key: bytes,
        position: int,
        data: Sequence[Buffer],
        options: PutOptions = PLAIN,
        *,
        deadline: float,
    ) -> AppendReply:
        """Append to an appendable object; PositionConflict when it is not `position` long."""
        ...

    def copy(
        self,
        source: bytes,
        target: bytes,
        *,
        if_match: str | None = None,
        options: PutOptions | None = None,
        deadline: float,
    ) -> PutReply:
        """Copy an object within the bucket; `options` replaces its metadata, None keeps it."""
        ...

    def delete(self, key: bytes, *, deadline: float) -> None:
        """Remove an object; a missing one is no error."""
        ...

    def delete_many(self, keys: Sequence[bytes], *, deadline: float) -> None:
        """Remove up to capabilities.delete_many objects; missing ones are no error."""
        ...

    def put_symlink(self, key: bytes, target: bytes, *, deadline: float) -> None:
        """Make `key` a symlink object that names the key `target`."""
        ...

    def get_symlink(self, key: bytes, *, deadline: float) -> bytes:
        """Return the key that the symlink object `key` names."""
        ...

    def close(self) -> None:
        """Drop idle connections; calls under way may fail."""
