"""The log: a rotating file in the background, stderr in the foreground, never a secret.

One line a record, in UTC; control characters of a message (object keys may hold newlines) are
escaped, and the lines of a traceback, whose messages may hold as much, are indented, so that no
key can forge a line. Secrets are asked for at each line, as keys are exchanged while a mount
runs. Several mounts may share one directory: rotation
happens under a lock file and every process reopens the file that another has moved away. The
file is the user's own, mode 0600, and is never opened through a symbolic link, because the
default directory lies in /tmp.

Logging calls come from any thread; `logging` serialises them per handler.
"""

from __future__ import annotations

import fcntl
import logging
import logging.handlers
import os
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

from ossfs.runtime.failure import ExitStatus, UserError

FILE_NAME = "ossfs.log"
MAX_BYTES = 64 * 1024**2
SYSLOG = "syslog"
"""Instead of a directory."""
STDOUT = "/dev/stdout"
SYSLOG_SOCKET = "/dev/log"
_SYSTEM_PATIENCE_S = 0.2
"""For a system's log whose queue is full, twice a line; a mount must not wait for a hung one."""
FILES = 8
"""Kept in all, the current one included (ossfs 2.0: log_file_max_size, log_file_max_count)."""

_HIDDEN = "<hidden>"
_SHORTEST_SECRET = 4
"""Shorter ones would blot out ordinary words."""


class LineFormatter(logging.Formatter):
    """`2026-01-31T12:00:00.123Z INFO 4711 ossfs.fuse message`, secrets replaced."""

    def __init__(self, secrets: Callable[[], Iterable[str]] = tuple) -> None:
        """`secrets()` returns what must not be shown; called at each line."""
        super().__init__("%(asctime)s %(levelname)s %(process)d %(name)s %(message)s")
        self._secrets = secrets

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        return f"{seconds}.{int(record.msecs):03d}Z"

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = _printable(record.message)
        return super().formatMessage(record)

    def format(self, record: logging.LogRecord) -> str:
        # After the traceback has been added: its lines can quote keys and secrets too.
        first, *traceback = super().format(record).split("\n")
        text = "\n".join([first, *("  " + _printable(line) for line in traceback)])
        for secret in sorted(self._secrets(), key=len, reverse=True):
            if len(secret) >= _SHORTEST_SECRET:
                text = text.replace(secret, _HIDDEN)
        return text


def _printable(text: str) -> str:
    """Escape what would not stay on its line, or would move on it."""
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )


class SharedRotatingFile(logging.Handler):
    """Appends to `directory`/ossfs.log; any number of processes may do so at once."""

    def __init__(
        self,
        directory: str,
        *,
        max_bytes: int = MAX_BYTES,
        files: int = FILES,
        on_open: Callable[[int], None] | None = None,
    ) -> None:
        """Open the file; `on_open(fd)` is told of each file as it becomes the current one."""
        super().__init__()
        self.path = path_in(directory)
        self._lock_path = os.path.join(directory, f".{FILE_NAME}.lock")
        self._max_bytes = max_bytes
        self._files = files
        self._on_open = on_open
        self._fd = -1
        self._open()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = (self.format(record) + "\n").encode("utf-8", "backslashreplace")
            if self._moved_away():
                self._open()
            if os.fstat(self._fd).st_size + len(line) > self._max_bytes:
                self._rotate()
            # One write with O_APPEND: lines of several processes do not mix.
            os.write(self._fd, line)
        except Exception:  # noqa: BLE001  logging's contract: a log line never breaks its caller
            self.handleError(record)

    def close(self) -> None:
        with self.lock or threading.RLock():
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1
        super().close()

    def _moved_away(self) -> bool:
        try:
            there = os.stat(self.path, follow_symlinks=False)
        except FileNotFoundError:
            return True
        here = os.fstat(self._fd)
        return (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino)

    def _rotate(self) -> None:
        lock = _open_own(self._lock_path)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            # Another process may have rotated while this one waited.
            if not self._moved_away():
                for number in range(self._files - 1, 0, -1):
                    older = f"{self.path}.{number - 1}" if number > 1 else self.path
                    with suppress(FileNotFoundError):
                        os.replace(older, f"{self.path}.{number}")
                if self._files == 1:  # none is put aside
                    os.unlink(self.path)
            self._open()
        finally:
            os.close(lock)

    def _open(self) -> None:
        fd = _open_own(self.path)
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = fd
        if self._on_open is not None:
            self._on_open(fd)


