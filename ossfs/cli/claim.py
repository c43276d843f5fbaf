"""One `ossfs mount` at a time on a mount point, until its mount stands in the mount table.

Two that start at once would both find the place free. The claim is a socket in the kernel's
abstract namespace, named after mount namespace and path: it needs no directory, belongs to the
process that holds it (and to the serving process it is handed to), and ends with them. Anyone may
bind such a name, so only a holder who is root or this user is believed.
"""

from __future__ import annotations

import errno
import hashlib
import os
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ossfs.runtime.failure import ExitStatus, UserError

_TRIES = 20
_PAUSE_S = 0.01
_CREDENTIALS = struct.Struct("3i")
"""struct ucred: pid, uid, gid."""


@contextmanager
def claim(point: str) -> Iterator[int | None]:
    """Give a descriptor that holds the claim on `point`, None where that cannot be had.

    It is inherited by a process that this one becomes. Raises UserError when another command of
    this user or of root holds the claim.
    """
    held = _claim(point)
    try:
        yield held
    finally:
        if held is not None:
            os.close(held)


def _claim(point: str) -> int | None:
    place = f"{os.stat('/proc/self/ns/mnt').st_ino}:{point}"
    name = "\0ossfs-mount-" + hashlib.sha256(os.fsencode(place)).hexdigest()
    for _ in range(_TRIES):
        held = _bind(name)
        if held is not None:
            return held
        holder = _holder(name)
        if holder is not None:
            break
        time.sleep(_PAUSE_S)  # it has just come, or just gone
    else:
        return None
    pid, uid = holder
    if uid not in (0, os.geteuid()):
        return None
    raise UserError(
        f"another ossfs mount (process {pid}) is starting on {point}", ExitStatus.MOUNTPOINT
    )


def _bind(name: str) -> int | None:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(name)
        sock.listen()
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            return None
        raise
    sock.set_inheritable(True)
    return sock.detach()


def _holder(name: str) -> tuple[int, int] | None:
    """Return process and user of whoever listens there."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        try:
            sock.connect(name)
            raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        except OSError:
            return None
    pid, uid, _ = _CREDENTIALS.unpack(raw)
    return pid, uid
