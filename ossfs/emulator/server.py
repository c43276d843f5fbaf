"""The HTTP server: has a request checked and handled, sends the reply, keeps the request log.

aiohttp parses requests and runs one task for each; a connection's requests are handled one
after another, those of different connections interleave at their awaits. Replies leave through
`reply.Line`. Nothing is recorded unless a request log was asked for; then a request's line is
in the file before the client can see the end of its reply, and there is one for a request whose
client left in the middle, too: with status 499 where it did not wait for a reply.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import random
import time
from dataclasses import dataclass
from http import HTTPStatus

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.web_protocol import RequestHandler

from ossfs.emulator.context import Context, Service
from ossfs.emulator.faults import OssFault
from ossfs.emulator.objects import lines
from ossfs.emulator.reply import Line, Reply
from ossfs.emulator.request import Call
from ossfs.emulator.routes import handler_of, subresource
from ossfs.emulator.signing import Key, Verifier
from ossfs.emulator.storage import Storage
from ossfs.emulator.xml import http_date

_LEFT = 499
"""The status in the log of a request whose client left before its reply; nginx's."""

log = logging.getLogger("ossfs.emulator")


@dataclass(frozen=True, slots=True)
class Settings:
    """How the server is to behave."""

    key: Key
    region: str = "cn-hangzhou"
    latency: float = 0.0
    """Seconds every request waits before it is handled."""
    rate: float = 0.0
    """Bytes per second and connection, each way; 0: as fast as it goes."""
    request_log: str | None = None
    """Path of the file that gets a JSON line a request."""


class _Sent(web.StreamResponse):
    """Tells aiohttp that the reply has gone already, and whether the connection may stay."""

    def __init__(self, keep_alive: bool) -> None:
        super().__init__()
        self._stay = keep_alive

    @property
    def keep_alive(self) -> bool | None:
        return self._stay

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        return None


class Emulator(web.Server):
    """Serves one `Storage`; hand it to `loop.create_server`."""

    def __init__(self, storage: Storage, settings: Settings) -> None:
        super().__init__(
            self._serve,
            access_log=None,
            tcp_keepalive=False,
            max_line_size=32_768,
            max_field_size=32_768,
            max_headers=1_024,
            auto_decompress=False,
            lingering_time=2.0,
            read_bufsize=1 << 20,
        )
        self._service = Service(storage, settings.region)
        self._settings = settings
        self._verifier = Verifier(settings.key, settings.region)
        self._lines: dict[RequestHandler, Line] = {}
        self._id_prefix = f"{random.getrandbits(48):012X}"
        self._count = 0
        self._date = (0, b"")
        self._keep = _Sent(True)
        self._last = _Sent(False)
        self._log = -1
        if settings.request_log is not None:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            self._log = os.open(settings.request_log, flags, 0o644)

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        self._lines[handler] = Line(transport, self._settings.rate)

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        super().connection_lost(handler, exc)
        line = self._lines.pop(handler, None)
        if line is not None:
            line.close()

    async def shutdown(self, timeout: float | None = None) -> None:
        await super().shutdown(timeout)
        if self._log >= 0:
            os.close(self._log)
            self._log = -1

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        started = time.perf_counter()
        line = self._lines.get(request.protocol)
        if line is None:
            raise ConnectionResetError("connection lost")
        self._count += 1
        request_id = f"{self._id_prefix}{self._count:012X}"
        line.received = 0
        call = Call(request)
        if self._settings.latency:
            await asyncio.sleep(self._settings.latency)
        try:
            self._verifier.check(call)
            call.check_query()
            reply = await handler_of(call)(Context(self._service, call, line))
        except OssFault as fault:
            reply = _refusal(fault, call, request_id)
        except ConnectionError:
            self._record(call, line, _LEFT, 0, started)
            return self._hang_up(request)
        except Exception:
            log.exception("request %s %s failed", call.method, request.raw_path)
            reply = _refusal(OssFault("InternalError"), call, request_id)
        try:
            return await self._send(call, line, reply, request_id, started)
        except OSError as error:
            # aiohttp would send an error page next, into the body that has begun.
            if not isinstance(error, ConnectionError):
                log.exception("reply to %s %s failed", call.method, request.raw_path)
            return self._hang_up(request)
        finally:
            if reply.lease is not None:
                reply.lease.release()

    def _hang_up(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.transport is not None:
            request.transport.abort()
        return self._last

    async def _send(
        self, call: Call, line: Line, reply: Reply, request_id: str, started: float
    ) -> web.StreamResponse:
        keep = call.request.keep_alive and call.request.content.is_eof()
        size = sum(run.size for run in reply.runs) if reply.runs else len(reply.body)
        length = size if reply.length is None else reply.length
        elapsed = time.perf_counter() - started
        head = (
            b"HTTP/1.1 %d %b\r\nServer: AliyunOSS\r\nDate: %b\r\n%bContent-Length: %d\r\n"
            b"x-oss-request-id: %b\r\nx-oss-server-time: %d\r\n%b\r\n"
            % (
                reply.status,
                _phrase(reply.status),
                self._now(),
                b"" if keep else b"Connection: close\r\n",
                length,
                request_id.encode(),
                elapsed * 1000,
                reply.headers,
            )
        )
        if reply.status in (204, 304):
            head = head.replace(b"Content-Length: 0\r\n", b"", 1)
        if self._log < 0:
            if reply.runs:
                await line.send_runs(head, reply.runs, None)
            else:
                await line.send(head, reply.body)
            return self._keep if keep else self._last
        if not reply.runs:
            self._record(call, line, reply.status, size, started)
            await line.send(head, reply.body)
            return self._keep if keep else self._last
        recorded = False

        def record() -> None:
            nonlocal recorded
            recorded = True
            self._record(call, line, reply.status, size, started)

        try:
            await line.send_runs(head, reply.runs, record)
        finally:
            if not recorded:
                self._record(call, line, reply.status, line.sent, started)
        return self._keep if keep else self._last

    def _now(self) -> bytes:
        now = int(time.time())
        if now != self._date[0]:
            self._date = (now, http_date(now).encode())
        return self._date[1]

    def _record(self, call: Call, line: Line, status: int, size: int, started: float) -> None:
        if self._log < 0:
            return
        record = {
            "method": call.method,
            "bucket": call.bucket,
            "key": call.key.decode("utf-8", "backslashreplace"),
            "sub": subresource(call),
            "query": call.query,
            "range": call.header("range") or None,
            "status": status,
            "bytes": size,
            "received": line.received,
            "seconds": round(time.perf_counter() - started, 6),
        }
        os.write(self._log, json.dumps(record).encode() + b"\n")


def _phrase(status: int) -> bytes:
    return _PHRASES[status]


_PHRASES = {status.value: status.phrase.encode() for status in HTTPStatus}


def _refusal(fault: OssFault, call: Call, request_id: str) -> Reply:
    headers = lines(*fault.headers)
    if fault.status == HTTPStatus.NOT_MODIFIED:
        return Reply(fault.status, headers)
    headers += lines(("x-oss-ec", fault.ec))
    body = fault.xml(request_id, call.host)
    if call.method == "HEAD":
        headers += b"x-oss-err: " + base64.b64encode(body) + b"\r\n"
        return Reply(fault.status, headers, length=0)
    return Reply(fault.status, b"Content-Type: application/xml\r\n" + headers, body)
