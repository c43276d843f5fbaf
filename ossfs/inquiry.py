"""Statistics of a mount, for whoever may ask: a socket of its process, without a name on disk.

The socket is an abstract one named by the process. The server answers root and its own user; the
client takes the word of none but the process it means. One connection, one JSON object.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import socket
import struct
from collections.abc import Callable, Mapping
from typing import Any

import trio

log = logging.getLogger(__name__)

_PATIENCE_S = 2.0
_CREDENTIALS = struct.Struct("3i")
"""struct ucred: pid, uid, gid."""
_ROOT = 0


def _address(pid: int) -> str:
    return f"\0ossfs-statistics-{pid}"


async def answer(snapshot: Callable[[], Mapping[str, Any]]) -> None:
    """Answer with `snapshot()`, for ever; returns where no socket can be had."""
    try:
        listening = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    except OSError as error:
        log.warning("no statistics for ossfs stats: %s", error.strerror)
        return
    with listening:
        try:
            await listening.bind(_address(os.getpid()))
            listening.listen(8)
        except OSError as error:
            log.warning("no statistics for ossfs stats: %s", error.strerror)
            return
        while True:
            try:
                connection, _ = await listening.accept()
            except OSError as error:
                log.debug("a question about statistics came to nothing: %s", error)
                await trio.sleep(_PATIENCE_S)
                continue
            try:
                with connection, trio.move_on_after(_PATIENCE_S):
                    if _peer(connection)[1] in (_ROOT, os.geteuid()):
                        await _send(connection, json.dumps(snapshot()).encode())
            except OSError as error:
                log.debug("whoever asked for statistics has gone: %s", error)


async def _send(connection: trio.socket.SocketType, data: bytes) -> None:
    while data:
        data = data[await connection.send(data) :]


def ask(pid: int) -> dict[str, Any]:
    """Return the statistics of the mount that process `pid` serves; blocks up to 2 s.

    Raises OSError: ECONNREFUSED where it has no such socket, EACCES where it does not answer this
    user, ETIMEDOUT.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.settimeout(_PATIENCE_S)
        asking.connect(_address(pid))
        if _peer(asking)[0] != pid:
            raise OSError(errno.ECONNREFUSED, "another process has its name")
        text = b""
        while piece := asking.recv(65536):
            text += piece
    if not text:
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))
    try:
        told = json.loads(text)
    except ValueError:
        raise OSError(errno.ETIMEDOUT, "its answer broke off") from None
    assert isinstance(told, dict)
    return told


def _peer(connection: socket.socket | trio.socket.SocketType) -> tuple[int, int, int]:
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, gid = _CREDENTIALS.unpack(raw)
    return pid, uid, gid
