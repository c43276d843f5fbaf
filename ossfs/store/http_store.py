"""What every store that is reached by HTTP has in common, whatever its protocol's words are.

The calls that move bytes or come by the thousand are made here, over one `Transport`: listing,
HEAD, DELETE, ranged GET, in a thread and on the loop, and upload. A protocol gives its signer, its
headers, and what its replies mean.

Invariant: a byte of a ranged GET is delivered only after status, length, range and ETag have been
found right. Every method may run in any number of threads.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Generic, NamedTuple, NoReturn, Protocol, TypeVar

from ossfs.credentials import CredentialsProvider
from ossfs.store.api import (
    Buffer,
    Capabilities,
    GetReply,
    ListPage,
    ObjectInfo,
    PutOptions,
    PutReply,
)
from ossfs.store.endpoint import Endpoint
from ossfs.store.errors import Invalid, NotFound, StoreError, TooLarge, Unavailable
from ossfs.store.exchange import Exchange, Unsuited, Verdict
from ossfs.store.reply import Headers, Reply, body_length
from ossfs.store.signing import Pairs, Signer, encode_query
from ossfs.store.transport import Transport
from ossfs.store.wire import checked_head, checked_range, findable, is_text, range_lines, storable

USER_AGENT = "ossfs/0.1"
T = TypeVar("T")

_SMALL_BODY = 64 * 1024
"""Bytes of an error that are read, and of a reply that the loop takes."""
_NOT_IN_XML = re.compile("[\x00-\x08\x0b-\x1f\ufffe\uffff]")
"""What an XML document cannot hold, and CR, which a parser turns into LF."""


class ErrorTable(Protocol):
    """What a protocol's answers mean; see `oss_errors.error_of`."""

    def __call__(
        self,
        status: int,
        headers: Mapping[str, str],
        body: bytes,
        *,
        key: bytes,
        bucket: str,
        head: bool,
        temporary_keys: bool,
        conditional: bool,
    ) -> StoreError: ...


def _raise(error: StoreError) -> NoReturn:
    raise error


class Question(NamedTuple, Generic[T]):
    """A small request, and what its reply means, whoever carries it."""

    method: str
    key: bytes
    """Empty where it is about the bucket."""
    query: Pairs
    subject: bytes
    """The key, or the prefix, that a reply without sense is about."""
    understand: Callable[[Headers, bytes], T]
    """Makes the result of a success; what it fails with is the reply's fault."""
    refused: Callable[[StoreError], T] = _raise
    """What to make of anything else."""
    headers: Pairs = ()
    data: Sequence[Buffer] | None = None
    replay: bool = True
    """It may be sent twice."""


