"""A bucket on Alibaba Cloud OSS, or on anything that speaks its protocol.

Two ways lead to the server, over one transport and through one error table.
Calls that move bytes or come by the thousand (ranged GET, PUT, part, listing,
HEAD, DELETE) are written here and in `http_store`, and signed by our own
signers. All others go through oss2, which builds, signs and parses them; its
`session` is a few lines that hand the request to our transport. The endpoint is
ours to read: oss2 is given a name that means nothing and only the path it builds
is used.

Invariant: an upload returns only when the CRC-64 the server computed is the one
computed here. Every method may run in any number of threads; what a call must know
in oss2's depths (deadline, key) travels in a thread-local.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import oss2

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
from ossfs.store.crc import crc64
from ossfs.store.endpoint import Endpoint
from ossfs.store.errors import (
    Invalid,
    NoUpload,
    Unavailable,
)
from ossfs.store.exchange import Exchange
from ossfs.store.http_store import USER_AGENT, HttpStore, Question, check_order, reading
from ossfs.store.listing import parse_page
from ossfs.store.oss2_session import NOWHERE, Call, ProviderForOss2, Session
from ossfs.store.oss_errors import error_of
from ossfs.store.reply import Headers, Reply, natural
from ossfs.store.signing import Pairs, make_signer, quote_key
from ossfs.store.wire import (
    OSS,
    crc_of,
    findable,
    headers_of,
    http_date,
    is_text,
    metadata_in,
    pairs_of,
    storable,
    uploaded,
)

# oss2 formats requests, headers included, for its loggers whether or not anybody listens: keep
# what would hold a token out of every log.
logging.getLogger("oss2").setLevel(logging.CRITICAL + 1)


def _auth_of(provider: ProviderForOss2, region: str) -> oss2.Auth:
    """Return what signs oss2's requests: nothing where there are no keys."""
    if not provider.get_credentials().key_id:
        return oss2.AnonymousAuth()
    return oss2.ProviderAuthV4(provider) if region else oss2.ProviderAuth(provider)


