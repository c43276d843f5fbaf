"""What requests and replies must hold, in OSS's words or in S3's: headers out, checks in.

Pure functions over one message each; any number of threads. A check that fails
raises what the failure means for the caller: Changed, Truncated, Corrupt, or
Unavailable where the reply cannot be a sound server's.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import NamedTuple

from ossfs.store.api import GetReply, PutOptions, UploadPart
from ossfs.store.errors import Changed, Corrupt, Invalid, NotFound, Truncated, Unavailable
from ossfs.store.listing import parse_etag
from ossfs.store.reply import Headers, Reply, natural


class Words(NamedTuple):
    """How one protocol calls what both have."""

    meta: str
    """Begins the header of each piece of user metadata."""
    storage_class: str
    standard: str
    """Its value for what `api` calls Standard."""
    exclusive: tuple[str, str]
    """The header by which an upload replaces nothing, and its value."""


OSS = Words("x-oss-meta-", "x-oss-storage-class", "Standard", ("x-oss-forbid-overwrite", "true"))
S3 = Words("x-amz-meta-", "x-amz-storage-class", "STANDARD", ("if-none-match", "*"))

_MD5 = re.compile("[0-9a-f]{32}")
_OCTETS = "application/octet-stream"
_MAXIMUM_KEY = 1_023
_MAXIMUM_METADATA = 8 * 1024
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19})")
_METADATA_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
"""What a header's name may hold (RFC 9110, 5.6.2): what other programs have stored goes back."""
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


def etag_of(key: bytes, headers: Headers, body: bytes) -> str:
    """Return the ETag of a new object or part, from its header or, where it has none, the body."""
    etag = headers.get("etag", "").strip('"') or parse_etag(body)
    if not etag:
        raise Unavailable("the server's reply has no ETag", key=key)
    return etag


def uploaded(
    key: bytes, headers: Headers, body: bytes, crc: int | None = None
) -> tuple[str, int | None]:
    """Return ETag and CRC of a new object or part; Corrupt where the CRC is not `crc`."""
    etag = etag_of(key, headers, body)
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


def etag_of_parts(parts: Sequence[UploadPart]) -> str:
    """Return the ETag that S3 gives to an object of these parts: their MD5s' MD5, and their number.

    Empty where a part's ETag is no MD5.
    """
    if not all(_MD5.fullmatch(part.etag) for part in parts):
        return ""
    joined = b"".join(bytes.fromhex(part.etag) for part in parts)
    return f"{hashlib.md5(joined, usedforsecurity=False).hexdigest()}-{len(parts)}"


def crc_of(headers: Headers) -> int | None:
    text = headers.get("x-oss-hash-crc64ecma")
    return natural(text) if text is not None else None


def headers_of(key: bytes, options: PutOptions, words: Words) -> dict[str, str]:
    """Return the headers that say what a new object is; Invalid where no store would take them."""
    headers = {"Content-Type": options.content_type or _OCTETS}
    size = 0
    for name, value in options.metadata.items():
        headers[words.meta + name.lower()] = value
        size += len(name.encode()) + len(_sent(value))
        if not _METADATA_NAME.fullmatch(name):
            raise Invalid(f"metadata cannot be named {name!r}", key=key)
    if size > _MAXIMUM_METADATA:
        raise Invalid(f"{size} bytes of metadata, over {_MAXIMUM_METADATA}", key=key)
    if options.forbid_overwrite:
        name, value = words.exclusive
        headers[name] = value
    if options.storage_class is not None:
        standard = options.storage_class == OSS.standard
        headers[words.storage_class] = words.standard if standard else options.storage_class
    for name, value in headers.items():
        if _UNSAFE_IN_HEADER.search(value) or value != value.strip():
            raise Invalid(f"the value of {name} cannot travel in a header", key=key)
    return headers


def pairs_of(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Return headers as they are signed and sent."""
    return [(name.lower().encode(), _sent(value)) for name, value in headers.items()]


def _sent(value: str) -> bytes:
    """Return a header's value as it travels; one in another encoding goes back as it came."""
    return value.encode("utf-8", "surrogateescape")


def metadata_in(headers: Headers, words: Words) -> dict[str, str]:
    """Return the user metadata that the headers of a reply hold."""
    return {
        name.removeprefix(words.meta): value
        for name, value in headers.items()
        if name.startswith(words.meta)
    }


def range_lines(offset: int, size: int, if_match: str | None) -> bytes:
    """Return the header lines that ask for a range, of one version where `if_match` names it."""
    lines = b"Range: bytes=%d-%d\r\n" % (offset, offset + size - 1)
    if if_match is not None:
        lines += b'If-Match: "%b"\r\n' % if_match.encode()
    return lines


def is_text(key: bytes) -> bool:
    try:
        key.decode()
    except UnicodeDecodeError:
        return False
    return True


def storable(key: bytes) -> None:
    """Refuse what no store can hold."""
    if not 1 <= len(key) <= _MAXIMUM_KEY:
        raise Invalid(f"a key has 1 to {_MAXIMUM_KEY} bytes, not {len(key)}", key=key)
    if not is_text(key):
        raise Invalid("the key is not UTF-8", key=key)


def findable(key: bytes) -> None:
    """Say at once that what no store can hold is not there."""
    if not 1 <= len(key) <= _MAXIMUM_KEY or not is_text(key):
        raise NotFound("no object can have this key", key=key)


@lru_cache(maxsize=4096)
def http_date(text: str) -> int:
    return int(parsedate_to_datetime(text).timestamp())
