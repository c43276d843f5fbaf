"""What can be checked before anything is started: the mount point, the log and FUSE itself.

Every refusal is one line with the remedy. A dead mount (its server was killed) is taken away,
since nobody can use it any more; a living one is never touched. Nothing here waits for ever: what
may lie on a file system that hangs is looked at within a time limit.
"""

from __future__ import annotations

import errno
import os
import shutil
import socket
import stat
from collections.abc import Sequence
from contextlib import suppress

from ossfs.cli import mounts
from ossfs.config import layers
from ossfs.config.arguments import MADE_OF, Setting
from ossfs.config.layers import Layers
from ossfs.config.options import MountOptions
from ossfs.credentials import KeySettings
from ossfs.runtime.bounded import PATIENCE_S, within
from ossfs.runtime.failure import ExitStatus, UserError
from ossfs.runtime.logs import SYSLOG, prepare_directory
from ossfs.runtime.mount_table import DEVICE, Life, Mount, life_of

_MOST_DEAD_MOUNTS = 16
"""Stacked on one directory; beyond that something else mounts as fast as we clean up."""


def settle_mountpoint(point: str, *, nonempty: bool) -> list[str]:
    """Make sure that a canonical path can be mounted on; return lines about what was cleaned up."""
    notes = []
    for _ in range(_MOST_DEAD_MOUNTS):
        mount = mounts.mount_at(point)
        if mount is None or not mount.fuse:
            break
        life = life_of(mount)
        if life is Life.SILENT:
            raise mounts.hung(point)
        if life is Life.SERVED:
            if mount.ours:
                raise _refuse(_mounted_already(mount))
            break
        _clean_up(mount)
        notes.append(f"cleaned up a dead mount on {point}")
    else:
        raise _refuse(f"{point} is a dead mount again after every clean-up")
    try:
        within(PATIENCE_S, lambda: _check_directory(point, nonempty))
    except TimeoutError:
        raise mounts.hung(point) from None
    return notes


def _mounted_already(mount: Mount) -> str:
    whose = "" if mount.owner == os.geteuid() else f" by {mount.owner_name}"
    return (
        f"{mount.point} has {mount.shown} mounted already{whose}; ossfs umount {mount.point} first"
    )


def _clean_up(mount: Mount) -> None:
    try:
        mounts.detach(mount.point, lazy=True)
    except PermissionError:
        raise _refuse(
            f"{mount.point} is a dead mount that only {mount.entitled} can clean up: "
            f"fusermount3 -uz {mount.point}"
        ) from None
    except OSError as error:
        raise _refuse(
            f"{mount.point} is a dead mount that cannot be cleaned up ({error.strerror}); "
            f"fusermount3 -uz {mount.point}"
        ) from None


def _check_directory(point: str, nonempty: bool) -> None:
    """Refuse what is no directory to mount on; the caller limits how long this may take."""
    try:
        state = os.stat(point)
    except OSError as error:
        raise _refuse(_why_not(point, error)) from None
    if not stat.S_ISDIR(state.st_mode):
        raise _refuse(f"mount point {point} is not a directory")
    try:
        with os.scandir(point) as entries:
            occupied = next(entries, None) is not None
    except OSError as error:
        raise _refuse(f"mount point {point} cannot be read: {error.strerror}") from None
    if occupied and not nonempty:
        raise _refuse(
            f"mount point {point} is not empty; choose an empty directory or add -o nonempty"
        )
    # fusermount3 demands it of ordinary users, and says so in fewer words.
    if os.geteuid() != 0 and not os.access(point, os.W_OK):
        raise _refuse(f"mount point {point} is not writable by you; choose a directory of your own")


def _why_not(point: str, error: OSError) -> str:
    if error.errno == errno.ENOENT:
        return f"mount point {point} does not exist; mkdir -p {point}"
    if error.errno == errno.ENOTDIR:
        return f"mount point {point} is not a directory"
    mount = mounts.mount_at(point)
    if mount is not None:
        return (
            f"{point} is a mount of type {mount.fstype} by {mount.owner_name} ({error.strerror}); "
            "unmount it, or choose another directory"
        )
    return f"mount point {point} cannot be used: {error.strerror}"


