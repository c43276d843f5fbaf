"""Whether a mutation whose reply was lost, or spoke of other bytes, has been performed.

Judgement only, no request: `store.client` asks with HEAD and repeats. The rule for what must not
happen twice: no attempt follows one that may have been performed before a HEAD has shown that the
object is not ours; none fails for good, where one may have been, before a last HEAD has decided.

Invariant: an object passes for ours only if its size and CRC-64 (where the store has none, the
ETag that its parts make) are ours, and, where the caller
gave it a mark, the mark too. Where nothing may be overwritten the mark alone tells our object
from another client's of the same bytes: without one a success that was lost stays unproven, and
the call fails. What remains without a mark: another client's append of the same bytes at the same
place, between our lost one and the HEAD, passes for ours, and so does, for a completed upload, an
object that had the same bytes before.

What runs concurrently: a `Mutation` is one request's; all its state is touched on the trio loop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from ossfs.store.api import (
    MARK,
    AppendReply,
    Expected,
    ObjectInfo,
    ObjectType,
    PartReply,
    PutOptions,
    PutReply,
)
from ossfs.store.errors import Corrupt, Exists, NoUpload, StoreError, Transient
from ossfs.store.retry import certainly_refused

REPAIRS = 2
"""Further attempts at bytes that arrived damaged."""

T = TypeVar("T")


class Mutation(Generic[T]):
    """One mutation under way: what may be done again, and what its failed attempts left.

    `idempotent`: it may be performed twice. `repairable`: it is worth another attempt when the
    store got other bytes than were sent. `crc64`: of the part or object it makes. `found` makes
    the reply of what a HEAD shows; with it and `expect` the mutation can be settled. `exclusive`:
    the store refuses it where there is an object. `kind`: the type that the object must have,
    None for any but a link. `options`: what the object carries besides its bytes, where the
    request says it; an earlier object may have had the same bytes.
    """

    __slots__ = (
        "_crc64",
        "_damages",
        "_exclusive",
        "_expect",
        "_found",
        "_idempotent",
        "_kind",
        "_lost",
        "_options",
        "_repairable",
        "corrupt",
    )

    def __init__(
        self,
        *,
        idempotent: bool,
        repairable: bool = False,
        crc64: int | None = None,
        expect: Expected | None = None,
        found: Callable[[ObjectInfo], T] | None = None,
        exclusive: bool = False,
        kind: ObjectType | None = None,
        options: PutOptions | None = None,
    ) -> None:
        self._idempotent = idempotent
        self._repairable = repairable
        self._crc64 = expect.crc64 if expect is not None else crc64
        self._expect = expect
        self._found = found
        self._exclusive = exclusive
        self._kind = kind
        self._options = options
        self._lost = False
        self._damages = 0
        self.corrupt: Corrupt | None = None
        """The last reply that spoke of other bytes; dropped at the end, for it holds frames."""

    @property
    def repeatable(self) -> bool:
        """Whether it may be repeated after an attempt that may have been performed."""
        return self._idempotent or self._expect is not None

    def check(self, reply: object) -> None:
        """Raise Corrupt for a reply that speaks of other bytes than were meant; in any thread."""
        if not isinstance(reply, PutReply | PartReply | AppendReply):
            return
        problem = ""
        size = reply.next_position if isinstance(reply, AppendReply) else None
        if self._crc64 is not None and reply.crc64 not in (None, self._crc64):
            problem = f"CRC-64 {reply.crc64}, not {self._crc64}"
        elif self._expect is not None and size not in (None, self._expect.size):
            problem = f"{size}, not {self._expect.size}"
        if problem:
            error = Corrupt(f"the store holds other bytes than were sent: {problem}")
            error.etag = reply.etag
            raise error

    def failed(self, error: StoreError) -> None:
        """Take note of an attempt's failure."""
        self._lost = self._lost or _may_be_done(error)
        if isinstance(error, Corrupt):
            self._damages += 1
            if self._found is None:
                # Of a part: an object of the same bytes may bear it, and is none of ours.
                error.etag = ""
            self.corrupt = error

    def repairs(self, error: StoreError) -> bool:
        """Say whether the bytes arrived damaged and are worth sending again."""
        return self._repairable and isinstance(error, Corrupt) and self._damages <= REPAIRS

    def asks(self, error: StoreError, *, last: bool) -> bool:
        """Say whether a HEAD must come before the next attempt or, if this is the `last`, the end.

        What a refusal hides without a lost reply before it: NoUpload that the upload was
        completed, Exists that the object is of our mark. PositionConflict and Changed hide
        nothing then: an equal append there is another client's.
        """
        if self._expect is None:
            return False
        if isinstance(error, Corrupt):
            return True
        if not last:
            return not self._idempotent and _may_be_done(error)
        hidden = isinstance(error, NoUpload) or (
            isinstance(error, Exists) and self._expect.mark != ""
        )
        return self._lost or hidden

    def settled(self, info: ObjectInfo) -> T | None:
        """Return the reply of the attempt that made the object a HEAD shows; None if none did."""
        if self._expect is None or self._found is None or not self._made(self._expect, info):
            return None
        return self._found(info)

    def give_up(self, error: StoreError) -> None:
        """Raise why an earlier attempt left a wrong object, if one did: somebody must remove it."""
        if self.corrupt is not None and self.corrupt is not error and self.corrupt.etag:
            raise self.corrupt from error

    def _made(self, expect: Expected, info: ObjectInfo) -> bool:
        if info.type is ObjectType.SYMLINK or self._kind not in (None, info.type):
            return False
        if info.size != expect.size:
            return False
        known = expect.crc64 is not None and info.crc64 is not None
        if known and info.crc64 != expect.crc64:
            return False
        known = known or (expect.etag != "" and expect.etag == info.etag)
        if self.corrupt is not None and not known:
            return False
        if expect.mark:
            return info.metadata.get(MARK) == expect.mark
        # The reply with the wrong CRC said that it was performed, and made this.
        told = self.corrupt is not None and info.etag == self.corrupt.etag != ""
        if self._exclusive:
            return told
        return known and (told or self._options is None or _carries(info, self._options))


