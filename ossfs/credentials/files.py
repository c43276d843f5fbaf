"""Files that hold keys: refused when anyone may read them but their owner, root or the mounter."""

from __future__ import annotations

import os
import stat

from ossfs.credentials import Credentials, document
from ossfs.credentials.document import refused
from ossfs.credentials.passwd import choose, parse

SIZE_LIMIT = 1024 * 1024
"""Bytes; a longer file is something else."""


class PasswdFile:
    """Lines ID:SECRET or BUCKET:ID:SECRET; see `passwd`."""

    def __init__(self, path: str, bucket: str) -> None:
        self._path = path
        self._bucket = bucket

    def check(self) -> tuple[str, ...]:
        return self.fetch().secrets()

    def fetch(self) -> Credentials:
        where = f"passwd_file {self._path}"
        return choose(where, self._bucket, parse(where, read(where, self._path).splitlines()))

    def told(self) -> dict[str, str | float | None]:
        return {"kind": "passwd_file", "path": self._path, "bucket": self._bucket}


class CredentialsFile:
    """A JSON document that somebody exchanges from time to time; see `document`."""

    def __init__(self, path: str) -> None:
        self._path = path

    def check(self) -> tuple[str, ...]:
        return self.fetch().secrets()

    def fetch(self) -> Credentials:
        where = f"credentials_file {self._path}"
        return document.read(read(where, self._path), where)

    def told(self) -> dict[str, str | float | None]:
        return {"kind": "credentials_file", "path": self._path}


def read(where: str, path: str) -> str:
    """Return the file's text; UserError that begins with `where` when it cannot serve."""
    try:
        # Without waiting, as a FIFO would make us. A symbolic link is as good as what it names.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            # Judged by the open file, so that it cannot be exchanged between check and reading.
            _check_state(where, os.fstat(fd))
            with open(fd, "rb", closefd=False) as file:
                raw = file.read(SIZE_LIMIT + 1)
        finally:
            os.close(fd)
    except OSError as error:
        raise refused(where, f"it cannot be read: {os.strerror(error.errno or 0)}") from None
    if len(raw) > SIZE_LIMIT:
        raise refused(where, "it is too long for a list of keys")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise refused(where, "it is not text") from None


def _check_state(where: str, state: os.stat_result) -> None:
    """Refuse a file that anyone but root and the user who mounts can read or could exchange."""
    if stat.S_ISDIR(state.st_mode):
        raise refused(where, "it is a directory")
    if not stat.S_ISREG(state.st_mode):
        raise refused(where, "it is no regular file")
    if state.st_uid not in (0, os.geteuid()):
        raise refused(
            where,
            f"it belongs to another user (uid {state.st_uid}), not to the one who mounts (uid "
            f"{os.geteuid()}); run chown on it",
        )
    if state.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        mode = f"{stat.S_IMODE(state.st_mode):04o}"
        raise refused(where, f"others may use it (mode {mode}); run chmod 600 on it")
