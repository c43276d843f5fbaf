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
        bucket = self.bucket if bucket is None else bucket
        raw = key.encode() if isinstance(key, str) else key
        query = query or {}
        sent = dict(headers or {})
        path = f"/{bucket}/{quote(raw)}" if bucket else "/"
        if self.token:
            sent["x-oss-security-token"] = self.token
        if signed:
            now = time.time() if now is None else now
            self._sign_v4(method, path, query, sent, now) if self.v4 else self._sign_v1(
                method, bucket, raw, query, sent, now
            )
        if host is not None:
            sent["Host"] = host
            path = f"/{quote(raw)}"
        text = "&".join(
            f"{_quoted(name)}={_quoted(value)}" if value else _quoted(name)
            for name, value in query.items()
        )
        target = path + (f"?{text}" if text else "")
        chunked = "Transfer-Encoding" in sent
        lines = {name: _sent(value) for name, value in sent.items()}
        self._connection.request(method, target, body, lines, encode_chunked=chunked)
        reply = self._connection.getresponse()
        data = reply.read()
        return Answer(reply.status, {n.lower(): v for n, v in reply.getheaders()}, data)

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
        additional: Sequence[str] = (),
    ) -> None:
        """Sign; `additional` names lower-case headers to be covered besides the usual ones."""
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
