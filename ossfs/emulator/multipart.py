"""The calls on multipart uploads."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace

from ossfs.emulator import uploads
from ossfs.emulator.context import Context
from ossfs.emulator.faults import OssFault
from ossfs.emulator.objects import check_readable, copy_source, lines
from ossfs.emulator.records import Upload
from ossfs.emulator.reply import Reply
from ossfs.emulator.request import natural
from ossfs.emulator.storage import Bucket
from ossfs.emulator.uploads import NamedPart
from ossfs.emulator.xml import child, document, iso, key_text, local, parse, text

_COPY_RANGE = re.compile(r"bytes=([0-9]+)-([0-9]+)")


def wants_url(context: Context) -> bool:
    """Tell whether keys in the answer are to be URL-encoded; raises InvalidArgument."""
    encoding = context.call.query.get("encoding-type", "")
    if encoding not in ("", "url"):
        raise OssFault(
            "InvalidArgument",
            "Invalid Encoding Method specified in Request.",
            details={"ArgumentName": "encoding-type", "ArgumentValue": encoding},
        )
    return encoding == "url"


def encoding_element(encode: bool) -> str:
    return "  <EncodingType>url</EncodingType>\n" if encode else ""


def _upload(context: Context) -> tuple[Bucket, Upload]:
    bucket = context.bucket()
    return bucket, uploads.find(bucket, context.call.key, context.call.query["uploadId"])


async def initiate(context: Context) -> Reply:
    """InitiateMultipartUpload."""
    call = context.call
    encode = wants_url(context)
    bucket = context.bucket()
    forbid = call.flag("x-oss-forbid-overwrite")
    bucket.check_free(call.key, forbid)
    upload = uploads.begin(bucket, call.key, context.metadata(bucket), forbid)
    return document(
        f"<InitiateMultipartUploadResult>\n{encoding_element(encode)}"
        f"  <Bucket>{bucket.name}</Bucket>\n"
        f"  <Key>{key_text(call.key, encode)}</Key>\n"
        f"  <UploadId>{upload.id}</UploadId>\n</InitiateMultipartUploadResult>\n"
    )


def _part_number(context: Context, bucket: Bucket) -> int:
    return context.call.number("partNumber", None, 1, bucket.limits.parts)


async def upload_part(context: Context) -> Reply:
    """UploadPart; a part of the same number is replaced."""
    bucket, upload = _upload(context)
    number = _part_number(context, bucket)
    with bucket.body(bucket.limits.maximum_part) as body:
        await context.receive(body, bucket.limits.maximum_part)
        part = uploads.put_part(bucket, upload, number, body)
    return Reply(200, lines(("ETag", f'"{part.etag}"'), ("x-oss-hash-crc64ecma", str(part.crc64))))


async def upload_part_copy(context: Context) -> Reply:
    """UploadPartCopy; a range that is no range copies the whole source, as OSS documents."""
    bucket, upload = _upload(context)
    number = _part_number(context, bucket)
    if not context.call.header("x-oss-copy-source").startswith("/"):
        raise OssFault(
            "InvalidArgument",
            "Copy Source must begin with a slash: /sourcebucket/sourcekey.",
            ec="0042-00000301",
            details={"ArgumentName": "x-oss-copy-source"},
        )
    source, link = copy_source(context)
    record = source.resolve(link)
    check_readable(record)
    start, size = 0, record.size
    match = _COPY_RANGE.fullmatch(context.call.header("x-oss-copy-source-range"))
    if match is not None and natural(match[1]) <= natural(match[2]):
        start, end = natural(match[1]), natural(match[2])
        if end >= record.size:
            raise OssFault("InvalidRange", details={"ActualObjectSize": str(record.size)})
        size = end - start + 1
    if size > bucket.limits.maximum_part:
        raise OssFault("EntityTooLarge")
    part = uploads.copied_part(bucket, number, source, record, start, size)
    with bucket.files.lease():
        crc = await asyncio.to_thread(uploads.crc_of, bucket, part.segments)
        part = uploads.store_part(bucket, upload, replace(part, crc64=crc))
    return document(
        f"<CopyPartResult>\n  <LastModified>{iso(part.mtime)}</LastModified>\n"
        f"  <ETag>&quot;{part.etag}&quot;</ETag>\n</CopyPartResult>\n",
        lines(("ETag", f'"{part.etag}"'), ("x-oss-hash-crc64ecma", str(part.crc64))),
    )


def _named_parts(data: bytes) -> list[NamedPart]:
    root = parse(data, "CompleteMultipartUpload")
    parts = []
    for element in root:
        number, etag = child(element, "PartNumber"), child(element, "ETag")
        if local(element) != "Part" or number is None or etag is None:
            raise OssFault("MalformedXML")
        if not re.fullmatch(r"[0-9]+", number):
            raise OssFault("MalformedXML")
        parts.append(NamedPart(natural(number), etag.strip().strip('"')))
    if not parts:
        raise OssFault("MalformedXML")
    return parts


async def complete(context: Context) -> Reply:
    """CompleteMultipartUpload; x-oss-complete-all: yes takes every part that is there."""
    call = context.call
    encode = wants_url(context)
    data = await context.read_document()
    bucket, upload = _upload(context)
    named = None
    if call.header("x-oss-complete-all").lower() != "yes":
        named = _named_parts(data)
        for part in named:
            uploads.check_number(bucket, part.number)
    elif data:
        raise OssFault("InvalidArgument", "Should not set body when x-oss-complete-all is set.")
    forbid = call.flag("x-oss-forbid-overwrite")
    record = uploads.complete(bucket, upload, named, forbid)
    return document(
        f"<CompleteMultipartUploadResult>\n{encoding_element(encode)}"
        f"  <Location>http://{text(call.host)}/{key_text(call.key, True)}</Location>\n"
        f"  <Bucket>{bucket.name}</Bucket>\n  <Key>{key_text(call.key, encode)}</Key>\n"
        f"  <ETag>&quot;{record.etag}&quot;</ETag>\n</CompleteMultipartUploadResult>\n",
        lines(("ETag", f'"{record.etag}"'), ("x-oss-hash-crc64ecma", str(record.crc64))),
    )


async def abort(context: Context) -> Reply:
    """AbortMultipartUpload."""
    bucket, upload = _upload(context)
    uploads.abort(bucket, upload)
    return Reply(204)


async def list_parts(context: Context) -> Reply:
    """ListParts."""
    call = context.call
    encode = wants_url(context)
    bucket, upload = _upload(context)
    limit = call.number("max-parts", 1_000, 1, 1_000)
    marker = call.number("part-number-marker", 0, 0, 1 << 31)
    parts = bucket.index.parts(upload.id, marker, limit + 1)
    more = len(parts) > limit
    parts = parts[:limit]
    last = parts[-1].number if parts else 0
    items = "".join(
        f"  <Part>\n    <PartNumber>{part.number}</PartNumber>\n"
        f"    <LastModified>{iso(part.mtime)}</LastModified>\n"
        f"    <ETag>&quot;{part.etag}&quot;</ETag>\n    <Size>{part.size}</Size>\n"
        f"    <HashCrc64ecma>{part.crc64}</HashCrc64ecma>\n  </Part>\n"
        for part in parts
    )
    return document(
        f"<ListPartsResult>\n{encoding_element(encode)}  <Bucket>{bucket.name}</Bucket>\n"
        f"  <Key>{key_text(call.key, encode)}</Key>\n  <UploadId>{upload.id}</UploadId>\n"
        f"  <StorageClass>{upload.metadata.storage_class}</StorageClass>\n"
        f"  <PartNumberMarker>{marker}</PartNumberMarker>\n"
        f"  <NextPartNumberMarker>{last}</NextPartNumberMarker>\n"
        f"  <MaxParts>{limit}</MaxParts>\n  <IsTruncated>{str(more).lower()}</IsTruncated>\n"
        f"{items}</ListPartsResult>\n"
    )


async def list_uploads(context: Context) -> Reply:
    """ListMultipartUploads, by key and then by upload id."""
    call = context.call
    encode = wants_url(context)
    bucket = context.bucket()
    limit = call.number("max-uploads", 1_000, 1, 1_000)
    prefix = call.bytes_parameter("prefix")
    delimiter = call.bytes_parameter("delimiter")
    marker = call.bytes_parameter("key-marker")
    id_marker = call.query.get("upload-id-marker", "") if marker else ""
    # Without an id marker a key marker excludes its own key's uploads.
    after = (marker, id_marker or "~")
    shown: list[Upload] = []
    groups: list[bytes] = []
    more = False
    last = after
    while not more:
        found = bucket.index.uploads(bucket.number, prefix, after, limit + 1)
        for upload in found:
            after = (upload.key, upload.id)
            cut = upload.key.find(delimiter, len(prefix)) if delimiter else -1
            group = upload.key[: cut + len(delimiter)] if cut >= 0 else b""
            if group and groups and groups[-1] == group:
                last = after
                continue
            if len(shown) + len(groups) == limit:
                more = True
                break
            if group:
                groups.append(group)
            else:
                shown.append(upload)
            last = after
        if len(found) <= limit:
            break
    items = "".join(
        f"  <Upload>\n    <Key>{key_text(upload.key, encode)}</Key>\n"
        f"    <UploadId>{upload.id}</UploadId>\n"
        f"    <StorageClass>{upload.metadata.storage_class}</StorageClass>\n"
        f"    <Initiated>{iso(upload.initiated)}</Initiated>\n  </Upload>\n"
        for upload in shown
    )
    items += "".join(
        f"  <CommonPrefixes>\n    <Prefix>{key_text(group, encode)}</Prefix>\n  </CommonPrefixes>\n"
        for group in groups
    )
    next_key = key_text(last[0], encode) if more else ""
    next_id = last[1] if more else ""
    return document(
        f"<ListMultipartUploadsResult>\n{encoding_element(encode)}"
        f"  <Bucket>{bucket.name}</Bucket>\n"
        f"  <KeyMarker>{key_text(marker, encode)}</KeyMarker>\n"
        f"  <UploadIdMarker>{text(id_marker)}</UploadIdMarker>\n"
        f"  <NextKeyMarker>{next_key}</NextKeyMarker>\n"
        f"  <NextUploadIdMarker>{next_id}</NextUploadIdMarker>\n"
        f"  <Delimiter>{key_text(delimiter, encode)}</Delimiter>\n"
        f"  <Prefix>{key_text(prefix, encode)}</Prefix>\n  <MaxUploads>{limit}</MaxUploads>\n"
        f"  <IsTruncated>{str(more).lower()}</IsTruncated>\n"
        f"{items}</ListMultipartUploadsResult>\n"
    )
