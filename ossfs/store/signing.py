"""Signatures of requests: OSS's versions 1 and 4, and S3's, for oss2's and minio's are too slow.

A signer turns the parts of a request into the header lines that authorise it.
What changes once a second or once a day (dates, scope, the V4 day key) is kept
in one tuple that is replaced as a whole, so signers need no lock and may be used
by any number of threads. The output is byte for byte oss2's, or minio's, for the same
second; the tests hold that over arbitrary keys, queries and headers.

Header names are given in lower case. OSS signs only some of them (x-oss-*,
content-type, content-md5), S3 all. Range and If-Match are never signed: they are not
among the headers that a signer is given.

Sources: https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html,
https://www.alibabacloud.com/help/en/oss/developer-reference/include-signatures-in-the-authorization-header
and https://www.alibabacloud.com/help/en/oss/developer-reference/recommend-to-use-signature-version-4
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from binascii import b2a_base64
from collections.abc import Callable, Sequence
from email.utils import formatdate
from functools import lru_cache
from typing import NamedTuple, Protocol, TypeAlias
from urllib.parse import quote

from ossfs.credentials import Credentials, CredentialsProvider

Pairs: TypeAlias = Sequence[tuple[bytes, bytes]]

_SUBRESOURCES = frozenset(
    (
        b"append",
        b"bucketInfo",
        b"continuation-token",
        b"delete",
        b"objectMeta",
        b"partNumber",
        b"position",
        b"restore",
        b"symlink",
        b"tagging",
        b"uploadId",
        b"uploads",
        b"versionId",
        b"x-oss-process",
        b"x-oss-traffic-limit",
    )
)
"""Query parameters that V1 signs, of those a file system can need."""
_BLANKS = re.compile(b"  +")
"""S3 signs one blank where a value has several."""


class Signer(Protocol):
    """Authorises requests to one bucket."""

    def sign(self, method: bytes, key: bytes, query: Pairs, headers: Pairs) -> bytes:
        """Return header lines, each ended by CRLF, to be sent beside `headers`.

        `key` is empty for requests to the bucket; `query` is not yet percent-encoded and a value
        of b"" means a bare name. Credentials are asked of the provider at each call.
        """
        ...


class Unsigned:
    """Of somebody without keys: requests say nothing about who sends them."""

    def sign(self, method: bytes, key: bytes, query: Pairs, headers: Pairs) -> bytes:
        return b""


@lru_cache(maxsize=1024)
def quote_key(key: bytes) -> str:
    """Percent-encode all but unreserved characters and slashes."""
    return quote(key, safe="/")


def make_signer(
    provider: CredentialsProvider,
    bucket: str,
    region: str,
    wall: Callable[[], float] = time.time,
) -> Signer:
    """Return a V4 signer where the region is known, else a V1 signer; without keys neither."""
    if not provider.get().key_id:
        return Unsigned()
    if region:
        return SignerV4(provider, bucket, region, wall)
    return SignerV1(provider, bucket, wall)


class _Second(NamedTuple):
    """What V1 works out once a second."""

    second: int
    date: bytes


class SignerV1:
    """HMAC-SHA1 over the request's parts in plain text."""

    def __init__(
        self, provider: CredentialsProvider, bucket: str, wall: Callable[[], float] = time.time
    ) -> None:
        self._provider = provider
        self._resource = b"/" + bucket.encode() + b"/"
        self._wall = wall
        self._now = _Second(-1, b"")

    def sign(self, method: bytes, key: bytes, query: Pairs, headers: Pairs) -> bytes:
        credentials = self._provider.get()
        second = int(self._wall())
        now = self._now
        if now.second != second:
            now = self._now = _Second(second, formatdate(second, usegmt=True).encode())
        md5 = content_type = b""
        signed = []
        for name, value in headers:
            if name.startswith(b"x-oss-"):
                signed.append(name + b":" + value + b"\n")
            elif name == b"content-type":
                content_type = value
            elif name == b"content-md5":
                md5 = value
        lines = b"Date: " + now.date + b"\r\n"
        if credentials.token:
            token = credentials.token.encode()
            signed.append(b"x-oss-security-token:" + token + b"\n")
            lines += b"x-oss-security-token: " + token + b"\r\n"
        signed.sort(key=_name_of)
        resource = self._resource + key
        if query:
            named = sorted(pair for pair in query if pair[0] in _SUBRESOURCES)
            if named:
                resource += b"?" + b"&".join(
                    name + b"=" + value if value else name for name, value in named
                )
        text = b"\n".join((method, md5, content_type, now.date, b"".join(signed) + resource))
        digest = hmac.digest(credentials.key_secret.encode(), text, "sha1")
        signature = b2a_base64(digest, newline=False)
        return lines + b"Authorization: OSS %b:%b\r\n" % (credentials.key_id.encode(), signature)


class _Day(NamedTuple):
    """What V4 works out once a day, set of keys and region."""

    date: bytes
    credentials: Credentials
    region: str
    scope: bytes
    key: bytes
    """Signing key: four HMACs deep, and dear."""


class _Stamp(NamedTuple):
    """What V4 works out once a second."""

    second: int
    stamp: bytes


