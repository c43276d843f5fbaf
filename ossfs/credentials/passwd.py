"""Keys from a passwd file: lines ID:SECRET, BUCKET:ID:SECRET, or ossfs 1's key=value form.

The file is refused when anyone may read it but its owner, who is root or the user who mounts. It
is read when the mount starts and again when the store says that the keys have expired or are
unknown, so keys can be exchanged under a running mount. `get` may be called from any thread and
never touches the file; the reference it returns is replaced as a whole, after its secrets have
become known as such.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable

from ossfs.credentials import Credentials
from ossfs.runtime.failure import ExitStatus, UserError

_ID_NAMES = frozenset({"accesskeyid", "awsaccesskeyid", "ossaccesskeyid"})
_SECRET_NAMES = frozenset({"accesskeysecret", "awssecretkey", "ossaccesskeysecret", "secretkey"})
_TOKEN_NAMES = frozenset({"securitytoken", "sessiontoken", "osssessiontoken"})

_SECRETS_REMEMBERED = 16
SIZE_LIMIT = 1024 * 1024
"""Bytes; a longer file is something else."""


class PasswdFile:
    """A provider that reads the file afresh when asked to refresh."""

    def __init__(self, path: str, bucket: str) -> None:
        """Read the file; UserError with status CREDENTIALS when it cannot serve."""
        self.path = path
        self.bucket = bucket
        self._credentials = load(path, bucket)
        self._secrets = self._credentials.secrets()

    def get(self) -> Credentials:
        return self._credentials

    def refresh(self) -> bool:
        """Read the file again; keep the keys at hand when it cannot be read now."""
        try:
            fresh = load(self.path, self.bucket)
        except UserError:
            return False
        if fresh == self._credentials:
            return False
        self._secrets = (fresh.secrets() + self._secrets)[:_SECRETS_REMEMBERED]
        self._credentials = fresh
        return True

    def secrets(self) -> tuple[str, ...]:
        return self._secrets


def load(path: str, bucket: str) -> Credentials:
    """Return the keys that the file holds for `bucket`."""
    try:
        # Without waiting, as a FIFO would make us. A symbolic link is as good as what it names.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            # Judged by the open file, so that it cannot be exchanged between check and reading.
            _check_state(path, os.fstat(fd))
            with open(fd, "rb", closefd=False) as file:
                raw = file.read(SIZE_LIMIT + 1)
        finally:
            os.close(fd)
    except OSError as error:
        raise _refuse(path, f"it cannot be read: {os.strerror(error.errno or 0)}") from None
    if len(raw) > SIZE_LIMIT:
        raise _refuse(path, "it is too long for a list of keys")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise _refuse(path, "it is not text") from None
    return _choose(path, bucket, parse(path, text.splitlines()))


def _check_state(path: str, state: os.stat_result) -> None:
    """Refuse a file that anyone but root and the user who mounts can read or could exchange."""
    if stat.S_ISDIR(state.st_mode):
        raise _refuse(path, "it is a directory")
    if not stat.S_ISREG(state.st_mode):
        raise _refuse(path, "it is no regular file")
    if state.st_uid not in (0, os.geteuid()):
        raise _refuse(
            path,
            f"it belongs to another user (uid {state.st_uid}), not to the one who mounts (uid "
            f"{os.geteuid()}); run chown on it",
        )
    if state.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        mode = f"{stat.S_IMODE(state.st_mode):04o}"
        raise _refuse(path, f"others may use it (mode {mode}); run chmod 600 on it")


def parse(path: str, lines: Iterable[str]) -> dict[str, Credentials]:
    """Return the keys by bucket, those for any bucket under the empty name."""
    found: dict[str, Credentials] = {}
    named: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        where = f"line {number}"
        name, equals, value = text.partition("=")
        field = _field(name) if equals else None
        if field is not None:
            named[field] = value.strip()
            continue
        parts = text.split(":")
        if not 2 <= len(parts) <= 4:
            raise _refuse(path, f"{where} is neither ID:SECRET nor BUCKET:ID:SECRET")
        bucket = parts.pop(0).strip() if len(parts) > 2 else ""
        if bucket in found:
            whom = f'bucket "{bucket}"' if bucket else "any bucket"
            raise _refuse(path, f"{where} gives keys for {whom} a second time")
        found[bucket] = _credentials(path, where, *(part.strip() for part in parts))
    if named:
        if "" in found:
            raise _refuse(path, "it gives keys for any bucket a second time, by name=value")
        found[""] = _credentials(
            path,
            "its name=value form",
            named.get("id", ""),
            named.get("secret", ""),
            named.get("token", ""),
        )
    return found


def check(credentials: Credentials, where: str) -> Credentials:
    """Return keys that a header can carry; others come from a file saved the wrong way."""
    text = credentials.key_id + "".join(credentials.secrets())
    if not (text.isascii() and text.isprintable()):
        raise UserError(
            f"{where} hold characters that no key has; copy them afresh", ExitStatus.CREDENTIALS
        )
    return credentials


def _field(name: str) -> str | None:
    plain = name.strip().lower().replace("_", "")
    for field, names in (("id", _ID_NAMES), ("secret", _SECRET_NAMES), ("token", _TOKEN_NAMES)):
        if plain in names:
            return field
    return None


def _credentials(
    path: str, where: str, key_id: str, key_secret: str, token: str = ""
) -> Credentials:
    if not key_id or not key_secret:
        raise _refuse(path, f"{where} lacks the ID or the secret")
    return check(Credentials(key_id, key_secret, token or None), f"passwd_file {path}: {where}")


def _choose(path: str, bucket: str, found: dict[str, Credentials]) -> Credentials:
    credentials = found.get(bucket) or found.get("")
    if credentials is None:
        raise _refuse(path, f'it holds no keys for bucket "{bucket}"')
    return credentials


def _refuse(path: str, reason: str) -> UserError:
    return UserError(f"passwd_file {path} is refused: {reason}", ExitStatus.CREDENTIALS)
