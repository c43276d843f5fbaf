"""A request as OSS reads it: which bucket and key, by path or by host name, and its headers.

Made once a request and read by everything else. Keys are taken from the request line as it was
sent: nothing between the socket and here may decode or tidy a path such as `a//../b`. Bytes
that are not UTF-8 are kept as surrogates, since signatures cover what was sent; after the
signature, they are refused where text is wanted.
"""

from __future__ import annotations

import re
from email.utils import parsedate_to_datetime
from urllib.parse import unquote_to_bytes

from aiohttp import web

from ossfs.emulator.faults import OssFault

_ENDPOINT = re.compile(r"oss[.-]")
_ADDRESS = re.compile(r"[0-9.]+|\[.*\]|localhost")


def natural(digits: str) -> int:
    """Read ASCII digits, be they thousands, which `int` refuses: 20 are more than any size."""
    return int(digits.lstrip("0")[:20] or "0")


def parse_date(text: str) -> float | None:
    """Return the time that a header names, in seconds since the epoch; None for no date."""
    if not text:
        return None
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, OverflowError):
        return None


def as_sent(text: str) -> bytes:
    """Return the bytes that text came as."""
    return text.encode("utf-8", "surrogateescape")


def is_utf8(text: str) -> bool:
    """Tell whether what came was UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


class Call:
    """One request."""

    __slots__ = (
        "_headers",
        "_oss",
        "_raw",
        "bucket",
        "host",
        "key",
        "method",
        "query",
        "request",
    )

    def __init__(self, request: web.BaseRequest) -> None:
        self.request = request
        self.method = request.method
        # Looked at a dozen times a request: a plain dict is six times as quick as a multidict.
        self._raw = [(name.lower(), value) for name, value in request.raw_headers]
        self._headers = {
            name.decode("latin-1"): value.decode("utf-8", "surrogateescape")
            for name, value in self._raw
        }
        self._oss: list[tuple[bytes, bytes]] | None = None
        self.host = self._headers.get("host", "")
        raw = request.raw_path
        if not raw.startswith("/"):
            # A client that takes us for a proxy sends the absolute form.
            raw = "/" + raw.partition("://")[2].partition("/")[2]
        path, _, query = raw.partition("?")
        self.query: dict[str, str] = _parse_query(query) if query else {}
        """Parameters, decoded; one without a value has an empty one."""
        name = _host_bucket(self.host)
        if name is None:
            first, _, rest = path[1:].partition("/")
            if "%" in first:
                # SDKs that quote the slash as well still separate the bucket with a plain one.
                first = unquote_to_bytes(first).decode("utf-8", "replace")
            name, path = first, rest
        else:
            path = path[1:]
        self.bucket = name.encode("utf-8", "replace").decode()
        self.key = unquote_to_bytes(path) if "%" in path else as_sent(path)

    def header(self, name: str, default: str = "") -> str:
        """Return a header by its lower-case name."""
        return self._headers.get(name, default)

    def header_bytes(self, name: str) -> bytes:
        """Return a header as it came, by its lower-case name."""
        return as_sent(self.header(name))

    def has(self, name: str) -> bool:
        return name in self._headers

    def flag(self, name: str) -> bool:
        """Tell whether a true/false header is true."""
        return self.header(name).lower() == "true"

    def oss_headers(self) -> list[tuple[bytes, bytes]]:
        """Return the x-oss- headers, lower case and sorted; values as they came."""
        if self._oss is None:
            self._oss = sorted(
                (name, value.strip()) for name, value in self._raw if name[:6] == b"x-oss-"
            )
        return self._oss

    def check_query(self) -> None:
        """Raise InvalidArgument for parameters that are not UTF-8."""
        for name, value in self.query.items():
            if not is_utf8(name) or not is_utf8(value):
                raise OssFault(
                    "InvalidArgument",
                    "Parameters must be UTF-8.",
                    details={"ArgumentName": name, "ArgumentValue": value},
                )

    def number(self, name: str, default: int | None, low: int, high: int) -> int:
        """Return a numeric query parameter; raises InvalidArgument outside [low, high].

        Without a default it must be there.
        """
        text = self.query.get(name, "")
        if not text and default is not None:
            return default
        if not re.fullmatch(r"[0-9]{1,18}", text) or not low <= int(text) <= high:
            raise OssFault(
                "InvalidArgument",
                f"Argument {name} must be an integer between {low} and {high}.",
                details={"ArgumentName": name, "ArgumentValue": text},
            )
        return int(text)

    def bytes_parameter(self, name: str) -> bytes:
        """Return a query parameter that holds a key or a part of one."""
        return as_sent(self.query.get(name, ""))


def _parse_query(text: str) -> dict[str, str]:
    query = {}
    for item in text.split("&"):
        name, _, value = item.partition("=")
        if name:
            query[_decode(name)] = _decode(value)
    return query


def _decode(text: str) -> str:
    text = text.replace("+", " ")
    if "%" not in text:
        return text
    return unquote_to_bytes(text).decode("utf-8", "surrogateescape")


def _host_bucket(host: str) -> str | None:
    """Return the bucket a host name begins with; None when the path names it.

    A name that begins like an endpoint, such as oss-cn-hangzhou.aliyuncs.com, is the service's,
    unless an endpoint comes after: a bucket's name may begin with oss- as well.
    """
    name = host.lower()
    if not name.startswith("["):
        name = name.partition(":")[0]
    first, dot, rest = name.partition(".")
    if not dot or _ADDRESS.fullmatch(name):
        return None
    if _ENDPOINT.match(name) and not _ENDPOINT.match(rest) and rest != "localhost":
        return None
    return first
