"""Who may call: OSS signatures V1 and V4 in the Authorization header, and STS tokens.

Sources: OSS docs, "Include signatures in the Authorization header" (V1) and "Include a V4
signature in the Authorization header". A request is checked before anything else is done for
it. Only the day's V4 key and the last Date are remembered.

Presigned URLs are not built: a signature in the query is not looked at, so that a request
without the header is anonymous, and refused.
"""

from __future__ import annotations

import base64
import calendar
import hashlib
import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import quote, quote_from_bytes

from ossfs.emulator.faults import OssFault
from ossfs.emulator.request import Call, as_sent, parse_date

_SKEW = 15 * 60
"""Seconds a request's time may differ from ours."""

V1_SUBRESOURCES = frozenset(
    """
    accessPoint accessPointPolicy acl append asyncFetch bucketArchiveDirectRead bucketInfo callback
    callback-var cloudboxes cname comp continuation-token cors delete encryption endTime group
    httpsConfig inventory inventoryId lifecycle link live location logging metaQuery objectInfo
    objectMeta partNumber policy position publicAccessBlock qos qosInfo qosRequester
    redundancyTransition referer regionList replication replicationLocation replicationProgress
    requestPayment requesterQosInfo resourceGroup resourcePool resourcePoolBuckets resourcePoolInfo
    response-cache-control response-content-disposition response-content-encoding
    response-content-language response-content-type response-expires restore security-token
    sequential startTime stat status style styleName symlink tagging transferAcceleration uploadId
    uploads versionId versioning versions vod website worm wormExtend wormId x-oss-ac-forward-allow
    x-oss-ac-source-ip x-oss-ac-subnet-mask x-oss-ac-vpc-id x-oss-access-point-name
    x-oss-async-process x-oss-process x-oss-redundancy-transition-taskid x-oss-request-payer
    x-oss-target-redundancy-type x-oss-traffic-limit x-oss-write-get-object-response
    """.split()  # noqa: SIM905 - a hundred quoted names would hide the list
)
"""Query parameters that a V1 signature covers."""


@dataclass(frozen=True, slots=True)
class Key:
    """What a caller must know."""

    id: str
    secret: str = field(repr=False)
    token: str | None = field(default=None, repr=False)
    """Set: the key is an STS key, and the token has to come with every request."""
    token_expires: float | None = None
    """Seconds since the epoch after which the token is refused."""
    public: bool = False
    """Whoever says nothing about himself may read."""
    dated: bool = False
    """Every TOKEN.SECONDS is good, until that many seconds since the epoch."""


