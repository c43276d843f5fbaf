"""Where the keys come from: options, environment, files, a program, the instance's RAM role."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Credentials:
    """One set of keys. The secret parts never show in repr, so never in a log."""

    key_id: str
    key_secret: str = field(repr=False)
    token: str | None = field(default=None, repr=False)
    """STS security token, if any."""
    expires: float | None = None
    """Seconds since the epoch; None: not told, or never."""

    def secrets(self) -> tuple[str, ...]:
        """Return what must never be seen in a log, an environment or a command line."""
        found = (self.key_secret, self.token)
        return tuple(secret for secret in found if secret)


ANONYMOUS = Credentials("", "")
"""No keys at all: nothing is signed."""


@dataclass(frozen=True, slots=True)
class KeySettings:
    """What the options say about credentials; `sources.find` makes a source of it."""

    key_id: str = ""
    key_secret: str = field(default="", repr=False)
    passwd_file: str = ""
    credentials_file: str = ""
    credential_process: str = ""
    ram_role: str = ""
    anonymous: bool = False
    token: str = field(default="", repr=False)
    """Of keys that are given as options."""
    from_file: bool = False
    """A file of options names them, so that reading it again may name others."""


class Source(Protocol):
    """Whence keys can be had, again and again."""

    def check(self) -> tuple[str, ...]:
        """Say at once what can be said without waiting: UserError, or the secrets known by now."""
        ...

    def fetch(self) -> Credentials:
        """Return the keys of this moment; UserError with status CREDENTIALS without any.

        May take seconds, but no more than some ten.
        """
        ...

    def told(self) -> Mapping[str, str | float | None]:
        """Return what `sources.made` makes the same source of; `kind` is its name."""
        ...


class CredentialsProvider(Protocol):
    """Gives the current keys; called from any thread, on every request, so it must not block."""

    def get(self) -> Credentials: ...

    def refresh(self) -> bool:
        """Fetch afresh, also where the store refused the keys; False if nothing changed."""
        ...

    def renew_at(self) -> float | None:
        """Return when to refresh without being refused first, in seconds since the epoch."""
        ...

    def secrets(self) -> tuple[str, ...]:
        """Return the secrets of the keys given out now and lately: old ones may still be logged."""
        ...


class StaticCredentials:
    """Keys that never change."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    def get(self) -> Credentials:
        return self._credentials

    def refresh(self) -> bool:
        return False

    def renew_at(self) -> float | None:
        return None

    def secrets(self) -> tuple[str, ...]:
        return self._credentials.secrets()
