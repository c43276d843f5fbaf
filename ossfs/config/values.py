"""How the value of an option is written, by kind: sizes, modes, flags, seconds, endpoints.

Every reader takes the text as typed and returns the value or raises ValueError with the reason
alone; the caller adds the option's name and its legal range. No state; only a relative path asks
for the working directory.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from enum import Enum
from ipaddress import ip_address
from typing import TypeAlias
from urllib.parse import urlsplit

from ossfs.runtime.logs import SYSLOG
from ossfs.runtime.paths import absolute

Value: TypeAlias = str | int | float | bool

MIB = 1024**2
GIB = 1024**3

_UNITS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4, "P": 5}
_SIZE = re.compile(r"(\d+)\s*(?:([KMGTP])I?)?B?", re.IGNORECASE | re.ASCII)
_DURATION = re.compile(r"(\d{1,9})\s*([smhd])", re.IGNORECASE | re.ASCII)
_SECONDS_IN = {"d": 24 * 3600, "h": 3600, "m": 60, "s": 1}
_TRUE = frozenset({"true", "1", "yes", "on"})
_FALSE = frozenset({"false", "0", "no", "off"})


class Kind(Enum):
    """What sort of text an option takes; the value is the placeholder shown in help."""

    TEXT = "TEXT"
    FLAG = "true|false"
    INTEGER = "N"
    SECONDS = "SECONDS"
    MILLISECONDS = "MS"
    SIZE = "SIZE"
    RATIO = "SHARE"
    MODE = "OCTAL"
    PATH = "PATH"
    LOG = "DIR"
    ENDPOINT = "URL"
    PROXY = "PROXY"
    ADDRESSES = "ADDRESS,..."
    CHOICE = "WORD"


def read_flag(text: str) -> bool:
    """Read a flag; the bare name of one is passed here as "true"."""
    word = text.strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ValueError("not true or false")


def read_integer(text: str) -> int:
    if not re.fullmatch(r"[+-]?\d+", text.strip(), re.ASCII):
        raise ValueError("not a whole number")
    return int(text)


def read_seconds(text: str) -> float:
    if not re.fullmatch(r"[+-]?(\d+(\.\d*)?|\.\d+)", text.strip(), re.ASCII):
        raise ValueError("not a number of seconds")
    return float(text)


def read_ratio(text: str) -> float:
    if not re.fullmatch(r"\d*\.?\d+", text.strip(), re.ASCII):
        raise ValueError("not a number")
    return float(text)


def read_size(text: str) -> int:
    """Read bytes: `8388608`, `8M`, `8MB`, `8MiB` are the same, as in ossfs 2.0 (1024-based)."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError("not a size")
    return int(match[1]) * int(1024 ** _UNITS[(match[2] or "").upper()])


def show_size(size: int) -> str:
    """Write a size in the largest unit that divides it, in the form `read_size` takes."""
    for letter, power in (("P", 5), ("T", 4), ("G", 3), ("M", 2), ("K", 1)):
        if size and size % 1024**power == 0:
            return f"{size // 1024**power}{letter}"
    return str(size)


def read_duration(text: str) -> int:
    """Read seconds: `90s`, `30m`, `24h`, `7d`; only 0 needs no unit."""
    text = text.strip()
    if text == "0":
        return 0
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError("not a duration")
    return int(match[1]) * _SECONDS_IN[match[2].lower()]


def show_duration(seconds: int) -> str:
    """Write a duration in its two largest units, as `1d 4h`; what is less is left out."""
    parts: list[str] = []
    for letter, size in _SECONDS_IN.items():
        count, seconds = divmod(seconds, size)
        if count or parts or letter == "s":
            parts.append(f"{count}{letter}")
        if len(parts) == 2:
            break
    return " ".join(parts)


def read_mode(text: str) -> int:
    if not re.fullmatch(r"[0-7]{1,4}", text.strip(), re.ASCII):
        raise ValueError("not an octal mode")
    return int(text, 8)


def read_path(text: str) -> str:
    """Return the absolute path: the serving process has another working directory."""
    if not text:
        raise ValueError("empty path")
    if "\0" in text:
        raise ValueError("a path cannot hold a NUL byte")
    return os.path.normpath(absolute(os.path.expanduser(text)))


def read_log(text: str) -> str:
    """Return the directory of the log, or SYSLOG."""
    return SYSLOG if text.strip() == SYSLOG else read_path(text)


def read_endpoint(text: str) -> str:
    """Normalise to scheme://host[:port]; https where no scheme is given."""
    text = text.strip()
    if not text:
        return ""
    if "@" in text:
        raise ValueError("an endpoint holds no user name or password")
    if "://" not in text:
        text = "https://" + text
    parts = urlsplit(text)
    if parts.scheme.lower() not in ("http", "https"):
        raise ValueError("neither http:// nor https://")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError("an endpoint has no path: the bucket goes into oss://BUCKET")
    try:
        given_port = parts.port
    except ValueError:
        given_port = 0  # the reason would quote it
    if given_port == 0:
        raise ValueError("the port is no number from 1 to 65535")
    host = parts.hostname
    if not host or not re.fullmatch(r"[0-9A-Za-z._:-]+", host):
        raise ValueError("no host name")
    shown = f"[{host}]" if ":" in host else host
    port = f":{given_port}" if given_port is not None else ""
    return f"{parts.scheme.lower()}://{shown}{port}"


def read_proxy(text: str) -> str:
    """Normalise to http://[USER:PASSWORD@]HOST:PORT; the reason never quotes it."""
    text = text.strip()
    if not text:
        return ""
    parts = urlsplit(text if "://" in text else f"http://{text}")
    try:
        port = parts.port or 3128
    except ValueError:
        raise ValueError("the port is no number from 1 to 65535") from None
    if parts.scheme.lower() != "http" or not parts.hostname or parts.path.strip("/"):
        raise ValueError("not http://[USER:PASSWORD@]HOST[:PORT]")
    before, at, _ = parts.netloc.rpartition("@")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"http://{before}{at}{host}:{port}"


def read_addresses(text: str) -> str:
    """Return local addresses, IPv4 or IPv6, with commas between them."""
    found = [word for word in re.split(r"[\s,;]+", text.strip()) if word]
    for word in found:
        try:
            ip_address(word)
        except ValueError:
            raise ValueError(f"{word} is no IP address") from None
    return ",".join(found)


READERS: dict[Kind, Callable[[str], Value]] = {
    Kind.TEXT: str.strip,
    Kind.FLAG: read_flag,
    Kind.INTEGER: read_integer,
    Kind.SECONDS: read_seconds,
    Kind.MILLISECONDS: read_integer,
    Kind.SIZE: read_size,
    Kind.RATIO: read_ratio,
    Kind.MODE: read_mode,
    Kind.PATH: read_path,
    Kind.LOG: read_log,
    Kind.ENDPOINT: read_endpoint,
    Kind.PROXY: read_proxy,
    Kind.ADDRESSES: read_addresses,
    Kind.CHOICE: lambda text: text.strip().lower(),
}
