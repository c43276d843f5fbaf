"""Files that hold keys: refused when anyone may read them but their owner, root or the mounter."""

from __future__ import annotations

import os
import stat

from ossfs.credentials import Credentials, document
from ossfs.credentials.document import refused
from ossfs.credentials.passwd import choose, parse
from ossfs.runtime.textfile import read_text


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
        return read_text(path, _check_state)
    except ValueError as reason:
        raise refused(where, str(reason)) from None


def _check_state(state: os.stat_result) -> None:
    """Refuse a file that anyone but root and the user who mounts can read or could exchange."""
    if state.st_uid not in (0, os.geteuid()):
        raise ValueError(
            f"it belongs to another user (uid {state.st_uid}), not to the one who mounts (uid "
            f"{os.geteuid()}); run chown on it"
        )
    if state.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        mode = f"{stat.S_IMODE(state.st_mode):04o}"
        raise ValueError(f"others may use it (mode {mode}); run chmod 600 on it")
