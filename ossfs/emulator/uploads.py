"""Multipart uploads of a bucket: parts arrive in any order, completing makes them one object.

Completing copies no bytes: the object's segments are the parts' files. Parts that are not
named in the completion are dropped with the upload.
"""

from __future__ import annotations

import hashlib
import os
import random
import time
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from fastcrc import crc64

from ossfs.emulator.crc import combine
from ossfs.emulator.faults import OssFault
from ossfs.emulator.files import Body
from ossfs.emulator.records import MULTIPART, Metadata, Part, Record, Segment, Upload
from ossfs.emulator.storage import Bucket


class NamedPart(NamedTuple):
    """A part as a completion names it; the ETag without quotes."""

    number: int
    etag: str


def begin(bucket: Bucket, key: bytes, metadata: Metadata, forbid_overwrite: bool) -> Upload:
    """Start an upload of `key`."""
    upload_id = f"{random.getrandbits(128):032X}"
    upload = Upload(upload_id, key, int(time.time()), metadata, forbid_overwrite)
    bucket.index.add_upload(bucket.number, upload)
    return upload


def find(bucket: Bucket, key: bytes, upload_id: str) -> Upload:
    """Return an upload in progress; raises NoSuchUpload, NoSuchBucket."""
    bucket.check_there()
    upload = bucket.index.upload(bucket.number, key, upload_id)
    if upload is None:
        raise OssFault("NoSuchUpload", details={"UploadId": upload_id})
    return upload


def check_number(bucket: Bucket, number: int) -> None:
    """Raise InvalidArgument for a part number outside OSS's range."""
    if not 1 <= number <= bucket.limits.parts:
        raise OssFault(
            "InvalidArgument",
            f"Part number must be an integer between 1 and {bucket.limits.parts}, inclusive.",
            details={"ArgumentName": "partNumber", "ArgumentValue": str(number)},
        )


def put_part(bucket: Bucket, upload: Upload, number: int, body: Body) -> Part:
    """Make what came in part `number`, in place of an earlier one."""
    part = Part(number, body.size, int(time.time()), body.etag, body.crc64, body.keep())
    return store_part(bucket, upload, part)


def copied_part(
    bucket: Bucket, number: int, source: Bucket, record: Record, start: int, size: int
) -> Part:
    """Make bytes [start, start+size) of an object a part that shares its files.

    Its CRC is not known yet: see `crc_of`, which may run in another thread.
    """
    name = f"{record.etag} {start} {size}".encode()
    etag = hashlib.md5(name, usedforsecurity=False).hexdigest().upper()
    segments = bucket.files.take(source.files, _cut(record.segments, start, size))
    return Part(number, size, int(time.time()), etag, 0, segments)


def crc_of(bucket: Bucket, segments: Sequence[Segment]) -> int:
    """Read segments that nobody else can unlink and return their CRC-64."""
    crc = 0
    for segment in segments:
        fd = bucket.files.descriptor(segment.file)
        try:
            done = 0
            while done < segment.size:
                block = os.pread(fd, min(1 << 20, segment.size - done), segment.offset + done)
                crc = crc64.xz(block, crc)
                done += len(block)
        finally:
            os.close(fd)
    return crc


def store_part(bucket: Bucket, upload: Upload, part: Part) -> Part:
    """Enter a part, unless its upload has gone meanwhile (NoSuchUpload, and its files with it)."""
    if bucket.index.upload(bucket.number, upload.key, upload.id) is None:
        bucket.drop(part.segments)
    find(bucket, upload.key, upload.id)
    old = bucket.index.parts(upload.id, part.number - 1, 1)
    bucket.index.put_part(upload.id, part)
    if old and old[0].number == part.number:
        bucket.drop(old[0].segments)
    return part


def _cut(segments: Sequence[Segment], start: int, size: int) -> list[Segment]:
    """Return the segments of bytes [start, start+size)."""
    result = []
    for segment in segments:
        if size <= 0:
            break
        if start >= segment.size:
            start -= segment.size
            continue
        run = min(size, segment.size - start)
        result.append(Segment(segment.file, segment.offset + start, run))
        start = 0
        size -= run
    return result


def complete(
    bucket: Bucket,
    upload: Upload,
    named: Sequence[NamedPart] | None,
    forbid_overwrite: bool,
) -> Record:
    """Make the named parts, or all of them where None, the object."""
    stored = {part.number: part for part in bucket.index.parts(upload.id)}
    if named is None:
        chosen = list(stored.values())
    else:
        numbers = [part.number for part in named]
        if any(later <= earlier for earlier, later in pairwise(numbers)):
            raise OssFault("InvalidPartOrder")
        for number, etag in named:
            found = stored.get(number)
            if found is None or found.etag != etag.upper():
                raise OssFault(
                    "InvalidPart",
                    details={
                        "UploadId": upload.id,
                        "PartNumber": str(number),
                        "PartEtag": etag,
                    },
                )
        chosen = [stored[number] for number in numbers]
    if not chosen:
        raise OssFault("InvalidArgument", "At least one part must be given.")
    for part in chosen[:-1]:
        if part.size < bucket.limits.minimum_part:
            raise OssFault(
                "EntityTooSmall",
                details={
                    "ProposedSize": str(part.size),
                    "MinSizeAllowed": str(bucket.limits.minimum_part),
                    "PartNumber": str(part.number),
                    "ETag": part.etag,
                },
            )
    bucket.check_free(upload.key, forbid_overwrite or upload.forbid_overwrite)
    crc = 0
    digest = hashlib.md5(usedforsecurity=False)
    for part in chosen:
        crc = combine(crc, part.crc64, part.size)
        digest.update(part.etag.encode())
    record = Record(
        upload.key,
        MULTIPART,
        sum(part.size for part in chosen),
        int(time.time()),
        f"{digest.hexdigest().upper()}-{len(chosen)}",
        crc,
        upload.metadata,
        tuple(segment for part in chosen for segment in part.segments),
    )
    taken = {part.number for part in chosen}
    with bucket.batch():
        bucket.commit(record)
        bucket.index.remove_upload(bucket.number, upload)
    for number, part in stored.items():
        if number not in taken:
            bucket.drop(part.segments)
    return record


def abort(bucket: Bucket, upload: Upload) -> None:
    """Drop an upload and its parts."""
    parts = bucket.index.parts(upload.id)
    bucket.index.remove_upload(bucket.number, upload)
    for part in parts:
        bucket.drop(part.segments)
