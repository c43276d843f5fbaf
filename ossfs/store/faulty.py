"""A store that misbehaves by plan: wraps any `api.Store` and keeps the log of its calls.

All rules of its `store.plan` that a call meets apply to it, in the order of the plan. Without
rules it is transparent, which the conformance suite proves.

Invariant: a fault fires exactly as often as its rule says, whatever the number of threads; the
log holds every call in the order of arrival, before anything is done to it. The one lock is never
held while the inner store works or a fault waits. Time and sleeping are parameters.
"""

from __future__ import annotations

import copy
import dataclasses
import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar, cast

from ossfs.store.api import (
    PLAIN,
    AppendReply,
    Buffer,
    Capabilities,
    GetReply,
    ListPage,
    ObjectInfo,
    PartReply,
    PendingUpload,
    PutOptions,
    PutReply,
    Store,
    UploadPart,
)
from ossfs.store.errors import DeadlineExceeded, Expired, StoreError, Truncated
from ossfs.store.plan import (
    Call,
    CorruptByte,
    CorruptCrc,
    ExpireToken,
    Fault,
    Hang,
    Hold,
    LoseReply,
    Raise,
    Rule,
    TruncateBody,
)

T = TypeVar("T")


class FaultyStore:
    """Implements `api.Store` over `inner`, with the faults of `plan`."""

    def __init__(
        self,
        inner: Store,
        plan: Sequence[Rule] = (),
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._inner = inner
        self._monotonic = monotonic
        self._sleep = sleep
        self._lock = threading.Lock()
        self._matched: dict[Rule, int] = dict.fromkeys(plan, 0)
        self._fired: dict[Rule, int] = {}
        self._refreshed = False
        self.calls: list[Call] = []
        """Every call so far."""

    @property
    def capabilities(self) -> Capabilities:
        return self._inner.capabilities

    def add(self, *rules: Rule) -> None:
        """Append rules to the plan; their counting starts now."""
        with self._lock:
            self._matched.update(dict.fromkeys(rules, 0))

    def heal(self) -> None:
        """Drop the whole plan; what was fired and called stays on record."""
        with self._lock:
            self._matched.clear()

    def fired(self, rule: Rule) -> int:
        """Return how often `rule` has met a call."""
        with self._lock:
            return self._fired.get(rule, 0)

    def count(self, op: str, key: bytes | None = None) -> int:
        """Return how many calls of `op` (on `key`) have arrived."""
        with self._lock:
            return sum(call.op == op and key in (None, call.key) for call in self.calls)

    def refresh(self) -> bool:
        """End every ExpireToken, as fresh credentials would; fits `StoreClient(refresh=)`."""
        self._refreshed = True
        return True

    # -- the contract -------------------------------------------------------------------------

    def probe(self, prefix: bytes, *, deadline: float) -> None:
        self._carry(
            Call("probe", prefix), deadline, lambda: self._inner.probe(prefix, deadline=deadline)
        )

    def head(self, key: bytes, *, full: bool = False, deadline: float) -> ObjectInfo:
        return self._carry(
            Call("head", key),
            deadline,
            lambda: self._inner.head(key, full=full, deadline=deadline),
        )

    def list_page(
        self,
        prefix: bytes,
        *,
        delimiter: bytes = b"/",
        token: str | None = None,
        start_after: bytes = b"",
        max_keys: int = 1_000,
        deadline: float,
    ) -> ListPage:
        return self._carry(
            Call("list_page", prefix, size=max_keys),
            deadline,
            lambda: self._inner.list_page(
                prefix,
                delimiter=delimiter,
                token=token,
                start_after=start_after,
                max_keys=max_keys,
                deadline=deadline,
            ),
        )

    def get_range_into(
        self,
        key: bytes,
        offset: int,
        buffers: Sequence[memoryview],
        *,
        if_match: str | None,
        on_filled: Callable[[int], None] | None = None,
        deadline: float,
    ) -> GetReply:
        call = Call("get_range_into", key, offset, _size(buffers))
        faults = self._arrive(call)
        self._before(call, faults, deadline)
        for fault in faults:
            if isinstance(fault, CorruptByte):
                on_filled = _corrupting(buffers, fault.at, on_filled)
        cut = min((f.after for f in faults if isinstance(f, TruncateBody)), default=None)
        if cut is None or cut >= call.size:
            reply = self._inner.get_range_into(
                key, offset, buffers, if_match=if_match, on_filled=on_filled, deadline=deadline
            )
            return self._after(call, faults, reply)
        whole, rest = _cut(buffers, cut)
        if cut:
            self._inner.get_range_into(
                key,
                offset,
                [*buffers[:whole], *rest],
                if_match=if_match,
                on_filled=_only_below(whole, on_filled),
                deadline=deadline,
            )
        raise Truncated(f"the body ended after {cut} bytes, by plan", key=key, status=206)

    def put(
        self, key: bytes, data: Sequence[Buffer], options: PutOptions = PLAIN, *, deadline: float
    ) -> PutReply:
        return self._carry(
            Call("put", key, size=_size(data)),
            deadline,
            lambda: self._inner.put(key, data, options, deadline=deadline),
        )

    def create_upload(self, key: bytes, options: PutOptions = PLAIN, *, deadline: float) -> str:
        return self._carry(
            Call("create_upload", key),
            deadline,
            lambda: self._inner.create_upload(key, options, deadline=deadline),
        )

    def upload_part(
        self, key: bytes, upload_id: str, number: int, data: Sequence[Buffer], *, deadline: float
    ) -> PartReply:
        return self._carry(
            Call("upload_part", key, size=_size(data)),
            deadline,
            lambda: self._inner.upload_part(key, upload_id, number, data, deadline=deadline),
        )

    def copy_part(
        self,
        key: bytes,
        upload_id: str,
        number: int,
        source: bytes,
        offset: int,
        size: int,
        *,
        if_match: str,
        deadline: float,
    ) -> PartReply:
        return self._carry(
            Call("copy_part", key, offset, size),
            deadline,
            lambda: self._inner.copy_part(
                key, upload_id, number, source, offset, size, if_match=if_match, deadline=deadline
            ),
        )

    def complete_upload(
        self,
        key: bytes,
        upload_id: str,
        parts: Sequence[UploadPart],
        *,
        forbid_overwrite: bool = False,
        deadline: float,
    ) -> PutReply:
        return self._carry(
            Call("complete_upload", key),
            deadline,
            lambda: self._inner.complete_upload(
                key, upload_id, parts, forbid_overwrite=forbid_overwrite, deadline=deadline
            ),
        )

    def abort_upload(self, key: bytes, upload_id: str, *, deadline: float) -> None:
        self._carry(
            Call("abort_upload", key),
            deadline,
            lambda: self._inner.abort_upload(key, upload_id, deadline=deadline),
        )

    def list_uploads(self, prefix: bytes, *, deadline: float) -> Sequence[PendingUpload]:
        return self._carry(
            Call("list_uploads", prefix),
            deadline,
            lambda: self._inner.list_uploads(prefix, deadline=deadline),
        )

    def append(
        self,
        key: bytes,
        position: int,
        data: Sequence[Buffer],
        options: PutOptions = PLAIN,
        *,
        deadline: float,
    ) -> AppendReply:
        return self._carry(
            Call("append", key, position, _size(data)),
            deadline,
            lambda: self._inner.append(key, position, data, options, deadline=deadline),
        )

    def copy(
        self,
        source: bytes,
        target: bytes,
        *,
        if_match: str | None = None,
        options: PutOptions | None = None,
        deadline: float,
    ) -> PutReply:
        return self._carry(
            Call("copy", target),
            deadline,
            lambda: self._inner.copy(
                source, target, if_match=if_match, options=options, deadline=deadline
            ),
        )

    def delete(self, key: bytes, *, deadline: float) -> None:
        self._carry(
            Call("delete", key), deadline, lambda: self._inner.delete(key, deadline=deadline)
        )

    def delete_many(self, keys: Sequence[bytes], *, deadline: float) -> None:
        self._carry(
            Call("delete_many", keys[0] if keys else b"", size=len(keys)),
            deadline,
            lambda: self._inner.delete_many(keys, deadline=deadline),
        )

    def put_symlink(self, key: bytes, target: bytes, *, deadline: float) -> None:
        self._carry(
            Call("put_symlink", key),
            deadline,
            lambda: self._inner.put_symlink(key, target, deadline=deadline),
        )

    def get_symlink(self, key: bytes, *, deadline: float) -> bytes:
        return self._carry(
            Call("get_symlink", key),
            deadline,
            lambda: self._inner.get_symlink(key, deadline=deadline),
        )

    def close(self) -> None:
        self._inner.close()

    # -- the faults ---------------------------------------------------------------------------

    def _carry(self, call: Call, deadline: float, perform: Callable[[], T]) -> T:
        faults = self._arrive(call)
        self._before(call, faults, deadline)
        return self._after(call, faults, perform())

    def _arrive(self, call: Call) -> list[Fault]:
        """Log the call and return the faults it meets."""
        faults: list[Fault] = []
        with self._lock:
            self.calls.append(call)
            for rule in self._matched:
                if not rule.matches(call):
                    continue
                self._matched[rule] += 1
                expired_no_more = isinstance(rule.fault, ExpireToken) and self._refreshed
                if rule.fires_at(self._matched[rule]) and not expired_no_more:
                    self._fired[rule] = self._fired.get(rule, 0) + 1
                    faults.append(rule.fault)
        return faults

    def _before(self, call: Call, faults: Sequence[Fault], deadline: float) -> None:
        for fault in faults:
            match fault:
                case Raise(error):
                    raise _fresh(error, call.key)
                case Hang():
                    self._sleep(max(0.0, deadline - self._monotonic()))
                    raise DeadlineExceeded("no answer in time, by plan", key=call.key)
                case Hold(release, entered):
                    entered.set()
                    if not release.wait(max(0.0, deadline - self._monotonic())):
                        raise DeadlineExceeded("held past its deadline, by plan", key=call.key)
                case ExpireToken():
                    raise Expired(
                        "the token has expired, by plan",
                        key=call.key,
                        status=403,
                        code="SecurityTokenExpired",
                    )

    def _after(self, call: Call, faults: Sequence[Fault], reply: T) -> T:
        for fault in faults:
            if isinstance(fault, LoseReply):
                raise _fresh(fault.error, call.key)
            if isinstance(fault, CorruptCrc):
                reply = _with_wrong_crc(reply)
        return reply


def _size(pieces: Sequence[Buffer]) -> int:
    return sum(len(piece) for piece in pieces)


def _fresh(error: StoreError, key: bytes) -> StoreError:
    """Copy a planned error, for raising one object twice would chain their tracebacks."""
    made = copy.copy(error)
    made.key = made.key or key
    return made


def _with_wrong_crc(reply: T) -> T:
    if isinstance(reply, ObjectInfo) and reply.crc64 is not None:
        return cast("T", dataclasses.replace(reply, crc64=reply.crc64 ^ 1))
    if isinstance(reply, PutReply | PartReply | AppendReply) and reply.crc64 is not None:
        return cast("T", reply._replace(crc64=reply.crc64 ^ 1))
    return reply


def _corrupting(
    buffers: Sequence[memoryview], at: int, on_filled: Callable[[int], None] | None
) -> Callable[[int], None]:
    """Return an `on_filled` that spoils byte `at` before anyone is told its buffer is full."""
    start = 0
    place = (-1, 0)
    for i, buffer in enumerate(buffers):
        if start <= at < start + len(buffer):
            place = (i, at - start)
        start += len(buffer)

    def spoil(i: int) -> None:
        if i == place[0]:
            buffers[i][place[1]] ^= 1
        if on_filled is not None:
            on_filled(i)

    return spoil


def _cut(buffers: Sequence[memoryview], size: int) -> tuple[int, list[memoryview]]:
    """Split at `size` bytes: the number of whole buffers, and the begun one's head if any."""
    whole = 0
    for buffer in buffers:
        if size < len(buffer):
            break
        size -= len(buffer)
        whole += 1
    return whole, [buffers[whole][:size]] if size else []


def _only_below(
    limit: int, on_filled: Callable[[int], None] | None
) -> Callable[[int], None] | None:
    """Keep news of the buffer that is cut short from the caller."""
    if on_filled is None:
        return None

    def tell(i: int) -> None:
        if i < limit:
            on_filled(i)

    return tell
