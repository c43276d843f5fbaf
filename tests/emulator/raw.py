"""A client of a few lines that says exactly what a test wants said, and signs it itself.

It shares nothing with the emulator's checker or the SDKs: the third opinion on signatures.
Text is sent as UTF-8, and a surrogate as the byte it stands for.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import re
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any
from urllib.parse import quote

_V1_SIGNED = (  # noqa: SIM905 - a screenful of quotes would hide the list
    "acl append bucketInfo continuation-token delete location objectMeta partNumber position "
    "response-cache-control response-content-disposition response-content-type restore symlink "
    "tagging uploadId uploads"
).split()


def _sent(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _quoted(text: str) -> str:
    return quote(_sent(text), safe="")


def _query(parameters: Mapping[str, str]) -> str:
    text = "&".join(
        f"{_quoted(name)}={_quoted(value)}" if value else _quoted(name)
        for name, value in parameters.items()
    )
    return f"?{text}" if text else ""


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    """By lower-case name."""
    body: bytes

    @property
    def code(self) -> str:
        """The error's code, from the body or, after a HEAD, from x-oss-err."""
        text = self.body or base64.b64decode(self.headers.get("x-oss-err", ""))
        found = re.search(rb"<Code>(\w+)</Code>", text)
        return found[1].decode() if found else ""

    def all(self, tag: str) -> list[str]:
        """The text of every element of that name."""
        return re.findall(rf"<{tag}>([^<]*)</{tag}>", self.body.decode())

    def one(self, tag: str) -> str:
        (found,) = self.all(tag)
        return found


class RawClient:
    """One keep-alive connection to an emulator."""

    def __init__(
        self,
        port: int,
        *,
        bucket: str = "test-bucket",
        key_id: str = "test-key-id",
        key_secret: str = "test-key-secret",
        region: str = "cn-hangzhou",
        token: str | None = None,
        v4: bool = False,
    ) -> None:
        self.port = port
        self.bucket = bucket
        self.key_id = key_id
        self.key_secret = key_secret
        self.region = region
        self.token = token
        self.v4 = v4
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def close(self) -> None:
        self._connection.close()

    def call(
        self,
        method: str,
        key: str | bytes = b"",
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
        *,
        bucket: str | None = None,
        signed: bool = True,
        now: float | None = None,
        host: str | None = None,
    ) -> Answer:
        """Send one request; `host` makes it virtual-host style."""
        sent = dict(headers or {})
        if signed:
            sent = self.sign(method, key, query, sent, bucket=bucket, now=now)
        if host is not None:
            sent["Host"] = host
            bucket = ""
        target = self._path(bucket, key) + _query(query or {})
        chunked = "Transfer-Encoding" in sent
        lines = {name: _sent(value) for name, value in sent.items()}
        self._connection.request(method, target, body, lines, encode_chunked=chunked)
        reply = self._connection.getresponse()
        data = reply.read()
        return Answer(reply.status, {n.lower(): v for n, v in reply.getheaders()}, data)

    def begin(
        self,
        method: str,
        key: str = "",
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        bucket: str | None = None,
    ) -> socket.socket:
        """Send the head of a signed request on a connection of its own; return that."""
        sent = self.sign(method, key, query, headers, bucket=bucket)
        target = self._path(bucket, key) + _query(query or {})
        lines = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
        connection = socket.create_connection(("127.0.0.1", self.port), 10)
        connection.sendall(_sent(f"{method} {target} HTTP/1.1\r\nHost: x\r\n{lines}\r\n"))
        return connection

    def sign(
        self,
        method: str,
        key: str | bytes = b"",
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        bucket: str | None = None,
        now: float | None = None,
        additional: Sequence[str] = (),
    ) -> dict[str, str]:
        """Return the headers with those of a signature, which is good for 15 minutes from `now`.

        A V4 signature covers the `additional` headers besides the usual ones.
        """
        sent = dict(headers or {})
        if self.token:
            sent["x-oss-security-token"] = self.token
        now = time.time() if now is None else now
        if self.v4:
            path = self._path(bucket, key)
            self._sign_v4(method, path, query or {}, sent, now, additional)
        else:
            bucket = self.bucket if bucket is None else bucket
            raw = key.encode() if isinstance(key, str) else key
            self._sign_v1(method, bucket, raw, query or {}, sent, now)
        return sent

    def _path(self, bucket: str | None, key: str | bytes) -> str:
        """Return the path of a key; without a bucket, which the host names then, or nothing."""
        bucket = self.bucket if bucket is None else bucket
        return f"/{bucket}/{quote(key)}" if bucket else f"/{quote(key)}"

    def _sign_v1(
        self,
        method: str,
        bucket: str,
        key: bytes,
        query: Mapping[str, str],
        headers: dict[str, str],
        now: float,
    ) -> None:
        lower = {name.lower(): value for name, value in headers.items()}
        headers["Date"] = formatdate(now, usegmt=True)
        oss = "".join(
            f"{name}:{value}\n" for name, value in sorted(lower.items()) if name[:6] == "x-oss-"
        )
        signed = "&".join(
            f"{name}={value}" if value else name
            for name, value in sorted(query.items())
            if name in _V1_SIGNED
        )
        text = _sent(
            f"{method}\n{lower.get('content-md5', '')}\n{lower.get('content-type', '')}\n"
            f"{headers['Date']}\n{oss}"
        )
        text += f"/{bucket}/".encode() + key if bucket else b"/"
        text += _sent(f"?{signed}") if signed else b""
        digest = hmac.new(self.key_secret.encode(), text, hashlib.sha1).digest()
        headers["Authorization"] = f"OSS {self.key_id}:{base64.b64encode(digest).decode()}"

    def _sign_v4(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        headers: dict[str, str],
        now: float,
        additional: Sequence[str],
    ) -> None:
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
        headers["x-oss-date"] = stamp
        headers["x-oss-content-sha256"] = "UNSIGNED-PAYLOAD"
        lower = {name.lower(): value for name, value in headers.items()}
        lines = "".join(
            f"{name}:{value}\n"
            for name, value in sorted(lower.items())
            if name[:6] == "x-oss-" or name in ("content-type", "content-md5", *additional)
        )
        pairs = sorted((_quoted(name), _quoted(value)) for name, value in query.items())
        text = "&".join(f"{name}={value}" if value else name for name, value in pairs)
        more = ";".join(sorted(additional))
        canonical = f"{method}\n{path}\n{text}\n{lines}\n{more}\nUNSIGNED-PAYLOAD"
        scope = f"{stamp[:8]}/{self.region}/oss/aliyun_v4_request"
        digest = hashlib.sha256(_sent(canonical)).hexdigest()
        key = f"aliyun_v4{self.key_secret}".encode()
        for step in scope.split("/"):
            key = hmac.new(key, step.encode(), hashlib.sha256).digest()
        signature = hmac.new(
            key, f"OSS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}".encode(), hashlib.sha256
        ).hexdigest()
        headers["Authorization"] = (
            f"OSS4-HMAC-SHA256 Credential={self.key_id}/{scope},"
            + (f"AdditionalHeaders={more}," if more else "")
            + f"Signature={signature}"
        )
