"""A whole bucket in memory: the fake that core tests run on and the model others are held to.

It is as strict as OSS where strictness has bitten people: part sizes and order, ETags that are
no MD5 after a multipart upload, times in whole seconds, append positions, symlinks that list as
themselves and read as their target, pages that skip a directory by seeking. Limits come from
`Capabilities`, so tests scale them down instead of moving gigabytes.

Invariant: stored bytes are immutable, so a read copies outside the lock and sees one version
whole; everything else happens under one lock and any number of threads may call. Deadlines are
ignored, for nothing here waits and a test's clock need not be this process's. The module is long
because a bucket's calls share that one lock and state; the order of keys lives in `store.keys`.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from fastcrc import crc64

from ossfs.store.api import (
    PLAIN,
    AppendReply,
    Buffer,
    Capabilities,
    GetReply,
    ListEntry,
    ListPage,
    ObjectInfo,
    ObjectType,
    PartReply,
    PendingUpload,
    PutOptions,
    PutReply,
    UploadPart,
)
from ossfs.store.errors import (
    Archived,
    Changed,
    Exists,
    Invalid,
    NotAppendable,
    NotFound,
    NoUpload,
    PositionConflict,
    TooLarge,
    Truncated,
)
from ossfs.store.keys import SortedKeys, just_after

_MAXIMUM_KEY = 1_023
_MAXIMUM_METADATA = 8 * 1024
_ARCHIVE_CLASSES = frozenset({"Archive", "ColdArchive", "DeepColdArchive"})


@dataclass(frozen=True, slots=True)
class _Object:
    data: bytes
    etag: str
    crc64: int
    mtime: int
    type: ObjectType
    options: PutOptions
    target: bytes | None = None
    """The key a symlink names; None for every other type."""


@dataclass(frozen=True, slots=True)
class _Part:
    data: bytes
    etag: str


@dataclass(slots=True)
class _Upload:
    key: bytes
    options: PutOptions
    initiated: int
    parts: dict[int, _Part] = field(default_factory=dict)


class MemoryStore:
    """One bucket that lives as long as this object; implements `api.Store`."""

    def __init__(
        self,
        capabilities: Capabilities | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.capabilities = capabilities if capabilities is not None else Capabilities()
        self._wall = wall
        self._lock = threading.Lock()
        self._objects: dict[bytes, _Object] = {}
        self._keys = SortedKeys()
        self._uploads: dict[str, _Upload] = {}
        self._created_uploads = 0

    # -- looking ------------------------------------------------------------------------------

    def probe(self, prefix: bytes, *, deadline: float) -> None:
        """Succeed: this bucket always exists."""

    def head(self, key: bytes, *, full: bool = False, deadline: float) -> ObjectInfo:
        with self._lock:
            entry = self._find(key)
            shown = self._follow(key, entry) if full else entry
        known_crc = self.capabilities.crc64 and shown.target is None
        crc = shown.crc64 if known_crc else None
        if not full:
            return ObjectInfo(len(shown.data), shown.mtime, shown.etag, crc64=crc)
        return ObjectInfo(
            size=len(shown.data),
            mtime=entry.mtime,
            etag=shown.etag,
            type=entry.type,
            storage_class=shown.options.storage_class or "Standard",
            crc64=crc,
            metadata=dict(entry.options.metadata),
            content_type=entry.options.content_type or "application/octet-stream",
        )

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
        if not 1 <= max_keys <= self.capabilities.list_page:
            raise Invalid(f"max_keys {max_keys} is not 1 to {self.capabilities.list_page}")
        with self._lock:
            if token is not None:
                start = _resume_point(token)
            else:
                start = just_after(start_after) if start_after else b""
            keys, prefixes, rest = self._keys.page(prefix, delimiter, start, max_keys)
            entries = [self._listed(key) for key in keys]
        return ListPage(entries, prefixes, None if rest is None else rest.hex())

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
        wanted = sum(len(buffer) for buffer in buffers)
        if offset < 0 or wanted == 0:
            raise Invalid(f"cannot read {wanted} bytes at offset {offset}", key=key)
        with self._lock:
            entry = self._follow(key, self._find(key))
        if if_match is not None and if_match != entry.etag:
            raise Changed("the object was replaced", key=key, status=412, code="PreconditionFailed")
        _refuse_archived(key, entry)
        total = len(entry.data)
        if offset >= total:
            _refuse_range(key, offset, total, if_match)
        with memoryview(entry.data) as source:
            at = offset
            for i, buffer in enumerate(buffers):
                size = len(buffer)
                if at + size > total:
                    raise Truncated(f"the object ends at {total} bytes", key=key, status=206)
                buffer[:] = source[at : at + size]
                at += size
                if on_filled is not None:
                    on_filled(i)
        return GetReply(entry.etag, total)

    def get_symlink(self, key: bytes, *, deadline: float) -> bytes:
        with self._lock:
            entry = self._find(key)
        if entry.target is None:
            raise Invalid("the object is no symlink", key=key, status=400, code="NotSymlink")
        return entry.target

    # -- writing whole objects ----------------------------------------------------------------

    def put(
        self, key: bytes, data: Sequence[Buffer], options: PutOptions = PLAIN, *, deadline: float
    ) -> PutReply:
        _check_key(key)
        _check_options(key, options)
        self._check_size(key, sum(len(piece) for piece in data), self.capabilities.maximum_put)
        content = b"".join(data)
        made = self._object(content, _md5(content), ObjectType.NORMAL, options)
        with self._lock:
            self._refuse_existing(key, options.forbid_overwrite)
            return self._commit(key, made)

    def append(
        self,
        key: bytes,
        position: int,
        data: Sequence[Buffer],
        options: PutOptions = PLAIN,
        *,
        deadline: float,
    ) -> AppendReply:
        if not self.capabilities.append:
            raise Invalid("this store has no appendable objects", key=key)
        _check_key(key)
        _check_options(key, options)
        more = b"".join(data)
        with self._lock:
            old = self._objects.get(key)
            if old is not None and old.type is not ObjectType.APPENDABLE:
                raise NotAppendable(
                    "the object is not appendable",
                    key=key,
                    status=409,
                    code="ObjectNotAppendable",
                )
            before = old.data if old is not None else b""
            if position != len(before):
                conflict = PositionConflict(
                    f"the object is {len(before)} bytes long, not {position}",
                    key=key,
                    status=409,
                    code="PositionNotEqualToLength",
                )
                conflict.next_position = len(before)
                raise conflict
            self._check_size(key, len(before) + len(more), self.capabilities.maximum_put)
            content = before + more
            made = self._object(
                content,
                _md5(content + b"appendable"),
                ObjectType.APPENDABLE,
                old.options if old is not None else options,
                crc=crc64.xz(more, old.crc64 if old is not None else 0),
            )
            reply = self._commit(key, made)
        return AppendReply(len(content), reply.crc64, reply.etag)

    def copy(
        self,
        source: bytes,
        target: bytes,
        *,
        if_match: str | None = None,
        options: PutOptions | None = None,
        deadline: float,
    ) -> PutReply:
        _check_key(target)
        if options is not None:
            _check_options(target, options)
        with self._lock:
            entry = self._find(source)
            if if_match is not None and if_match != entry.etag:
                raise Changed("the copy's source was replaced", key=source, status=412)
            _refuse_archived(source, entry)
            self._refuse_existing(target, options is not None and options.forbid_overwrite)
            kept = entry.options if options is None else options
            if entry.target is not None:
                made = self._object(
                    entry.data, entry.etag, ObjectType.SYMLINK, kept, target=entry.target
                )
            else:
                made = self._object(entry.data, _md5(entry.data), ObjectType.NORMAL, kept)
            return self._commit(target, made)

    def delete(self, key: bytes, *, deadline: float) -> None:
        _check_key(key)
        with self._lock:
            self._remove(key)

    def delete_many(self, keys: Sequence[bytes], *, deadline: float) -> None:
        if len(keys) > self.capabilities.delete_many:
            raise Invalid(
                f"{len(keys)} keys in one delete of at most {self.capabilities.delete_many}",
                status=400,
                code="MalformedXML",
            )
        for key in keys:
            _check_key(key)
        with self._lock:
            for key in keys:
                self._remove(key)

    def put_symlink(self, key: bytes, target: bytes, *, deadline: float) -> None:
        if not self.capabilities.symlink:
            raise Invalid("this store has no symlink objects", key=key)
        _check_key(key)
        _check_key(target)
        made = self._object(b"", _md5(target), ObjectType.SYMLINK, PLAIN, target=target)
        with self._lock:
            self._commit(key, made)

    # -- multipart ----------------------------------------------------------------------------

    def create_upload(self, key: bytes, options: PutOptions = PLAIN, *, deadline: float) -> str:
        _check_key(key)
        _check_options(key, options)
        with self._lock:
            self._refuse_existing(key, options.forbid_overwrite)
            self._created_uploads += 1
            upload_id = f"{self._created_uploads:032X}"
            self._uploads[upload_id] = _Upload(key, options, int(self._wall()))
        return upload_id

    def upload_part(
        self, key: bytes, upload_id: str, number: int, data: Sequence[Buffer], *, deadline: float
    ) -> PartReply:
        self._check_part_number(key, number)
        self._check_size(key, sum(len(piece) for piece in data), self.capabilities.maximum_put)
        content = b"".join(data)
        part = _Part(content, _md5(content))
        with self._lock:
            self._upload(key, upload_id).parts[number] = part
        return self._part_reply(part)

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
        self._check_part_number(key, number)
        self._check_size(key, size, self.capabilities.maximum_copy_part)
        with self._lock:
            upload = self._upload(key, upload_id)
            entry = self._follow(source, self._find(source))
            if if_match != entry.etag:
                raise Changed("the copy's source was replaced", key=source, status=412)
            _refuse_archived(source, entry)
            if offset < 0 or size <= 0 or offset + size > len(entry.data):
                raise Invalid(
                    f"range {offset}+{size} is not within {len(entry.data)} bytes",
                    key=source,
                    status=416,
                    code="InvalidRange",
                )
            content = entry.data[offset : offset + size]
            part = upload.parts[number] = _Part(content, _md5(content))
        return self._part_reply(part)

    def complete_upload(
        self,
        key: bytes,
        upload_id: str,
        parts: Sequence[UploadPart],
        *,
        forbid_overwrite: bool = False,
        deadline: float,
    ) -> PutReply:
        with self._lock:
            upload = self._upload(key, upload_id)
            chosen = self._chosen_parts(key, upload, parts)
            self._refuse_existing(key, forbid_overwrite)
            content = b"".join(part.data for part in chosen)
            digests = b"".join(bytes.fromhex(part.etag) for part in chosen)
            etag = f"{_md5(digests)}-{len(chosen)}"
            made = self._object(content, etag, ObjectType.MULTIPART, upload.options)
            del self._uploads[upload_id]
            return self._commit(key, made)

    def abort_upload(self, key: bytes, upload_id: str, *, deadline: float) -> None:
        _check_key(key)
        with self._lock:
            upload = self._uploads.get(upload_id)
            if upload is not None and upload.key == key:
                del self._uploads[upload_id]

    def list_uploads(self, prefix: bytes, *, deadline: float) -> Sequence[PendingUpload]:
        with self._lock:
            return sorted(
                PendingUpload(upload.key, upload_id, upload.initiated)
                for upload_id, upload in self._uploads.items()
                if upload.key.startswith(prefix)
            )

    def close(self) -> None:
        """Keep everything: there is no connection to drop."""

    # -- under the lock -----------------------------------------------------------------------

    def _find(self, key: bytes) -> _Object:
        entry = self._objects.get(key)
        if entry is None:
            raise NotFound("no such object", key=key, status=404, code="NoSuchKey")
        return entry

    def _follow(self, key: bytes, entry: _Object) -> _Object:
        """Return what a GET of `entry` serves: itself, or the target of a symlink."""
        if entry.target is None:
            return entry
        target = self._objects.get(entry.target)
        if target is None:
            raise NotFound("dangling symlink", key=key, status=404, code="SymlinkTargetNotExist")
        if target.target is not None:
            raise Invalid("a symlink to a symlink", key=key, status=400, code="InvalidTargetType")
        return target

    def _refuse_existing(self, key: bytes, forbidden: bool) -> None:
        if forbidden and not self.capabilities.forbid_overwrite:
            raise Invalid("this store cannot forbid overwriting", key=key)
        if forbidden and key in self._objects:
            raise Exists("the object exists", key=key, status=409, code="FileAlreadyExists")

    def _commit(self, key: bytes, made: _Object) -> PutReply:
        if key not in self._objects:
            self._keys.add(key)
        self._objects[key] = made
        return PutReply(made.etag, made.crc64 if self.capabilities.crc64 else None)

    def _remove(self, key: bytes) -> None:
        if self._objects.pop(key, None) is not None:
            self._keys.remove(key)

    def _listed(self, key: bytes) -> ListEntry:
        entry = self._objects[key]
        return ListEntry(
            key,
            len(entry.data),
            entry.mtime,
            entry.etag,
            entry.type is ObjectType.SYMLINK,
            entry.options.storage_class in (None, "Standard")
            and entry.type is not ObjectType.APPENDABLE,
        )

    def _upload(self, key: bytes, upload_id: str) -> _Upload:
        upload = self._uploads.get(upload_id)
        if upload is None or upload.key != key:
            raise NoUpload("no such upload", key=key, status=404, code="NoSuchUpload")
        return upload

    def _chosen_parts(
        self, key: bytes, upload: _Upload, parts: Sequence[UploadPart]
    ) -> list[_Part]:
        if not parts:
            raise Invalid("no parts given", key=key, status=400, code="MalformedXML")
        numbers = [part.number for part in parts]
        if any(later <= earlier for earlier, later in pairwise(numbers)):
            raise Invalid("parts out of order", key=key, status=400, code="InvalidPartOrder")
        chosen: list[_Part] = []
        for part in parts:
            held = upload.parts.get(part.number)
            if held is None or held.etag != part.etag:
                raise Invalid(
                    f"part {part.number} was not uploaded, or with another ETag",
                    key=key,
                    status=400,
                    code="InvalidPart",
                )
            chosen.append(held)
        for named, held in zip(parts[:-1], chosen, strict=False):
            if len(held.data) < self.capabilities.minimum_part:
                raise Invalid(
                    f"part {named.number} has {len(held.data)} bytes, every part but the last"
                    f" needs {self.capabilities.minimum_part}",
                    key=key,
                    status=400,
                    code="EntityTooSmall",
                )
        return chosen

    # -- anywhere -----------------------------------------------------------------------------

    def _object(
        self,
        content: bytes,
        etag: str,
        kind: ObjectType,
        options: PutOptions,
        *,
        crc: int | None = None,
        target: bytes | None = None,
    ) -> _Object:
        checksum = crc if crc is not None else crc64.xz(content)
        return _Object(content, etag, checksum, int(self._wall()), kind, options, target)

    def _part_reply(self, part: _Part) -> PartReply:
        return PartReply(part.etag, crc64.xz(part.data) if self.capabilities.crc64 else None)

    def _check_part_number(self, key: bytes, number: int) -> None:
        if not 1 <= number <= self.capabilities.maximum_parts:
            raise Invalid(
                f"part number {number} is not 1 to {self.capabilities.maximum_parts}",
                key=key,
                status=400,
                code="InvalidArgument",
            )

    def _check_size(self, key: bytes, size: int, limit: int) -> None:
        if size > limit:
            raise TooLarge(
                f"{size} bytes are over the limit of {limit}",
                key=key,
                status=400,
                code="EntityTooLarge",
            )


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest().upper()


def _check_key(key: bytes) -> None:
    """Refuse what no store can hold; lookups of such a key simply find nothing."""
    if not 1 <= len(key) <= _MAXIMUM_KEY:
        raise Invalid(f"a key has 1 to {_MAXIMUM_KEY} bytes, not {len(key)}", key=key)
    try:
        key.decode()
    except UnicodeDecodeError:
        raise Invalid("the key is not UTF-8", key=key) from None


def _check_options(key: bytes, options: PutOptions) -> None:
    size = sum(len(name) + len(value.encode()) for name, value in options.metadata.items())
    if size > _MAXIMUM_METADATA:
        raise Invalid(f"{size} bytes of metadata, over {_MAXIMUM_METADATA}", key=key, status=400)


def _refuse_archived(key: bytes, entry: _Object) -> None:
    if entry.options.storage_class in _ARCHIVE_CLASSES:
        raise Archived(
            "the object is archived and must be restored before it can be read",
            key=key,
            status=403,
            code="InvalidObjectState",
        )


def _refuse_range(key: bytes, offset: int, total: int, if_match: str | None) -> None:
    """Answer a range that starts past the end: OSS says 416 InvalidRange."""
    message = f"offset {offset} is past the end, {total} bytes"
    if if_match is not None:
        raise Changed(message, key=key, status=416, code="InvalidRange")
    raise Invalid(message, key=key, status=416, code="InvalidRange")


def _resume_point(token: str) -> bytes:
    try:
        return bytes.fromhex(token)
    except ValueError:
        raise Invalid("not a token of this store", status=400, code="InvalidArgument") from None
