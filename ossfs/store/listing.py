"""The XML replies that we read ourselves: listings, quickly, and errors, robustly.

A listing of 1,000 keys costs oss2 11 ms with the GIL held, which is more than the
whole of the rest of a mount's work on it. `parse_page` reads the one layout that
OSS writes with a single regular expression, column by column; where anything is out
of the ordinary (another order of elements, owners with nested elements it does not
know, references, a byte it did not read) it hands the same bytes to
`parse_page_strictly`, which reads any well-formed page with expat.

S3's pages are the same but for two things (`Dialect`): a blank in a name may come as `+`, and the
continuation token is not encoded. Its servers write the elements in one of two orders.

Invariant: what the quick parser answers is what the strict one would, so a damaged
page is refused by both. The tests hold them against each other.

Pure functions; any number of threads.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote, unquote_to_bytes

from ossfs.store.api import ListEntry, ListPage
from ossfs.store.errors import Unavailable
from ossfs.store.reply import natural

# What the quick parser takes for text: ASCII that every parser reads alike. Other characters,
# references, other layouts and encodings are the strict parser's.
_PLAIN = rb"[^<>&\x00-\x1f\x7f-\xff]*"
_TEXT = rb"(" + _PLAIN + rb")"


def _layout(pattern: bytes) -> re.Pattern[bytes]:
    """Compile a pattern in which a blank stands for any white space and ... for any text."""
    return re.compile(pattern.replace(b" ", rb"[ \t\r\n]*").replace(b"...", _PLAIN))


_BEGINNING = _layout(
    rb"(?:<\?xml\x20version=\"1\.0\"(?:\x20encoding=\"(?i:utf-8)\")?\?>)? <ListBucketResult"
)
_ETAG = (
    rb"<ETag>(?:\"|&quot;|&#34;)?(?P<etag>[^<>&\"\x00-\x1f\x7f-\xff]*)(?:\"|&quot;|&#34;)?</ETag> "
)
_KEY = rb"<Key>(?P<key>" + _PLAIN + rb")</Key> "
_DATE = rb"<LastModified>(?P<date>" + _PLAIN + rb")</LastModified> "
_SIZE = rb"<Size>(?P<size>[0-9]{1,19})</Size> "
_CLASS = rb"(?:<StorageClass>(?P<class>" + _PLAIN + rb")</StorageClass> )?"
_OWNER = rb"(?:<Owner> <ID>...</ID> <DisplayName>...</DisplayName> </Owner> )?"
_KIND = rb"(?:<Type>(?P<kind>" + _PLAIN + rb")</Type> )?"
# RestoreInfo and the like: any flat element but a second entry or a late type.
_OTHERS = (
    rb"(?:<(?!Contents>|Type>)(?P<other>[A-Za-z]+)>...(?:&(?:quot|apos|amp|lt|gt);...)*"
    rb"</(?P=other)> )*"
)
# As OSS, S3 and MinIO write it; what follows the size is spelt out because the general case costs
# twice as much.
_CONTENTS = _layout(
    rb"<Contents> "
    + _KEY
    + _DATE
    + _ETAG
    + _KIND
    + _SIZE
    + _CLASS
    + _OWNER
    + _OTHERS
    + rb"</Contents>"
)
# As SeaweedFS writes it.
_CONTENTS_BY_ETAG = _layout(
    rb"<Contents> "
    + _KEY
    + _ETAG
    + _SIZE
    + _CLASS
    + _DATE
    + _KIND
    + _OWNER
    + _OTHERS
    + rb"</Contents>"
)
_BY_ETAG = re.compile(rb"</Key>[ \t\r\n]*<ETag>")
_PREFIXES = _layout(rb"<CommonPrefixes> <Prefix>" + _TEXT + rb"</Prefix> </CommonPrefixes>")
_SEPARATOR = b"\xff"  # in no key, since keys are UTF-8


class Dialect(NamedTuple):
    """What differs from one protocol's listings to another's."""

    decode: Callable[[bytes], bytes]
    """Undoes the encoding of a name, by encoding-type=url."""
    encoded_token: bool
    """The continuation token is percent-encoded too."""


def _decode_plus(text: bytes) -> bytes:
    return unquote_to_bytes(text.replace(b"+", b" "))


OSS = Dialect(unquote_to_bytes, True)
"""Both SDKs decode the token (oss2.xml_utils, alibabacloud_oss_v2.serde_utils)."""
S3 = Dialect(_decode_plus, False)
"""minio.datatypes.parse_list_objects reads it so."""


class ErrorReply(NamedTuple):
    """What an Error document says; empty strings for what it does not."""

    code: str
    message: str
    endpoint: str = ""
    """Where to send requests for this bucket instead."""
    region: str = ""
    """Where the bucket is."""


def parse_page(body: bytes, dialect: Dialect = OSS) -> ListPage:
    """Parse a ListObjectsV2 reply; Unavailable where it is none."""
    page = _parse_quickly(body, dialect)
    return page if page is not None else parse_page_strictly(body, dialect)


def _parse_quickly(body: bytes, dialect: Dialect = OSS) -> ListPage | None:
    """Return the page, or None where the reply is not laid out as the known servers do it.

    The entries are cut out of the page, and the directories; each lot leaves one mark behind. The
    small document that is left is parsed strictly, so nothing on the page has gone unread.
    """
    if not _BEGINNING.match(body) or b"<!" in body:
        return None
    contents = _CONTENTS_BY_ETAG if _BY_ETAG.search(body) else _CONTENTS
    rest, rows = _cut_out(contents, b"<Contents/>", body)
    rest, folders = _cut_out(_PREFIXES, b"<CommonPrefixes/>", rest)
    try:
        root = _document(rest, "ListBucketResult")
        if root.findtext("EncodingType") != "url":
            return None
        token = _next_token(root, encoded=dialect.encoded_token)
    except Unavailable:
        return None
    for tag, found in (("Contents", rows), ("CommonPrefixes", folders)):
        marks = 1 if found else 0
        if len(root.findall(tag)) != marks or rest.count(f"<{tag}".encode()) != marks:
            return None
    prefixes = [dialect.decode(prefix) for prefix in folders[1::2]]
    entries: list[ListEntry] = []
    if rows:
        columns = contents.groups + 1
        keys, dates, etags, types, sizes, classes = (
            rows[contents.groupindex[name] :: columns]
            for name in ("key", "date", "etag", "kind", "size", "class")
        )
        names = _decode(keys, (root.findtext("Prefix") or "").encode(), dialect)
        if len(names) != len(keys) or b"" in names:
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
                        map(_is_plain, types, classes),
                        strict=True,
                    ),
                )
            )
        except ValueError:
            return None
    return ListPage(entries, prefixes, token) if b"" not in prefixes else None


def _cut_out(pattern: re.Pattern[bytes], mark: bytes, body: bytes) -> tuple[bytes, list[bytes]]:
    """Put one `mark` where elements stand, with nothing in between them; return them split.

    Where they do not stand together nothing is cut out, and nothing returned.
    """
    pieces = pattern.split(body)
    between = pieces[:: pattern.groups + 1]
    if len(between) == 1 or b"".join(between[1:-1]).strip(b" \t\r\n"):
        return body, []
    return between[0] + mark + between[-1], pieces


def _next_token(root: ElementTree.Element, *, encoded: bool) -> str | None:
    """Return what asks for the next page, None on the last; Unavailable where that is not said.

    Half a listing, taken for a whole one, would be files gone.
    """
    truncated = root.findtext("IsTruncated")
    if truncated == "false":
        return None
    token = root.findtext("NextContinuationToken")
    if truncated != "true" or not token:
        raise Unavailable("a listing does not say how it goes on")
    try:
        return unquote(token, errors="strict") if encoded else token
    except ValueError:
        raise Unavailable("a listing's continuation token is not text") from None


def _only(body: bytes, name: bytes) -> bytes | None:
    """Return the text of the first element of that name, None where there is none."""
    opening = b"<" + name + b">"
    start = body.find(opening)
    if start < 0:
        return None
    start += len(opening)
    end = body.find(b"<", start)
    return body[start:end] if body.startswith(b"</" + name + b">", end) else None


def _decode(keys: Sequence[bytes], shared: bytes, dialect: Dialect) -> Sequence[bytes]:
    """Undo the percent-encoding of all keys; another number of them where one holds 0xFF.

    The listing's own prefix, which all keys repeat, is decoded once; what is left of a key in a
    flat directory mostly needs no decoding at all.
    """
    joined = _SEPARATOR.join(keys)
    prefix = b""
    if shared and b"%" not in shared[-2:]:
        cut = len(shared)
        rests = [key[cut:] for key in keys if key.startswith(shared)]
        if len(rests) == len(keys):
            prefix, keys = dialect.decode(shared), rests
            joined = _SEPARATOR.join(keys)
    if b"%" in joined or b"+" in joined:
        keys = dialect.decode(joined).split(_SEPARATOR)
    return [prefix + key for key in keys] if prefix else keys


def parse_page_strictly(body: bytes, dialect: Dialect = OSS) -> ListPage:
    """Parse any well-formed ListObjectsV2 reply; Unavailable where it is none."""
    root = _document(body, "ListBucketResult")
    encoded = root.findtext("EncodingType") == "url"

    def name(node: ElementTree.Element, tag: str) -> bytes:
        text = node.findtext(tag)
        if not text:
            raise ValueError("an entry without a name")
        return dialect.decode(text.encode()) if encoded else text.encode()

    try:
        entries = [
            ListEntry(
                name(node, "Key"),
                natural(node.findtext("Size") or ""),
                _seconds((node.findtext("LastModified") or "").encode()),
                (node.findtext("ETag") or "").strip('"'),
                node.findtext("Type") == "Symlink",
                _is_plain(
                    *((node.findtext(tag) or "").encode() for tag in ("Type", "StorageClass"))
                ),
            )
            for node in root.findall("Contents")
        ]
        prefixes = [name(node, "Prefix") for node in root.findall("CommonPrefixes")]
    except ValueError:
        raise Unavailable("a listing has an entry without a proper name, size or date") from None
    token = _next_token(root, encoded=encoded and dialect.encoded_token)
    return ListPage(entries, prefixes, token)


def parse_etag(body: bytes) -> str | None:
    """Return the ETag of a CopyObject, UploadPartCopy or CompleteMultipartUpload reply."""
    try:
        root = ElementTree.fromstring(body)
    except (ElementTree.ParseError, ValueError, LookupError):
        return None
    # S3 puts the elements in a namespace, and some servers do not.
    text = root.findtext("{*}ETag")
    return text.strip('"') if text else None


def parse_error(body: bytes) -> ErrorReply:
    """Return what an error reply says, nothing where it is not OSS's XML (a proxy's page)."""
    if b"<Error>" not in body and b"<Error " not in body:  # S3 may name a namespace
        return ErrorReply("", "")
    code, message, endpoint, region = (
        (_only(body, tag) or b"").decode("utf-8", "replace").strip()
        for tag in (b"Code", b"Message", b"Endpoint", b"Region")
    )
    return ErrorReply(code, _unescape(message), endpoint, region)


def _is_plain(kind: bytes | None, storage_class: bytes | None) -> bool:
    standard = not storage_class or storage_class in (b"Standard", b"STANDARD")
    return standard and kind != b"Appendable"


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
