"""The calls on buckets: listings, deletion of many objects, and what SDKs ask about a bucket."""

from __future__ import annotations

import base64
import binascii

from ossfs.emulator.context import Context
from ossfs.emulator.faults import OssFault
from ossfs.emulator.index import Entry, Listing, successor
from ossfs.emulator.multipart import encoding_element, wants_url
from ossfs.emulator.reply import Reply
from ossfs.emulator.storage import Bucket
from ossfs.emulator.xml import child, document, iso, key_text, local, parse, text

_OWNER = "    <Owner><ID>0022012</ID><DisplayName>ossfs-emulator</DisplayName></Owner>\n"


def _contents(entries: list[Entry], encode: bool, owner: str) -> str:
    return "".join(
        f"  <Contents>\n    <Key>{key_text(key, encode)}</Key>\n"
        f"    <LastModified>{iso(mtime)}</LastModified>\n    <ETag>&quot;{etag}&quot;</ETag>\n"
        f"    <Type>{kind}</Type>\n    <Size>{size}</Size>\n"
        f"    <StorageClass>{storage_class}</StorageClass>\n{owner}  </Contents>\n"
        for key, kind, size, mtime, etag, storage_class in entries
    )


def _groups(prefixes: list[bytes], encode: bool) -> str:
    return "".join(
        f"  <CommonPrefixes>\n    <Prefix>{key_text(prefix, encode)}</Prefix>\n"
        "  </CommonPrefixes>\n"
        for prefix in prefixes
    )


def _limit(context: Context, bucket: Bucket) -> int:
    highest = bucket.limits.list_page
    return context.call.number("max-keys", min(100, highest), 1, highest)


def _element(name: str, key: bytes, encode: bool) -> str:
    return f"  <{name}>{key_text(key, encode)}</{name}>\n"


async def list_v1(context: Context) -> Reply:
    """GetBucket (ListObjects).

    A marker that is a common prefix passes over all of it, so that NextMarker can be one.
    """
    call = context.call
    encode = wants_url(context)
    bucket = context.bucket()
    limit = _limit(context, bucket)
    prefix = call.bytes_parameter("prefix")
    delimiter = call.bytes_parameter("delimiter")
    marker = call.bytes_parameter("marker")
    start = marker + b"\0" if marker else b""
    if delimiter and marker.startswith(prefix):
        cut = marker.find(delimiter, len(prefix))
        if cut >= 0 and cut + len(delimiter) == len(marker):
            start = successor(marker)
    page = bucket.page(prefix, delimiter, start, limit)
    more = page.next_start is not None
    next_marker = _element("NextMarker", page.last, encode) if more else ""
    return document(
        f"<ListBucketResult>\n  <Name>{bucket.name}</Name>\n"
        f"{_element('Prefix', prefix, encode)}{_element('Marker', marker, encode)}"
        f"  <MaxKeys>{limit}</MaxKeys>\n{_element('Delimiter', delimiter, encode)}"
        f"{encoding_element(encode)}  <IsTruncated>{str(more).lower()}</IsTruncated>\n"
        f"{next_marker}{_contents(page.entries, encode, _OWNER)}"
        f"{_groups(page.prefixes, encode)}</ListBucketResult>\n"
    )


def _token(page: Listing) -> str:
    return "" if page.next_start is None else base64.b64encode(page.next_start).decode()


def _start_of(token: str) -> bytes:
    try:
        return base64.b64decode(token, validate=True)
    except (binascii.Error, ValueError):
        raise OssFault(
            "InvalidArgument",
            "The continuation token provided is incorrect.",
            details={"ArgumentName": "continuation-token", "ArgumentValue": token},
        ) from None


async def list_v2(context: Context) -> Reply:
    """GetBucketV2 (ListObjectsV2)."""
    call = context.call
    encode = wants_url(context)
    bucket = context.bucket()
    limit = _limit(context, bucket)
    prefix = call.bytes_parameter("prefix")
    delimiter = call.bytes_parameter("delimiter")
    after = call.bytes_parameter("start-after")
    token = call.query.get("continuation-token", "")
    if token:
        start = _start_of(token)
    else:
        start = after + b"\0" if after else b""
    page = bucket.page(prefix, delimiter, start, limit)
    next_token = _token(page)
    owner = _OWNER if call.query.get("fetch-owner") == "true" else ""
    return document(
        f"<ListBucketResult>\n  <Name>{bucket.name}</Name>\n"
        f"{_element('Prefix', prefix, encode)}"
        + (_element("StartAfter", after, encode) if after else "")
        + f"  <MaxKeys>{limit}</MaxKeys>\n{_element('Delimiter', delimiter, encode)}"
        f"{encoding_element(encode)}"
        + (f"  <ContinuationToken>{text(token)}</ContinuationToken>\n" if token else "")
        + f"  <IsTruncated>{str(bool(next_token)).lower()}</IsTruncated>\n"
        + (f"  <NextContinuationToken>{next_token}</NextContinuationToken>\n" if next_token else "")
        + f"{_contents(page.entries, encode, owner)}{_groups(page.prefixes, encode)}"
        f"  <KeyCount>{len(page.entries) + len(page.prefixes)}</KeyCount>\n</ListBucketResult>\n"
    )


