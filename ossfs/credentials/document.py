"""Keys in the JSON that programs, files and the metadata service of an instance give.

    {"AccessKeyId": "...", "AccessKeySecret": "...", "SecurityToken": "...",
     "Expiration": "2026-11-26T21:00:00Z"}

The last two may be missing; an expiration without a time zone is UTC. No message repeats a word
of the text: it may be a secret.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime

from ossfs.credentials import Credentials
from ossfs.runtime.failure import ExitStatus, UserError


def refused(where: str, reason: str) -> UserError:
    """Return the error that names a source of keys and what is wrong with it."""
    return UserError(f"{where} is refused: {reason}", ExitStatus.CREDENTIALS)


def read(text: str | bytes, where: str) -> Credentials:
    """Return the keys; UserError with status CREDENTIALS that begins with `where`."""
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        raise refused(where, "it is no JSON") from None
    if not isinstance(told, dict):
        raise refused(where, "it is no JSON object")
    code = told.get("Code", "Success")
    if code != "Success":
        raise refused(where, "it tells of a failure, not of keys")
    fields = [told.get(name) for name in ("AccessKeyId", "AccessKeySecret", "SecurityToken")]
    if not all(isinstance(value, str) for value in fields if value is not None):
        raise refused(where, "a key in it is no text")
    key_id, key_secret, token = ((value or "").strip() for value in fields)
    if not key_id or not key_secret:
        raise refused(where, "it lacks AccessKeyId or AccessKeySecret")
    expires = told.get("Expiration")
    return check(
        Credentials(
            key_id, key_secret, token or None, None if not expires else _moment(expires, where)
        ),
        where,
    )


def check(credentials: Credentials, where: str) -> Credentials:
    """Return keys that a header can carry; others come from a file saved the wrong way."""
    text = credentials.key_id + "".join(credentials.secrets())
    if not (text.isascii() and text.isprintable()):
        raise refused(where, "it holds characters that no key has; copy the keys afresh")
    return credentials


def _moment(text: object, where: str) -> float:
    try:
        if not isinstance(text, str):
            raise ValueError
        moment = datetime.fromisoformat(text.strip())
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise refused(where, "its Expiration is no time such as 2026-11-26T21:00:00Z") from None
