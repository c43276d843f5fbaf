"""Which source the keys of a mount come from.

A file, a program or a role that is named wins over keys given as options and in the environment,
as in ossfs 2.0, but for a secret given as an option, which wins over a passwd file. An ID and its
secret may come from different places (an ID on the command line, its secret in the environment). A
security token belongs to temporary keys: it is taken with a secret from the environment, or with
an ID that begins with `STS.`. For an S3 store the names that S3's own tools use are looked at where
OSS's are not set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ossfs.credentials import ANONYMOUS, Credentials, KeySettings, Source
from ossfs.credentials.document import check
from ossfs.credentials.files import CredentialsFile, PasswdFile
from ossfs.credentials.process import Process
from ossfs.credentials.ram_role import RamRole
from ossfs.runtime.failure import ExitStatus, UserError

KEY_ID = "OSS_ACCESS_KEY_ID"
KEY_SECRET = "OSS_ACCESS_KEY_SECRET"
TOKEN = "OSS_SESSION_TOKEN"
_OF_S3 = {
    KEY_ID: "AWS_ACCESS_KEY_ID",
    KEY_SECRET: "AWS_SECRET_ACCESS_KEY",
    TOKEN: "AWS_SESSION_TOKEN",
}
ID_NAMES = frozenset({KEY_ID, _OF_S3[KEY_ID]})
"""What an environment calls the ID."""


class Given:
    """Keys that somebody has typed or put into the environment."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    def check(self) -> tuple[str, ...]:
        return self._credentials.secrets()

    def fetch(self) -> Credentials:
        return self._credentials

    def told(self) -> dict[str, str | float | None]:
        return {"kind": "given", **asdict(self._credentials)}


def find(
    settings: KeySettings, bucket: str, environ: Mapping[str, str], store: str = "oss"
) -> Source:
    """Return the source of a mount's keys; UserError with status CREDENTIALS without any."""
    if settings.anonymous:
        return Given(ANONYMOUS)
    if settings.ram_role:
        return RamRole(settings.ram_role)
    if settings.credential_process:
        return Process(settings.credential_process)
    if settings.credentials_file:
        return CredentialsFile(settings.credentials_file)
    if settings.passwd_file and not settings.key_secret:
        return PasswdFile(settings.passwd_file, bucket)
    if store == "s3" and not (environ.get(KEY_ID) or environ.get(KEY_SECRET)):
        environ = {ours: environ.get(name, "") for ours, name in _OF_S3.items()}
    key_id = settings.key_id or environ.get(KEY_ID, "").strip()
    key_secret = settings.key_secret or environ.get(KEY_SECRET, "").strip()
    if not key_id or not key_secret:
        raise UserError(_missing(key_id, key_secret), ExitStatus.CREDENTIALS)
    token = settings.token or None
    if token is None and (not settings.key_secret or key_id.startswith("STS.")):
        token = environ.get(TOKEN, "").strip() or None
    return Given(check(Credentials(key_id, key_secret, token), "the access key"))


def made(told: Mapping[str, Any]) -> Source:
    """Return the source that `Source.told` describes."""
    fields = dict(told)
    match fields.pop("kind"):
        case "passwd_file":
            return PasswdFile(**fields)
        case "credentials_file":
            return CredentialsFile(**fields)
        case "credential_process":
            return Process(**fields)
        case "ram_role":
            return RamRole(**fields)
        case _:
            return Given(Credentials(**fields))


def _missing(key_id: str, key_secret: str) -> str:
    if key_id and not key_secret:
        what = "the access key secret is missing"
    elif key_secret:
        what = "the access key ID is missing"
    else:
        what = "no credentials"
    return (
        f"{what}: set {KEY_ID} and {KEY_SECRET}, or give -o passwd_file=FILE (credentials_file, "
        "credential_process, ram_role, and anonymous for public buckets: see docs/OPTIONS.md)"
    )