async def delete_many(context: Context) -> Reply:
    """DeleteMultipleObjects: Content-MD5 is required; a missing key counts as deleted."""
    call = context.call
    encode = wants_url(context)
    if not call.has("content-md5"):
        raise OssFault("MissingArgument", details={"ArgumentName": "Content-MD5"})
    data = await context.read_document()
    bucket = context.bucket()
    root = parse(data, "Delete")
    quiet = (child(root, "Quiet") or "").strip().lower() == "true"
    keys = []
    for element in root:
        if local(element) != "Object":
            continue
        name = child(element, "Key")
        if name is None:
            raise OssFault("MalformedXML")
        keys.append(name.encode())
    if not 1 <= len(keys) <= bucket.limits.delete_many:
        raise OssFault("MalformedXML")
    for key in keys:
        bucket.check_key(key)
    with bucket.batch():
        for key in keys:
            bucket.delete(key)
    shown = [] if quiet else keys
    items = "".join(
        f"  <Deleted>\n    <Key>{key_text(key, encode)}</Key>\n  </Deleted>\n" for key in shown
    )
    return document(f"<DeleteResult>\n{encoding_element(encode)}{items}</DeleteResult>\n")


async def list_buckets(context: Context) -> Reply:
    """GetService (ListBuckets), in one page."""
    region = context.service.region
    items = "".join(
        f"    <Bucket><CreationDate>{iso(bucket.created)}</CreationDate>"
        f"<ExtranetEndpoint>oss-{region}.aliyuncs.com</ExtranetEndpoint>"
        f"<IntranetEndpoint>oss-{region}-internal.aliyuncs.com</IntranetEndpoint>"
        f"<Location>oss-{region}</Location><Name>{bucket.name}</Name><Region>{region}</Region>"
        "<StorageClass>Standard</StorageClass></Bucket>\n"
        for bucket in context.service.storage.buckets()
    )
    return document(
        f"<ListAllMyBucketsResult>\n{_OWNER}  <Buckets>\n{items}  </Buckets>\n"
        "</ListAllMyBucketsResult>\n"
    )


async def put_bucket(context: Context) -> Reply:
    """PutBucket; making one's own bucket again is no error."""
    await context.read_document()
    context.service.storage.bucket(context.call.bucket, create=True)
    return Reply(200)


async def drop_bucket(context: Context) -> Reply:
    """DeleteBucket."""
    context.service.storage.drop_bucket(context.call.bucket)
    return Reply(204)


async def info(context: Context) -> Reply:
    """GetBucketInfo."""
    bucket = context.bucket()
    region = text(context.service.region)
    return document(
        "<BucketInfo>\n  <Bucket>\n"
        f"    <CreationDate>{iso(bucket.created)}</CreationDate>\n"
        f"    <ExtranetEndpoint>oss-{region}.aliyuncs.com</ExtranetEndpoint>\n"
        f"    <IntranetEndpoint>oss-{region}-internal.aliyuncs.com</IntranetEndpoint>\n"
        f"    <Location>oss-{region}</Location>\n    <Name>{bucket.name}</Name>\n"
        f"{_OWNER}    <AccessControlList><Grant>private</Grant></AccessControlList>\n"
        "    <StorageClass>Standard</StorageClass>\n"
        "    <DataRedundancyType>LRS</DataRedundancyType>\n"
        "  </Bucket>\n</BucketInfo>\n"
    )


async def location(context: Context) -> Reply:
    """GetBucketLocation."""
    context.bucket()
    region = text(context.service.region)
    return document(f"<LocationConstraint>oss-{region}</LocationConstraint>\n")


async def acl(context: Context) -> Reply:
    """GetBucketAcl."""
    context.bucket()
    return document(
        f"<AccessControlPolicy>\n{_OWNER}"
        "  <AccessControlList><Grant>private</Grant></AccessControlList>\n"
        "</AccessControlPolicy>\n"
    )