class HttpStore(ABC):
    """One bucket behind a server; the part of `api.Store` that protocols share."""

    range_headers: Pairs = ()
    """Signed headers of a ranged GET."""

    def __init__(
        self,
        bucket: str,
        place: Endpoint,
        credentials: CredentialsProvider,
        signer: Signer,
        error_of: ErrorTable,
        capabilities: Capabilities,
        *,
        connect_timeout: float,
        read_timeout: float,
        proxy: str,
        bind: Sequence[str],
        ipv6: bool,
        user_agent: str,
    ) -> None:
        self.capabilities = capabilities
        self._bucket_name = bucket
        self._credentials = credentials
        self._path = place.path
        self._signer = signer
        self._error_of = error_of
        self._transport = Transport(
            place.origin,
            connect_timeout=connect_timeout,
            read_timeout=read_timeout,
            proxy=proxy,
            bind=bind,
            ipv6=ipv6,
            user_agent=user_agent,
        )
        self._lists_in_chunks = False
        """This server does not tell a listing's length: the loop need not try again."""

    @abstractmethod
    def _describe(self, key: bytes, full: bool) -> Question[ObjectInfo]:
        """Ask for what `head` returns; NotFound for what cannot be there."""

    @abstractmethod
    def _quoted(self, key: bytes) -> str:
        """Return the key as it stands in a request's target."""

    @abstractmethod
    def _page(self, body: bytes) -> ListPage:
        """Read a page of a listing."""

    # -- looking ------------------------------------------------------------------------------

    def probe(self, prefix: bytes, *, deadline: float) -> None:
        """Raise unless the bucket answers a list of one key under `prefix`."""
        self.list_page(prefix, max_keys=1, deadline=deadline)

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
        """Return keys under `prefix` after `start_after`, or the page that `token` names."""
        return self._ask(self._list(prefix, delimiter, token, start_after, max_keys), deadline)

    def _list(
        self, prefix: bytes, delimiter: bytes, token: str | None, start_after: bytes, max_keys: int
    ) -> Question[ListPage]:
        """Ask for what `list_page` returns; Invalid or NotFound for what no page can be."""
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

        def understand(_headers: Headers, body: bytes) -> ListPage:
            page = self._page(body)
            if token is not None and page.next_token == token:
                raise Unavailable("the listing does not move on", key=prefix)
            return page

        return Question("GET", b"", query, prefix, understand)

    def head(self, key: bytes, *, full: bool = False, deadline: float) -> ObjectInfo:
        """Describe an object; see `api.Store.head` for what `full` adds."""
        return self._ask(self._describe(key, full), deadline)

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
        """Fill `buffers` one after another with the object's bytes from `offset`."""
        wanted = sum([len(buffer) for buffer in buffers])
        if offset < 0 or wanted == 0:
            raise Invalid(f"cannot read {wanted} bytes at offset {offset}", key=key)
        findable(key)
        reply = self._send(
            "GET",
            key,
            (),
            self.range_headers,
            unsigned=range_lines(offset, wanted, if_match),
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

    def delete(self, key: bytes, *, deadline: float) -> None:
        """Remove an object; a missing one is no error."""
        self._ask(self._removal(key), deadline)

    def _removal(self, key: bytes) -> Question[None]:
        """Ask for what `delete` does; Invalid for what cannot be a key."""
        storable(key)
        return Question("DELETE", key, (), key, lambda _headers, _body: None, _unless_gone)

    # -- on the loop, see store.prompt --------------------------------------------------------

    def begin_range(
        self, key: bytes, offset: int, view: memoryview, if_match: str
    ) -> Exchange[GetReply] | None:
        """Send a small ranged GET if that needs no waiting."""
        if not self._transport.at_hand:
            return None
        try:
            findable(key)
        except NotFound:
            return None  # the general path words the answer

        def judge(status: int, headers: Headers) -> Verdict[GetReply]:
            length = body_length("GET", status, headers)
            if not 200 <= status < 300:
                return self._refusal("GET", status, headers, length, key, conditional=True)
            if length is None:
                raise Unsuited("a reply without a length")
            reply = checked_head(status, headers, length, offset, len(view), if_match)
            return Verdict(view, lambda: reply)

        target, lines = self._signed(
            "GET", key, (), self.range_headers, range_lines(offset, len(view), if_match)
        )
        return self._transport.begin("GET", target, lines, judge)

    def begin_head(self, key: bytes, *, full: bool) -> Exchange[ObjectInfo] | None:
        """Send a HEAD if that needs no waiting."""
        return self._begin(lambda: self._describe(key, full))

    def begin_list(
        self,
        prefix: bytes,
        *,
        delimiter: bytes,
        token: str | None,
        start_after: bytes,
        max_keys: int,
    ) -> Exchange[ListPage] | None:
        """Ask for a page of a few keys if that needs no waiting."""
        if self._lists_in_chunks:
            return None
        return self._begin(lambda: self._list(prefix, delimiter, token, start_after, max_keys))

    def begin_delete(self, key: bytes) -> Exchange[None] | None:
        """Send a DELETE if that needs no waiting."""
        return self._begin(lambda: self._removal(key))

    @abstractmethod
    def begin_put(
        self, key: bytes, data: Sequence[Buffer], options: PutOptions
    ) -> Exchange[PutReply] | None:
        """Send a small object if that needs no waiting."""

    def _begin(self, make: Callable[[], Question[T]]) -> Exchange[T] | None:
        if not self._transport.at_hand:
            return None
        try:
            question = make()
        except StoreError:
            return None  # the general path words the answer
        method, key, query, _, _, refused, signed, data, replay = question

        def judge(status: int, headers: Headers) -> Verdict[T]:
            length = body_length(method, status, headers)
            if not 200 <= status < 300:
                return self._refusal(method, status, headers, length, key, refused)
            if length is None and method == "GET":
                self._lists_in_chunks = True
            if length is not None and length <= _SMALL_BODY:
                body = bytearray(length)
            elif method == "GET":
                raise Unsuited("a reply of unknown length, or a long one")
            else:
                body = bytearray()  # it is done, and nobody needs what follows

            def outcome() -> T:
                with reading(question.subject):
                    return question.understand(headers, bytes(body))

            return Verdict(memoryview(body), outcome, framed=len(body) == length)

        target, lines = self._signed(method, key, query, signed, b"")
        return self._transport.begin(method, target, lines, judge, data, replay=replay)

    def _refusal(
        self,
        method: str,
        status: int,
        headers: Headers,
        length: int | None,
        key: bytes,
        refused: Callable[[StoreError], T] = _raise,
        *,
        conditional: bool = False,
    ) -> Verdict[T]:
        """Say what is to be made of a reply that is no success."""

        def meaning(body: bytes) -> StoreError:
            return self._meaning(method, status, headers, body, key, conditional=conditional)

        if length is not None and length <= _SMALL_BODY:
            body = bytearray(length)
            return Verdict(memoryview(body), lambda: refused(meaning(bytes(body))))
        if status >= 500 or status == 429:
            raise meaning(b"")  # not to be asked again at once for the sake of its wording
        raise Unsuited("a refusal of unknown length, or a long one")

    def close(self) -> None:
        """Drop idle connections; calls under way may fail."""
        self._transport.close()

    # -- the way out --------------------------------------------------------------------------

    def _ask(self, question: Question[T], deadline: float) -> T:
        """Put a question and wait for the answer."""
        try:
            reply = self._send(
                question.method, question.key, question.query, deadline=deadline, replay=True
            )
        except StoreError as error:
            return question.refused(error)
        with reading(question.subject):
            return question.understand(reply.headers, reply.read())

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
        silence: float | None = None,
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
                silence=silence,
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
        target = self._path + self._quoted(key)
        if query:
            target += "?" + encode_query(query).decode()
        lines = unsigned + self._signer.sign(method.encode(), key, query, headers)
        for name, value in headers:
            lines += name + b": " + value + b"\r\n"
        return target, lines

    def _error(self, reply: Reply, key: bytes, conditional: bool) -> StoreError:
        """Read the rest of a reply that is no success and say what it means."""
        body = reply.read(_SMALL_BODY)
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
        """Say what a reply that is no success means; `conditional`: it was to hold If-Match."""
        return self._error_of(
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

    def _check_copied(self, key: bytes, source: bytes, offset: int, size: int) -> None:
        if offset < 0 or size <= 0:
            raise Invalid(f"cannot copy {size} bytes from offset {offset}", key=source)
        if size > self.capabilities.maximum_copy_part:
            raise TooLarge(f"a part of {size} bytes is too large to copy", key=key)

    def _deleted_together(self, keys: Sequence[bytes], deadline: float) -> list[str]:
        """Return the keys that one request can name; the others are deleted one by one."""
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
        return names


def _unless_gone(error: StoreError) -> None:
    """Take it for success that there is nothing to remove."""
    if not isinstance(error, NotFound):
        raise error


def check_order(key: bytes, numbers: Sequence[int]) -> None:
    """Refuse parts that a server, or a library, might put in order in silence."""
    if not numbers:
        raise Invalid("an upload needs at least one part", key=key)
    if any(one >= other for one, other in pairwise(numbers)):
        raise Invalid("the parts are not in ascending order", key=key, code="InvalidPartOrder")


@contextmanager
def reading(key: bytes) -> Iterator[None]:
    """Take what goes wrong while a reply is understood for what it is: a bad reply."""
    try:
        yield
    except StoreError as error:
        if not error.key:
            error.key = key
        raise
    except (
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
