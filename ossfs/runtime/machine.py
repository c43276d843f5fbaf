"""How much memory this process may use: its cgroup's limit, its own, or the machine's.

A limit may be set on any group above ours, and what /proc/self/cgroup names is the path
as the host sees it: in a container the mounted hierarchy begins further down, or at the
very group. So the path is taken relative to what is mounted, and every group from there
up to the mount is asked.

A limit of the address space (ulimit -v) is counted in what is reserved, not in what is
used, and threads reserve a lot: 8 MiB of stack, and 64 MiB for each of glibc's arenas.
"""

from __future__ import annotations

import ctypes
import os
import resource
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_FILES = {"cgroup2": "memory.max", "cgroup": "memory.limit_in_bytes"}

THREAD_BYTES = 1024**2
"""Stack of a thread where address space is limited; getaddrinfo and TLS need about an eighth."""

_M_ARENA_MAX = -8
"""See mallopt(3)."""


def physical_memory() -> int:
    """Return the machine's memory in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def cgroup_limit(proc: Path = Path("/proc/self"), root: Path = Path("/")) -> int | None:
    """Return the tightest memory limit of our cgroups in bytes, None without one.

    `root` is where the paths of `proc`'s mountinfo begin.
    """
    limits: list[int] = []
    with suppress(OSError, ValueError):
        for group in _groups(proc, root):
            # Without a limit v2 says "max", and v1 a number beyond any machine.
            with suppress(OSError, ValueError):
                limits.append(int(group.read_text()))
    return min(limits, default=None)


def address_space() -> int | None:
    """Return the limit of this process's address space (ulimit -v) in bytes, None without one."""
    soft = resource.getrlimit(resource.RLIMIT_AS)[0]
    return None if soft == resource.RLIM_INFINITY else soft


def spare_address_space() -> None:
    """Have the threads that are still to be started reserve as little as possible."""
    threading.stack_size(THREAD_BYTES)
    with suppress(AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def _groups(proc: Path, root: Path) -> Iterator[Path]:
    """Yield the limit file of each of our groups, ours first."""
    paths: dict[str, str] = {}
    for line in _lines(proc / "cgroup"):
        _, controllers, path = line.split(":", 2)
        if not controllers:
            paths["cgroup2"] = path
        elif "memory" in controllers.split(","):
            paths["cgroup"] = path
    for line in _lines(proc / "mountinfo"):
        mount, _, rest = line.partition(" - ")
        kind, _, options = rest.split(" ", 2)
        if kind not in paths or (kind == "cgroup" and "memory" not in options.split(",")):
            continue
        top, place = mount.split(" ")[3:5]
        path = paths[kind]
        # A path outside of what is mounted is another namespace's view: all we see is the mount.
        below = path.removeprefix(top.rstrip("/")) if _within(path, top) else ""
        base = root / place.lstrip("/")
        group = base / below.strip("/")
        while True:
            yield group / _FILES[kind]
            if group == base:
                break
            group = group.parent


def _lines(path: Path) -> list[str]:
    # Not splitlines(), and by any bytes: somebody's mount point may have what no text has.
    return os.fsdecode(path.read_bytes()).rstrip("\n").split("\n")


def _within(path: str, top: str) -> bool:
    return (path + "/").startswith(top.rstrip("/") + "/")
