"""The one table from what an S3-compatible store answers to what it means.

The rules are those of `oss_errors`: a 5xx is the server's trouble whatever code it carries, else
the code is looked up first, then the status; absence is believed only when the store itself said
so, which shows by its request id. A HEAD has no body, so nothing tells a missing object from a
missing bucket, nor, where the token is temporary, a token that has expired (S3 answers 400) from
a bad request: the former is taken for a missing object, the latter for an expired token.

Sources: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html, and for MinIO's own
codes https://github.com/minio/minio/blob/master/cmd/api-errors.go.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ossfs.store.errors import (
    Archived,
    Changed,
    Corrupt,
    Denied,
    Elsewhere,
    Expired,
    Invalid,
    NoBucket,
    NotFound,
    NoUpload,
    StoreError,
    TooLarge,
    Transient,
    Unavailable,
    WrongRegion,
)
from ossfs.store.listing import ErrorReply, parse_error
from ossfs.store.oss_errors import BY_STATUS, HOST, general_kind, retry_after

_BY_CODE: dict[str, type[StoreError]] = {
    # refusal
    "AccessDenied": Denied,
    "AllAccessDisabled": Denied,
    "AccountProblem": Denied,
    "InvalidAccessKeyId": Denied,
    "SignatureDoesNotMatch": Denied,
    "RequestTimeTooSkewed": Denied,
    "ExpiredToken": Expired,
    "InvalidToken": Expired,
    "InvalidTokenId": Expired,
    "TokenRefreshRequired": Expired,
    "InvalidObjectState": Archived,
    # state
    "PreconditionFailed": Changed,
    "ConditionalRequestConflict": Unavailable,
    # limits
    "EntityTooLarge": TooLarge,
    "InvalidDigest": Corrupt,
    "BadDigest": Corrupt,
    "XAmzContentSHA256Mismatch": Corrupt,
    "XAmzContentChecksumMismatch": Corrupt,
    # 400s and 409s that are nobody's fault and pass
    "RequestTimeout": Unavailable,
    "IncompleteBody": Unavailable,
    "OperationAborted": Unavailable,
    # where the bucket is
    "AuthorizationHeaderMalformed": WrongRegion,
    "PermanentRedirect": Elsewhere,
    "TemporaryRedirect": Unavailable,
}
_MISSING: dict[str, type[StoreError]] = {
    "NoSuchKey": NotFound,
    "NoSuchBucket": NoBucket,
    "NoSuchUpload": NoUpload,
}
_REFUSALS = frozenset(
    (
        "EntityTooSmall",
        "InvalidArgument",
        "InvalidPart",
        "InvalidPartOrder",
        "InvalidRequest",
        "InvalidStorageClass",
        "KeyTooLongError",
        "MalformedXML",
        "MethodNotAllowed",
        "NotImplemented",
    )
)
"""Codes of 400s and their like that say no more than their status does."""
_REGION = re.compile(r"[0-9a-z-]+")
_ADVICE = {
    "RequestTimeTooSkewed": "the clock of this machine differs from the store's by over 15"
    " minutes: set it right",
    "SignatureDoesNotMatch": "the store refuses the signature: check the secret access key and,"
    " where set, the region",
    "InvalidAccessKeyId": "the store does not know the access key id",
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

    `head`: the request was a HEAD; `temporary_keys`: it was signed with a session token;
    `conditional`: it named a version.
    """
    reply = parse_error(body)
    # Ceph sends x-amz-request-id too, and so do MinIO and SeaweedFS.
    request_id = headers.get("x-amz-request-id", "")
    region = reply.region or headers.get("x-amz-bucket-region", "")
    if head and not reply.code and request_id:
        reply = _of_head(status, temporary_keys)
    kind = _kind_of(status, reply, bool(request_id), temporary_keys, conditional)
    if kind is WrongRegion and not _REGION.fullmatch(region):
        kind = Invalid
    if kind is Elsewhere and (region or not HOST.fullmatch(reply.endpoint)):
        kind = WrongRegion if _REGION.fullmatch(region) else Denied
    error = kind(
        _message(kind, status, reply, bool(request_id), bucket, region),
        key=key,
        status=status,
        code=reply.code,
        request_id=request_id,
    )
    if isinstance(error, WrongRegion):
        error.region = region
    if isinstance(error, Elsewhere):
        error.endpoint = reply.endpoint
    if isinstance(error, Transient):
        error.retry_after = retry_after(headers.get("retry-after", ""))
    return error


def late_status(code: str) -> int:
    """Return the status that an error would have had if it had been known in time.

    The reply began with 200; a code that nobody knows is then the server's trouble, as it is to
    the SDKs of Amazon, and worth another attempt.
    """
    if code in _MISSING:
        return 404
    if code == "PreconditionFailed":
        return 412
    return 400 if code in _BY_CODE or code in _REFUSALS else 500


def _of_head(status: int, temporary_keys: bool) -> ErrorReply:
    """Say what the body of a HEAD's reply would have, as far as its status tells."""
    if status == 404:
        return ErrorReply("NoSuchKey", "")
    if status in (301, 307):
        return ErrorReply("PermanentRedirect", "")
    if status == 400 and temporary_keys:
        return ErrorReply("ExpiredToken", "")
    return ErrorReply("", "")


def _kind_of(
    status: int,
    reply: ErrorReply,
    from_store: bool,
    temporary_keys: bool,
    conditional: bool,
) -> type[StoreError]:
    code = reply.code
    kind = general_kind(status, code, from_store, temporary_keys, conditional, _MISSING)
    return kind or _BY_CODE.get(code) or BY_STATUS.get(status, StoreError)


def _message(
    kind: type[StoreError],
    status: int,
    reply: ErrorReply,
    from_store: bool,
    bucket: str,
    region: str,
) -> str:
    if kind is NoBucket:
        return f"there is no bucket {bucket!r} at this endpoint"
    if kind is WrongRegion:
        return f"the bucket is in region {region}"
    if reply.code in _ADVICE:
        return _ADVICE[reply.code]
    if reply.message:
        return reply.message
    if not from_store:
        return f"the server answers {status}, and not as S3 does: is there a proxy in between?"
    if 300 <= status < 400:
        return f"the server answers {status}, a redirect: check the endpoint"
    return f"the server answers {status}"
