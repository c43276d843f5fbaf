"""Where the keys of a mount come from, in order: options, passwd file, environment.

An ID and its secret may come from different places (an ID on the command line, its secret in
the environment), but a passwd file always gives both. A security token belongs to temporary
keys: it is taken with a secret from the environment, or with an ID that begins with `STS.`.
For an S3 store the names that S3's own tools use are looked at where OSS's are not set.
"""

from __future__ import annotations

from collections.abc import Mapping

from ossfs.credentials import Credentials, CredentialsProvider, KeySettings, StaticCredentials
from ossfs.credentials.passwd import PasswdFile, check
from ossfs.runtime.failure import ExitStatus, UserError

KEY_ID = "OSS_ACCESS_KEY_ID"
KEY_SECRET = "OSS_ACCESS_KEY_SECRET"
TOKEN = "OSS_SESSION_TOKEN"
_OF_S3 = {
    KEY_ID: "AWS_ACCESS_KEY_ID",
    KEY_SECRET: "AWS_SECRET_ACCESS_KEY",
    TOKEN: "AWS_SESSION_TOKEN",
}


def find(
    settings: KeySettings, bucket: str, environ: Mapping[str, str], store: str = "oss"
) -> CredentialsProvider:
    """Return the provider of a mount's keys; UserError with status CREDENTIALS without any."""
    if store == "s3" and not (environ.get(KEY_ID) or environ.get(KEY_SECRET)):
        environ = {ours: environ.get(name, "") for ours, name in _OF_S3.items()}
    if settings.passwd_file and not settings.key_secret:
        return PasswdFile(settings.passwd_file, bucket)
    key_id = settings.key_id or environ.get(KEY_ID, "").strip()
    key_secret = settings.key_secret or environ.get(KEY_SECRET, "").strip()
    if not key_id or not key_secret:
        raise UserError(_missing(key_id, key_secret), ExitStatus.CREDENTIALS)
    token = None
    if not settings.key_secret or key_id.startswith("STS."):
        token = environ.get(TOKEN, "").strip() or None
    return StaticCredentials(check(Credentials(key_id, key_secret, token), "the credentials"))


def _missing(key_id: str, key_secret: str) -> str:
    if key_id and not key_secret:
        what = "the access key secret is missing"
    elif key_secret:
        what = "the access key ID is missing"
    else:
        what = "no credentials"
    return f"{what}: set {KEY_ID} and {KEY_SECRET}, or give -o passwd_file=FILE"
