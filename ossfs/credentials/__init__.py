"""Where the keys come from: option, environment, passwd file; later process and RAM role."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Credentials:
    """One set of keys. The secret parts never show in repr, so never in a log."""

    key_id: str
    key_secret: str = field(repr=False)
    token: str | None = field(default=None, repr=False)
    """STS security token, if any."""

    def secrets(self) -> tuple[str, ...]:
        """Return what must never be seen in a log, an environment or a command line."""
        return (self.key_secret, self.token) if self.token else (self.key_secret,)


@dataclass(frozen=True, slots=True)
class KeySettings:
    """What the options say about credentials; `environment.find` makes keys of it."""

    key_id: str = ""
    key_secret: str = field(default="", repr=False)
    passwd_file: str = ""


class CredentialsProvider(Protocol):
    """Gives the current keys; called from any thread, on every request, so it must not block."""

    def get(self) -> Credentials: ...

    def refresh(self) -> bool:
        """Fetch afresh after the store refused the keys as outdated; False if nothing changed."""
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

    def secrets(self) -> tuple[str, ...]:
        return self._credentials.secrets()