class OssStore(HttpStore):
    """One bucket; implements `api.Store`."""

    range_headers = ((b"x-oss-range-behavior", b"standard"),)

    def __init__(
        self,
        bucket: str,
        endpoint: str,
        credentials: CredentialsProvider,
        *,
        region: str = "",
        path_style: bool = False,
        connect_timeout: float = 3.0,
        read_timeout: float = 20.0,
        proxy: str = "",
        bind: Sequence[str] = (),
        ipv6: bool = True,
        user_agent: str = USER_AGENT,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Signatures are V4 where `region` is set, else V1; nothing is sent yet."""
        region = region.removeprefix("oss-")
        place = Endpoint.parse(endpoint, bucket, path_style=path_style)
        super().__init__(
            bucket,
            place,
            credentials,
            make_signer(credentials, bucket, region, wall),
            error_of,
            Capabilities(),
            connect_timeout=connect_timeout,
            read_timeout=read_timeout,
            proxy=proxy,
            bind=bind,
            ipv6=ipv6,
            user_agent=user_agent,
        )
        provider = ProviderForOss2(credentials)
        self._session = Session(self._transport, place.path, self._error)
        self._oss2 = oss2.Bucket(
            _auth_of(provider, region),
            NOWHERE,
            bucket,
            is_cname=True,
            session=self._session,
            enable_crc=False,
            region=region or None,
            is_verify_object_strict=False,
        )

    # -- looking ------------------------------------------------------------------------------

    def _describe(self, key: bytes, full: bool) -> Question[ObjectInfo]:
        findable(key)
        query = () if full else ((b"objectMeta", b""),)
        return Question("HEAD", key, query, key, lambda headers, _body: _info(headers, full))

    def get_symlink(self, key: bytes, *, deadline: float) -> bytes:
        findable(key)
        with self._calling(key, deadline, replay=True):
            target: str = self._oss2.get_symlink(key.decode()).target_key
        return target.encode("utf-8", "surrogateescape")

    # -- writing whole objects ----------------------------------------------------------------

    def put(
        self, key: bytes, data: Sequence[Buffer], options: PutOptions = PLAIN, *, deadline: float
    ) -> PutReply:
        storable(key)
        self._check_size(key, data)
        headers = pairs_of(headers_of(key, options, OSS))
        reply, crc = self._upload(
            key, (), headers, data, deadline, replay=not options.forbid_overwrite
        )
        return PutReply(*uploaded(key, reply.headers, reply.read(), crc))

    def begin_put(
        self, key: bytes, data: Sequence[Buffer], options: PutOptions
    ) -> Exchange[PutReply] | None:
        crc = 0

        def understand(headers: Headers, body: bytes) -> PutReply:
            return PutReply(*uploaded(key, headers, body, crc))

        def make() -> Question[PutReply]:
            storable(key)
            return Question(
                "PUT",
                key,
                (),
                key,
                understand,
                headers=pairs_of(headers_of(key, options, OSS)),
                data=data,
                replay=not options.forbid_overwrite,
            )

        exchange = self._begin(make)
        crc = crc64(data)  # while the server does the same
        return exchange

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
        self._check_size(key, data)
        with self._calling(key, deadline):
            result = self._oss2.append_object(
                key.decode(), position, list(data), headers=headers_of(key, options, OSS)
            )
            etag, crc = uploaded(key, result.headers, b"")
            return AppendReply(int(result.next_position), crc, etag)

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
        headers: dict[str, str] = {}
        if options is not None:
            headers = headers_of(target, options, OSS)
            headers["x-oss-metadata-directive"] = "REPLACE"
        if if_match is not None:
            headers["x-oss-copy-source-if-match"] = f'"{if_match}"'
        with self._calling(source, deadline, patient=True):
            result = self._oss2.copy_object(
                self._bucket_name, source.decode(), target.decode(), headers=headers
            )
            return PutReply(*uploaded(target, result.headers, result.resp.read()))

    def delete_many(self, keys: Sequence[bytes], *, deadline: float) -> None:
        names = self._deleted_together(keys, deadline)
        if not names:
            return
        with self._calling(b"", deadline, replay=True):
            deleted = set(self._oss2.batch_delete_objects(names).deleted_keys)
        left = [name for name in names if name not in deleted]
        if left:
            raise Unavailable(
                f"{len(left)} of {len(names)} objects were not deleted", key=left[0].encode()
            )

    def put_symlink(self, key: bytes, target: bytes, *, deadline: float) -> None:
        storable(key)
        storable(target)
        with self._calling(key, deadline, replay=True):
            self._oss2.put_symlink(target.decode(), key.decode())

    # -- multipart ----------------------------------------------------------------------------

    def create_upload(self, key: bytes, options: PutOptions = PLAIN, *, deadline: float) -> str:
        storable(key)
        with self._calling(key, deadline):
            # The reply repeats the key; only encoded is every key sound XML.
            result = self._oss2.init_multipart_upload(
                key.decode(),
                headers=headers_of(key, options, OSS),
                params={"encoding-type": "url"},
            )
            upload_id: str = result.upload_id
        return upload_id

    def upload_part(
        self, key: bytes, upload_id: str, number: int, data: Sequence[Buffer], *, deadline: float
    ) -> PartReply:
        storable(key)
        self._check_number(key, number)
        self._check_size(key, data)
        query = ((b"partNumber", b"%d" % number), (b"uploadId", upload_id.encode()))
        reply, crc = self._upload(key, query, (), data, deadline, replay=True)
        return PartReply(*uploaded(key, reply.headers, reply.read(), crc))

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
        with self._calling(source, deadline, patient=True, replay=True):
            result = self._oss2.upload_part_copy(
                self._bucket_name,
                source.decode(),
                (offset, offset + size - 1),
                key.decode(),
                upload_id,
                number,
                headers={"x-oss-copy-source-if-match": f'"{if_match}"'},
            )
            return PartReply(*uploaded(key, result.headers, result.resp.read()))

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
        with self._calling(key, deadline, patient=True):
            result = self._oss2.complete_multipart_upload(
                key.decode(),
                upload_id,
                [oss2.models.PartInfo(part.number, part.etag) for part in parts],
                headers={"x-oss-forbid-overwrite": "true"} if forbid_overwrite else None,
            )
            return PutReply(*uploaded(key, result.headers, result.resp.read()))

    def abort_upload(self, key: bytes, upload_id: str, *, deadline: float) -> None:
        storable(key)
        try:
            with self._calling(key, deadline, replay=True):
                self._oss2.abort_multipart_upload(key.decode(), upload_id)
        except NoUpload:
            return

    def list_uploads(self, prefix: bytes, *, deadline: float) -> Sequence[PendingUpload]:
        if not is_text(prefix):
            return []
        found: list[PendingUpload] = []
        key_marker = upload_marker = ""
        while True:
            with self._calling(prefix, deadline, replay=True):
                page = self._oss2.list_multipart_uploads(
                    prefix=prefix.decode(),
                    key_marker=key_marker,
                    upload_id_marker=upload_marker,
                    max_uploads=1_000,
                )
                found += [
                    PendingUpload(upload.key.encode(), upload.upload_id, upload.initiation_date)
                    for upload in page.upload_list
                ]
            if not page.is_truncated:
                return found
            markers = (page.next_key_marker or "", page.next_upload_id_marker or "")
            if markers == (key_marker, upload_marker):
                raise Unavailable("the list of uploads does not move on", key=prefix)
            key_marker, upload_marker = markers

    # -- the ways out -------------------------------------------------------------------------

    def _upload(
        self,
        key: bytes,
        query: Pairs,
        headers: Pairs,
        data: Sequence[Buffer],
        deadline: float,
        *,
        replay: bool,
    ) -> tuple[Reply, int]:
        """PUT `data`; return the reply and the CRC, computed while the server does the same."""
        crc: list[int] = []
        reply = self._send(
            "PUT",
            key,
            query,
            headers,
            data,
            deadline=deadline,
            replay=replay,
            while_waiting=lambda: crc.append(crc64(data)),
        )
        # A server may answer before it has read everything; then nobody waited.
        return reply, crc[0] if crc else crc64(data)

    @contextmanager
    def _calling(
        self, key: bytes, deadline: float, *, patient: bool = False, replay: bool = False
    ) -> Iterator[None]:
        """Run a call of oss2: it learns the deadline, its failures become ours.

        `patient` is for calls that the server may work on in silence for as long as they last.
        """
        self._session.call.current = Call(key, deadline, patient, replay)
        try:
            with reading(key), _from_oss2(key):
                yield
        finally:
            self._session.call.current = None

    def _quoted(self, key: bytes) -> str:
        # Encoded, a slash is safe from proxies that tidy paths up.
        return quote_key(key).replace("/", "%2F")

    def _page(self, body: bytes) -> ListPage:
        return parse_page(body)


def _info(headers: Headers, full: bool) -> ObjectInfo:
    """Return what the headers of a HEAD's reply tell."""
    size = natural(headers["content-length"])
    mtime = http_date(headers["last-modified"])
    etag = headers["etag"].strip('"')
    crc = crc_of(headers)
    if not full:
        return ObjectInfo(size, mtime, etag, crc64=crc)
    try:
        kind = ObjectType(headers.get("x-oss-object-type", "Normal"))
    except ValueError:
        kind = ObjectType.NORMAL
    return ObjectInfo(
        size,
        mtime,
        etag,
        kind,
        headers.get("x-oss-storage-class", "Standard"),
        crc,
        metadata_in(headers, OSS),
        headers.get("content-type"),
    )


@contextmanager
def _from_oss2(key: bytes) -> Iterator[None]:
    """Make ours of what oss2 raises by itself, before or after a request."""
    try:
        yield
    except oss2.exceptions.ClientError as error:
        raise Invalid(error.body, key=key) from error
    except oss2.exceptions.OssError as error:
        raise Unavailable(
            f"the server's reply makes no sense ({type(error).__name__})", key=key
        ) from error
