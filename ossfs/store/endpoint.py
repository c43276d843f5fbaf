"""Where a bucket is: what an endpoint says, used for every request.

Forms taken: `oss-cn-hangzhou.aliyuncs.com`, with or without `http://` or
`https://` (none means http, as for oss2; the option `oss_endpoint` always comes with
one), with or without a port, an IPv4 address, an IPv6 address in brackets. An
address or `localhost` cannot carry a bucket in its name, so there the bucket is the
first segment of the path; else it is the first label of the host name unless
`path_style` asks otherwise.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from ossfs.store.bucket_name import is_bucket_name, legal_bucket_name
from ossfs.store.errors import Invalid
from ossfs.store.transport import Origin

_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A bucket's address."""

    origin: Origin
    path: str
    """What stands before the key in a request's target: `/` or `/bucket/`."""

    @staticmethod
    def parse(
        text: str, bucket: str, *, path_style: bool = False, dotted: bool = False
    ) -> Endpoint:
        """Read an endpoint as a user writes it; Invalid says what is wrong with it.

        `dotted`: a bucket's name may hold dots, as S3's may and OSS's may not.
        """
        if not is_bucket_name(bucket, dotted=dotted):
            raise Invalid(
                f"{bucket!r} is no bucket name: {legal_bucket_name(dotted=dotted)},"
                " letters or digits first and last"
            )
        text = text.strip()
        url = text if "://" in text else f"http://{text}"
        shown = f"the endpoint {_without_password(text)!r}"
        try:
            parts = urlsplit(url)
            host = parts.hostname or ""
            port = parts.port
        except ValueError:
            raise Invalid(f"{shown} has a malformed host or port") from None
        if parts.scheme not in ("http", "https"):
            raise Invalid(f"{shown} is neither http nor https")
        if parts.username is not None or parts.path.strip("/") or parts.query or parts.fragment:
            raise Invalid(f"{shown} must be [http[s]://]host[:port] and nothing more")
        if port == 0:
            raise Invalid(f"{shown} has a malformed host or port")
        if port is None:
            port = 443 if parts.scheme == "https" else 80
        numeric = _is_address(host)
        if not numeric and (not _HOST.fullmatch(host) or ".." in host or len(host) > 253):
            raise Invalid(f"{shown} has no proper host name")
        if host.startswith(f"{bucket}.oss-"):
            raise Invalid(f"{shown} already holds the bucket's name: leave out {bucket + '.'!r}")
        if path_style or numeric or host == "localhost":
            return Endpoint(Origin(parts.scheme, host, port), f"/{bucket}/")
        return Endpoint(Origin(parts.scheme, f"{bucket}.{host}", port), "/")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _without_password(text: str) -> str:
    before, at, after = text.rpartition("@")
    return f"***@{after}" if at and before else text
