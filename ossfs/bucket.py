"""The bucket of a mount: opened, and asked whether it answers, before anything is mounted.

Whatever keeps it from answering becomes one line that names the option at fault and the remedy,
with the exit status that belongs to it.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from ossfs.config.options import MountOptions
from ossfs.credentials import CredentialsProvider
from ossfs.runtime.failure import ExitStatus, UserError
from ossfs.store.api import Store
from ossfs.store.client import StoreClient
from ossfs.store.errors import (
    DeadlineExceeded,
    Denied,
    Elsewhere,
    Invalid,
    NoBucket,
    StoreError,
    Transient,
    WrongRegion,
)
from ossfs.store.retry import RetryPolicy

if TYPE_CHECKING:
    from ossfs.store.oss import OssStore
    from ossfs.store.s3 import S3Store

PROBE_SECONDS = 10.0
"""How long the bucket may take to answer at start; a mount command must not hang for a minute."""
SILENCES = 3
"""As many times may a server be waited for in vain within one request: it has other addresses, and
a connection may be dead without a sign."""

_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"})
"""What OpenSSL makes of an answer in plain text."""


def open_store(options: MountOptions, credentials: CredentialsProvider) -> Store:
    """Return the store of a mount, which nothing has been asked of yet."""
    # Only the one that is used: each library costs a quarter of a second and some MiB.
    kind: type[OssStore] | type[S3Store]
    if options.store == "s3":
        from ossfs.store.s3 import S3Store as kind
    else:
        from ossfs.store.oss import OssStore as kind
    share = options.oss_request_timeout_ms / 1000 / SILENCES
    try:
        return kind(
            options.bucket,
            options.oss_endpoint,
            credentials,
            region=options.oss_region,
            path_style=options.path_style,
            connect_timeout=min(options.connect_timeout_ms / 1000, share),
            read_timeout=min(options.io_timeout_ms / 1000, share),
            proxy=options.http_proxy,
            bind=options.bind_ips.split(",") if options.bind_ips else (),
            ipv6=options.enable_ipv6,
        )
    except Invalid as error:
        raise UserError(str(error), ExitStatus.USAGE) from error


def retry_of(options: MountOptions) -> RetryPolicy:
    """Return how requests of a mount are repeated."""
    return RetryPolicy(
        attempts=options.retry_count + 1,
        base=options.retry_interval_ms / 1000,
        cap=max(RetryPolicy().cap, options.retry_interval_ms / 1000),
    )


async def probe(store: Store, prefix: bytes, options: MountOptions) -> None:
    """Raise a UserError unless the bucket answers and lets the prefix be listed."""
    client = StoreClient(store, request_timeout=PROBE_SECONDS)
    try:
        await client.probe(prefix)
    except StoreError as error:
        message, status = _trouble(error, options)
        raise UserError(message, status) from error


def _trouble(error: StoreError, options: MountOptions) -> tuple[str, ExitStatus]:
    """Say in one line why the bucket cannot be mounted, and what to do."""
    where = f"bucket {options.bucket!r} at {options.oss_endpoint}"
    if isinstance(error, NoBucket):
        return (
            f"{where} does not exist: check the name, and the endpoint's region",
            ExitStatus.NO_BUCKET,
        )
    if isinstance(error, Elsewhere):
        scheme = options.oss_endpoint.partition("://")[0]
        return (
            f"{where} is in another region: write oss_endpoint={scheme}://{error.endpoint}",
            ExitStatus.NO_BUCKET,
        )
    if isinstance(error, WrongRegion) and error.region:
        return (
            f"{where} is in region {error.region}: write oss_region={error.region}, and an "
            "endpoint of that region",
            ExitStatus.USAGE,
        )
    if isinstance(error, WrongRegion):
        return (
            f"{where} is not in region {options.oss_region}: write the region's own name, such as "
            "cn-hangzhou, into oss_region",
            ExitStatus.USAGE,
        )
    if isinstance(error, Denied):
        if error.code == "RequestTimeTooSkewed" or not error.code:  # the clock; some proxy
            return f"{where} refuses requests: {error}", ExitStatus.CREDENTIALS
        return (
            f"{where} refuses these credentials ({error.code or error.status}): check the access "
            "key, its secret and its permission to list the bucket",
            ExitStatus.CREDENTIALS,
        )
    if isinstance(error, DeadlineExceeded):
        return (
            f"{where} did not answer within {PROBE_SECONDS:.0f} s: check oss_endpoint and the "
            "network",
            ExitStatus.UNREACHABLE,
        )
    if _answers_without_tls(error):
        plain = options.oss_endpoint.replace("https://", "http://", 1)
        return (
            f"{where} answers without TLS: write oss_endpoint={plain}, or name its https port",
            ExitStatus.UNREACHABLE,
        )
    if isinstance(error, Transient):
        return (
            f"{where} cannot be reached: {error}; check oss_endpoint and the network",
            ExitStatus.UNREACHABLE,
        )
    return f"{where} cannot be mounted: {error}", ExitStatus.FAILURE


def _answers_without_tls(error: BaseException | None) -> bool:
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    return isinstance(error, ssl.SSLError) and error.reason in _NO_TLS
