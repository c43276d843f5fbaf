"""A bucket on Alibaba Cloud OSS, or on anything that speaks its protocol.

Two ways lead to the server, over one transport and through one error table.
Calls that move bytes or come by the thousand (ranged GET, PUT, part, listing,
HEAD of objectMeta) are written here and signed by our own signers. All others go
through oss2, which builds, signs and parses them; its `session` is a few lines
that hand the request to our transport. The endpoint is ours to read: oss2 is given
a name that means nothing and only the path it builds is used.

Invariants: a byte of a ranged GET is delivered only after status, length, range
and ETag have been found right; an upload returns only when the CRC-64 the server
computed is the one computed here. Every method may run in any number of threads;
what a call must know in oss2's depths (deadline, key) travels in a thread-local.

The protocol has eighteen methods and this one class implements it, hence its length.
"""

from __future__ import annotations

import logging
import re
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

import oss2

from ossfs.credentials import CredentialsProvider
from ossfs.store.api import (
    PLAIN,
    AppendReply,
    Buffer,
    Capabilities,
    GetReply,
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
    NotFound,
    NoUpload,
    StoreError,
    TooLarge,
    Unavailable,
)
from ossfs.store.exchange import Exchange, Refusal, Unsuited
from ossfs.store.listing import parse_page
from ossfs.store.oss2_session import NOWHERE, Call, ProviderForOss2, Session
from ossfs.store.oss_errors import error_of
from ossfs.store.oss_wire import (
    META,
    checked_head,
    checked_range,
    crc_of,
    findable,
    headers_of,
    http_date,
    is_text,
    storable,
    uploaded,
)
from ossfs.store.reply import BODYLESS, Headers, Reply, natural
from ossfs.store.signing import Pairs, encode_query, make_signer, quote_key
from ossfs.store.transport import Transport

USER_AGENT = "ossfs/0.1"
_ERROR_BODY = 64 * 1024
_NOT_IN_XML = re.compile("[\x00-\x08\x0b-\x1f\ufffe\uffff]")
"""What an XML document cannot hold, and CR, which a parser turns into LF."""

# oss2 formats requests, headers included, for its loggers whether or not anybody listens: keep
# what would hold a token out of every log.
logging.getLogger("oss2").setLevel(logging.CRITICAL + 1)


