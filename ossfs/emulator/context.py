"""What every handler works with, and what handlers of different rooms share."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass

from ossfs.emulator.faults import OssFault
from ossfs.emulator.files import Body
from ossfs.emulator.records import STORAGE_CLASSES, Metadata
from ossfs.emulator.reply import Line
from ossfs.emulator.request import Call, is_utf8
from ossfs.emulator.storage import Bucket, Storage

_KEPT_HEADERS = (
    "Content-Type",
    "Cache-Control",
    "Content-Disposition",
    "Content-Encoding",
    "Content-Language",
    "Expires",
)
_USER_PREFIX = b"x-oss-meta-"
_USER_NAME = re.compile(rb"[a-z0-9-]+")
_LARGEST_DOCUMENT = 4 << 20


def _not_text(header: str) -> OssFault:
    return OssFault(
        "InvalidArgument", "Headers of an object must be UTF-8.", details={"ArgumentName": header}
    )


@dataclass(frozen=True, slots=True)
class Service:
    """What is the same for every request."""

    storage: Storage
    region: str


@dataclass(slots=True)
class Context:
    """One request being handled."""

    service: Service
    call: Call
    line: Line

    def bucket(self) -> Bucket:
        """Return the bucket the request is for; raises NoSuchBucket, InvalidObjectName."""
        bucket = self.service.storage.bucket(self.call.bucket)
        if self.call.key:
            bucket.check_key(self.call.key)
        return bucket

    async def _chunks(self, body: Body | bytearray) -> None:
        call = self.call
        if call.header("expect").lower() == "100-continue":
            await self.line.send(b"HTTP/1.1 100 Continue\r\n\r\n", b"")
        content = call.request.content
        while True:
            try:
                data = await content.readany()
            except OSError as error:
                raise ConnectionResetError(str(error)) from error
            if not data:
                return
            self.line.received += len(data)
            await self.line.pace(len(data))
            if isinstance(body, bytearray):
                body += data
                if len(body) > _LARGEST_DOCUMENT:
                    raise OssFault("MalformedXML")
            else:
                body.write(data)

    def _check_length(self, limit: int) -> None:
        length = self.call.header("content-length")
        if length:
            if int(length) > limit:
                raise OssFault("EntityTooLarge")
        elif "chunked" not in self.call.header("transfer-encoding").lower():
            raise OssFault("MissingContentLength")

    async def receive(self, body: Body, limit: int) -> None:
        """Read the request's body; raises EntityTooLarge before the first byte where it can."""
        self._check_length(limit)
        digest = self._content_md5()
        if digest is not None:
            body.want_md5()
        await self._chunks(body)
        if digest is not None and digest != body.md5:
            raise self._wrong_digest()

    async def read_document(self) -> bytes:
        """Read a small body into memory; a Content-MD5 that comes with it must be right."""
        expected = self._content_md5()
        data = bytearray()
        await self._chunks(data)
        if expected is not None and expected != hashlib.md5(data, usedforsecurity=False).digest():
            raise self._wrong_digest()
        return bytes(data)

    def _wrong_digest(self) -> OssFault:
        return OssFault(
            "InvalidDigest", details={"ClientComputedContentMD5": self.call.header("content-md5")}
        )

    def _content_md5(self) -> bytes | None:
        text = self.call.header("content-md5")
        if not text:
            return None
        try:
            digest = base64.b64decode(text, validate=True)
        except ValueError:  # binascii.Error, and what is not ASCII
            digest = b""
        if len(digest) != 16:
            raise OssFault("InvalidDigest", details={"Content-MD5": text})
        return digest

    def metadata(self, bucket: Bucket) -> Metadata:
        """Return what the request's headers say of the object it makes."""
        call = self.call
        headers = {name: text for name in _KEPT_HEADERS if (text := call.header(name.lower()))}
        for name, text in headers.items():
            if not is_utf8(text):
                raise _not_text(name)
        headers.setdefault("Content-Type", "application/octet-stream")
        user: dict[str, str] = {}
        size = 0
        for raw, value in call.oss_headers():
            if not raw.startswith(_USER_PREFIX):
                continue
            size += len(raw) + len(value)
            if not _USER_NAME.fullmatch(raw):
                raise OssFault(
                    "InvalidArgument",
                    "User metadata names hold letters, digits and hyphens only.",
                    details={"ArgumentName": raw.decode("utf-8", "backslashreplace")},
                )
            try:
                user[raw[len(_USER_PREFIX) :].decode()] = value.decode()
            except UnicodeDecodeError:
                raise _not_text(raw.decode()) from None
        if size > bucket.limits.metadata:
            raise OssFault("MetadataTooLarge")
        storage_class = call.header("x-oss-storage-class") or "Standard"
        if storage_class not in STORAGE_CLASSES:
            raise OssFault(
                "InvalidArgument",
                details={"ArgumentName": "x-oss-storage-class", "ArgumentValue": storage_class},
            )
        return Metadata(headers, user, storage_class)
