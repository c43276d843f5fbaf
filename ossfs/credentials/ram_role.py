"""Keys of the RAM role of an ECS instance, from the metadata service at a link-local address.

First a token is asked for (PUT, three minutes), then the role's keys with it; a service that gives
no tokens is asked without. https://help.aliyun.com/zh/ecs/user-guide/view-instance-metadata
"""

from __future__ import annotations

import errno
import os
import re
import socket
import time
import urllib.error
import urllib.request
from http.client import HTTPConnection, HTTPException, HTTPResponse
from math import inf
from typing import Any
from urllib.parse import urlsplit

from ossfs.credentials import Credentials, document
from ossfs.credentials.document import refused
from ossfs.runtime.failure import in_a_line

ADDRESS = "http://100.100.100.200"
SECONDS = 4.0
"""A request's time to be answered whole; there are two, and a mount has 13 s to start."""
LIMIT = 1024 * 1024
"""Bytes of a reply."""
_TOKEN = "/latest/api/token"
_KEYS = "/latest/meta-data/ram/security-credentials/"
_NAME = re.compile(r"[0-9A-Za-z._-]{1,64}")


def address_of(role: str) -> str:
    """Return where the role's keys are; ValueError for what is neither a name nor an address.

    A full address is accepted as in ossfs 2.0: it names the service as well, as for a stand-in.
    """
    if _NAME.fullmatch(role):
        return f"{ADDRESS}{_KEYS}{role}"
    try:
        parts = urlsplit(role)
        known = parts.scheme == "http" and parts.hostname and parts.path.strip("/")
        _ = parts.port
    except ValueError:
        known = False
    if not known or "@" in role:
        raise ValueError("neither the name of a role nor http://HOST/PATH")
    return role


class _Timed(socket.socket):
    """Gives the whole answer the time that a socket's own limit gives each piece of it."""

    until = inf
    """By time.monotonic()."""

    def recv_into(self, *arguments: Any) -> int:
        left = self.until - time.monotonic()
        if left <= 0:
            raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
        self.settimeout(left)
        return super().recv_into(*arguments)


class _Connection(HTTPConnection):
    def connect(self) -> None:
        super().connect()
        plain = self.sock
        self.sock = _Timed(plain.family, plain.type, plain.proto, plain.detach())
        self.sock.settimeout(self.timeout)
        self.sock.until = time.monotonic() + (self.timeout or inf)


class _Handler(urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> HTTPResponse:
        return self.do_open(_Connection, req)


class RamRole:
    """The role's keys, temporary ones that the service renews by itself."""

    def __init__(self, role: str, seconds: float = SECONDS) -> None:
        self._role = role
        self._address = address_of(role)
        self._seconds = seconds
        self._where = f"ram_role {role}"
        # The service is the machine's own: no proxy leads to it.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _Handler)

    def check(self) -> tuple[str, ...]:
        return ()

    def fetch(self) -> Credentials:
        parts = urlsplit(self._address)
        headers = {}
        try:
            token = self._ask(
                f"{parts.scheme}://{parts.netloc}{_TOKEN}",
                {"X-aliyun-ecs-metadata-token-ttl-seconds": "180"},
                method="PUT",
            )
            headers = {"X-aliyun-ecs-metadata-token": token.decode("ascii").strip()}
        except (urllib.error.HTTPError, UnicodeDecodeError):
            pass  # a service of the former kind, without tokens
        except (OSError, ValueError, HTTPException) as error:
            raise refused(self._where, _trouble(error)) from None
        try:
            reply = self._ask(self._address, headers)
        except urllib.error.HTTPError as error:
            what = "there is no such role here" if error.code == 404 else f"HTTP {error.code}"
            raise refused(self._where, f"the metadata service says: {what}") from None
        except (OSError, ValueError, HTTPException) as error:
            raise refused(self._where, _trouble(error)) from None
        return document.read(reply, self._where)

    def told(self) -> dict[str, str | float | None]:
        return {"kind": "ram_role", "role": self._role}

    def _ask(self, url: str, headers: dict[str, str], method: str = "GET") -> bytes:
        request = urllib.request.Request(url, headers=headers, method=method)
        try:
            with self._opener.open(request, timeout=self._seconds) as reply:
                body: bytes = reply.read(LIMIT + 1)
        except urllib.error.HTTPError as error:
            error.close()
            raise
        if len(body) > LIMIT:
            raise ValueError("its reply is too long")
        return body


def _trouble(error: Exception) -> str:
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    text = reason.strerror if isinstance(reason, OSError) else None
    said = text or (in_a_line(reason) if isinstance(reason, Exception) else reason)
    return f"the metadata service does not answer: {said}"
