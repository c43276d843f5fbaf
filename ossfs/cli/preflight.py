"""What can be checked before anything is started: the mount point and FUSE itself.

Every refusal is one line with the remedy. A dead mount (its server was killed) is taken away,
since nobody can use it any more; a living one is never touched.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat

from ossfs.cli import mounts
from ossfs.runtime.failure import ExitStatus, UserError

_MOST_DEAD_MOUNTS = 16
"""Stacked on one directory; beyond that something else mounts as fast as we clean up."""


def settle_mountpoint(path: str, *, nonempty: bool) -> tuple[str, list[str]]:
    """Return the mount point's canonical path, and lines about what was cleaned up."""
    path = mounts.canonical(path)
    notes = []
    for _ in range(_MOST_DEAD_MOUNTS):
        state = _stat(path)
        if state is not None:
            break
        try:
            mounts.detach(path, lazy=True)
        except OSError as error:
            raise _refuse(
                f"{path} is a dead mount that cannot be cleaned up ({error.strerror}); "
                f"run as its owner: fusermount3 -uz {path}"
            ) from None
        notes.append(f"cleaned up a dead mount on {path}")
    else:
        raise _refuse(f"{path} is a dead mount again after every clean-up")
    mount = mounts.mount_at(path)
    if mount is not None and mount.ours:
        raise _refuse(f"{path} has {mount.source} mounted already; ossfs umount {path} first")
    if not stat.S_ISDIR(state.st_mode):
        raise _refuse(f"mount point {path} is not a directory")
    _check_contents(path, nonempty)
    return path, notes


def _stat(path: str) -> os.stat_result | None:
    """Return None for a dead mount."""
    try:
        return mounts.within(mounts.PATIENCE_S, lambda: os.stat(path))
    except TimeoutError:
        raise _refuse(
            f"{path} does not answer: a mount there hangs; detach it with ossfs umount -l {path}"
        ) from None
    except OSError as error:
        if error.errno == errno.ENOTCONN:
            return None
        if error.errno == errno.ENOENT:
            raise _refuse(f"mount point {path} does not exist; mkdir -p {path}") from None
        if error.errno == errno.ENOTDIR:
            raise _refuse(f"mount point {path} is not a directory") from None
        raise _refuse(f"mount point {path} cannot be used: {error.strerror}") from None


def _check_contents(path: str, nonempty: bool) -> None:
    try:
        with os.scandir(path) as entries:
            occupied = next(entries, None) is not None
    except OSError as error:
        raise _refuse(f"mount point {path} cannot be read: {error.strerror}") from None
    if occupied and not nonempty:
        raise _refuse(
            f"mount point {path} is not empty; choose an empty directory or add -o nonempty"
        )
    # fusermount3 demands it of ordinary users, and says so in fewer words.
    if os.geteuid() != 0 and not os.access(path, os.W_OK):
        raise _refuse(f"mount point {path} is not writable by you; choose a directory of your own")


def check_fuse(device: str = "/dev/fuse") -> None:
    """Refuse with status FUSE unless this user can mount a FUSE file system here."""
    try:
        os.close(os.open(device, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        raise UserError(_device_trouble(device, error), ExitStatus.FUSE) from None
    if os.geteuid() != 0 and shutil.which("fusermount3") is None:
        raise UserError(
            "fusermount3 is missing, which users other than root need; install the package fuse3",
            ExitStatus.FUSE,
        )


def _device_trouble(device: str, error: OSError) -> str:
    if error.errno == errno.ENOENT:
        return f"{device} is missing; modprobe fuse, or in a container add --device {device}"
    if error.errno in (errno.EACCES, errno.EPERM):
        return (
            f"{device} may not be opened ({error.strerror}); "
            f"chmod 666 {device}, or in a container add --device {device} --cap-add SYS_ADMIN"
        )
    return (
        f"{device} cannot be opened ({error.strerror}); is the kernel module loaded? modprobe fuse"
    )


def _refuse(message: str) -> UserError:
    return UserError(message, ExitStatus.MOUNTPOINT)
