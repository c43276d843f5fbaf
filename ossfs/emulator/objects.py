"""The calls on one object: get, head, put, append, copy, delete, symlinks, restore.

A handler takes its record once; every byte and header of the reply is that record's, whatever
happens to the key meanwhile. Between the last `await` of a handler and its commit no other
request runs, so checks made there hold.
"""

from __future__ import annotations

import base64
import re
import time
from dataclasses import replace
from urllib.parse import quote_from_bytes, unquote_to_bytes

from ossfs.emulator.context import Context
from ossfs.emulator.faults import OssFault
from ossfs.emulator.records import (
    APPENDABLE,
    FROZEN_CLASSES,
    NORMAL,
    SYMLINK,
    Metadata,
    Record,
)
from ossfs.emulator.reply import Reply, Run
from ossfs.emulator.request import Call, natural, parse_date
from ossfs.emulator.storage import Bucket
from ossfs.emulator.xml import document, http_date, iso

_RANGE = re.compile(r"bytes=([0-9]*)-([0-9]*)")
_LINE_END = re.compile("[\r\n\0]")
_RESTORED = "x-oss-restore"
OVERRIDES = {
    f"response-{name.lower()}": name
    for name in (
        "Content-Type",
        "Content-Language",
        "Expires",
        "Cache-Control",
        "Content-Disposition",
        "Content-Encoding",
    )
}


def lines(*headers: tuple[str, str]) -> bytes:
    """Write header lines; values are UTF-8 on the wire, as the SDKs send them."""
    return "".join(f"{name}: {value}\r\n" for name, value in headers).encode(
        "utf-8", "surrogateescape"
    )


def head_of(record: Record, link: Record | None = None) -> bytes:
    """Return the header lines that describe an object.

    Of a symlink, size, ETag and checksum are the target's, the rest is the link's own (OSS
    docs, HeadObject): `record` is the target, `link` the link.
    """
    if record.head is not None and link is None:
        return record.head
    own = link or record
    headers = [
        *own.metadata.headers.items(),
        ("Accept-Ranges", "bytes"),
        ("ETag", f'"{record.etag}"'),
        ("Last-Modified", http_date(max(record.mtime, own.mtime))),
        ("x-oss-object-type", own.type),
        ("x-oss-hash-crc64ecma", str(record.crc64)),
        ("x-oss-storage-class", own.metadata.storage_class),
    ]
    if record.type == NORMAL and len(record.etag) == 32:
        headers.append(("Content-MD5", base64.b64encode(bytes.fromhex(record.etag)).decode()))
    if own.type == APPENDABLE:
        headers.append(("x-oss-next-append-position", str(own.size)))
    headers += [(f"x-oss-meta-{name}", value) for name, value in own.metadata.user.items()]
    head = lines(*headers)
    if link is None:
        record.head = head
    return head


def check_conditions(call: Call, record: Record, prefix: str = "") -> None:
    """Raise PreconditionFailed or NotModified; `prefix` is x-oss-copy-source- on copies."""
    etag = f'"{record.etag}"'
    wanted = call.header(f"{prefix}if-match")
    if wanted and wanted != "*" and wanted.strip().strip('"').upper() != record.etag.upper():
        raise OssFault("PreconditionFailed", details={"Condition": "If-Match"})
    until = parse_date(call.header(f"{prefix}if-unmodified-since"))
    if until is not None and record.mtime > until:
        raise OssFault("PreconditionFailed", details={"Condition": "If-Unmodified-Since"})
    known = call.header(f"{prefix}if-none-match")
    since = parse_date(call.header(f"{prefix}if-modified-since"))
    modified = http_date(record.mtime)
    fault = OssFault("NotModified", headers=[("ETag", etag), ("Last-Modified", modified)])
    if known and known.strip().strip('"').upper() == record.etag.upper():
        raise fault
    if since is not None and record.mtime <= since:
        raise fault


def _is_restored(record: Record) -> bool:
    return _RESTORED in record.metadata.headers


def check_readable(record: Record) -> None:
    """Raise InvalidObjectState for an archived object that nobody has restored."""
    if record.metadata.storage_class in FROZEN_CLASSES and not _is_restored(record):
        raise OssFault("InvalidObjectState")


