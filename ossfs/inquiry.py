"""What may be asked of a serving process: a socket of its own, without a name on disk.

The socket is an abstract one named by the process. The server answers root and its own user; the
client takes the word of none but the process it means. A connection is one question, a line of
JSON, and its answers, lines of JSON until the server ends it.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, TypeAlias

import trio

log = logging.getLogger(__name__)

STATISTICS = "statistics"
WARM = "warm"

Message: TypeAlias = Mapping[str, Any]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Handler: TypeAlias = Callable[[Message, Send], Awaitable[None]]
"""(question, send): answers by `send`, which raises OSError when the asker has gone."""

_PATIENCE_S = 2.0
_READER_S = 60.0
"""How long one who asked may leave an answer unread."""
_AT_ONCE = 16
_BACKLOG = 128
"""Connections that wait while the loop is busy; who comes beyond gets EAGAIN at once."""
_LONGEST = 4 * 1024 * 1024
"""Bytes of a question."""
_CREDENTIALS = struct.Struct("3i")
"""struct ucred: pid, uid, gid."""
_ROOT = 0


def _address(pid: int) -> str:
    return f"\0ossfs-inquiry-{pid}"


async def answer(handlers: Mapping[str, Handler]) -> None:
    """Answer each question by the handler of its name, for ever; returns where no socket can be."""
    try:
        listening = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    except OSError as error:
        _unheard(error)
        return
    with listening:
        try:
            await listening.bind(_address(os.getpid()))
            listening.listen(_BACKLOG)
        except OSError as error:
            _unheard(error)
            return
        room = trio.Semaphore(_AT_ONCE)
        async with trio.open_nursery() as nursery:
            while True:
                await room.acquire()
                try:
                    connection, _ = await listening.accept()
                except OSError as error:
                    room.release()
                    log.debug("a question came to nothing: %s", error)
                    await trio.sleep(_PATIENCE_S)
                    continue
                nursery.start_soon(_converse, connection, handlers, room)


def _unheard(error: OSError) -> None:
    log.warning("ossfs stats and ossfs warm will not be answered: %s", error.strerror)


async def _converse(
    connection: trio.socket.SocketType, handlers: Mapping[str, Handler], room: trio.Semaphore
) -> None:
    async def send(message: Message) -> None:
        data = json.dumps(message).encode() + b"\n"
        with trio.move_on_after(_READER_S) as scope:
            while data:
                data = data[await connection.send(data) :]
        if scope.cancelled_caught:
            raise TimeoutError(errno.ETIMEDOUT, "the answer was not read")

    try:
        with connection:
            if _peer(connection)[1] not in (_ROOT, os.geteuid()):
                return
            question = await _question(connection)
            handler = handlers.get(str(question.get("ask")))
            if handler is not None:
                await handler(question, send)
    except OSError as error:
        log.debug("whoever asked has gone: %s", error)
    except Exception:
        log.exception("unexpected failure of an answer")
    finally:
        room.release()


async def _question(connection: trio.socket.SocketType) -> Message:
    """Return what is asked, empty where that makes no sense."""
    text = b""
    with trio.move_on_after(_PATIENCE_S):
        while not text.endswith(b"\n") and len(text) < _LONGEST:
            piece = await connection.recv(65536)
            if not piece:
                break
            text += piece
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def ask(pid: int) -> dict[str, Any]:
    """Return the statistics of the mount that process `pid` serves; blocks up to 2 s.

    Raises OSError as `inquire` does.
    """
    for told in inquire(pid, {"ask": STATISTICS}, _PATIENCE_S):
        return told
    raise OSError(errno.EACCES, os.strerror(errno.EACCES))


def inquire(pid: int, question: Message, patience: float) -> Iterator[dict[str, Any]]:
    """Yield the answers of the process `pid`; each is waited for `patience` seconds.

    Raises OSError: ECONNREFUSED where it has no such socket, ETIMEDOUT. No answer at all comes to
    a user that it does not answer.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.settimeout(patience)
        asking.connect(_address(pid))
        if _peer(asking)[0] != pid:
            raise OSError(errno.ECONNREFUSED, "another process has its name")
        try:
            asking.sendall(json.dumps(question).encode() + b"\n")
        except BrokenPipeError:
            return
        with asking.makefile("rb") as lines:
            for line in _whole(lines):
                try:
                    told = json.loads(line)
                except ValueError:
                    raise OSError(errno.ETIMEDOUT, "its answer broke off") from None
                assert isinstance(told, dict)
                yield told


def _whole(lines: Iterator[bytes]) -> Iterator[bytes]:
    """Yield lines until there are no more; none from one who hangs up on us."""
    try:
        yield from lines
    except ConnectionResetError:
        return


def _peer(connection: socket.socket | trio.socket.SocketType) -> tuple[int, int, int]:
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, gid = _CREDENTIALS.unpack(raw)
    return pid, uid, gid
