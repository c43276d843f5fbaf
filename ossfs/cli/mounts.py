"""The mount table, who serves a mount, and taking a mount away.

The kernel's table and /proc are asked afresh each time; there are no pid files that could lie.
Anything that touches a mount point itself runs under a deadline, because a file system whose
server hangs makes even stat wait for ever. The deadline leaves a thread behind that ends with
the process.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import select
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from ossfs.runtime.failure import ExitStatus, UserError

FSTYPE = "fuse.ossfs"
SERVING_MODULE = "ossfs.cli.serve"
PATIENCE_S = 4.0
"""How long a mount point may take to answer a stat before it counts as hung."""

_MNT_DETACH = 2
_UMOUNT_NOFOLLOW = 8
_TOOL_TIMEOUT_S = 10.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of the mount table."""

    point: str
    fstype: str
    source: str

    @property
    def ours(self) -> bool:
        return self.fstype == FSTYPE


def table(path: str = "/proc/self/mountinfo") -> list[Mount]:
    """Return the mounts that this process sees, in the order they were made."""
    mounts = []
    with open(path, "rb") as lines:
        for line in lines:
            before, _, after = line.rstrip(b"\n").partition(b" - ")
            fstype, source, *_ = after.split(b" ")
            point = before.split(b" ")[4]
            mounts.append(Mount(_unescape(point), _unescape(fstype), _unescape(source)))
    return mounts


def mount_at(point: str) -> Mount | None:
    """Return the topmost mount on exactly this path."""
    return next((mount for mount in reversed(table()) if mount.point == point), None)


def canonical(path: str) -> str:
    """Resolve symbolic links as the mount table has them, even if the mount itself hangs."""
    try:
        return within(PATIENCE_S, lambda: os.path.realpath(path))
    except TimeoutError:
        parent, name = os.path.split(os.path.abspath(path))
        return os.path.join(os.path.realpath(parent), name)


def within(seconds: float, call: Callable[[], T]) -> T:
    """Return what `call` returns, or raise what it raises; TimeoutError if it takes longer."""
    done: list[T] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            done.append(call())
        except BaseException as error:  # noqa: BLE001  carried over to the caller, who raises it
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if failed:
        raise failed[0]
    if not done:
        raise TimeoutError
    return done[0]


def detach(point: str, *, lazy: bool) -> None:
    """Take the topmost mount off `point`; OSError with EBUSY when it is in use."""
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        flags = _UMOUNT_NOFOLLOW | (_MNT_DETACH if lazy else 0)
        if libc.umount2(os.fsencode(point), flags) == 0:
            return
        number = ctypes.get_errno()
        if number != errno.EPERM:
            raise OSError(number, os.strerror(number), point)
    _fusermount(point, lazy=lazy)


def _fusermount(point: str, *, lazy: bool) -> None:
    tool = shutil.which("fusermount3") or shutil.which("fusermount")
    if tool is None:
        raise UserError("fusermount3 is missing; install the package fuse3", ExitStatus.FUSE)
    command = [tool, "-u", *(["-z"] if lazy else []), "--", point]
    environment = {**os.environ, "LC_ALL": "C"}
    reply = subprocess.run(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=_TOOL_TIMEOUT_S,
        check=False,
    )
    if reply.returncode == 0:
        return
    said = reply.stderr.strip() or f"{tool} ended with status {reply.returncode}"
    if "busy" in said:
        raise OSError(errno.EBUSY, said, point)
    raise UserError(f"cannot unmount {point}: {said}", ExitStatus.MOUNTPOINT)


def serving_processes(point: str) -> list[int]:
    """Return the processes that serve a mount on `point`, by their command lines."""
    wanted = os.fsencode(point)
    found = []
    for pid in _pids():
        with suppress(OSError):
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read().rstrip(b"\0").split(b"\0")
            if SERVING_MODULE.encode() in words and words[-1] == wanted:
                found.append(pid)
    return found


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
                with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
                    found.append((pid, file.read().strip()))
    return found


class Departure:
    """Waits for processes to end, from before they are asked to."""

    def __init__(self, pids: list[int]) -> None:
        self._fds: dict[int, int] = {}
        for pid in pids:
            with suppress(ProcessLookupError):
                self._fds[os.pidfd_open(pid)] = pid

    def wait(self, seconds: float) -> list[int]:
        """Return the processes that are still there after `seconds`."""
        poll = select.poll()
        for fd in self._fds:
            poll.register(fd, select.POLLIN)
        deadline = time.monotonic() + seconds
        while self._fds:
            ready = poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
            if not ready:
                break
            for fd, _ in ready:
                poll.unregister(fd)
                del self._fds[fd]
                os.close(fd)
        left = list(self._fds.values())
        for fd in self._fds:
            os.close(fd)
        self._fds.clear()
        return left


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _links_into(link: str, point: str, inside: str) -> bool:
    try:
        target = os.readlink(link)
    except OSError:
        return False
    return target == point or target.startswith(inside)


def _unescape(text: bytes) -> str:
    plain = re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), text)
    return os.fsdecode(plain)