class _V4:
    """HMAC-SHA256 under a key derived for the day and the region; the body is not hashed."""

    name: bytes
    """Of the algorithm."""
    secret: bytes
    """What the secret begins with as a key."""
    service: bytes
    request: bytes
    """Ends a scope."""

    def __init__(
        self, provider: CredentialsProvider, region: str, wall: Callable[[], float]
    ) -> None:
        self.region = region
        self._provider = provider
        self._wall = wall
        self._now = _Stamp(-1, b"")
        self._day: _Day | None = None

    def _of_now(self, credentials: Credentials) -> tuple[bytes, _Day]:
        """Return the time as requests say it, and what is signed with today."""
        second = int(self._wall())
        now = self._now
        if now.second != second:
            moment = time.gmtime(second)
            now = self._now = _Stamp(second, time.strftime("%Y%m%dT%H%M%SZ", moment).encode())
        day = self._day
        if (
            day is None
            or day.credentials is not credentials
            or day.region is not self.region
            or day.date != now.stamp[:8]
        ):
            day = self._day = self._derive(now.stamp[:8], credentials, self.region)
        return now.stamp, day

    def _derive(self, date: bytes, credentials: Credentials, region: str) -> _Day:
        key = self.secret + credentials.key_secret.encode()
        parts = (date, region.encode(), self.service, self.request)
        for part in parts:
            key = hmac.digest(key, part, "sha256")
        return _Day(date, credentials, region, b"/".join(parts), key)

    def _signature(self, stamp: bytes, day: _Day, canonical: bytes) -> bytes:
        text = b"%b\n%b\n%b\n%b" % (
            self.name,
            stamp,
            day.scope,
            hashlib.sha256(canonical).hexdigest().encode(),
        )
        return hmac.digest(day.key, text, "sha256").hex().encode()


class SignerV4(_V4):
    """OSS's version 4."""

    name = b"OSS4-HMAC-SHA256"
    secret = b"aliyun_v4"
    service = b"oss"
    request = b"aliyun_v4_request"

    def __init__(
        self,
        provider: CredentialsProvider,
        bucket: str,
        region: str,
        wall: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(provider, region, wall)
        self._resource = f"/{bucket}/"

    def sign(self, method: bytes, key: bytes, query: Pairs, headers: Pairs) -> bytes:
        credentials = self._provider.get()
        stamp, day = self._of_now(credentials)
        signed = [
            b"x-oss-content-sha256:UNSIGNED-PAYLOAD\n",
            b"x-oss-date:" + stamp + b"\n",
        ]
        lines = b"x-oss-content-sha256: UNSIGNED-PAYLOAD\r\nx-oss-date: " + stamp + b"\r\n"
        for name, value in headers:
            if name.startswith(b"x-oss-") or name == b"content-type" or name == b"content-md5":
                signed.append(name + b":" + value + b"\n")
        if credentials.token:
            token = credentials.token.encode()
            signed.append(b"x-oss-security-token:" + token + b"\n")
            lines += b"x-oss-security-token: " + token + b"\r\n"
        signed.sort(key=_name_of)
        canonical = b"%b\n%b\n%b\n%b\n\nUNSIGNED-PAYLOAD" % (
            method,
            (self._resource + quote_key(key)).encode(),
            encode_query(query, ordered=True) if query else b"",
            b"".join(signed),
        )
        return lines + (
            b"Authorization: OSS4-HMAC-SHA256 Credential=%b/%b, Signature=%b\r\n"
            % (credentials.key_id.encode(), day.scope, self._signature(stamp, day, canonical))
        )


class S3Signer(_V4):
    """S3's version 4, over every header it is given; nothing where there are no keys.

    The region may be set anew at any time.
    """

    name = b"AWS4-HMAC-SHA256"
    secret = b"AWS4"
    service = b"s3"
    request = b"aws4_request"

    def __init__(
        self,
        provider: CredentialsProvider,
        authority: str,
        path: str,
        region: str,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`authority` is what the Host header says, `path` what stands before the key."""
        super().__init__(provider, region, wall)
        self._host = (b"host", authority.encode())
        self._path = path

    def sign(self, method: bytes, key: bytes, query: Pairs, headers: Pairs) -> bytes:
        credentials = self._provider.get()
        if not credentials.key_id:
            return b""
        stamp, day = self._of_now(credentials)
        added = [(b"x-amz-content-sha256", b"UNSIGNED-PAYLOAD"), (b"x-amz-date", stamp)]
        if credentials.token:
            added.append((b"x-amz-security-token", credentials.token.encode()))
        signed = sorted([self._host, *added, *headers])
        names = b";".join([name for name, _ in signed])
        canonical = b"%b\n%b\n%b\n%b\n%b\nUNSIGNED-PAYLOAD" % (
            method,
            (self._path + quote_key(key)).encode(),
            encode_query(query, ordered=True, bare="=") if query else b"",
            b"".join([b"%b:%b\n" % (name, _BLANKS.sub(b" ", value)) for name, value in signed]),
            names,
        )
        lines = b"".join([b"%b: %b\r\n" % pair for pair in added])
        return lines + (
            b"Authorization: AWS4-HMAC-SHA256 Credential=%b/%b, SignedHeaders=%b, Signature=%b\r\n"
            % (
                credentials.key_id.encode(),
                day.scope,
                names,
                self._signature(stamp, day, canonical),
            )
        )


def encode_query(query: Pairs, *, ordered: bool = False, bare: str = "") -> bytes:
    """Percent-encode a query; `ordered` as V4 signs it, by the encoded name.

    `bare` ends a name without a value: S3 signs an equals sign there.
    """
    encoded = [(quote(name, safe=""), quote(value, safe="")) for name, value in query]
    if ordered:
        encoded.sort()
    return "&".join(f"{name}={value}" if value else name + bare for name, value in encoded).encode()


def _name_of(line: bytes) -> bytes:
    return line[: line.index(b":")]
