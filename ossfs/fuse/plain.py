"""Directory entries without a node: what `readdirplus=false` answers.

pyfuse3 answers every READDIRPLUS with nodes, each of which becomes an inode of the kernel and of
ours. The protocol lets an entry have node 0, which makes no inode but keeps the number that
readdir(3) shows; pyfuse3 sets both from `st_ino`. So the node is found in the memory of an
EntryAttributes, by a pattern, and set alone.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any, cast

from pyfuse3 import EntryAttributes

_PATTERN = 0x0123_4567_89AB_CDEF


def _node_at() -> int | None:
    """Return where the node is in an EntryAttributes; None where that cannot be told."""
    probe = EntryAttributes()
    probe.st_ino = cast(Any, _PATTERN)
    memory = ctypes.string_at(id(probe), type(probe).__basicsize__)
    pattern = _PATTERN.to_bytes(8, sys.byteorder)
    first = memory.find(pattern)
    # struct fuse_entry_param: the node, then the attributes with the number that is shown.
    if first < 0 or memory.count(pattern) != 2:
        return None
    return first


_NODE_AT = _node_at()


def possible() -> bool:
    """Say whether this pyfuse3's entries can be without a node."""
    return _NODE_AT is not None


def take_node(entry: EntryAttributes) -> None:
    """Let an entry have no node; to be called after each setting of its st_ino."""
    assert _NODE_AT is not None
    ctypes.c_uint64.from_address(id(entry) + _NODE_AT).value = 0