class Verifier:
    """Checks requests against one key."""

    def __init__(
        self, key: Key, region: str = "cn-hangzhou", wall: Callable[[], float] = time.time
    ) -> None:
        self._key = key
        self._region = region
        self._wall = wall
        self._day = ""
        self._day_key = b""
        self._last_date: tuple[str, float | None] = ("", None)

    def check(self, call: Call) -> None:
        """Raise the fault that OSS answers unless `call` is signed by the key."""
        authorization = call.header("authorization")
        if authorization.startswith("OSS "):
            self._check_v1(call, authorization[4:])
        elif authorization.startswith("OSS4-HMAC-SHA256 "):
            self._check_v4(call, authorization[17:])
        elif authorization:
            raise OssFault("InvalidArgument", "Authorization header is invalid.")
        elif not (self._key.public and call.method in ("GET", "HEAD")):
            raise OssFault("AccessDenied", "Anonymous user has no right to access this bucket.")

    def _check_token(self, call: Call) -> None:
        given = call.header("x-oss-security-token") or call.header("security-token")
        if self._key.token is None:
            if given:
                raise OssFault("InvalidSecurityToken")
            return
        if not given:
            raise OssFault("InvalidAccessKeyId", details={"OSSAccessKeyId": self._key.id})
        expires = self._key.token_expires
        if self._key.dated:
            given, _, seconds = given.rpartition(".")
            expires = float(seconds) if seconds.isdecimal() else 0.0
        if not hmac.compare_digest(as_sent(given), self._key.token.encode()):
            raise OssFault("InvalidSecurityToken")
        if expires is not None and self._wall() >= expires:
            raise OssFault("SecurityTokenExpired")

    def _check_key(self, call: Call, key_id: str) -> None:
        if key_id != self._key.id:
            raise OssFault("InvalidAccessKeyId", details={"OSSAccessKeyId": key_id})
        self._check_token(call)

    def _check_time(self, then: float) -> None:
        now = self._wall()
        if abs(now - then) > _SKEW:
            raise OssFault(
                "RequestTimeTooSkewed",
                details={
                    "MaxAllowedSkewMilliseconds": str(_SKEW * 1000),
                    "RequestTime": _iso(then),
                    "ServerTime": _iso(now),
                },
            )

    def _mismatch(self, signature: str, string_to_sign: bytes) -> OssFault:
        return OssFault(
            "SignatureDoesNotMatch",
            details={
                "OSSAccessKeyId": self._key.id,
                "SignatureProvided": signature,
                "StringToSign": string_to_sign.decode("utf-8", "backslashreplace"),
            },
        )

    def _check_v1(self, call: Call, credential: str) -> None:
        key_id, _, signature = credential.partition(":")
        self._check_key(call, key_id)
        date = call.header("x-oss-date") or call.header("date")
        self._check_time(self._parse_date(date))
        lines = [
            call.method.encode(),
            call.header_bytes("content-md5"),
            call.header_bytes("content-type"),
            as_sent(date),
        ]
        lines += [name + b":" + value for name, value in call.oss_headers()]
        lines.append(_v1_resource(call))
        string_to_sign = b"\n".join(lines)
        digest = hmac.digest(self._key.secret.encode(), string_to_sign, "sha1")
        expected = base64.b64encode(digest)
        if not hmac.compare_digest(expected, as_sent(signature)):
            raise self._mismatch(signature, string_to_sign)

    def _parse_date(self, date: str) -> float:
        if date != self._last_date[0]:
            self._last_date = (date, parse_date(date))
        parsed = self._last_date[1]
        if parsed is None:
            raise _no_date()
        return parsed

    def _check_v4(self, call: Call, credential: str) -> None:
        fields = {}
        for item in credential.split(","):
            name, _, value = item.strip().partition("=")
            fields[name] = value
        signature = fields.get("Signature", "")
        key_id, _, scope = fields.get("Credential", "").partition("/")
        self._check_key(call, key_id)
        stamp = call.header("x-oss-date")
        try:
            then = calendar.timegm(time.strptime(stamp, "%Y%m%dT%H%M%SZ"))
        except ValueError:
            raise _no_date() from None
        self._check_time(then)
        wanted = f"{stamp[:8]}/{self._region}/oss/aliyun_v4_request"
        if scope.split("/")[1:2] != [self._region]:
            raise OssFault("InvalidArgument", "Invalid signing region in Authorization header.")
        if scope != wanted:
            raise OssFault(
                "InvalidArgument",
                f"Invalid signing scope in Authorization header, expected {wanted}.",
                details={"ArgumentName": "Authorization", "ArgumentValue": scope},
            )
        payload = call.header("x-oss-content-sha256")
        if payload != "UNSIGNED-PAYLOAD":
            raise OssFault(
                "InvalidArgument", "Invalid x-oss-content-sha256 header, want UNSIGNED-PAYLOAD."
            )
        additional = fields.get("AdditionalHeaders", "")
        canonical = _v4_request(call, additional, payload)
        string_to_sign = (
            f"OSS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical).hexdigest()}"
        ).encode()
        digest = hmac.digest(self._v4_key(stamp[:8]), string_to_sign, "sha256")
        if not hmac.compare_digest(digest.hex().encode(), as_sent(signature)):
            raise self._mismatch(signature, string_to_sign)

    def _v4_key(self, day: str) -> bytes:
        if day != self._day:
            key = ("aliyun_v4" + self._key.secret).encode()
            for step in (day, self._region, "oss", "aliyun_v4_request"):
                key = hmac.digest(key, step.encode(), "sha256")
            self._day, self._day_key = day, key
        return self._day_key


def _no_date() -> OssFault:
    return OssFault("AccessDenied", "OSS authentication requires a valid Date.")


def _iso(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(seconds))


def _v1_resource(call: Call) -> bytes:
    resource = b"/"
    if call.bucket:
        resource = b"/" + call.bucket.encode() + b"/" + call.key
    signed = sorted((name, value) for name, value in call.query.items() if name in V1_SUBRESOURCES)
    if signed:
        items = (f"{name}={value}" if value else name for name, value in signed)
        resource += b"?" + as_sent("&".join(items))
    return resource


def _v4_request(call: Call, additional: str, payload: str) -> bytes:
    path = "/"
    if call.bucket:
        path = f"/{call.bucket}/{quote_from_bytes(call.key)}"
    query = ""
    if call.query:
        pairs = sorted(
            (quote(as_sent(name), safe=""), quote(as_sent(value), safe=""))
            for name, value in call.query.items()
        )
        query = "&".join(f"{name}={value}" if value else name for name, value in pairs)
    headers = call.oss_headers()
    more = {name for name in ("content-type", "content-md5") if call.has(name)}
    more.update(name for name in additional.split(";") if name)
    if more:
        # An x-oss- header named as additional is still signed once.
        extra = [
            (as_sent(name), call.header_bytes(name))
            for name in more
            if not name.startswith("x-oss-")
        ]
        headers = sorted(headers + extra)
    lines = b"".join(name + b":" + value + b"\n" for name, value in headers)
    return b"\n".join(
        (
            call.method.encode(),
            path.encode(),
            query.encode(),
            lines,
            as_sent(additional),
            payload.encode(),
        )
    )
