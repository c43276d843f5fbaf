"""The kernel's mount table, whether a mount is alive, and taking one away.

The table is asked afresh each time, and reading it touches no mount. What does touch one runs
within a time limit (see `bounded`), because a file system whose server hangs makes its callers
wait for ever.
"""

from __future__ import annotations

import ctypes
import errno
import os
import pwd
import re
import shutil
import subprocess
from dataclasses import dataclass
from enum import Enum, auto
from urllib.parse import unquote

from ossfs.runtime.bounded import PATIENCE_S, within
from ossfs.runtime.failure import ExitStatus, UserError

FSTYPE = "fuse.ossfs"
DEVICE = os.makedev(10, 229)
"""Number of /dev/fuse, by whatever name."""
SELF = "/proc/self/mountinfo"

_MNT_DETACH = 2
_UMOUNT_NOFOLLOW = 8
_TAKE_OFF_S = 10.0
"""How long taking a mount off may take, fusermount3's work included."""
_libc = ctypes.CDLL(None, use_errno=True)
_FUSE_IDS = re.compile(rb"(?:^|,)user_id=(\d+),group_id=(\d+)(?:,|$)")


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of the mount table."""

    point: str
    fstype: str
    source: str
    device: str = ""
    """MAJOR:MINOR; of FUSE file systems it is the connection's own for as long as that lasts."""
    owner: int | None = None
    """User that a FUSE file system was mounted by and, without allow_other, is for."""
    group: int = 0
    """That user's group."""
    number: int = 0
    """Tells two mounts of a namespace apart."""
    root: str = "/"
    """What of the file system is shown there: of a bind mount it may be a directory below."""

    @property
    def ours(self) -> bool:
        return self.fstype == FSTYPE

    @property
    def fuse(self) -> bool:
        return self.fstype == "fuse" or self.fstype.startswith(("fuse.", "fuseblk"))

    @property
    def shown(self) -> str:
        """The source as the user named it; the table has it percent-encoded."""
        return unquote(self.source) if self.ours else self.source

    @property
    def owner_name(self) -> str:
        """Who mounted it, for messages; of what is not FUSE only root can say."""
        if not self.owner:
            return "root"
        try:
            return f"user {pwd.getpwuid(self.owner).pw_name}"
        except KeyError:
            return f"user {self.owner}"

    @property
    def entitled(self) -> str:
        """Who may unmount it, for messages."""
        return f"{self.owner_name} or root" if self.owner else "root"


def table(path: str = SELF) -> list[Mount]:
    """Return the mounts that a process sees, in the order they were made."""
    try:
        with open(path, "rb") as lines:
            return [_mount(line.rstrip(b"\n")) for line in lines]
    except FileNotFoundError:
        if path != SELF:
            raise
        raise UserError(
            "/proc is not mounted here, and without it no mount can be seen: "
            "mount -t proc proc /proc",
            ExitStatus.FUSE,
        ) from None


def mount_at(point: str) -> Mount | None:
    """Return the topmost mount on exactly this path."""
    return next((mount for mount in reversed(table()) if mount.point == point), None)


def server_name(device: str) -> str:
    """Return the name (comm, at most 15 bytes) of the process that serves a mount of ours."""
    return f"ossfs {device}"


class Life(Enum):
    """What became of the server of a FUSE file system."""

    SERVED = auto()
    DEAD = auto()
    SILENT = auto()
    """It is there and does not answer."""


def life_of(mount: Mount) -> Life:
    """Ask the server of a FUSE mount for a sign of life.

    Of another user's private mount only root can tell; to others it is SERVED.
    """
    try:
        within(PATIENCE_S, lambda: _call_on(mount))
    except TimeoutError:
        return Life.SILENT
    except OSError as error:
        if error.errno in (errno.ENOTCONN, errno.ECONNABORTED):
            return Life.DEAD
        if error.errno in (errno.EAGAIN, errno.ENOMEM, errno.ECHILD):
            raise  # nobody could be sent to ask
        # Any other error is an answer.
    return Life.SERVED


def _call_on(mount: Mount) -> None:
    """Have the kernel ask the server; runs in a process of its own, whose user it may change."""
    # Opening a path as such asks nothing of what is mounted there.
    there = os.open(mount.point, os.O_PATH | os.O_CLOEXEC)
    if os.geteuid() == 0 and mount.owner:
        # To anyone but the owner of a private mount the kernel answers without asking.
        os.setgroups([])
        os.setresgid(mount.group, mount.group, mount.group)
        os.setresuid(mount.owner, mount.owner, mount.owner)
    # Unlike stat, whose answer the kernel keeps, statfs goes to the server each time.
    os.fstatvfs(there)


def detach(point: str, *, lazy: bool) -> None:
    """Take the topmost mount off `point`.

    Raises OSError with EBUSY when it is in use, with EPERM when it is not this user's to take
    away; UserError for whatever else the system says.
    """
    before = mount_at(point)
    try:
        within(_TAKE_OFF_S, lambda: _take_off(point, lazy))
    except TimeoutError:
        # The mount goes first, then its pages, which may wait for a server that does not answer.
        if before is None or mount_at(point) == before:
            raise UserError(
                f"{point} does not come off; detach it with ossfs umount -l {point}",
                ExitStatus.MOUNTPOINT,
            ) from None
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.ENOMEM):
            raise
        _take_off(point, lazy)  # no process can be had for it


def _take_off(point: str, lazy: bool) -> None:
    if os.geteuid() == 0:
        flags = _UMOUNT_NOFOLLOW | (_MNT_DETACH if lazy else 0)
        if _libc.umount2(os.fsencode(point), flags) == 0:
            return
        number = ctypes.get_errno()
        if number != errno.EPERM:
            raise OSError(number, os.strerror(number), point)
        # Root of a container without CAP_SYS_ADMIN; fusermount3 may have it.
    tool = shutil.which("fusermount3") or shutil.which("fusermount")
    if tool is None:
        raise UserError("fusermount3 is missing; install the package fuse3", ExitStatus.FUSE)
    reply = subprocess.run(
        [tool, "-u", *(["-z"] if lazy else []), "--", point],
        env={**os.environ, "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if reply.returncode == 0:
        return
    said = "; ".join(reply.stderr.strip().splitlines())
    if said.endswith("busy"):
        raise OSError(errno.EBUSY, said, point)
    if said.endswith(("Operation not permitted", "not found in /etc/mtab")):
        raise OSError(errno.EPERM, said, point)
    said = said or f"{tool} ended with status {reply.returncode}"
    raise UserError(f"cannot unmount {point}: {said}", ExitStatus.MOUNTPOINT)


def _mount(line: bytes) -> Mount:
    """Read one line; see proc_pid_mountinfo(5)."""
    before, _, after = line.partition(b" - ")
    fields = before.split(b" ")
    fstype, source, *rest = after.split(b" ")
    ids = _FUSE_IDS.search(rest[0]) if rest else None
    return Mount(
        _unescape(fields[4]),
        _unescape(fstype),
        _unescape(source),
        fields[2].decode(),
        owner=int(ids[1]) if ids else None,
        group=int(ids[2]) if ids else 0,
        number=int(fields[0]),
        root=_unescape(fields[3]),
    )


def _unescape(text: bytes) -> str:
    plain = re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), text)
    return os.fsdecode(plain)
