"""The one table from what OSS answers to what it means.

A failure is told by its HTTP status and OSS's own code, never by a class of some
SDK. A 5xx is the server's trouble whatever code it carries; else the code is looked
up first, then the status alone.

Absence is believed only when OSS itself said so, since it makes `rsync --delete`
delete: a 404 with OSS's request id and a code that means absence. A HEAD has no body
for the code: it travels base64-encoded in x-oss-err (as oss2 2.19.1 reads it), and
where OSS sends none, as it did for years (aliyun-oss-c-sdk issue 3), the request id
is enough, for nothing but the object or its bucket can be missing then. Of the
fine-grained x-oss-ec, which OSS warns not to rely on, only a missing bucket is
believed. Every other 404, a proxy's above all, is trouble that may pass.

Sources: https://www.alibabacloud.com/help/en/oss/support/http-status-codes and
its pages for 400, 403, 404, 409, 412, 416, 429 and 503, and .../oss/error-responses.
"""

from __future__ import annotations

import binascii
import re
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
    Elsewhere,
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
    WrongRegion,
)
from ossfs.store.listing import ErrorReply, parse_error
from ossfs.store.reply import natural

_BY_CODE: dict[str, type[StoreError]] = {
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
}
_MISSING: dict[str, type[StoreError]] = {
    "NoSuchKey": NotFound,
    "SymlinkTargetNotExist": NotFound,
    "NoSuchBucket": NoBucket,
    "NoSuchUpload": NoUpload,
}
"""What a code means in a 404, and in nothing else."""
_NO_SUCH_BUCKET = "0015-00000101"
"""The x-oss-ec of NoSuchBucket."""
_WRONG_REGION = "Invalid signing region"
"""How the message begins in which OSS refuses the region of a V4 signature (its
x-oss-ec is 0002-00000226; aliyun/alibabacloud-oss-go-sdk-v2 issue 29)."""
HOST = re.compile(r"[0-9A-Za-z.-]+(:[0-9]+)?")
_THROTTLED = re.compile(
    "QpsLimitExceeded|RateLimitExceeded|RequestLimitExceeded|Throttl|^SlowDown$|^ServiceBusy$"
)
BY_STATUS: dict[int, type[StoreError]] = {
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
    head: bool = False,
    temporary_keys: bool = False,
    conditional: bool = False,
) -> StoreError:
    """Return what a reply that is no success means.

    `head`: the request was a HEAD; `temporary_keys`: it was signed with an STS token;
    `conditional`: it had If-Match.
    """
    reply = parse_error(body)
    encoded = headers.get("x-oss-err")
    if not reply.code and encoded:
        reply = _decoded(encoded)
    request_id = headers.get("x-oss-request-id", "")
    if head and status == 404 and request_id and not encoded:
        no_bucket = headers.get("x-oss-ec") == _NO_SUCH_BUCKET
        reply = ErrorReply("NoSuchBucket" if no_bucket else "NoSuchKey", "")
    code = reply.code
    kind = _kind_of(status, reply, bool(request_id), temporary_keys, conditional)
    error = kind(
        _message(kind, status, reply, bool(request_id), bucket),
        key=key,
        status=status,
        code=code,
        request_id=request_id,
    )
    if isinstance(error, Elsewhere):
        error.endpoint = reply.endpoint
    if isinstance(error, Transient):
        error.retry_after = retry_after(headers.get("retry-after", ""))
    if isinstance(error, PositionConflict):
        with suppress(ValueError):
            error.next_position = natural(headers.get("x-oss-next-append-position", ""))
    return error


def _kind_of(
    status: int, reply: ErrorReply, from_oss: bool, temporary_keys: bool, conditional: bool
) -> type[StoreError]:
    code = reply.code
    kind = general_kind(status, code, from_oss, temporary_keys, conditional, _MISSING)
    if kind is not None:
        return kind
    if (status == 403 or 300 <= status < 400) and HOST.fullmatch(reply.endpoint):
        # AccessDenied, or a redirect of old: neither has to do with the keys.
        return Elsewhere
    if code == "InvalidArgument" and reply.message.startswith(_WRONG_REGION):
        return WrongRegion
    return _BY_CODE.get(code) or BY_STATUS.get(status, StoreError)


def general_kind(
    status: int,
    code: str,
    from_store: bool,
    temporary_keys: bool,
    conditional: bool,
    missing: Mapping[str, type[StoreError]],
) -> type[StoreError] | None:
    """Return what an answer means by the rules that all stores share, None where these say nothing.

    `missing`: what a code means in a 404.
    """
    if status == 416 and conditional:
        # The version that was asked for is longer than this; a server may look at the range first.
        return Changed
    if _THROTTLED.search(code):
        return Throttled
    if status >= 500:
        return Unavailable
    if status == 404:
        if not (from_store and code):
            return Unavailable
        # NoSuchVersion, NoSuchWebsiteConfiguration and the like say nothing about the object.
        return missing.get(code, StoreError)
    if code == "InvalidAccessKeyId" and temporary_keys:
        return Expired
    return None


def _message(
    kind: type[StoreError], status: int, reply: ErrorReply, from_oss: bool, bucket: str
) -> str:
    if kind is NoBucket:
        return f"there is no bucket {bucket!r} at this endpoint"
    if status == 404 and kind is Unavailable and not from_oss:
        return "the server answers 404, and not as OSS does: is there a proxy in between?"
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


def retry_after(text: str) -> float | None:
    """Read Retry-After, which is a number of seconds or a date."""
    if not text:
        return None
    with suppress(ValueError):
        return float(natural(text))
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None
