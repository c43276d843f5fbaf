"""Mount points by their true names, who serves and who uses a mount, and waiting for a server.

/proc is asked afresh each time; there are no pid files that could lie. A serving process carries
the device number of its mount as its name (see `fuse.session`), so it is known among others on
the same path: one of a mount detached earlier, one of another mount namespace, a stranger's.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from ossfs.runtime.bounded import PATIENCE_S, within
from ossfs.runtime.failure import ExitStatus, UserError
from ossfs.runtime.mount_table import Mount, detach, mount_at, server_name, table
from ossfs.runtime.paths import absolute

__all__ = [
    "Departure",
    "canonical",
    "detach",
    "holding",
    "hung",
    "is_stopped",
    "mount_at",
    "servers_of",
    "sights_of",
    "users_of",
]

SERVING_MODULE = "ossfs.cli.serve"
_LOOK_S = 0.05
_MOST_LINKS = 40
"""Symbolic links on one path; the kernel follows no more either."""


def canonical(path: str) -> str:
    """Resolve symbolic links as the mount table has them, asking no mount about its own root.

    So the name of a mount that hangs, or that this user may not look into, is found as well.
    """
    if not path:  # a script's variable that is not set; it would be the working directory
        raise UserError("the path is empty; name a directory", ExitStatus.USAGE)
    path = absolute(path)
    points = frozenset(mount.point for mount in table())
    try:
        return within(PATIENCE_S, lambda: _resolve(path, points))
    except TimeoutError:
        raise hung(path) from None


def holding(place: str) -> Mount | None:
    """Return the mount that a canonical path lies on."""
    point = max(
        (mount.point for mount in table() if f"{place}/".startswith(mount.point.rstrip("/") + "/")),
        key=len,
        default="/",
    )
    return mount_at(point)


def hung(path: str) -> UserError:
    """Say that a path does not answer and, if it can be seen, which mount does not."""
    where = "it leads into a file system that hangs"
    for mount in table():
        if f"{path}/".startswith(f"{mount.point}/") and _may_hang(mount):
            tool = "ossfs umount -l" if mount.ours else "umount -l"
            place = "there" if mount.point == path else f"on {mount.point}"
            where = f"the mount {place} hangs; detach it with {tool} {mount.point}"
    return UserError(f"{path} does not answer: {where}", ExitStatus.MOUNTPOINT)


def _may_hang(mount: Mount) -> bool:
    return mount.fuse or mount.fstype.startswith(("nfs", "cifs", "ceph", "lustre"))


def _resolve(path: str, points: frozenset[str]) -> str:
    done, links = "/", 0
    rest = path.split("/")[::-1]
    while rest:
        name = rest.pop()
        if name in ("", "."):
            continue
        here = os.path.dirname(done) if name == ".." else os.path.join(done, name)
        target = ""
        if name != ".." and here not in points and links < _MOST_LINKS:
            with suppress(OSError):  # it is no link, or whoever uses the path will say why not
                target = os.readlink(here)
        if not target:
            done = here
            continue
        links += 1
        if target.startswith("/"):
            done = "/"
        rest.extend(target.split("/")[::-1])
    return done


def servers_of(mount: Mount) -> list[int]:
    """Return the process that serves this very mount, if it can be seen from here.

    A device number is given anew as soon as its mount is gone, which is a moment before the process
    is: so of several by that name it is the youngest.
    """
    found = []
    for pid in _servers():
        with suppress(OSError):
            # Anyone can have that name; only the owner's process can be the server.
            owner = os.stat(f"/proc/{pid}").st_uid
            if _name_of(pid) == server_name(mount.device) and mount.owner == owner:
                found.append((_start_of(pid), pid))
    return [pid for _, pid in sorted(found)[-1:]]


def _servers() -> Iterator[int]:
    """Give every process that serves a mount, as its command line has it."""
    for pid in _pids():
        with suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
            if SERVING_MODULE.encode() in file.read().split(b"\0"):
                yield pid


def _name_of(pid: int) -> str:
    with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
        return file.read().rstrip("\n")


@dataclass(frozen=True, slots=True)
class Sight:
    """A mount as one mount namespace has it."""

    namespace: str
    mount: Mount


def sights_of(device: str) -> frozenset[Sight]:
    """Return every mount of a device in every namespace that this user may look into.

    One FUSE connection can be mounted in several places: bind mounts, copies in the namespaces
    of containers. Its server ends with the last of them.
    """
    seen: set[str] = set()
    found = []
    for pid in _pids():
        with suppress(OSError):
            namespace = os.readlink(f"/proc/{pid}/ns/mnt")
            if namespace not in seen:
                mounts = table(f"/proc/{pid}/mountinfo")
                found += [Sight(namespace, mount) for mount in mounts if mount.device == device]
                seen.add(namespace)
    return frozenset(found)


def users_of(point: str) -> list[tuple[int, str]]:
    """Return (pid, name) of the processes seen to use files below `point`, itself excepted."""
    inside = point.rstrip("/") + "/"
    found = []
    for pid in _pids():
        if pid == os.getpid():
            continue
        with suppress(OSError):
            links = [f"/proc/{pid}/cwd", f"/proc/{pid}/root", f"/proc/{pid}/exe"]
            links += [f"/proc/{pid}/fd/{fd}" for fd in os.listdir(f"/proc/{pid}/fd")]
            if any(_links_into(link, point, inside) for link in links):
                found.append((pid, _name_of(pid)))
    return found


def is_stopped(pid: int) -> bool:
    """Say whether a process has been stopped (SIGSTOP), so that it ends no sooner than it goes on.

    A process that is gone is not stopped.
    """
    return _state_of(pid)[:1] in ([b"T"], [b"t"])


def _start_of(pid: int) -> int:
    """Return when a process was started, as the kernel counts; -1 when it has ended."""
    state = _state_of(pid)
    return -1 if state[:1] in ([], [b"Z"], [b"X"]) else int(state[19])


def _state_of(pid: int) -> list[bytes]:
    """Return what proc_pid_stat(5) has from the state on; empty when the process is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()
    except OSError:
        return []


class Departure:
    """Waits for processes to end, from before they are asked to."""

    def __init__(self, pids: list[int]) -> None:
        self._fds: dict[int, int] = {}
        self._started: dict[int, int] = {}
        """Processes that there is no descriptor of, and when they were started."""
        for pid in pids:
            try:
                self._fds[os.pidfd_open(pid)] = pid
            except ProcessLookupError:
                continue
            except OSError:  # a kernel before 5.3, or a container that does not permit it
                self._started[pid] = _start_of(pid)

    def wait(self, seconds: float) -> list[int]:
        """Return the processes that are still there after `seconds`; may be called again."""
        poll = select.poll()
        for fd in self._fds:
            poll.register(fd, select.POLLIN)
        deadline = time.monotonic() + seconds
        while self._fds or self._started:
            left = max(0.0, deadline - time.monotonic())
            for fd, _ in poll.poll(min(left, _LOOK_S) * 1000 if self._started else left * 1000):
                poll.unregister(fd)
                del self._fds[fd]
                os.close(fd)
            for pid, start in list(self._started.items()):
                if start < 0 or _start_of(pid) != start:
                    del self._started[pid]
            if not left:
                break
        return [*self._fds.values(), *self._started]


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _links_into(link: str, point: str, inside: str) -> bool:
    try:
        target = os.readlink(link)
    except OSError:
        return False
    return target == point or target.startswith(inside)