def _range(call: Call, size: int) -> tuple[int, int] | None:
    """Return (start, count) of the range to send; None for the whole object.

    OSS docs, GetObject, range behaviour: a range that is not within the object is ignored
    unless x-oss-range-behavior is standard; one that cannot be read as a range always is.
    """
    text = call.header("range")
    if not text:
        return None
    match = _RANGE.fullmatch(text.strip())
    if match is None or match[1] == match[2] == "":
        return None
    standard = call.header("x-oss-range-behavior") == "standard"
    if match[1] == "":
        start, end = size - natural(match[2]), size - 1
        outside = start == size or size == 0
        beyond = start < 0
        start = max(start, 0)
    else:
        start = natural(match[1])
        end = natural(match[2]) if match[2] else size - 1
        if match[2] and end < start:
            return None
        outside = start >= size
        beyond = end >= size
    if not standard and (outside or beyond):
        return None
    if outside:
        raise OssFault(
            "InvalidRange",
            details={"ActualObjectSize": str(size), "RangeHeader": text},
            headers=[("Content-Range", f"bytes */{size}")],
        )
    return start, min(end, size - 1) - start + 1


def _content(
    status: int, head: bytes, bucket: Bucket, record: Record, start: int, count: int
) -> Reply:
    """Answer with bytes of an object, kept from now on until they have left."""
    runs = []
    for segment in record.segments:
        if not count:
            break
        if start >= segment.size:
            start -= segment.size
            continue
        size = min(count, segment.size - start)
        runs.append(Run(bucket.files, segment.file, segment.offset + start, size))
        start = 0
        count -= size
    lease = bucket.files.lease(run.file for run in runs)
    return Reply(status, head, runs=runs, lease=lease)


async def get(context: Context) -> Reply:
    """GetObject."""
    call = context.call
    bucket = context.bucket()
    own = bucket.get(call.key)
    record = bucket.resolve(own)
    check_conditions(call, record)
    check_readable(record)
    head = head_of(record) if own is record else head_of(record, own)
    if call.query:
        head = _override(call, head)
    chosen = _range(call, record.size)
    if chosen is None:
        return _content(200, head, bucket, record, 0, record.size)
    start, count = chosen
    head += b"Content-Range: bytes %d-%d/%d\r\n" % (start, start + count - 1, record.size)
    return _content(206, head, bucket, record, start, count)


def _override(call: Call, head: bytes) -> bytes:
    for parameter, name in OVERRIDES.items():
        if parameter in call.query:
            if _LINE_END.search(call.query[parameter]):
                raise OssFault("InvalidArgument", details={"ArgumentName": parameter})
            kept = [
                line
                for line in head.splitlines(keepends=True)
                if not line.lower().startswith(name.lower().encode() + b":")
            ]
            head = b"".join(kept) + lines((name, call.query[parameter]))
    return head


async def head(context: Context) -> Reply:
    """HeadObject."""
    bucket = context.bucket()
    own = bucket.get(context.call.key)
    record = bucket.resolve(own)
    check_conditions(context.call, record)
    lines_ = head_of(record) if own is record else head_of(record, own)
    return Reply(200, lines_, length=record.size)


async def object_meta(context: Context) -> Reply:
    """GetObjectMeta: ETag, size and time only; of a symlink, the link's own. No conditions."""
    record = context.bucket().get(context.call.key)
    return Reply(
        200,
        lines(
            ("ETag", f'"{record.etag}"'),
            ("Last-Modified", http_date(record.mtime)),
            ("x-oss-hash-crc64ecma", str(record.crc64)),
        ),
        length=record.size,
    )


def _made(record: Record) -> bytes:
    return lines(("ETag", f'"{record.etag}"'), ("x-oss-hash-crc64ecma", str(record.crc64)))


async def put(context: Context) -> Reply:
    """PutObject; a key that ends in a slash is an object like any other."""
    call = context.call
    bucket = context.bucket()
    metadata = context.metadata(bucket)
    forbid = call.flag("x-oss-forbid-overwrite")
    bucket.check_free(call.key, forbid)
    with bucket.body(bucket.limits.put) as body:
        await context.receive(body, bucket.limits.put)
        bucket.check_free(call.key, forbid)
        record = bucket.put(call.key, body, metadata)
    made = _made(record)
    if body.md5 is not None:
        made += lines(("Content-MD5", base64.b64encode(body.md5).decode()))
    return Reply(200, made)


async def append(context: Context) -> Reply:
    """AppendObject."""
    call = context.call
    bucket = context.bucket()
    if not call.query.get("position"):
        raise OssFault("MissingArgument", details={"ArgumentName": "position"})
    position = call.number("position", None, 0, 1 << 62)
    metadata = context.metadata(bucket)
    with bucket.body(bucket.limits.append) as body:
        await context.receive(body, bucket.limits.append)
        record = bucket.append(call.key, position, body, metadata)
    return Reply(200, _made(record) + lines(("x-oss-next-append-position", str(record.size))))


