"""The one table from what OSS answers to what it means.

A failure is told by its HTTP status and OSS's own code, never by a class of some
SDK. The code is looked up first, then the shapes a family of codes has, then the
status alone. A 404 is absence only when OSS itself said so: it has a request id,
and no code that means something else; the 404 of a proxy in between is no reason
to believe that a file is gone.

Sources: https://www.alibabacloud.com/help/en/oss/support/http-status-codes and
its pages for 400, 403, 404, 409, 412, 416, 429 and 503; oss2 2.19.1 for HEAD,
whose error body travels base64-encoded in x-oss-err.
"""

from __future__ import annotations

import binascii
import time
from base64 import b64decode
from collections.abc import Mapping
from contextlib import suppress
from email.utils import parsedate_to_datetime

from ossfs.store.errors import (
    Archived,
    Changed,
    Corrupt,
    Denied,
    Exists,
    Expired,
    Invalid,
    NoBucket,
    NotAppendable,
    NotFound,
    NoUpload,
    PositionConflict,
    StoreError,
    Throttled,
    TooLarge,
    Transient,
    Unavailable,
)
from ossfs.store.listing import ErrorReply, parse_error
from ossfs.store.reply import natural

_BY_CODE: dict[str, type[StoreError]] = {
    # absence
    "NoSuchKey": NotFound,
    "SymlinkTargetNotExist": NotFound,
    "NoSuchBucket": NoBucket,
    "NoSuchUpload": NoUpload,
    # refusal
    "AccessDenied": Denied,
    "InvalidAccessKeyId": Denied,
    "SignatureDoesNotMatch": Denied,
    "RequestTimeTooSkewed": Denied,
    "SecurityTokenExpired": Expired,
    "InvalidSecurityToken": Expired,
    "InvalidObjectState": Archived,
    # state
    "PreconditionFailed": Changed,
    "FileAlreadyExists": Exists,
    "ObjectAlreadyExists": Exists,
    "PositionNotEqualToLength": PositionConflict,
    "ObjectNotAppendable": NotAppendable,
    # limits
    "EntityTooLarge": TooLarge,
    "InvalidDigest": Corrupt,
    "BadDigest": Corrupt,
    # 400s and 409s that are nobody's fault and pass
    "RequestTimeout": Unavailable,
    "IncompleteBody": Unavailable,
    "BadRequest": Unavailable,
    "OperationAborted": Unavailable,
    # pressure
    "SlowDown": Throttled,
    "ServiceBusy": Throttled,
}
_THROTTLE_MARKS = ("QpsLimitExceeded", "RateLimitExceeded", "RequestLimitExceeded", "Throttl")
_BY_STATUS: dict[int, type[StoreError]] = {
    400: Invalid,
    401: Denied,
    403: Denied,
    408: Unavailable,
    411: Invalid,
    412: Changed,
    413: TooLarge,
    416: Invalid,
    429: Throttled,
}
_ADVICE = {
    "RequestTimeTooSkewed": "the clock of this machine differs from OSS's by over 15 minutes:"
    " set it right",
    "SignatureDoesNotMatch": "OSS refuses the signature: check the access key secret"
    " and, where set, the region",
    "InvalidAccessKeyId": "OSS does not know the access key id",
    "InvalidObjectState": "the object is archived: restore it before it can be read",
}


def error_of(
    status: int,
    headers: Mapping[str, str],
    body: bytes = b"",
    *,
    key: bytes = b"",
    bucket: str = "",
    temporary_keys: bool = False,
    conditional: bool = False,
) -> StoreError:
    """Return what a reply that is no success means.

    `temporary_keys`: the request was signed with an STS token; `conditional`: it had If-Match.
    """
    reply = parse_error(body)
    if not reply.code and (encoded := headers.get("x-oss-err")):
        reply = _decoded(encoded)
    code = reply.code
    request_id = headers.get("x-oss-request-id", "")
    kind = _kind_of(status, code, bool(request_id), temporary_keys, conditional)
    error = kind(
        _message(status, reply, bool(request_id), bucket),
        key=key,
        status=status,
        code=code,
        request_id=request_id,
    )
    if isinstance(error, Transient):
        error.retry_after = _retry_after(headers.get("retry-after", ""))
    if isinstance(error, PositionConflict):
        with suppress(ValueError):
            error.next_position = natural(headers.get("x-oss-next-append-position", ""))
    return error


def _kind_of(
    status: int, code: str, from_oss: bool, temporary_keys: bool, conditional: bool
) -> type[StoreError]:
    if status == 416 and conditional:
        # The version that was asked for is longer than this; OSS may look at the range first.
        return Changed
    if code == "InvalidAccessKeyId" and temporary_keys:
        return Expired
    if code in _BY_CODE:
        return _BY_CODE[code]
    if any(mark in code for mark in _THROTTLE_MARKS):
        return Throttled
    if status == 404:
        # NoSuchVersion, NoSuchWebsiteConfiguration and the like say nothing about the object.
        return (StoreError if code else NotFound) if from_oss else Unavailable
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    return Unavailable if status >= 500 else StoreError


def _message(status: int, reply: ErrorReply, from_oss: bool, bucket: str) -> str:
    if reply.code == "NoSuchBucket":
        return f"there is no bucket {bucket!r} at this endpoint"
    if reply.code in _ADVICE:
        return _ADVICE[reply.code]
    if reply.message:
        return reply.message
    if 300 <= status < 400:
        return f"the server answers {status}, a redirect: check the endpoint"
    if not from_oss:
        return f"the server answers {status}, and not as OSS does: is there a proxy in between?"
    return f"the server answers {status}"


def _decoded(encoded: str) -> ErrorReply:
    try:
        return parse_error(b64decode(encoded))
    except (binascii.Error, ValueError):
        return ErrorReply("", "")


def _retry_after(text: str) -> float | None:
    """Read Retry-After, which is a number of seconds or a date."""
    if not text:
        return None
    with suppress(ValueError):
        return float(natural(text))
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None
