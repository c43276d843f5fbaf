"""Paths as the caller means them."""

from __future__ import annotations

import os

from ossfs.runtime.failure import ExitStatus, UserError


def absolute(path: str) -> str:
    """Return `path` seen from the root, its `..` and links as they are; asks no file system."""
    if os.path.isabs(path):
        return path
    try:
        return os.path.join(os.getcwd(), path)
    except FileNotFoundError:
        raise UserError(
            f"{path} cannot be found: the working directory has been removed; "
            "change to another one or give the whole path",
            ExitStatus.USAGE,
        ) from None