def copy_source(context: Context) -> tuple[Bucket, Record]:
    """Return the object that a copy is made of, a link as such; its conditions hold."""
    given = context.call.header_bytes("x-oss-copy-source")
    if b"?versionId=" in given:
        raise OssFault("NotImplemented", details={"Header": "x-oss-copy-source"})
    name, _, key = unquote_to_bytes(given).removeprefix(b"/").partition(b"/")
    if not key:
        raise OssFault(
            "InvalidArgument",
            "Copy Source must mention the source bucket and key: /sourcebucket/sourcekey.",
            details={"ArgumentName": "x-oss-copy-source"},
        )
    bucket = context.service.storage.bucket(name.decode("utf-8", "replace"))
    bucket.check_key(key)
    record = bucket.get(key)
    check_conditions(context.call, record, "x-oss-copy-source-")
    return bucket, record


async def copy(context: Context) -> Reply:
    """CopyObject: COPY keeps the source's metadata, REPLACE (or copying onto itself) does not.

    The class stays the source's unless another is asked for. Onto itself in its class, an
    object gets new metadata and nothing else, so an appendable one stays appendable.
    """
    call = context.call
    bucket = context.bucket()
    source, record = copy_source(context)
    check_readable(record)
    bucket.check_free(call.key, call.flag("x-oss-forbid-overwrite"))
    directive = call.header("x-oss-metadata-directive").upper() or "COPY"
    if directive not in ("COPY", "REPLACE"):
        raise OssFault("InvalidArgument", details={"ArgumentName": "x-oss-metadata-directive"})
    given = context.metadata(bucket)
    itself = source is bucket and record.key == call.key
    own = record.metadata
    storage_class = given.storage_class if call.has("x-oss-storage-class") else own.storage_class
    converts = storage_class != own.storage_class
    if (converts and record.size > bucket.limits.copy_converting) or (
        source is not bucket and record.size > bucket.limits.copy_across
    ):
        raise OssFault("EntityTooLarge", "Source object Length exceeds the maximum allowed size.")
    metadata = given if directive == "REPLACE" or itself else own
    headers = {name: text for name, text in metadata.headers.items() if name != _RESTORED}
    stays = itself and not converts
    if stays and _is_restored(record):
        headers[_RESTORED] = own.headers[_RESTORED]
    metadata = Metadata(headers, metadata.user, storage_class)
    if stays:
        made = bucket.describe(record, metadata, int(time.time()))
    else:
        made = bucket.copy(source, record, call.key, metadata)
    return document(
        f"<CopyObjectResult>\n  <ETag>&quot;{made.etag}&quot;</ETag>\n"
        f"  <LastModified>{iso(made.mtime)}</LastModified>\n</CopyObjectResult>\n",
        _made(made),
    )


async def delete(context: Context) -> Reply:
    """DeleteObject: 204 whether or not there was one."""
    bucket = context.bucket()
    bucket.delete(context.call.key)
    return Reply(204)


async def put_symlink(context: Context) -> Reply:
    """PutSymlink: the target is not looked at."""
    call = context.call
    bucket = context.bucket()
    target = unquote_to_bytes(call.header_bytes("x-oss-symlink-target"))
    if not target:
        raise OssFault("InvalidArgument", details={"ArgumentName": "x-oss-symlink-target"})
    bucket.check_key(target)
    bucket.check_free(call.key, call.flag("x-oss-forbid-overwrite"))
    record = bucket.put_symlink(call.key, target, context.metadata(bucket))
    return Reply(200, lines(("ETag", f'"{record.etag}"')))


async def get_symlink(context: Context) -> Reply:
    """GetSymlink."""
    record = context.bucket().get(context.call.key)
    if record.type != SYMLINK or record.target is None:
        raise OssFault("NotSymlink")
    return Reply(
        200,
        lines(
            ("x-oss-symlink-target", quote_from_bytes(record.target)),
            ("ETag", f'"{record.etag}"'),
            ("Last-Modified", http_date(record.mtime)),
            *((f"x-oss-meta-{name}", value) for name, value in record.metadata.user.items()),
        ),
    )


async def restore(context: Context) -> Reply:
    """RestoreObject: an archived object is readable at once; OSS takes minutes to hours."""
    await context.read_document()
    bucket = context.bucket()
    record = bucket.get(context.call.key)
    if record.metadata.storage_class not in FROZEN_CLASSES:
        raise OssFault("OperationNotSupported")
    if _is_restored(record):
        return Reply(200)
    headers = {**record.metadata.headers, _RESTORED: 'ongoing-request="false"'}
    bucket.describe(record, replace(record.metadata, headers=headers), record.mtime)
    return Reply(202)


async def get_acl(context: Context) -> Reply:
    """GetObjectAcl: every object has its bucket's."""
    context.bucket().get(context.call.key)
    return document(
        "<AccessControlPolicy><Owner><ID>0</ID><DisplayName>0</DisplayName></Owner>"
        "<AccessControlList><Grant>default</Grant></AccessControlList></AccessControlPolicy>"
    )
