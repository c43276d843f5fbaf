"""What OSS's requests and replies must hold: headers out, checks in.

Pure functions over one message each; any number of threads. A check that fails
raises what the failure means for the caller: Changed, Truncated, Corrupt, or
Unavailable where the reply cannot be a sound server's.
"""

from __future__ import annotations

import re
from email.utils import parsedate_to_datetime
from functools import lru_cache

from ossfs.store.api import GetReply, PutOptions
from ossfs.store.errors import Changed, Corrupt, Invalid, NotFound, Truncated, Unavailable
from ossfs.store.listing import parse_etag
from ossfs.store.reply import Headers, Reply, natural

META = "x-oss-meta-"
_OCTETS = "application/octet-stream"
_MAXIMUM_KEY = 1_023
_MAXIMUM_METADATA = 8 * 1024
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19})")
_METADATA_NAME = re.compile(r"[A-Za-z0-9-]+")
_UNSAFE_IN_HEADER = re.compile("[\x00-\x1f\x7f]")


def checked_range(reply: Reply, offset: int, wanted: int, if_match: str | None) -> GetReply:
    """Return what a reply to a ranged GET is about, if it is exactly what was asked for."""
    return checked_head(reply.status, reply.headers, reply.length, offset, wanted, if_match)


def checked_head(
    status: int,
    headers: Headers,
    length: int | None,
    offset: int,
    wanted: int,
    if_match: str | None,
) -> GetReply:
    """Do what checked_range does from the parts of a reply; `length` is that of its body."""
    etag = headers.get("etag", "").strip('"')
    if if_match is not None and etag != if_match:
        if not etag:
            raise Unavailable("the server's reply has no ETag")
        raise Changed("the object was replaced", status=status)
    if status == 206:
        match = _CONTENT_RANGE.fullmatch(headers.get("content-range", ""))
        if match is None:
            raise Unavailable("the server's partial reply does not say which part it is")
        first, last, total = int(match[1]), int(match[2]), int(match[3])
        if first != offset or last >= total or length not in (None, last - first + 1):
            raise Unavailable("the server sends another range than was asked for")
        got = last - first + 1
    elif status == 200 and length is not None:
        if offset or length > wanted:
            raise Unavailable("the server ignores ranges: it sends the whole object")
        got = total = length
    else:
        raise Unavailable(f"the server answers a ranged GET with {status}")
    if got < wanted:
        raise Truncated(f"the object ends at {total} bytes", status=status)
    if got > wanted:
        raise Unavailable("the server sends another range than was asked for")
    return GetReply(etag, total)


def uploaded(
    key: bytes, headers: Headers, body: bytes, crc: int | None = None
) -> tuple[str, int | None]:
    """Return ETag and CRC of a new object or part; Corrupt where the CRC is not `crc`."""
    etag = headers.get("etag", "").strip('"') or parse_etag(body)
    if not etag:
        raise Unavailable("the server's reply has no ETag", key=key)
    try:
        stored = crc_of(headers)
    except ValueError:
        raise Unavailable("the server's CRC-64 is not a number", key=key) from None
    if crc is not None and stored is not None and stored != crc:
        error = Corrupt(
            f"the data arrived damaged: CRC-64 {stored}, not {crc}",
            key=key,
            request_id=headers.get("x-oss-request-id", ""),
        )
        error.etag = etag
        raise error
    return etag, stored


def crc_of(headers: Headers) -> int | None:
    text = headers.get("x-oss-hash-crc64ecma")
    return natural(text) if text is not None else None


def headers_of(key: bytes, options: PutOptions) -> dict[str, str]:
    """Return the headers that say what a new object is; Invalid where OSS would not take them."""
    headers = {"Content-Type": options.content_type or _OCTETS}
    size = 0
    for name, value in options.metadata.items():
        headers[META + name.lower()] = value
        size += len(name.encode()) + len(value.encode())
        if not _METADATA_NAME.fullmatch(name):
            raise Invalid(f"metadata cannot be named {name!r}", key=key)
    if size > _MAXIMUM_METADATA:
        raise Invalid(f"{size} bytes of metadata, over {_MAXIMUM_METADATA}", key=key)
    if options.forbid_overwrite:
        headers["x-oss-forbid-overwrite"] = "true"
    if options.storage_class is not None:
        headers["x-oss-storage-class"] = options.storage_class
    for name, value in headers.items():
        if _UNSAFE_IN_HEADER.search(value) or value != value.strip():
            raise Invalid(f"the value of {name} cannot travel in a header", key=key)
    return headers


def is_text(key: bytes) -> bool:
    try:
        key.decode()
    except UnicodeDecodeError:
        return False
    return True


def storable(key: bytes) -> None:
    """Refuse what OSS cannot hold."""
    if not 1 <= len(key) <= _MAXIMUM_KEY:
        raise Invalid(f"a key has 1 to {_MAXIMUM_KEY} bytes, not {len(key)}", key=key)
    if not is_text(key):
        raise Invalid("the key is not UTF-8", key=key)


def findable(key: bytes) -> None:
    """Say at once that what OSS cannot hold is not there."""
    if not 1 <= len(key) <= _MAXIMUM_KEY or not is_text(key):
        raise NotFound("no object can have this key", key=key)


@lru_cache(maxsize=4096)
def http_date(text: str) -> int:
    return int(parsedate_to_datetime(text).timestamp())