def a_put(options: PutOptions, expect: Expected | None) -> Mutation[PutReply]:
    """Begin a put."""
    exclusive = options.forbid_overwrite
    return Mutation(
        idempotent=not exclusive,
        repairable=not exclusive,
        expect=expect,
        found=_put_reply,
        exclusive=exclusive,
        options=options,
    )


def an_append(expect: Expected | None) -> Mutation[AppendReply]:
    """Begin an append."""
    return Mutation(
        idempotent=False, expect=expect, found=_append_reply, kind=ObjectType.APPENDABLE
    )


def a_copy(
    options: PutOptions | None, expect: Expected | None, *, itself: bool, pinned: bool
) -> Mutation[PutReply]:
    """Begin a copy; `itself`: onto its source; `pinned`: with if_match."""
    exclusive = options is not None and options.forbid_overwrite
    return Mutation(
        # A copy onto itself may leave another ETag, which a repeated `if_match` would meet.
        idempotent=not exclusive and not (itself and pinned),
        expect=expect,
        found=_put_reply,
        exclusive=exclusive,
        options=options,
    )


def a_completion(expect: Expected | None, *, exclusive: bool) -> Mutation[PutReply]:
    """Begin the completion of an upload; `exclusive`: it forbids overwriting."""
    return Mutation(idempotent=False, expect=expect, found=_put_reply, exclusive=exclusive)


def a_part(crc64: int | None) -> Mutation[PartReply]:
    """Begin a part, whose bytes have `crc64` if that is known."""
    return Mutation(idempotent=True, repairable=True, crc64=crc64)


def _may_be_done(error: StoreError) -> bool:
    """Say whether the store may have performed an attempt that failed so, or may yet."""
    return isinstance(error, Transient) and not certainly_refused(error)


def _carries(info: ObjectInfo, options: PutOptions) -> bool:
    """Say whether an object is what `options` would have made it; names know no case."""
    there = {name.lower(): value for name, value in info.metadata.items()}
    return (
        there == {name.lower(): value for name, value in options.metadata.items()}
        and options.content_type in (None, info.content_type)
        and options.storage_class in (None, info.storage_class)
    )


def _put_reply(info: ObjectInfo) -> PutReply:
    """Make the reply of a put, a copy or a completed upload of what HEAD shows."""
    return PutReply(info.etag, info.crc64)


def _append_reply(info: ObjectInfo) -> AppendReply:
    """Make the reply of an append of what HEAD shows."""
    return AppendReply(info.size, info.crc64, info.etag)
