"""What oss2 needs in order to run over our transport, without oss2 itself.

oss2 takes any object with `do_request` as its session. Ours sends the request that
oss2 has built and signed, raises our errors when it fails, and hands over a reply
that has been read whole, so that the connection is free again at once. oss2 knows
no deadlines and passes nothing through, so what a request must know beyond its
headers is set in a thread-local around each call of oss2.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from urllib.parse import quote

from ossfs.credentials import CredentialsProvider
from ossfs.store.errors import Invalid, StoreError
from ossfs.store.reply import Reply
from ossfs.store.transport import Transport

NOWHERE = "http://oss.invalid"
"""The endpoint that oss2 is told: only the path it builds is used."""
_UNSAFE_IN_HEADER = re.compile("[\x00-\x1f\x7f]")


class Call(NamedTuple):
    """What a request must know that oss2 does not carry through."""

    key: bytes
    deadline: float
    patient: bool
    replay: bool


class CurrentCall(threading.local):
    current: Call | None = None


class Session:
    """Our transport as oss2 sees it: the one method it calls."""

    def __init__(
        self,
        transport: Transport,
        path: str,
        error: Callable[[Reply, bytes, bool], StoreError],
    ) -> None:
        self._transport = transport
        self._path = path
        self._error = error
        self.call = CurrentCall()

    def do_request(self, request: Any, timeout: float) -> _Response:
        """Send oss2's request within the current call's deadline; raise ours if it fails."""
        call = self.call.current
        assert call is not None
        target = self._path + request.url[len(NOWHERE) + 1 :]
        if request.params:
            target += "?" + "&".join(
                f"{quote(name, safe='')}={quote(value, safe='')}" if value else quote(name, safe="")
                for name, value in request.params.items()
            )
        lines = []
        for name, value in request.headers.items():
            if value is None or name.lower() in ("user-agent", "content-length"):
                continue
            if _UNSAFE_IN_HEADER.search(value):
                raise Invalid(f"the value of header {name} holds a control character")
            lines.append(f"{name}: {value}\r\n")
        data = request.data
        if data is None and request.method in ("PUT", "POST"):
            data = b""
        reply = self._transport.request(
            request.method,
            target,
            "".join(lines).encode(),
            data if data is None or isinstance(data, list) else [data],
            deadline=call.deadline,
            silence=max(0.0, call.deadline - time.monotonic()) if call.patient else None,
            replay=call.replay,
        )
        if not 200 <= reply.status < 300:
            conditional = "x-oss-copy-source-if-match" in request.headers
            raise self._error(reply, call.key, conditional)
        return _Response(reply)


class _Response:
    """A successful reply as oss2 reads it: whole, so that the connection is free at once."""

    def __init__(self, reply: Reply) -> None:
        self.status = reply.status
        self.headers = reply.headers
        self.request_id = reply.headers.get("x-oss-request-id", "")
        self._rest = reply.read()

    def read(self, amount: int | None = None) -> bytes:
        """Return the next `amount` bytes, or all that are left."""
        if amount is None:
            amount = len(self._rest)
        piece, self._rest = self._rest[:amount], self._rest[amount:]
        return piece

    def __iter__(self) -> Iterator[bytes]:
        while piece := self.read(64 * 1024):
            yield piece


class _KeysForOss2(NamedTuple):
    key_id: str
    secret: str
    token: str

    def get_access_key_id(self) -> str:
        return self.key_id

    def get_access_key_secret(self) -> str:
        return self.secret

    def get_security_token(self) -> str:
        return self.token


class ProviderForOss2:
    """Our credentials as oss2 asks for them, at each request."""

    def __init__(self, credentials: CredentialsProvider) -> None:
        self._credentials = credentials

    def get_credentials(self) -> _KeysForOss2:
        now = self._credentials.get()
        return _KeysForOss2(now.key_id, now.key_secret, now.token or "")
