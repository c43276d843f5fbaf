"""The XML that OSS speaks: small writers, and readers that refuse what is not well-formed."""

from __future__ import annotations

import re
import time
from functools import lru_cache
from urllib.parse import quote_from_bytes
from xml.etree import ElementTree

from ossfs.emulator.faults import OssFault
from ossfs.emulator.reply import Reply

_SPECIAL = re.compile('[&<>"\x00-\x1f\x7f\ufffe\uffff]')
_NAMED = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"}

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def text(value: str) -> str:
    """Escape for XML; control characters become references, as OSS writes them."""
    if _SPECIAL.search(value) is None:
        return value
    return _SPECIAL.sub(lambda match: _NAMED.get(match[0], f"&#{ord(match[0])};"), value)


def key_text(key: bytes, encode: bool) -> str:
    """Write a key: URL-encoded where the request asked for encoding-type=url."""
    if encode:
        return quote_from_bytes(key)
    return text(key.decode("utf-8", "replace"))


@lru_cache(maxsize=4096)
def iso(seconds: int) -> str:
    """Return a time as listings write it; OSS keeps whole seconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(seconds))


@lru_cache(maxsize=4096)
def http_date(seconds: int) -> str:
    """Return a time as headers write it."""
    now = time.gmtime(seconds)
    day = _DAYS[now.tm_wday]
    month = _MONTHS[now.tm_mon - 1]
    return (
        f"{day}, {now.tm_mday:02d} {month} {now.tm_year} "
        f"{now.tm_hour:02d}:{now.tm_min:02d}:{now.tm_sec:02d} GMT"
    )


def document(body: str, headers: bytes = b"") -> Reply:
    """Answer 200 with an XML document."""
    data = f'<?xml version="1.0" encoding="UTF-8"?>\n{body}'.encode()
    return Reply(200, b"Content-Type: application/xml\r\n" + headers, data)


def parse(data: bytes, root: str) -> ElementTree.Element:
    """Read a request's document; raises MalformedXML."""
    try:
        element = ElementTree.fromstring(data)
    except (ElementTree.ParseError, LookupError, ValueError):  # the latter two: its encoding
        raise OssFault("MalformedXML") from None
    if local(element) != root:
        raise OssFault("MalformedXML")
    return element


def local(element: ElementTree.Element) -> str:
    """Return an element's name without its namespace."""
    return element.tag.rpartition("}")[2]


def child(element: ElementTree.Element, name: str) -> str | None:
    """Return the text of a child, None where there is no such child."""
    for item in element:
        if local(item) == name:
            return item.text or ""
    return None