def settle_log(directory: str, point: str) -> None:
    """Make the log directory, outside of the mount: no line may need the file system it is about.

    Both paths as they are meant: `point` canonical, `directory` with its links.
    """
    if directory == SYSLOG:
        return
    try:
        where = mounts.canonical(directory)
    except UserError as error:
        raise _no_log(error) from None
    _check_outside("log_dir", directory, where, point)
    try:
        within(PATIENCE_S, lambda: prepare_directory(directory))
    except TimeoutError:
        raise _no_log(mounts.hung(directory)) from None


def check_directories(options: MountOptions) -> None:
    """Refuse directories whose links lead into the mount that is to use them.

    Its server would wait for itself. The mount point is canonical.
    """
    for option in ("temp_dir", "disk_data_cache_dir"):
        directory = getattr(options, option)
        if directory:
            _check_outside(option, directory, mounts.canonical(directory), options.mountpoint)


def _check_outside(option: str, directory: str, where: str, point: str) -> None:
    if f"{where}/".startswith(point.rstrip("/") + "/"):
        raise UserError(
            f"{option}={directory} lies inside the mount point; choose another directory",
            ExitStatus.USAGE,
        )


def _no_log(error: UserError) -> UserError:
    return UserError(
        f"log_dir: {error.message}, or choose another: -o log_dir=DIR", ExitStatus.USAGE
    )


def layers_of(settings: Sequence[Setting]) -> Layers:
    """Read what a command line names: configuration file, preset, PAI's JSON."""
    if not any(setting.name in MADE_OF for setting in settings):
        return layers.gather(settings)  # nothing is read
    try:
        return within(PATIENCE_S, lambda: layers.gather(settings))
    except TimeoutError:
        raise UserError(
            "the configuration file does not open: its file system hangs", ExitStatus.USAGE
        ) from None


def check_key_files(keys: KeySettings) -> None:
    """Refuse a file whose opening does not come back; whoever reads it judges all else."""
    named = {"passwd_file": keys.passwd_file, "credentials_file": keys.credentials_file}
    for option, path in named.items():
        if path:
            _check_file(option, path)


def _check_file(option: str, path: str) -> None:
    with suppress(OSError):
        try:
            within(PATIENCE_S, lambda: open(path, "rb").close())
        except TimeoutError:
            raise UserError(
                f"{option}={path} does not open: it is a pipe, or its file system hangs",
                ExitStatus.CREDENTIALS,
            ) from None


def check_fuse(device: str = "/dev/fuse") -> None:
    """Refuse with status FUSE unless this user can mount a FUSE file system here."""
    try:
        os.close(os.open(device, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        raise UserError(_device_trouble(device, error), ExitStatus.FUSE) from None
    if os.geteuid() != 0 and not _has_fusermount():
        raise UserError(
            "fusermount3 is missing, which users other than root need; install the package fuse3",
            ExitStatus.FUSE,
        )


def check_device(fd: int) -> None:
    """Refuse what is no inherited descriptor of /dev/fuse, and have children inherit it too."""
    try:
        found = os.fstat(fd)
    except OSError:
        raise UserError(
            f"fuse_device_fd={fd}: there is no such descriptor; it has to be inherited from "
            "whoever mounts",
            ExitStatus.USAGE,
        ) from None
    if not (stat.S_ISCHR(found.st_mode) and found.st_rdev == DEVICE):
        raise UserError(f"fuse_device_fd={fd} is no descriptor of /dev/fuse", ExitStatus.USAGE)
    os.set_inheritable(fd, True)


def check_addresses(bind_ips: str) -> None:
    """Refuse addresses to start from that are not this machine's."""
    for address in filter(None, bind_ips.split(",")):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as trying:
            try:
                trying.bind((address, 0))
            except OSError as error:
                raise UserError(
                    f"bind_ips={address}: no address of this machine ({error.strerror}); "
                    "ip address shows them",
                    ExitStatus.USAGE,
                ) from None


def _has_fusermount() -> bool:
    try:
        return within(PATIENCE_S, lambda: shutil.which("fusermount3")) is not None
    except TimeoutError:
        return False  # PATH leads into a file system that hangs before it leads there


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
