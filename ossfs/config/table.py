"""The option table: one row an option, and everything known about it in that row.

`ossfs mount --help`, docs/OPTIONS.md, the man page, completion, parsing and validation are all made
from these rows, so an option added here exists everywhere at once. `rows` has what does something,
`compatible` what other programs have and we do not; the names other programs use stand with each.
"""

from __future__ import annotations

from collections.abc import Mapping

from ossfs.config.compatible import FOREIGN_KEYS as FOREIGN_KEYS
from ossfs.config.compatible import OF_JINDOFUSE, OF_OSSFS1, OF_OSSFS2
from ossfs.config.option import Dialect, Option
from ossfs.config.rows import ROWS

TABLE: tuple[Option, ...] = (*ROWS, *OF_OSSFS2, *OF_JINDOFUSE, *OF_OSSFS1)

BY_NAME: Mapping[str, Option] = {option.name: option for option in TABLE} | {
    alias: option for option in TABLE for names in option.names.values() for alias in names
}
"""Every accepted spelling, the dialects' included."""

_IGNORED = """
defaults auto noauto user nouser users nousers owner noowner group nogroup _netdev nofail
suid nosuid dev nodev norelatime relatime nostrictatime diratime nodiratime lazytime nolazytime
silent loud iversion noiversion nomand
"""

IGNORED_WORDS = frozenset(_IGNORED.split())
"""mount(8)'s words that change nothing here: nosuid and nodev always hold."""

KERNEL_WORDS = frozenset({"noexec", "noatime", "sync", "dirsync"})
"""mount(8)'s words that are handed to the kernel as they are."""

OPPOSITES: Mapping[str, str] = {
    "exec": "noexec",
    "atime": "noatime",
    "strictatime": "noatime",
    "async": "sync",
}
"""Words that take back one for the kernel: of two that contradict each other the last counts."""


def spelled(name: str) -> str:
    """Return an option's name as the table has it: dashes may stand for its underscores."""
    if name in BY_NAME or name.startswith(("fs.", "x-")):
        return name
    return name.replace("-", "_")


TARGETS: Mapping[Dialect, Mapping[str, str]] = {
    Dialect.JINDOFUSE: {"attr_timeout": "fuse_attr_timeout"},
}
"""Names that mean another option in a program's dialect than they do here.

JindoFuse's attr_timeout, entry_timeout and negative_timeout are the kernel's.
"""

DEFAULTS: Mapping[Dialect, Mapping[str, str]] = {
    Dialect.JINDOFUSE: {
        "fuse_attr_timeout": "60",
        "fuse_entry_timeout": "60",
        "negative_timeout": "60",
    },
}
"""Defaults that differ by dialect."""

UNITS: Mapping[str, str] = {
    "fs.oss.blocklet.size.mb": "M",
    "fs.oss.memory.pool.size.max.mb": "M",
    "fs.oss.memory.buffer.size.max.mb": "M",
    "multipart_size": "M",
    "connect_timeout": "000",
    "readwrite_timeout": "000",
}
"""What to write behind a number of another program: MiB where we take bytes, seconds where ms."""

SMALLEST = frozenset({"jindo_attr_timeout", "jindo_entry_timeout"})
"""Two names of one option: given both, the smaller counts."""
