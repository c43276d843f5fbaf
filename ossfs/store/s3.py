"""A bucket on S3 or on anything that speaks its protocol: MinIO, SeaweedFS, Ceph, OSS itself.

Requests go over our transport like OSS's, signed by our own signer; the minio library writes and
reads the XML of those that carry some. (Its client is not used: it repeats requests by itself,
knows no deadline, and keeps the calls of a multipart upload to itself.)

What S3 lacks is declared by the capabilities: append, symlinks, CRC-64. In place of the CRC every
upload carries its Content-MD5, which the server checks before it stores anything, and the ETag
that comes back must be that MD5; a completed upload's must be the MD5 of its parts' ETags. (Not
where the server encrypts with keys that make an ETag something else: then Content-MD5 alone
speaks for the bytes.) The signature covers no payload: SeaweedFS 4.48 does not look at the hash
there, and hashing twice costs a core.

Peculiarities, each found on a real server or in its source, are named where they are met.

Invariant: an upload returns only when the bytes that the server has are those that were sent.

The protocol has eighteen methods and this one class implements those that `http_store` does not,
hence its length.
"""

from __future__ import annotations

import hashlib
import time
import xml.etree.ElementTree as ElementTree
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import NoReturn
from urllib.parse import unquote_plus

from minio.datatypes import Upload
from minio.deleteobjects import DeleteObject, DeleteRequest, DeleteResult
from minio.xml import Element, SubElement, findall, findtext, getbytes, marshal, unmarshal

from ossfs.credentials import CredentialsProvider
from ossfs.store.api import (
    PLAIN,
    AppendReply,
    Buffer,
    Capabilities,
    ListPage,
    ObjectInfo,
    ObjectType,
    PartReply,
    PendingUpload,
    PutOptions,
    PutReply,
    UploadPart,
)
from ossfs.store.endpoint import Endpoint
from ossfs.store.errors import (
    Changed,
    Corrupt,
    Denied,
    Exists,
    Invalid,
    NotAppendable,
    NotFound,
    NoUpload,
    StoreError,
    Unavailable,
    WrongRegion,
)
from ossfs.store.exchange import Exchange, Unsuited
from ossfs.store.http_store import USER_AGENT, HttpStore, Question, check_order, reading
from ossfs.store.listing import S3 as S3_LISTING
from ossfs.store.listing import parse_error, parse_page
from ossfs.store.reply import Headers, natural
from ossfs.store.s3_errors import error_of, late_status
from ossfs.store.signing import Pairs, S3Signer, quote_key
from ossfs.store.wire import (
    OSS,
    S3,
    etag_of,
    etag_of_parts,
    findable,
    headers_of,
    http_date,
    is_text,
    metadata_in,
    pairs_of,
    storable,
)

DEFAULT_REGION = "us-east-1"

CAPABILITIES = Capabilities(
    minimum_part=5 * 1024**2,
    append=False,
    symlink=False,
    crc64=False,
)
"""https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html"""


