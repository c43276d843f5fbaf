"""The FUSE session of this process: mounted once, known by its device number, taken away again.

libfuse's own unmounting is not used: it takes away by path whatever is mounted there by then, and
that may be another mount. Ours is told from others by its device number, which this process also
takes as its name, for `ossfs umount` to find it by.

`mount` and `close` belong to the trio loop; `unmount` and `clear_away` to another thread, since
they may block until the loop has answered requests or has cut the connection.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pyfuse3

from ossfs.fuse.handshake import Handshake
from ossfs.runtime.failure import ExitStatus, UserError
from ossfs.runtime.mount_table import Life, Mount, detach, life_of, mount_at, server_name, table

log = logging.getLogger(__name__)

_STDERR = 2


class Session:
    """One mount on one path."""

    def __init__(self, mountpoint: str, given: int = -1) -> None:
        """`given` is a descriptor of /dev/fuse that somebody has mounted there; -1 without.

        Such a mount is not ours to take away.
        """
        self.mountpoint = mountpoint
        self._given = given
        self.device = ""
        """MAJOR:MINOR, empty while it is not known."""
        self._handshake: Handshake | None = None

    def mount(self, operations: pyfuse3.Operations, options: set[str]) -> None:
        """Mount; UserError with status FUSE and the system's own reason when that fails."""
        refused = False
        handshake = Handshake(self._given)
        place = self.mountpoint if self._given < 0 else f"/dev/fd/{self._given}"
        with _stderr_captured() as captured:
            try:
                pyfuse3.init(operations, place, options)
            except RuntimeError:
                refused = True
            said = captured().splitlines()
        if refused:
            raise UserError(_refused(self.mountpoint, said), ExitStatus.FUSE)
        for line in said:
            log.warning("libfuse: %s", line)
        try:
            handshake.begin()
        except OSError as error:
            pyfuse3.close(unmount=True)
            if self._given >= 0:
                raise UserError(
                    f"fuse_device_fd={self._given}: nobody has mounted it: mount(2) comes first "
                    f"({error.strerror})",
                    ExitStatus.FUSE,
                ) from error
            reason = [error.strerror or str(error)]
            raise UserError(_refused(self.mountpoint, reason), ExitStatus.FUSE) from error
        self._handshake = handshake
        if self._given >= 0:
            return
        mount = mount_at(self.mountpoint)
        if mount is not None and mount.ours:
            self.device = mount.device
            with suppress(OSError):
                Path("/proc/self/comm").write_text(server_name(mount.device))

    async def shake_hands(self) -> None:
        """Agree with the kernel on the mount's terms; to be run beside pyfuse3.main()."""
        assert self._handshake is not None
        await self._handshake.run()

    def begin(self) -> None:
        """Leave the kernel and pyfuse3 alone; to be called at the session's first FORGET."""
        assert self._handshake is not None
        self._handshake.finish()

    def covered(self) -> list[bytes]:
        """Return the paths, from our root, that others have mounted something on."""
        below = self.mountpoint.rstrip("/") + "/"
        return [
            os.fsencode(mount.point.removeprefix(below))
            for mount in table()
            if mount.point.startswith(below)
        ]

    def mounted(self) -> Mount | None:
        """Return our mount if it is the topmost at its place, so that unmounting there means it."""
        mount = mount_at(self.mountpoint)
        return mount if mount is not None and mount.device == self.device else None

    def unmount(self, *, lazily: bool) -> bool:
        """Take the mount away, unless that is done; False when it is in use and not `lazily`."""
        if self.mounted() is None:
            if any(mount.device == self.device for mount in table()):
                log.warning(
                    "another mount covers %s, or it is mounted elsewhere too: it stays, without a "
                    "server; ossfs umount it",
                    self.mountpoint,
                )
            return True
        try:
            detach(self.mountpoint, lazy=lazily)
        except OSError as error:
            if error.errno == errno.EBUSY and not lazily:
                return False
            log.error("cannot unmount %s: %s", self.mountpoint, error.strerror)
        except UserError as error:
            log.error("%s", error.message)
        return True

    def clear_away(self, *, disconnected: bool) -> None:
        """Take away, lazily, what is left at the end; `disconnected` when the kernel ended it."""
        mount = self.mounted()
        if mount is None:
            return
        # The device number is free for another mount as soon as ours is gone, and that one lives.
        if not disconnected or life_of(mount) is Life.DEAD:
            self.unmount(lazily=True)

    def close(self) -> None:
        """Cut the connection: whoever still waits for an answer gets an error."""
        if self._handshake is not None:
            self._handshake.close()
        # A mount that we could not find, and so not take away, is left to libfuse.
        pyfuse3.close(unmount=not self.device)


@contextmanager
def _stderr_captured() -> Iterator[Callable[[], str]]:
    """Give a function that returns what was written to standard error meanwhile."""
    sys.stderr.flush()
    kept = os.dup(_STDERR)
    memory = os.memfd_create("ossfs-stderr")
    os.dup2(memory, _STDERR)
    try:
        yield lambda: os.pread(memory, 65536, 0).decode(errors="replace").strip()
    finally:
        sys.stderr.flush()
        os.dup2(kept, _STDERR)
        os.close(kept)
        os.close(memory)


def _refused(mountpoint: str, said: list[str]) -> str:
    reason = "; ".join(said) or "the system gives no reason"
    hint = ""
    if reason.endswith("Operation not permitted"):
        hint = "; this needs root with CAP_SYS_ADMIN, or fusermount3 installed setuid root"
        if os.geteuid() == 0:
            hint = "; root needs CAP_SYS_ADMIN for it: in a container add --cap-add SYS_ADMIN"
    elif reason.endswith("Too many open files"):
        hint = "; permit more: ulimit -n"
    return f"cannot mount on {mountpoint}: {reason}{hint}"
