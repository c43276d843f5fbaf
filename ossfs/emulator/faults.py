"""OSS's errors: code, HTTP status, message and EC, and the XML that carries them.

A handler raises `OssFault`; the server turns it into the reply. The codes, statuses and
wording are those of the OSS documentation (Common errors, and the error section of each
call's page); ECs are OSS's where the documentation gives one and its generic one elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

_GENERIC_EC = "0000-00000001"

_FAULTS: Mapping[str, tuple[int, str, str]] = {
    "AccessDenied": (403, "You have no right to access this object.", "0003-00000001"),
    "BucketAlreadyExists": (409, "The requested bucket name is not available.", "0015-00000104"),
    "BucketNotEmpty": (409, "The bucket has objects. Please delete them first.", "0015-00000301"),
    "EntityTooLarge": (400, "Your proposed upload exceeds the maximum allowed size.", ""),
    "EntityTooSmall": (
        400,
        "Your proposed upload smaller than the minimum allowed size.",
        "0042-00000210",
    ),
    "FileAlreadyExists": (
        409,
        "The object you specified already exists and can not be overwritten.",
        "0026-00000003",
    ),
    "InternalError": (500, "We encountered an internal error. Please try again.", ""),
    "InvalidAccessKeyId": (
        403,
        "The OSS Access Key Id you provided does not exist in our records.",
        "0002-00000902",
    ),
    "InvalidArgument": (400, "Invalid argument.", "0017-00000001"),
    "InvalidBucketName": (400, "The specified bucket is not valid.", "0015-00000001"),
    "InvalidDigest": (400, "The Content-MD5 you specified was invalid.", "0017-00000503"),
    "InvalidObjectName": (400, "The specified object is not valid.", "0016-00000005"),
    "InvalidObjectState": (
        403,
        "The operation is not valid for the object's state.",
        "0025-00000101",
    ),
    "InvalidPart": (
        400,
        "One or more of the specified parts could not be found or the specified entity tag "
        "might not have matched the part's entity tag.",
        "0042-00000205",
    ),
    "InvalidPartOrder": (
        400,
        "The list of parts was not in ascending order. Parts list must be specified in order "
        "by part number.",
        "0042-00000204",
    ),
    "InvalidRange": (416, "The requested range cannot be satisfied.", "0026-00000022"),
    "InvalidSecurityToken": (403, "The security token you provided is invalid.", "0002-00000208"),
    "InvalidTargetType": (400, "The symbolic's target file type is invalid.", "0026-00000011"),
    "MalformedXML": (
        400,
        "The XML you provided was not well-formed or did not validate against our published "
        "schema.",
        "",
    ),
    "MethodNotAllowed": (
        405,
        "The specified method is not allowed against this resource.",
        "",
    ),
    "MetadataTooLarge": (
        400,
        "Your metadata headers exceed the maximum allowed metadata size.",
        "0011-00000002",
    ),
    "MissingArgument": (400, "Missing Some Required Arguments.", ""),
    "MissingContentLength": (
        411,
        "You must provide the Content-Length HTTP header.",
        "",
    ),
    "NoSuchBucket": (404, "The specified bucket does not exist.", "0015-00000101"),
    "NoSuchKey": (404, "The specified key does not exist.", "0026-00000001"),
    "NoSuchUpload": (
        404,
        "The specified upload does not exist. The upload ID may be invalid, or the upload may "
        "have been aborted or completed.",
        "0042-00000002",
    ),
    "NotImplemented": (
        501,
        "A header or parameter you provided implies functionality that is not implemented.",
        "",
    ),
    "NotModified": (304, "", ""),
    "NotSymlink": (400, "The object is not symlink.", "0026-00000015"),
    "ObjectNotAppendable": (409, "The object is not appendable", "0026-00000017"),
    "OperationNotSupported": (
        400,
        "The operation is not supported for this resource",
        "0016-00000702",
    ),
    "PositionNotEqualToLength": (
        409,
        "Position is not equal to file length",
        "0026-00000016",
    ),
    "PreconditionFailed": (
        412,
        "At least one of the pre-conditions you specified did not hold.",
        "0016-00000801",
    ),
    "RequestTimeTooSkewed": (
        403,
        "The difference between the request time and the current time is too large.",
        "0002-00000504",
    ),
    "SecurityTokenExpired": (
        403,
        "The security token you provided has expired.",
        "0002-00000212",
    ),
    "SignatureDoesNotMatch": (
        403,
        "The request signature we calculated does not match the signature you provided. Check "
        "your key and signing method.",
        "0002-00000040",
    ),
    "SymlinkTargetNotExist": (
        404,
        "The target object you specified does not exist.",
        "0026-00000010",
    ),
}


class OssFault(Exception):
    """A request that OSS refuses; `code` is one of the table's."""

    def __init__(
        self,
        code: str,
        message: str = "",
        *,
        ec: str = "",
        details: Mapping[str, str] | None = None,
        headers: Sequence[tuple[str, str]] = (),
    ) -> None:
        status, standard, usual_ec = _FAULTS[code]
        super().__init__(code)
        self.code = code
        self.status = status
        self.message = message or standard
        self.ec = ec or usual_ec or _GENERIC_EC
        self.details = details or {}
        self.headers = headers
        """Sent with the reply besides the usual ones."""

    def xml(self, request_id: str, host: str) -> bytes:
        """Return the body of the reply."""
        more = "".join(
            f"  <{name}>{escape(value)}</{name}>\n" for name, value in self.details.items()
        )
        return (
            '<?xml version="1.0" encoding="UTF-8"?>\n<Error>\n'
            f"  <Code>{self.code}</Code>\n"
            f"  <Message>{escape(self.message)}</Message>\n"
            f"  <RequestId>{request_id}</RequestId>\n"
            f"  <HostId>{escape(host)}</HostId>\n"
            f"{more}  <EC>{self.ec}</EC>\n"
            "</Error>\n"
        ).encode("utf-8", "backslashreplace")
