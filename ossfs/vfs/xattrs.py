"""What an object tells of itself, as extended attributes. Read-only; pure functions."""

from __future__ import annotations

from collections.abc import Mapping

from ossfs.store.api import ObjectInfo

PREFIX = b"user."


def extended(info: ObjectInfo) -> Mapping[bytes, bytes]:
    """Return the attributes of the object that a full HEAD describes, by their full names."""
    shown = {
        "oss.etag": info.etag,
        "oss.storage_class": info.storage_class,
        "oss.type": info.type.value,
        **info.metadata,
    }
    if info.crc64 is not None:
        shown["oss.crc64"] = str(info.crc64)
    if info.content_type is not None:
        shown["oss.content_type"] = info.content_type
    return {
        PREFIX + name.encode(): value.encode("utf-8", "surrogateescape")
        for name, value in shown.items()
    }
