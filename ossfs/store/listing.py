"""OSS's XML replies that we read ourselves: listings, quickly, and errors, robustly.

A listing of 1,000 keys costs oss2 11 ms with the GIL held, which is more than the
whole of the rest of a mount's work on it. `parse_page` reads the one layout that
OSS writes with a single regular expression, column by column, and counts what it
found; where anything is out of the ordinary (another order of elements, owners
with nested elements it does not know, references, a count that differs) it hands
the same bytes to `parse_page_strictly`, which reads any well-formed page with
expat. Both must agree; the tests hold them against each other.

Pure functions; any number of threads.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from ossfs.store.api import ListEntry, ListPage
from ossfs.store.errors import Unavailable
from ossfs.store.reply import natural

_TEXT = rb"([^<&]*)"
_CONTENTS = re.compile(
    rb"<Contents>\s*"
    rb"<Key>" + _TEXT + rb"</Key>\s*"
    rb"<LastModified>" + _TEXT + rb"</LastModified>\s*"
    rb"<ETag>(?:\"|&quot;)?([^<&\"]*)(?:\"|&quot;)?</ETag>\s*"
    rb"(?:<Type>" + _TEXT + rb"</Type>\s*)?"
    rb"<Size>([0-9]{1,19})</Size>\s*"
    # What OSS writes next, spelt out because the general case below costs twice as much.
    rb"(?:<StorageClass>[^<]*</StorageClass>\s*)?"
    rb"(?:<Owner>\s*<ID>[^<]*</ID>\s*<DisplayName>[^<]*</DisplayName>\s*</Owner>\s*)?"
    # RestoreInfo and the like: anything but a second entry or a late type.
    rb"(?:<(?!/?(?:Contents|Type)\b)[^<>]*>[^<>]*)*"
    rb"</Contents>"
)
_PREFIXES = re.compile(rb"<CommonPrefixes>\s*<Prefix>" + _TEXT + rb"</Prefix>\s*</CommonPrefixes>")
_SEPARATOR = b"\xff"  # in no key, since keys are UTF-8


class ErrorReply(NamedTuple):
    """What an Error document says; empty strings for what it does not."""

    code: str
    message: str


def parse_page(body: bytes) -> ListPage:
    """Parse a ListObjectsV2 reply; Unavailable where it is none."""
    page = _parse_quickly(body)
    return page if page is not None else parse_page_strictly(body)


def _parse_quickly(body: bytes) -> ListPage | None:
    """Return the page, or None where the reply is not laid out as OSS does it."""
    if b"<EncodingType>url</EncodingType>" not in body or b"<!" in body:
        return None
    if not body.rstrip().endswith(b"</ListBucketResult>"):
        # Half a listing, taken for a whole one, would be files gone.
        return None
    rows = _CONTENTS.findall(body)
    prefixes = _PREFIXES.findall(body)
    if body.count(b"<Contents") != len(rows) or body.count(b"<CommonPrefixes") != len(prefixes):
        return None
    truncated = _only(body, b"IsTruncated")
    token = None
    if truncated == b"true":
        token = _only(body, b"NextContinuationToken")
        if not token or b"&" in token:
            return None
    elif truncated != b"false":
        return None
    entries: list[ListEntry] = []
    if rows:
        keys, dates, etags, types, sizes = zip(*rows, strict=True)
        names = _decode(keys, _only(body, b"Prefix"))
        if names is None or len(names) != len(rows):
            return None
        try:
            entries = list(
                map(
                    ListEntry._make,
                    zip(
                        names,
                        map(int, sizes),
                        map(_seconds, dates),
                        b"\n".join(etags).decode("ascii").split("\n"),
                        [kind == b"Symlink" for kind in types],
                        strict=True,
                    ),
                )
            )
        except ValueError:
            return None
    return ListPage(
        entries,
        [unquote_to_bytes(prefix) for prefix in prefixes],
        token.decode("utf-8", "replace") if token is not None else None,
    )


def _only(body: bytes, name: bytes) -> bytes | None:
    """Return the text of the first element of that name, None where there is none."""
    opening = b"<" + name + b">"
    start = body.find(opening)
    if start < 0:
        return None
    start += len(opening)
    end = body.find(b"<", start)
    return body[start:end] if body.startswith(b"</" + name + b">", end) else None


def _decode(keys: Sequence[bytes], shared: bytes | None) -> Sequence[bytes] | None:
    """Undo the percent-encoding of all keys; None where they hold what keys cannot.

    The listing's own prefix, which all keys repeat, is decoded once; what is left of a key in a
    flat directory mostly needs no decoding at all.
    """
    joined = _SEPARATOR.join(keys)
    if not joined.translate(None, _SEPARATOR).isascii():
        return None
    prefix = b""
    if shared and b"%" not in shared[-2:]:
        cut = len(shared)
        rests = [key[cut:] for key in keys if key.startswith(shared)]
        if len(rests) == len(keys):
            prefix, keys = unquote_to_bytes(shared), rests
            joined = _SEPARATOR.join(keys)
    if b"%" in joined:
        keys = unquote_to_bytes(joined).split(_SEPARATOR)
    return [prefix + key for key in keys] if prefix else keys


def parse_page_strictly(body: bytes) -> ListPage:
    """Parse any well-formed ListObjectsV2 reply; Unavailable where it is none."""
    root = _document(body, "ListBucketResult")
    encoded = root.findtext("EncodingType") == "url"

    def name(node: ElementTree.Element, tag: str) -> bytes:
        text = node.findtext(tag) or ""
        return unquote_to_bytes(text) if encoded else text.encode()

    try:
        entries = [
            ListEntry(
                name(node, "Key"),
                natural(node.findtext("Size") or ""),
                _seconds((node.findtext("LastModified") or "").encode()),
                (node.findtext("ETag") or "").strip('"'),
                node.findtext("Type") == "Symlink",
            )
            for node in root.findall("Contents")
        ]
    except ValueError:
        raise Unavailable("a listing has an entry without a proper size or date") from None
    token = None
    if root.findtext("IsTruncated") == "true":
        token = root.findtext("NextContinuationToken")
        if not token:
            raise Unavailable("a truncated listing has no continuation token")
    return ListPage(entries, [name(n, "Prefix") for n in root.findall("CommonPrefixes")], token)


def parse_etag(body: bytes) -> str | None:
    """Return the ETag of a CopyObject, UploadPartCopy or CompleteMultipartUpload reply."""
    try:
        root = ElementTree.fromstring(body)
    except (ElementTree.ParseError, ValueError, LookupError):
        return None
    text = root.findtext("ETag")
    return text.strip('"') if text else None


def parse_error(body: bytes) -> ErrorReply:
    """Return what an error reply says, nothing where it is not OSS's XML (a proxy's page)."""
    if b"<Error>" not in body:
        return ErrorReply("", "")
    code, message = _only(body, b"Code"), _only(body, b"Message")
    return ErrorReply(
        (code or b"").decode("utf-8", "replace").strip(),
        _unescape((message or b"").decode("utf-8", "replace").strip()),
    )


def _document(body: bytes, tag: str) -> ElementTree.Element:
    if b"<!DOCTYPE" in body:
        # No reply of OSS has one, and with it come entity bombs.
        raise Unavailable("the reply is no XML of OSS")
    try:
        root = ElementTree.fromstring(body)
    except (ElementTree.ParseError, ValueError, LookupError):
        # The latter two where it declares an encoding that nobody knows.
        raise Unavailable("the reply is not well-formed XML") from None
    for node in root.iter():
        # Some servers put their elements in a namespace.
        node.tag = node.tag.rpartition("}")[2]
    if root.tag != tag:
        raise Unavailable(f"the reply is a {root.tag}, not a {tag}")
    return root


def _unescape(text: str) -> str:
    for name, character in (("lt", "<"), ("gt", ">"), ("quot", '"'), ("apos", "'"), ("amp", "&")):
        text = text.replace(f"&{name};", character)
    return text


@lru_cache(maxsize=4096)
def _seconds(date: bytes) -> int:
    """Turn 2012-02-24T08:43:07.000Z into seconds since the epoch; ValueError if it is none."""
    when = datetime.fromisoformat(date.decode("ascii"))  # a tenth of strptime's time
    if b"T" not in date:
        raise ValueError("a date without its time")
    return int(when.replace(tzinfo=when.tzinfo or UTC).timestamp())