class OssStore:
    """One bucket; implements `api.Store`."""

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
        user_agent: str = USER_AGENT,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Signatures are V4 where `region` is set, else V1; nothing is sent yet."""
        region = region.removeprefix("oss-")
        place = Endpoint.parse(endpoint, bucket, path_style=path_style)
        self.capabilities = Capabilities()
        self._bucket_name = bucket
        self._path = place.path
        self._credentials = credentials
        self._signer = make_signer(credentials, bucket, region, wall)
        self._transport = Transport(
            place.origin,
            connect_timeout=connect_timeout,
            read_timeout=read_timeout,
            proxy=proxy,
            user_agent=user_agent,
        )
        provider = ProviderForOss2(credentials)
        self._session = Session(self._transport, place.path, self._error)
        self._oss2 = oss2.Bucket(
            oss2.ProviderAuthV4(provider) if region else oss2.ProviderAuth(provider),
            NOWHERE,
            bucket,
            is_cname=True,
            session=self._session,
            enable_crc=False,
            region=region or None,
            is_verify_object_strict=False,
        )

    # -- looking ------------------------------------------------------------------------------

    def probe(self, prefix: bytes, *, deadline: float) -> None:
        self.list_page(prefix, max_keys=1, deadline=deadline)

    def head(self, key: bytes, *, full: bool = False, deadline: float) -> ObjectInfo:
        findable(key)
        query = () if full else ((b"objectMeta", b""),)
        reply = self._send("HEAD", key, query, deadline=deadline, replay=True)
        with _reading(key):
            headers = reply.headers
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
            {
                name.removeprefix(META): value
                for name, value in headers.items()
                if name.startswith(META)
            },
            headers.get("content-type"),
        )

    def list_page(
        self,
        prefix: bytes,
        *,
        delimiter: bytes = b"/",
        token: str | None = None,
        start_after: bytes = b"",
        max_keys: int = 1_000,
        deadline: float,
    ) -> ListPage:
        if not 1 <= max_keys <= self.capabilities.list_page:
            raise Invalid(f"max_keys {max_keys} is not 1 to {self.capabilities.list_page}")
        if not (is_text(prefix) and is_text(start_after)):
            raise NotFound("no key has a prefix that is not UTF-8", key=prefix)
        query = [
            (b"list-type", b"2"),
            (b"encoding-type", b"url"),
            (b"max-keys", b"%d" % max_keys),
            (b"prefix", prefix),
        ]
        if delimiter:
            query.append((b"delimiter", delimiter))
        if token is not None:
            query.append((b"continuation-token", token.encode()))
        elif start_after:
            query.append((b"start-after", start_after))
        reply = self._send("GET", b"", query, deadline=deadline, replay=True)
        with _reading(prefix):
            return parse_page(reply.read())

    def get_range_into(
        self,
        key: bytes,
        offset: int,
        buffers: Sequence[memoryview],
        *,
        if_match: str | None,
        on_filled: Callable[[int], None] | None = None,
        deadline: float,
    ) -> GetReply:
        wanted = sum([len(buffer) for buffer in buffers])
        if offset < 0 or wanted == 0:
            raise Invalid(f"cannot read {wanted} bytes at offset {offset}", key=key)
        findable(key)
        reply = self._send(
            "GET",
            key,
            (),
            _STANDARD_RANGES,
            unsigned=_range_lines(offset, wanted, if_match),
            deadline=deadline,
            expect=wanted,
            replay=True,
            conditional=if_match is not None,
        )
        try:
            answer = checked_range(reply, offset, wanted, if_match)
        except StoreError as error:
            reply.discard()
            error.key = key
            raise
        try:
            reply.fill(buffers, on_filled)
        except StoreError as error:
            error.key = key
            raise
        return answer

    def begin_range(self, key: bytes, offset: int, size: int, if_match: str) -> Exchange | None:
        """Send a small ranged GET if that needs no waiting; see store.prompt."""
        try:
            findable(key)
        except NotFound:
            return None  # the general path words the answer

        def check(status: int, headers: Headers, wanted: int) -> GetReply | Refusal:
            try:
                length = natural(headers.get("content-length", ""))
            except ValueError:
                length = None
            if "transfer-encoding" in headers or status in BODYLESS:
                length = None
            if 200 <= status < 300:
                if length is None:
                    raise Unsuited("a reply without a length")
                return checked_head(status, headers, length, offset, wanted, if_match)

            def meaning(body: bytes) -> StoreError:
                return self._meaning("GET", status, headers, body, key, conditional=True)

            if length is not None and length <= _ERROR_BODY:
                return Refusal(length, meaning)
            if status >= 500 or status == 429:
                raise meaning(b"")  # not to be asked again at once for the sake of its wording
            raise Unsuited("a refusal without a length")

        target, lines = self._signed(
            "GET", key, (), _STANDARD_RANGES, _range_lines(offset, size, if_match)
        )
        return self._transport.begin(target, lines, check)

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
        headers = [
            (name.lower().encode(), value.encode())
            for name, value in headers_of(key, options).items()
        ]
        reply, crc = self._upload(
            key, (), headers, data, deadline, replay=not options.forbid_overwrite
        )
        return PutReply(*uploaded(key, reply.headers, reply.read(), crc))

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
                key.decode(), position, list(data), headers=headers_of(key, options)
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
            headers = headers_of(target, options)
            headers["x-oss-metadata-directive"] = "REPLACE"
        if if_match is not None:
            headers["x-oss-copy-source-if-match"] = f'"{if_match}"'
        with self._calling(source, deadline, patient=True):
            result = self._oss2.copy_object(
                self._bucket_name, source.decode(), target.decode(), headers=headers
            )
            return PutReply(*uploaded(target, result.headers, result.resp.read()))

    def delete(self, key: bytes, *, deadline: float) -> None:
        storable(key)
        try:
            with self._calling(key, deadline, replay=True):
                self._oss2.delete_object(key.decode())
        except NotFound:
            return

    def delete_many(self, keys: Sequence[bytes], *, deadline: float) -> None:
        if len(keys) > self.capabilities.delete_many:
            raise Invalid(
                f"{len(keys)} keys in one delete of at most {self.capabilities.delete_many}"
            )
        names = []
        for key in keys:
            storable(key)
            name = key.decode()
            if _NOT_IN_XML.search(name):
                self.delete(key, deadline=deadline)
            else:
                names.append(name)
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
                headers=headers_of(key, options),
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
        if offset < 0 or size <= 0:
            raise Invalid(f"cannot copy {size} bytes from offset {offset}", key=source)
        if size > self.capabilities.maximum_copy_part:
            raise TooLarge(f"a part of {size} bytes is too large to copy", key=key)
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
        if not parts:
            raise Invalid("an upload needs at least one part", key=key)
        if any(one.number >= other.number for one, other in pairwise(parts)):
            # oss2 would put them in order in silence.
            raise Invalid("the parts are not in ascending order", key=key, code="InvalidPartOrder")
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

    def close(self) -> None:
        self._transport.close()

    # -- the two ways out ---------------------------------------------------------------------

    def _send(
        self,
        method: str,
        key: bytes,
        query: Pairs,
        headers: Pairs = (),
        data: Sequence[Buffer] | None = None,
        *,
        unsigned: bytes = b"",
        deadline: float,
        expect: int = 0,
        replay: bool,
        conditional: bool = False,
        while_waiting: Callable[[], None] | None = None,
    ) -> Reply:
        """Sign and send a request of our own; return its reply if it is a success."""
        target, lines = self._signed(method, key, query, headers, unsigned)
        try:
            reply = self._transport.request(
                method,
                target,
                lines,
                data,
                deadline=deadline,
                expect=expect,
                replay=replay,
                while_waiting=while_waiting,
            )
            if 200 <= reply.status < 300:
                return reply
            raise self._error(reply, key, conditional)
        except StoreError as error:
            error.key = key
            raise

    def _signed(
        self, method: str, key: bytes, query: Pairs, headers: Pairs, unsigned: bytes
    ) -> tuple[str, bytes]:
        """Return the encoded target of a request and its header lines."""
        target = self._path + quote_key(key).replace("/", "%2F")
        if query:
            target += "?" + encode_query(query).decode()
        lines = unsigned + self._signer.sign(method.encode(), key, query, headers)
        for name, value in headers:
            lines += name + b": " + value + b"\r\n"
        return target, lines

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
            with _reading(key):
                yield
        finally:
            self._session.call.current = None

    def _error(self, reply: Reply, key: bytes, conditional: bool) -> StoreError:
        """Read the rest of a reply that is no success and say what it means."""
        body = reply.read(_ERROR_BODY)
        return self._meaning(
            reply.method, reply.status, reply.headers, body, key, conditional=conditional
        )

    def _meaning(
        self,
        method: str,
        status: int,
        headers: Headers,
        body: bytes,
        key: bytes,
        *,
        conditional: bool,
    ) -> StoreError:
        return error_of(
            status,
            headers,
            body,
            key=key,
            bucket=self._bucket_name,
            head=method == "HEAD",
            temporary_keys=bool(self._credentials.get().token),
            conditional=conditional,
        )

    def _check_size(self, key: bytes, data: Sequence[Buffer]) -> None:
        size = sum([len(piece) for piece in data])
        if size > self.capabilities.maximum_put:
            raise TooLarge(
                f"{size} bytes are over the limit of {self.capabilities.maximum_put}", key=key
            )

    def _check_number(self, key: bytes, number: int) -> None:
        if not 1 <= number <= self.capabilities.maximum_parts:
            raise Invalid(
                f"part number {number} is not 1 to {self.capabilities.maximum_parts}", key=key
            )


_STANDARD_RANGES: Pairs = ((b"x-oss-range-behavior", b"standard"),)


def _range_lines(offset: int, size: int, if_match: str | None) -> bytes:
    lines = b"Range: bytes=%d-%d\r\n" % (offset, offset + size - 1)
    if if_match is not None:
        lines += b'If-Match: "%b"\r\n' % if_match.encode()
    return lines


@contextmanager
def _reading(key: bytes) -> Iterator[None]:
    """Take what goes wrong while a reply is understood for what it is: a bad reply."""
    try:
        yield
    except StoreError as error:
        if not error.key:
            error.key = key
        raise
    except oss2.exceptions.ClientError as error:
        raise Invalid(error.body, key=key) from error
    except (
        oss2.exceptions.OssError,
        ElementTree.ParseError,
        ValueError,
        OverflowError,  # of a date
        LookupError,  # of a header, or of XML in an unknown encoding
        TypeError,
        AttributeError,
        RuntimeError,  # what oss2 raises where an element is missing
    ) as error:
        raise Unavailable(
            f"the server's reply makes no sense ({type(error).__name__})", key=key
        ) from error
