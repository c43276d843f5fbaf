"""The lines of a passwd file: ID:SECRET, BUCKET:ID:SECRET, or ossfs 1's key=value form."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ossfs.credentials import Credentials
from ossfs.credentials.document import check, refused

_ID_NAMES = frozenset({"accesskeyid", "awsaccesskeyid", "ossaccesskeyid"})
_SECRET_NAMES = frozenset({"accesskeysecret", "awssecretkey", "ossaccesskeysecret", "secretkey"})
_TOKEN_NAMES = frozenset({"securitytoken", "sessiontoken", "osssessiontoken"})


def parse(where: str, lines: Iterable[str]) -> dict[str, Credentials]:
    """Return the keys by bucket, those for any bucket under the empty name.

    `where` begins the message of the UserError for what is no such file.
    """
    found: dict[str, Credentials] = {}
    named: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        place = f"line {number}"
        name, equals, value = text.partition("=")
        field = _field(name) if equals else None
        if field is not None:
            named[field] = value.strip()
            continue
        parts = text.split(":")
        if not 2 <= len(parts) <= 4:
            raise refused(where, f"{place} is neither ID:SECRET nor BUCKET:ID:SECRET")
        bucket = parts.pop(0).strip() if len(parts) > 2 else ""
        if bucket in found:
            whom = f'bucket "{bucket}"' if bucket else "any bucket"
            raise refused(where, f"{place} gives keys for {whom} a second time")
        found[bucket] = _credentials(where, place, *(part.strip() for part in parts))
    if named:
        if "" in found:
            raise refused(where, "it gives keys for any bucket a second time, by name=value")
        found[""] = _credentials(
            where,
            "its name=value form",
            named.get("id", ""),
            named.get("secret", ""),
            named.get("token", ""),
        )
    return found


def choose(where: str, bucket: str, found: Mapping[str, Credentials]) -> Credentials:
    """Return the bucket's keys, or those for any; UserError where there are none."""
    credentials = found.get(bucket) or found.get("")
    if credentials is None:
        raise refused(where, f'it holds no keys for bucket "{bucket}"')
    return credentials


def _field(name: str) -> str | None:
    plain = name.strip().lower().replace("_", "")
    for field, names in (("id", _ID_NAMES), ("secret", _SECRET_NAMES), ("token", _TOKEN_NAMES)):
        if plain in names:
            return field
    return None


def _credentials(
    where: str, place: str, key_id: str, key_secret: str, token: str = ""
) -> Credentials:
    if not key_id or not key_secret:
        raise refused(where, f"{place} lacks the ID or the secret")
    return check(Credentials(key_id, key_secret, token or None), f"{where}: {place}")