class S3Store(HttpStore):
    """One bucket; implements `api.Store`."""

    def __init__(
        self,
        bucket: str,
        endpoint: str,
        credentials: CredentialsProvider,
        *,
        region: str = "",
        path_style: bool = True,
        connect_timeout: float = 3.0,
        read_timeout: float = 20.0,
        proxy: str = "",
        bind: Sequence[str] = (),
        ipv6: bool = True,
        user_agent: str = USER_AGENT,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Without a `region` it is us-east-1, or what the server names when it is probed."""
        place = Endpoint.parse(endpoint, bucket, path_style=path_style, dotted=True)
        self._s3_signer = S3Signer(
            credentials,
            place.origin.authority,
            place.path,
            region or DEFAULT_REGION,
            wall,
        )
        super().__init__(
            bucket,
            place,
            credentials,
            self._s3_signer,
            error_of,
            CAPABILITIES,
            connect_timeout=connect_timeout,
            read_timeout=read_timeout,
            proxy=proxy,
            bind=bind,
            ipv6=ipv6,
            user_agent=user_agent,
        )
        self._region_given = bool(region)

    # -- looking ------------------------------------------------------------------------------

    def probe(self, prefix: bytes, *, deadline: float) -> None:
        try:
            super().probe(prefix, deadline=deadline)
        except WrongRegion as error:
            if self._region_given or error.region in ("", self._s3_signer.region):
                raise
            self._s3_signer.region = error.region
            super().probe(prefix, deadline=deadline)
        server = self._send("HEAD", b"", (), deadline=deadline, replay=True).headers.get("server")
        if server is not None and server.startswith("SeaweedFS"):
            self.capabilities = replace(self.capabilities, directories_linger=True)

    def _describe(self, key: bytes, full: bool) -> Question[ObjectInfo]:
        findable(key)

        def understand(headers: Headers, _body: bytes) -> ObjectInfo:
            size = natural(headers["content-length"])
            mtime = http_date(headers["last-modified"])
            etag = headers["etag"].strip('"')
            if _is_ghost(etag):
                raise NotFound("a directory of the server's, no object", key=key)
            kind = ObjectType.MULTIPART if "-" in etag else ObjectType.NORMAL
            return ObjectInfo(
                size,
                mtime,
                etag,
                kind,
                _storage_class(headers),
                metadata=metadata_in(headers, S3) if full else {},
                content_type=headers.get("content-type") if full else None,
            )

        return Question("HEAD", key, (), key, understand)

    def get_symlink(self, key: bytes, *, deadline: float) -> bytes:
        self.head(key, deadline=deadline)
        raise Invalid("S3 has no symlink objects", key=key)

    # -- writing whole objects ----------------------------------------------------------------

    def put(
        self, key: bytes, data: Sequence[Buffer], options: PutOptions = PLAIN, *, deadline: float
    ) -> PutReply:
        storable(key)
        self._check_size(key, data)
        headers = pairs_of(headers_of(key, options, S3))
        exclusive = options.forbid_overwrite
        try:
            etag = self._upload(key, (), headers, data, deadline, exclusive=exclusive)
        except Exists:
            if not self._cleared_ghost(key, deadline):
                raise
            etag = self._upload(key, (), headers, data, deadline, exclusive=exclusive)
        return PutReply(etag, None)

    def begin_put(
        self, key: bytes, data: Sequence[Buffer], options: PutOptions
    ) -> Exchange[PutReply] | None:
        def make() -> Question[PutReply]:
            storable(key)
            md5 = _md5_of(data)

            def understand(headers: Headers, body: bytes) -> PutReply:
                etag = etag_of(key, headers, body)
                _check_etag(key, headers, etag, md5.hex())
                return PutReply(etag, None)

            headers = pairs_of(headers_of(key, options, S3))
            headers.append((b"content-md5", b64encode(md5)))
            return Question(
                "PUT",
                key,
                (),
                key,
                understand,
                _for_a_thread,
                headers=headers,
                data=data,
                replay=not options.forbid_overwrite,
            )

        return self._begin(make)

    def append(
        self,
        key: bytes,
        position: int,
        data: Sequence[Buffer],
        options: PutOptions = PLAIN,
        *,
        deadline: float,
    ) -> AppendReply:
        storable(key)
        raise NotAppendable("S3 has no appendable objects", key=key)

    def copy(
        self,
        source: bytes,
        target: bytes,
        *,
        if_match: str | None = None,
        options: PutOptions | None = None,
        deadline: float,
    ) -> PutReply:
        storable(target)
        findable(source)
        if source.endswith(b"/"):
            # SeaweedFS knows no marker as the source of a copy.
            info = self.head(source, full=True, deadline=deadline)
            if info.size == 0:
                kept = PutOptions(info.content_type, info.metadata)
                return self.put(target, [b""], options or kept, deadline=deadline)
        headers = [(b"x-amz-copy-source", self._as_source(source))]
        if options is not None:
            headers += pairs_of(headers_of(target, options, S3))
            headers.append((b"x-amz-metadata-directive", b"REPLACE"))
        if if_match is not None:
            headers.append((_IF_SOURCE, f'"{if_match}"'.encode()))
        try:
            etag, _ = self._changed("PUT", target, (), headers, [], deadline, of=source)
        except Changed as error:
            # One status says that the source is another, or that there is a target.
            if options is None or not options.forbid_overwrite:
                raise
            if if_match is not None and self.head(source, deadline=deadline).etag != if_match:
                raise
            raise Exists("there is an object already", key=target, code=error.code) from error
        return PutReply(etag, None)

    def delete_many(self, keys: Sequence[bytes], *, deadline: float) -> None:
        names = self._deleted_together(keys, deadline)
        if not names:
            return
        body = marshal(DeleteRequest([DeleteObject(name) for name in names]))
        headers = [(b"content-md5", b64encode(_md5_of([body])))]
        reply = self._send(
            "POST", b"", ((b"delete", b""),), headers, [body], deadline=deadline, replay=True
        )
        with reading(b""):
            result = unmarshal(DeleteResult, reply.read().decode())
            deleted = {one.name for one in result.object_list}
            refused = {one.name: one.code for one in result.error_list}
        left = [name for name in names if name not in deleted and refused.get(name) != "NoSuchKey"]
        if left:
            why = refused.get(left[0]) or "no reason given"
            kind = Denied if why == "AccessDenied" else Unavailable
            raise kind(
                f"{len(left)} of {len(names)} objects were not deleted: {why}",
                key=left[0].encode(),
            )

    def put_symlink(self, key: bytes, target: bytes, *, deadline: float) -> None:
        storable(key)
        raise Invalid("S3 has no symlink objects", key=key)

    # -- multipart ----------------------------------------------------------------------------

    def create_upload(self, key: bytes, options: PutOptions = PLAIN, *, deadline: float) -> str:
        storable(key)
        if options.forbid_overwrite:  # S3 refuses the completion alone
            with suppress(NotFound):  # as it should be
                self.head(key, deadline=deadline)
                raise Exists("there is an object already", key=key)
        headers = pairs_of(headers_of(key, replace(options, forbid_overwrite=False), S3))
        query = ((b"uploads", b""),)
        reply = self._send("POST", key, query, headers, (), deadline=deadline, replay=False)
        with reading(key):
            upload_id = findtext(ElementTree.fromstring(reply.read()), "UploadId", True)
        if not upload_id:
            raise Unavailable("the server's reply has no upload id", key=key)
        return upload_id

    def upload_part(
        self, key: bytes, upload_id: str, number: int, data: Sequence[Buffer], *, deadline: float
    ) -> PartReply:
        storable(key)
        self._check_number(key, number)
        self._check_size(key, data)
        etag = self._upload(key, _part(number, upload_id), [], data, deadline)
        return PartReply(etag, None)

    def copy_part(
        self,
        key: bytes,
        upload_id: str,
        number: int,
        source: bytes,
        offset: int,
        size: int,
        *,
        if_match: str,
        deadline: float,
    ) -> PartReply:
        storable(key)
        findable(source)
        self._check_number(key, number)
        self._check_copied(key, source, offset, size)
        headers = [
            (b"x-amz-copy-source", self._as_source(source)),
            (b"x-amz-copy-source-range", b"bytes=%d-%d" % (offset, offset + size - 1)),
            (_IF_SOURCE, f'"{if_match}"'.encode()),
        ]
        etag, _ = self._changed(
            "PUT", key, _part(number, upload_id), headers, [], deadline, of=source, replay=True
        )
        return PartReply(etag, None)

    def complete_upload(
        self,
        key: bytes,
        upload_id: str,
        parts: Sequence[UploadPart],
        *,
        forbid_overwrite: bool = False,
        deadline: float,
    ) -> PutReply:
        storable(key)
        check_order(key, [part.number for part in parts])
        document = Element("CompleteMultipartUpload")
        for part in parts:
            element = SubElement(document, "Part")
            SubElement(element, "PartNumber", str(part.number))
            SubElement(element, "ETag", f'"{part.etag}"')
        try:
            with _exclusively(forbid_overwrite):
                etag, headers = self._changed(
                    "POST",
                    key,
                    ((b"uploadId", upload_id.encode()),),
                    _EXCLUSIVE if forbid_overwrite else [],
                    [getbytes(document)],
                    deadline,
                    of=key,
                )
        except Unavailable as error:
            if error.status >= 500:
                self._cleared_ghost(key, deadline)  # for the next attempt
            raise
        _check_etag(key, headers, etag, etag_of_parts(parts))
        return PutReply(etag, None)

    def abort_upload(self, key: bytes, upload_id: str, *, deadline: float) -> None:
        storable(key)
        query = ((b"uploadId", upload_id.encode()),)
        try:
            self._send("DELETE", key, query, deadline=deadline, replay=True).read()
        except NoUpload:
            return

    def list_uploads(self, prefix: bytes, *, deadline: float) -> Sequence[PendingUpload]:
        """Return every upload in progress under `prefix`.

        MinIO names those of the one key `prefix` only, and none where it is a directory's
        (https://github.com/minio/minio/issues/13246).
        """
        if not is_text(prefix):
            return []
        found: list[PendingUpload] = []
        markers = ("", "")
        while True:
            query = [(b"uploads", b""), (b"encoding-type", b"url"), (b"prefix", prefix)]
            for name, marker in zip((b"key-marker", b"upload-id-marker"), markers, strict=True):
                if marker:
                    query.append((name, marker.encode()))
            reply = self._send("GET", b"", query, deadline=deadline, replay=True)
            with reading(prefix):
                page = ElementTree.fromstring(reply.read())
                encoding = findtext(page, "EncodingType") or None
                found += [
                    _pending(Upload(element, encoding)) for element in findall(page, "Upload")
                ]
                if findtext(page, "IsTruncated") != "true":
                    return sorted(found)
                key_marker = findtext(page, "NextKeyMarker") or ""
                if encoding == "url":
                    key_marker = unquote_plus(key_marker)
                following = (key_marker, findtext(page, "NextUploadIdMarker") or "")
            if following == markers:
                raise Unavailable("the list of uploads does not move on", key=prefix)
            markers = following

    # -- the ways out -------------------------------------------------------------------------

    def _upload(
        self,
        key: bytes,
        query: Pairs,
        headers: Pairs,
        data: Sequence[Buffer],
        deadline: float,
        *,
        exclusive: bool = False,
    ) -> str:
        """PUT `data` with its MD5, which the server checks; return the ETag, checked here."""
        md5 = _md5_of(data)
        with _exclusively(exclusive):
            reply = self._send(
                "PUT",
                key,
                query,
                [*headers, (b"content-md5", b64encode(md5))],
                data,
                deadline=deadline,
                replay=not exclusive,
            )
        etag = etag_of(key, reply.headers, reply.read())
        _check_etag(key, reply.headers, etag, md5.hex())
        return etag

    def _changed(
        self,
        method: str,
        key: bytes,
        query: Pairs,
        headers: Pairs,
        data: Sequence[Buffer],
        deadline: float,
        *,
        of: bytes,
        replay: bool = False,
    ) -> tuple[str, Headers]:
        """Make a request that the server may work on in silence; return the new ETag, and headers.

        The reply to such a one begins with 200 before the outcome is known and may hold an error.
        `of` is the key that an error is about.
        """
        try:
            reply = self._send(
                method,
                key,
                query,
                headers,
                data,
                deadline=deadline,
                silence=max(0.0, deadline - time.monotonic()),
                replay=replay,
                conditional=any(name == _IF_SOURCE for name, _ in headers),
            )
            body = reply.read()
            code = parse_error(body).code
            if code:
                status = late_status(code)
                raise self._meaning(method, status, reply.headers, body, of, conditional=False)
        except StoreError as error:
            error.key = of
            raise
        return etag_of(key, reply.headers, body), reply.headers

    def _cleared_ghost(self, key: bytes, deadline: float) -> bool:
        """Remove a ghost in the way of `key`; say whether there was one.

        SeaweedFS keeps a directory for some time after its last key was deleted, refuses to
        replace it exclusively and cannot complete an upload over it. Deleting its marker, which
        does not exist, removes it if nothing is in it.
        """
        marker = key if key.endswith(b"/") else key + b"/"
        try:
            reply = self._send("HEAD", marker, (), deadline=deadline, replay=True)
            if not _is_ghost(reply.headers.get("etag", "").strip('"')):
                return False
            self._send("DELETE", marker, (), deadline=deadline, replay=True).read()
        except StoreError:
            return False  # what the caller has met is what there is to tell
        return True

    def _as_source(self, key: bytes) -> bytes:
        return f"/{self._bucket_name}/{quote_key(key)}".encode()

    def _quoted(self, key: bytes) -> str:
        return quote_key(key)

    def _page(self, body: bytes) -> ListPage:
        page = parse_page(body, S3_LISTING)
        # SeaweedFS lists a/ where a would be, before a-.
        return ListPage(sorted(page.entries), sorted(page.prefixes), page.next_token)


def _for_a_thread(error: StoreError) -> NoReturn:
    """Leave it to a thread to find out whether it is an object that is in the way."""
    if isinstance(error, Changed):
        raise Unsuited("there is an object, or a ghost") from error
    raise error


_EXCLUSIVE = pairs_of(dict([S3.exclusive]))
_IF_SOURCE = b"x-amz-copy-source-if-match"


def _is_ghost(etag: str) -> bool:
    """Say whether this is SeaweedFS's own directory above some key: no object has no parts."""
    return etag.endswith("-0")


@contextmanager
def _exclusively(exclusive: bool) -> Iterator[None]:
    """Take a precondition that failed for what it was: there is an object."""
    try:
        yield
    except Changed as error:
        if not exclusive:
            raise
        raise Exists(
            "there is an object already",
            key=error.key,
            status=error.status,
            code=error.code,
            request_id=error.request_id,
        ) from error


def _check_etag(key: bytes, headers: Headers, etag: str, expected: str) -> None:
    """Raise Corrupt where the ETag speaks of other bytes; some encryptions make it say nothing."""
    encryption = headers.get("x-amz-server-side-encryption", "AES256")
    silent = encryption != "AES256" or "x-amz-server-side-encryption-customer-algorithm" in headers
    if silent or not expected or etag == expected:
        return
    error = Corrupt(f"the data arrived damaged: its ETag is {etag}, not {expected}", key=key)
    error.etag = etag
    raise error


def _md5_of(data: Sequence[Buffer]) -> bytes:
    md5 = hashlib.md5(usedforsecurity=False)
    for piece in data:
        md5.update(piece)
    return md5.digest()


def _part(number: int, upload_id: str) -> Pairs:
    return ((b"partNumber", b"%d" % number), (b"uploadId", upload_id.encode()))


def _pending(upload: Upload) -> PendingUpload:
    if not upload.upload_id or upload.initiated_time is None:
        raise ValueError("an upload without its id or its time")
    initiated = int(upload.initiated_time.timestamp())
    return PendingUpload(upload.object_name.encode(), upload.upload_id, initiated)


def _storage_class(headers: Headers) -> str:
    named = headers.get(S3.storage_class, S3.standard)
    return OSS.standard if named == S3.standard else named
