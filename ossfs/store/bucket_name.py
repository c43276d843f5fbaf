"""What a bucket may be called, for who reads an option and for who makes an address of it.

Imports nothing of the store: the command line is judged before anything else is loaded.
"""

from __future__ import annotations

import re

_PLAIN = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
_DOTTED = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


def is_bucket_name(name: str, *, dotted: bool) -> bool:
    """Say whether a bucket can have this name; S3's may be `dotted`, OSS's may not."""
    return (_DOTTED if dotted else _PLAIN).fullmatch(name) is not None


def legal_bucket_name(*, dotted: bool) -> str:
    """Return in words what is legal."""
    return f"3 to 63 lower-case letters, digits{', dots' if dotted else ''} and hyphens"
