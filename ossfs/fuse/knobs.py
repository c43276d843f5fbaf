"""Settings of our mount in the kernel that pyfuse3 cannot reach but root can.

Readahead: raised, one reader has several READs of 1 MiB in flight instead of two of
128 KiB: twice the throughput here, five times at 2 ms a request. 8192 KiB measured best
of 1 to 16 MiB.

Background requests: above the kernel's 9 readahead requests in flight (of 12 allowed) a
mount counts as congested, and readers get their files in single pages of 4 KiB: 64
readers of 128 KiB files took 14 requests a file instead of 4.

All of it goes through /sys and the device number in /proc: a stat of the mount point
would ask ourselves.
"""

from __future__ import annotations

import logging
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger(__name__)

CONTROL = "/sys/fs/fuse/connections"
BACKGROUND = 256
"""Background requests the kernel may have in flight; they queue for our handlers anyway."""


def raise_readahead(mountpoint: str, kilobytes: int) -> bool:
    """Set read_ahead_kb of the mount; False where that is not permitted."""
    device = _device(mountpoint)
    return device is not None and _write(f"/sys/class/bdi/{device}/read_ahead_kb", kilobytes)


def raise_background(mountpoint: str) -> bool:
    """Let many readahead requests be in flight; False where that is not permitted."""
    device = _device(mountpoint)
    if device is None:
        return False
    minor = device.partition(":")[2]
    with _fuse_control() as control:
        # The threshold follows the limit down, not up, so the limit comes first.
        return _write(f"{control}/{minor}/max_background", BACKGROUND) and _write(
            f"{control}/{minor}/congestion_threshold", BACKGROUND * 3 // 4
        )


@contextmanager
def _fuse_control() -> Iterator[str]:
    """Give a directory of the fuse control file system, mounted for the moment if need be.

    systemd mounts it at its place; containers and small systems don't.
    """
    if Path(CONTROL).is_dir() and any(Path(CONTROL).iterdir()):
        yield CONTROL
        return
    with tempfile.TemporaryDirectory(prefix="ossfs-fusectl-") as place:
        command = ["mount", "-t", "fusectl", "fusectl", place]
        mounted = os.geteuid() == 0 and _succeeds(command)
        try:
            yield place
        finally:
            if mounted:
                _succeeds(["umount", place])


def _succeeds(command: list[str]) -> bool:
    try:
        done = subprocess.run(command, capture_output=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        log.debug("%s: %s", " ".join(command), error)
        return False
    return done.returncode == 0


def _write(path: str, value: int) -> bool:
    try:
        Path(path).write_text(str(value))
    except OSError as error:
        log.debug("%s stays as it is: %s", path, error)
        return False
    return True


def _device(mountpoint: str) -> str | None:
    """Return the MAJOR:MINOR of the topmost mount there, None if there is none."""
    wanted = mountpoint.encode("utf-8", "surrogateescape")
    found = None
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        fields = line.split(b" ")
        # The kernel writes blanks, tabs, newlines and backslashes as octal escapes.
        if fields[4].decode("unicode_escape").encode("latin-1") == wanted:
            found = fields[2].decode()
    return found