def configure(
    *,
    directory: str | None,
    level: str = "info",
    secrets: Callable[[], Iterable[str]] = tuple,
    on_open: Callable[[int], None] | None = None,
    max_bytes: int = MAX_BYTES,
    files: int = FILES,
) -> None:
    """Send the log to `directory`, to stderr when it is None, to the system's for SYSLOG.

    Replaces what was set before. Raises UserError when the directory cannot be used.
    """
    handler: logging.Handler
    if directory is None:
        handler = logging.StreamHandler(sys.stderr)
    elif directory == STDOUT:
        handler = logging.StreamHandler(sys.stdout)
    elif directory == SYSLOG:
        handler = _system_log()
    else:
        prepare_directory(directory)
        try:
            handler = SharedRotatingFile(
                directory, max_bytes=max_bytes, files=files, on_open=on_open
            )
        except OSError as error:
            raise _unusable(directory, error) from None
    handler.setFormatter(LineFormatter(secrets))
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    # Libraries at debug would log request headers, which carry signatures.
    root.setLevel(logging.WARNING)
    set_level(level)
    logging.captureWarnings(True)


def set_level(level: str) -> None:
    """Log more or less from now on: info or debug."""
    logging.getLogger("ossfs").setLevel(logging.DEBUG if level == "debug" else logging.INFO)


def _system_log() -> logging.Handler:
    """Return a handler for the system's log; UserError where there is none."""
    if not os.path.exists(SYSLOG_SOCKET):  # the handler would wait for it in silence
        raise UserError(
            f"log_dir=syslog: there is no system log at {SYSLOG_SOCKET}; choose a directory",
            ExitStatus.USAGE,
        )
    handler = _SystemLog(SYSLOG_SOCKET)
    handler.ident = "ossfs: "
    return handler


class _SystemLog(logging.handlers.SysLogHandler):
    """Waits a moment for a system's log that does not read, then does without the line."""

    def _connect_unixsocket(self, address: str) -> None:
        # typeshed knows neither this nor the socket.
        super()._connect_unixsocket(address)  # type: ignore[misc]
        self.socket.settimeout(_SYSTEM_PATIENCE_S)  # type: ignore[attr-defined]

    def handleError(self, record: logging.LogRecord) -> None:
        pass  # on standard error, which nobody reads here, it would pile up


def path_in(directory: str) -> str:
    """Return the log's path, for messages."""
    if directory == SYSLOG:
        return "the system log"
    return os.path.join(directory, FILE_NAME)


def prepare_directory(directory: str) -> None:
    """Make the log directory, closed to others; UserError when it cannot be trusted or made."""
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        link = os.lstat(directory)
        if stat.S_ISLNK(link.st_mode) and link.st_uid not in (0, os.geteuid()):
            raise PermissionError("it is another user's symbolic link")
        state = os.stat(directory)
        if state.st_uid not in (0, os.geteuid()):
            raise PermissionError("it belongs to another user")
        if not os.access(directory, os.W_OK | os.X_OK):
            raise PermissionError("no permission to write there")
    except OSError as error:
        raise _unusable(directory, error) from None


def _unusable(directory: str, error: OSError) -> UserError:
    reason = error.strerror or str(error)
    return UserError(
        f"log_dir={directory} cannot be used: {reason}; choose another: -o log_dir=DIR",
        ExitStatus.USAGE,
    )


def _open_own(path: str) -> int:
    """Open for appending a regular file that is ours alone, making it if need be."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    fd = os.open(path, flags, 0o600)
    state = os.fstat(fd)
    if not stat.S_ISREG(state.st_mode) or state.st_uid != os.geteuid() or state.st_nlink > 1:
        os.close(fd)
        raise PermissionError(f"{os.path.basename(path)} is not this user's own file")
    return fd
