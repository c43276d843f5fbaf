"""What can go wrong at a store, by meaning, and the one table that makes errno of it.

    StoreError
    ├── NotFound            the key does not exist (said by the store itself)
    ├── NoBucket            the bucket does not exist
    ├── NoUpload            the multipart upload does not exist (any more)
    ├── Denied              401, 403
    │   ├── Expired         the token has expired: refresh credentials and try once more
    │   ├── Archived        the object must be restored before it can be read
    │   └── Elsewhere       the bucket belongs to another endpoint (.endpoint)
    ├── Changed             412: the object is not the version asked for
    ├── Exists              forbid-overwrite met an object
    ├── PositionConflict    append at another position than the end (.next_position)
    ├── NotAppendable       append to a normal object
    ├── TooLarge            over a size or count limit of the store
    ├── Invalid             400: the caller's mistake
    │   └── WrongRegion     the signature names another region than the bucket's (.region)
    ├── Corrupt             checksum or length of the reply is wrong (.etag)
    └── Transient           worth another attempt
        ├── Throttled       429, 503 rate limits (.retry_after)
        ├── Unavailable     5xx, refused, reset, no such host
        │   └── Silent      no byte for as long as a living server would take
        ├── Truncated       the body ended early
        └── DeadlineExceeded  no answer in time

Messages name the key; they never hold credentials or signed URLs.
"""

from __future__ import annotations

import errno


class StoreError(Exception):
    """A request to the store failed."""

    def __init__(
        self,
        message: str,
        *,
        key: bytes = b"",
        status: int = 0,
        code: str = "",
        request_id: str = "",
    ) -> None:
        super().__init__(message)
        self.key = key
        self.status = status
        """HTTP status, 0 when there was no answer."""
        self.code = code
        """The store's own word, such as NoSuchKey."""
        self.request_id = request_id

    def __str__(self) -> str:
        text = super().__str__()
        if self.key:
            text += f" (key {self.key.decode('utf-8', 'backslashreplace')!r})"
        if self.code:
            text += f" [{self.code}]"
        if self.request_id:
            text += f" [request {self.request_id}]"
        return text


class NotFound(StoreError): ...


class NoBucket(StoreError): ...


class NoUpload(StoreError): ...


class Denied(StoreError): ...


class Expired(Denied): ...


class Archived(Denied): ...


class Elsewhere(Denied):
    endpoint = ""
    """Host name, and port if any, that the store names."""


class Changed(StoreError): ...


class Exists(StoreError): ...


class PositionConflict(StoreError):
    next_position: int | None = None


class NotAppendable(StoreError): ...


class TooLarge(StoreError): ...


class Invalid(StoreError): ...


class WrongRegion(Invalid):
    region = ""
    """The bucket's own, where the store names it."""


class Corrupt(StoreError):
    etag: str = ""
    """ETag of the object or part that the reply with the wrong checksum spoke of, if it did."""


class Transient(StoreError):
    retry_after: float | None = None
    """Seconds the store asked us to wait, if it did."""


class Throttled(Transient): ...


class Unavailable(Transient): ...


class Silent(Unavailable): ...


class Truncated(Transient): ...


class DeadlineExceeded(Transient): ...


_ERRNO: tuple[tuple[type[StoreError], int], ...] = (
    (NotFound, errno.ENOENT),
    (Denied, errno.EACCES),
    (Changed, errno.ESTALE),
    (Exists, errno.EEXIST),
    (TooLarge, errno.EFBIG),
    (Invalid, errno.EINVAL),
    (DeadlineExceeded, errno.ETIMEDOUT),
    (Silent, errno.ETIMEDOUT),
)


def errno_of(error: StoreError, *, open_handle: bool = False) -> int:
    """Translate; on an open handle a missing object is ESTALE, since the name was there.

    NoBucket, NoUpload and everything unlisted are EIO: an ENOENT would make `rsync --delete`
    believe them. Never EAGAIN or EINTR, on which programs spin.
    """
    if open_handle and isinstance(error, NotFound):
        return errno.ESTALE
    for kind, number in _ERRNO:
        if isinstance(error, kind):
            return number
    return errno.EIO
