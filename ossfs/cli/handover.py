"""How a mount's configuration reaches the serving process: JSON in an anonymous file.

Command lines and environments can be read by others in /proc for as long as a process lives, so
the serving process gets neither the user's arguments nor the user's environment. The file exists
only in memory, has no name, and is closed as soon as it has been read. Word comes back as one
line of JSON over a pipe.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from ossfs.config.again import Again
from ossfs.config.options import MountOptions
from ossfs.credentials import Source, sources
from ossfs.runtime.failure import ExitStatus, UserError

_KEPT = frozenset(
    {"PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "VIRTUAL_ENV"}
    | {"LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR", "NOTIFY_SOCKET"}
)
_KEPT_PREFIXES = ("LC_", "PYTHON", "XDG_", "MALLOC_")


def encode(options: MountOptions, keys: Source, again: Again) -> bytes:
    """Return everything the serving process needs."""
    told = {"options": asdict(options), "keys": dict(keys.told()), "again": asdict(again)}
    return json.dumps(told).encode()


def decode(raw: bytes) -> tuple[MountOptions, Source, Again]:
    """Undo `encode`."""
    told = json.loads(raw)
    said = told["again"]
    said["positional"] = tuple(said["positional"])
    said["settings"] = tuple((name, value) for name, value in said["settings"])
    fields = told["options"]
    fields["kernel_words"] = tuple(fields["kernel_words"])
    return MountOptions(**fields), sources.made(told["keys"]), Again(**said)


def clean_environment(environ: Mapping[str, str], secrets: tuple[str, ...]) -> dict[str, str]:
    """Return the environment of the serving process: the few names it needs, and no secret."""
    return {
        name: value
        for name, value in environ.items()
        if (name in _KEPT or name.startswith(_KEPT_PREFIXES))
        and not any(secret in value for secret in secrets)
    }


def open_anonymous(name: str, content: bytes = b"") -> int:
    """Return a descriptor, inherited by children, of a memory file rewound to its start."""
    fd = os.memfd_create(name, 0)
    os.set_inheritable(fd, True)
    written = 0
    while written < len(content):
        written += os.write(fd, content[written:])
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def read_all(fd: int) -> bytes:
    """Read a descriptor to its end and close it."""
    with open(fd, "rb") as file:
        return file.read()


@dataclass(frozen=True, slots=True)
class Word:
    """What the serving process says once: it serves, or why it cannot."""

    error: str = ""
    status: ExitStatus = ExitStatus.OK

    def encode(self) -> bytes:
        return json.dumps({"error": self.error, "status": int(self.status)}).encode() + b"\n"

    @staticmethod
    def decode(line: bytes) -> Word:
        told = json.loads(line)
        return Word(told["error"], ExitStatus(told["status"]))

    def check(self) -> None:
        """Raise the error it tells of."""
        if self.status is not ExitStatus.OK:
            raise UserError(self.error, self.status)
