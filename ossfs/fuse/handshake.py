"""Better terms with the kernel than libfuse asks for.

A mount's terms are fixed by the reply to the kernel's first message, INIT. libfuse 3.14
(Debian 12) means to ask for parallel operations in one directory and never does: its
do_init lacks the line. Without them the kernel sends the lookups of one directory one
after another, so 40 names at 200 ms take 8 s, and one stuck lookup holds up all others
beneath it, in D state. Nor does pyfuse3 let us ask for more background requests: with
the kernel's twelve, nine readahead requests in flight count as congestion, and readers
then get their files in single pages (14 requests for a 128 KiB file instead of 4).

So INIT and its reply pass through our hands. Between pyfuse3.init() and the first
request the session's descriptor is one end of a socket pair, at whose other end we
stand: the kernel's INIT goes in, libfuse's reply comes out, gets its better terms and
goes to the kernel. A FORGET of nothing then tells us, from within its handler, that no
task waits on the descriptor and no other will read from it before we have put the
kernel's own back in its place. From there on nothing stands between the two.

All on the trio loop.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
from collections.abc import Iterable

import trio

from ossfs.runtime.mount_table import DEVICE

BACKGROUND = 256
"""Background requests the kernel may have in flight; they queue for our handlers anyway."""
NOTHING = [(0, 0)]
"""What the handler of FORGET is told when the descriptor may change hands: the kernel itself never
speaks of an inode 0."""

_PATIENCE_MS = 10_000
_MESSAGE = 1024 * 1024 + 4096
"""Room the kernel insists on for any request."""

# linux/fuse.h, unchanged since protocol 7.23 of 2014
_IN_HEADER = struct.Struct("=IIQQIIII")
_INIT_IN_FLAGS = struct.Struct("=I")
_FLAGS_AT = _IN_HEADER.size + 12
_OUT_HEADER = struct.Struct("=IiQ")
_INIT_OUT = struct.Struct("=IIIIHH")
_FORGET = _IN_HEADER.pack(_IN_HEADER.size + 8, 2, 0, 0, 0, 0, 0, 0) + bytes(8)
_PARALLEL_DIROPS = 1 << 18


class Handshake:
    """One session's INIT; begin(), then run() beside pyfuse3.main(), then finish()."""

    def __init__(self, given: int = -1) -> None:
        """`given` is a descriptor of a mount that somebody else has made; -1 without."""
        self._before = set(_devices()) - {given}
        self._session = -1
        self._kernel = -1
        self._ours: socket.socket | None = None
        self._init = b""

    def begin(self) -> None:
        """Step between the kernel and the session that pyfuse3.init() has just opened.

        Raises OSError where there is no such session or the kernel sends no INIT.
        """
        opened = set(_devices()) - self._before
        if len(opened) != 1:
            raise OSError(errno.ENODEV, f"{len(opened)} FUSE sessions were opened instead of one")
        (self._session,) = opened
        self._kernel = os.dup(self._session)
        poll = select.poll()
        poll.register(self._kernel, select.POLLIN)
        if not poll.poll(_PATIENCE_MS):
            raise OSError(errno.ETIMEDOUT, "the kernel does not speak to the new mount")
        self._init = os.read(self._kernel, _MESSAGE)
        self._ours, theirs = socket.socketpair()
        with theirs:
            os.dup2(theirs.fileno(), self._session, inheritable=False)
        self._ours.sendall(self._init)

    async def run(self) -> None:
        """Pass libfuse's reply on to the kernel, on better terms."""
        assert self._ours is not None
        await trio.lowlevel.wait_readable(self._ours)
        os.write(self._kernel, improved(self._init, self._ours.recv(_MESSAGE)))
        self._ours.sendall(_FORGET)

    def finish(self) -> None:
        """Leave the two alone; call it from the handler of FORGET that is told NOTHING."""
        assert self._ours is not None
        os.dup2(self._kernel, self._session, inheritable=False)
        self.close()

    def close(self) -> None:
        """Let go of the kernel; without finish() before, the session has lost it then."""
        if self._ours is not None:
            os.close(self._kernel)
            self._ours.close()
            self._ours = None


def improved(init: bytes, reply: bytes) -> bytes:
    """Return libfuse's reply to INIT with parallel directory operations and BACKGROUND requests."""
    _, error, _ = _OUT_HEADER.unpack_from(reply)
    if error:
        return reply
    (offered,) = _INIT_IN_FLAGS.unpack_from(init, _FLAGS_AT)
    major, minor, ahead, flags, _, _ = _INIT_OUT.unpack_from(reply, _OUT_HEADER.size)
    better = bytearray(reply)
    _INIT_OUT.pack_into(
        better,
        _OUT_HEADER.size,
        major,
        minor,
        ahead,
        flags | offered & _PARALLEL_DIROPS,
        BACKGROUND,
        BACKGROUND * 3 // 4,
    )
    return bytes(better)


def _devices() -> Iterable[int]:
    """Yield our descriptors of /dev/fuse."""
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.fstat(int(name)).st_rdev == DEVICE:
                yield int(name)
        except OSError:
            continue  # the directory's own, closed by now
