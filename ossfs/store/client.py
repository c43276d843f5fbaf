"""The bucket as trio tasks see it: `api.Store` made asynchronous, patient and accounted for.

Every request has one deadline for all its attempts, and is repeated by the rules of
`store.retry`, here and nowhere else. A thread carries it, but for a small one that needs no
waiting: its first attempt is made on the loop. The clock of a request starts when its first
attempt does, not while it stands in line for a thread: over a slow link those in line would fail
though the store answers, and a prefetch would fail because demand goes before it.

A lost reply may hide a success. Mutations that must not happen twice (complete_upload, append,
whatever forbids overwriting) are repeated only when the store certainly did not perform them, or
when the caller says by `expect` what they leave: then a HEAD comes before each repetition and
before the end, and decides by the rules of `store.settle`. A reply with another CRC-64 than
`expect` has is Corrupt unless a HEAD says otherwise; damaged bytes of a plain put or a part are
sent twice more.

Invariants: no call returns, cancelled or not, while a thread may still touch its buffers; a
mutation with `expect` returns only if a reply or a HEAD showed the object to be as expected.

What runs concurrently: any number of tasks of one trio loop; all state here is touched on that
loop only. The store's methods run in control threads (small requests) and transfer threads
(bulk bytes), or on the loop itself with `inline=True`, which makes tests with a MockClock
deterministic: autojump would race a real thread. There is a method here for each of the store's,
hence the module's length.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias, TypeVar, cast

import trio

from ossfs.store import prompt
from ossfs.store.api import (
    PLAIN,
    AppendReply,
    Buffer,
    Capabilities,
    Expected,
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
from ossfs.store.errors import NotFound, StoreError, Throttled, Unavailable
from ossfs.store.exchange import Exchange, Unsuited
from ossfs.store.prompt import PromptStore
from ossfs.store.retry import RetryPolicy, may_need_new_keys
from ossfs.store.runner import Carrier, InlineRunner, Runner, ThreadRunner
from ossfs.store.settle import Mutation, a_completion, a_copy, a_part, a_put, an_append
from ossfs.store.transfer import TransferPool
from ossfs.store.watch import ClientStats, Flight, RequestWatch
from ossfs.store.wire import etag_of_parts

T = TypeVar("T")
Begin: TypeAlias = Callable[[PromptStore], Exchange[T] | None]

log = logging.getLogger(__name__)


def _never_refreshed() -> bool:
    return False


class StoreClient:
    """One bucket for one trio loop.

    `request_timeout` is in seconds and covers a request with all its attempts; `refresh` fetches
    new credentials (in a thread, it may block) and says whether anything changed. Bulk bytes go
    through `transfer`, which stays the caller's to close; without it they share the
    `control_threads`. `monotonic` must be the clock the store measures its deadlines by.
    """

    def __init__(
        self,
        store: Store,
        *,
        request_timeout: float,
        retry: RetryPolicy | None = None,
        rng: random.Random | None = None,
        refresh: Callable[[], bool] = _never_refreshed,
        transfer: TransferPool | None = None,
        control_threads: int = 32,
        monotonic: Callable[[], float] | None = None,
        inline: bool = False,
        runner: Runner | None = None,
    ) -> None:
        self._store = store
        self._timeout = request_timeout
        self._retry = retry if retry is not None else RetryPolicy()
        self._rng = rng if rng is not None else random.Random()
        self._refresh = refresh
        self._refreshing = trio.Lock()
        self._refreshes = 0
        self._refresh_calls = 0
        self._refresh_answered = 0
        """Calls before the last refresh began: what it found holds for them, too."""
        if monotonic is None:
            monotonic = trio.current_time if inline or runner is not None else time.monotonic
        self._monotonic = monotonic
        if runner is None:
            runner = InlineRunner() if inline else ThreadRunner(control_threads, transfer)
        self._runner = runner
        # Only where threads would carry it: a runner that was passed in decides for itself.
        quick = transfer is not None and not inline and isinstance(store, PromptStore)
        self._prompt = cast(PromptStore, store) if quick else None
        self.stats = ClientStats()
        self._watch = RequestWatch(log)

    @property
    def capabilities(self) -> Capabilities:
        """What the bucket can do."""
        return self._store.capabilities

    async def watch(self) -> None:
        """Report requests that take too long, for ever; the daemon runs it in its nursery."""
        await self._watch.run()

    def adopt(self, request_timeout: float, retry: RetryPolicy) -> None:
        """Give requests this much time, in seconds, and this many attempts from now on."""
        self._timeout = request_timeout
        self._retry = retry

    async def refresh(self) -> None:
        """Fetch the credentials afresh, as when the store has refused them."""
        await self._refresh_once(self._refreshes)

    def close(self) -> None:
        """Drop the store's idle connections; requests under way may fail."""
        self._store.close()

    # -- looking ------------------------------------------------------------------------------

    async def probe(self, prefix: bytes = b"") -> None:
        """Raise unless the bucket answers a list of one key under `prefix`; logs nothing."""
        await self._request(
            Flight("probe", prefix, quiet=True),
            lambda deadline: self._store.probe(prefix, deadline=deadline),
            carrier=Carrier.ABANDONABLE,
        )

    async def head(self, key: bytes, *, full: bool = False) -> ObjectInfo:
        """Describe an object; see `Store.head` for what `full` adds."""
        return await self._request(
            Flight("head", key),
            lambda deadline: self._store.head(key, full=full, deadline=deadline),
            carrier=Carrier.ABANDONABLE,
            begin=lambda store: store.begin_head(key, full=full),
        )

    async def list_page(
        self,
        prefix: bytes,
        *,
        delimiter: bytes = b"/",
        token: str | None = None,
        start_after: bytes = b"",
        max_keys: int = 1_000,
    ) -> ListPage:
        """Return keys under `prefix` after `start_after`, or the page that `token` names.

        A page that leads to itself is Unavailable: its reader would never come to an end.
        """

        def one_attempt(deadline: float) -> ListPage:
            page = self._store.list_page(
                prefix,
                delimiter=delimiter,
                token=token,
                start_after=start_after,
                max_keys=max_keys,
                deadline=deadline,
            )
            if token is not None and page.next_token == token:
                raise Unavailable("the listing does not move on", key=prefix)
            return page

        def begin(store: PromptStore) -> Exchange[ListPage] | None:
            return store.begin_list(
                prefix,
                delimiter=delimiter,
                token=token,
                start_after=start_after,
                max_keys=max_keys,
            )

        return await self._request(
            Flight("list_page", prefix),
            one_attempt,
            carrier=Carrier.ABANDONABLE,
            begin=begin if max_keys <= prompt.ENTRIES else None,
        )

    async def get_range_into(
        self,
        key: bytes,
        offset: int,
        buffers: Sequence[memoryview],
        *,
        if_match: str | None,
        on_filled: Callable[[int], None] | None = None,
        prefetch: bool = False,
    ) -> GetReply:
        """Fill `buffers` one after another with the object's bytes from `offset`.

        `on_filled(i)` is called once per buffer, in order, **from the transfer thread**, as soon
        as buffers[i] is final: it must be quick and may only do what any thread may do (such as
        `TrioToken.run_sync_soon`). A body that breaks off is resumed at the first buffer not yet
        full; without `if_match` nothing would hold the rest to the same version, so then only
        a body that filled no buffer is asked for again. Demand goes before `prefetch`.
        """
        filled = 0
        begun = self._monotonic()

        def one_attempt(deadline: float) -> GetReply:
            first = filled

            def buffer_filled(i: int) -> None:
                nonlocal filled
                filled = first + i + 1
                if filled == 1:
                    self.stats.note_first_bytes(self._monotonic() - begun)
                if on_filled is not None:
                    on_filled(first + i)

            skipped = sum(len(buffer) for buffer in buffers[:first])
            return self._store.get_range_into(
                key,
                offset + skipped,
                buffers[first:],
                if_match=if_match,
                on_filled=buffer_filled,
                deadline=deadline,
            )

        version = if_match or ""
        small = len(buffers) == 1 and 0 < len(buffers[0]) <= prompt.LIMIT and offset >= 0

        def begin(store: PromptStore) -> Exchange[GetReply] | None:
            return store.begin_range(key, offset, buffers[0], version)

        reply = await self._request(
            Flight("get_range_into", key),
            one_attempt,
            carrier=Carrier.PREFETCH if prefetch else Carrier.DEMAND,
            progress=lambda: filled,
            resumable=lambda: if_match is not None or filled == 0,
            begin=begin if small and version else None,
        )
        if small and not filled:  # it was done on the loop
            self.stats.note_first_bytes(self._monotonic() - begun)
            if on_filled is not None:
                on_filled(0)
        self.stats.bytes_read += sum([len(buffer) for buffer in buffers])
        return reply

    async def get_symlink(self, key: bytes) -> bytes:
        """Return the key that the symlink object `key` names."""
        return await self._request(
            Flight("get_symlink", key),
            lambda deadline: self._store.get_symlink(key, deadline=deadline),
            carrier=Carrier.ABANDONABLE,
        )

    async def list_uploads(self, prefix: bytes) -> Sequence[PendingUpload]:
        """Return every upload in progress under `prefix`."""
        return await self._request(
            Flight("list_uploads", prefix),
            lambda deadline: self._store.list_uploads(prefix, deadline=deadline),
            carrier=Carrier.ABANDONABLE,
        )

    # -- writing whole objects ----------------------------------------------------------------

    async def put(
        self,
        key: bytes,
        data: Sequence[Buffer],
        options: PutOptions = PLAIN,
        *,
        expect: Expected | None = None,
    ) -> PutReply:
        """Store the concatenation of `data` as one object."""
        small = sum([len(piece) for piece in data]) <= prompt.PUT_LIMIT
        reply = await self._request(
            Flight("put", key),
            lambda deadline: self._store.put(key, data, options, deadline=deadline),
            mutation=a_put(options, expect),
            begin=(lambda store: store.begin_put(key, data, options)) if small else None,
        )
        self._count_written(data)
        return reply

    async def append(
        self,
        key: bytes,
        position: int,
        data: Sequence[Buffer],
        options: PutOptions = PLAIN,
        *,
        expect: Expected | None = None,
    ) -> AppendReply:
        """Append to an appendable object; PositionConflict when it is not `position` long."""
        reply = await self._request(
            Flight("append", key),
            lambda deadline: self._store.append(key, position, data, options, deadline=deadline),
            carrier=Carrier.DEMAND,
            mutation=an_append(expect),
        )
        self._count_written(data)
        return reply

    async def copy(
        self,
        source: bytes,
        target: bytes,
        *,
        if_match: str | None = None,
        options: PutOptions | None = None,
        expect: Expected | None = None,
    ) -> PutReply:
        """Copy an object within the bucket; `options` replaces its metadata, None keeps it."""
        return await self._request(
            Flight("copy", target),
            lambda deadline: self._store.copy(
                source, target, if_match=if_match, options=options, deadline=deadline
            ),
            mutation=a_copy(options, expect, itself=source == target, pinned=if_match is not None),
        )

    async def delete(self, key: bytes) -> None:
        """Remove an object; a missing one is no error."""
        await self._request(
            Flight("delete", key),
            lambda deadline: self._store.delete(key, deadline=deadline),
            begin=lambda store: store.begin_delete(key),
        )

    async def delete_many(self, keys: Sequence[bytes]) -> None:
        """Remove up to capabilities.delete_many objects; missing ones are no error."""
        await self._request(
            Flight("delete_many", keys[0] if keys else b""),
            lambda deadline: self._store.delete_many(keys, deadline=deadline),
        )

    async def put_symlink(self, key: bytes, target: bytes) -> None:
        """Make `key` a symlink object that names the key `target`."""
        await self._request(
            Flight("put_symlink", key),
            lambda deadline: self._store.put_symlink(key, target, deadline=deadline),
        )

    # -- multipart ----------------------------------------------------------------------------

    async def create_upload(self, key: bytes, options: PutOptions = PLAIN) -> str:
        """Begin a multipart upload; a repeated attempt may leave an empty one behind."""
        return await self._request(
            Flight("create_upload", key),
            lambda deadline: self._store.create_upload(key, options, deadline=deadline),
        )

    async def upload_part(
        self,
        key: bytes,
        upload_id: str,
        number: int,
        data: Sequence[Buffer],
        *,
        crc64: int | None = None,
    ) -> PartReply:
        """Upload part `number` (1 to maximum_parts), replacing an earlier one of that number.

        `crc64` is the part's as its writer computed it. Corrupt names no ETag here: there may be
        a sound object that has the same.
        """
        reply = await self._request(
            Flight("upload_part", key),
            lambda deadline: self._store.upload_part(
                key, upload_id, number, data, deadline=deadline
            ),
            carrier=Carrier.DEMAND,
            mutation=a_part(crc64),
        )
        self._count_written(data)
        return reply

    async def copy_part(
        self,
        key: bytes,
        upload_id: str,
        number: int,
        source: bytes,
        offset: int,
        size: int,
        *,
        if_match: str,
    ) -> PartReply:
        """Make bytes [offset, offset+size) of `source` part `number`; Changed if not `if_match`."""
        return await self._request(
            Flight("copy_part", key),
            lambda deadline: self._store.copy_part(
                key, upload_id, number, source, offset, size, if_match=if_match, deadline=deadline
            ),
        )

    async def complete_upload(
        self,
        key: bytes,
        upload_id: str,
        parts: Sequence[UploadPart],
        *,
        forbid_overwrite: bool = False,
        expect: Expected | None = None,
    ) -> PutReply:
        """Make the parts, in ascending order, the object."""
        if expect is not None and not self.capabilities.crc64:
            expect = replace(expect, etag=etag_of_parts(parts))
        return await self._request(
            Flight("complete_upload", key),
            lambda deadline: self._store.complete_upload(
                key, upload_id, parts, forbid_overwrite=forbid_overwrite, deadline=deadline
            ),
            mutation=a_completion(expect, exclusive=forbid_overwrite),
        )

    async def abort_upload(self, key: bytes, upload_id: str) -> None:
        """Drop an upload and its parts; an upload that is gone already is no error."""
        await self._request(
            Flight("abort_upload", key),
            lambda deadline: self._store.abort_upload(key, upload_id, deadline=deadline),
        )

    # -- the one way a request is made --------------------------------------------------------

    async def _request(
        self,
        flight: Flight,
        call: Callable[[float], T],
        *,
        carrier: Carrier = Carrier.CONTROL,
        mutation: Mutation[T] | None = None,
        progress: Callable[[], int] = lambda: 0,
        resumable: Callable[[], bool] = lambda: True,
        begin: Begin[T] | None = None,
    ) -> T:
        """Run `call(deadline)` until it succeeds or `RetryPolicy` gives up.

        A request has its time from when it is begun in earnest, and again from each failure
        before which it made progress: a slow body is not a hanging one.

        `begin` makes the first attempt without a thread, where it can.

        Where `mutation` is in doubt a HEAD, which has its own deadline, decides how it goes on;
        if that fails too, nothing is repeated blindly.
        """
        deadline: float | None = None
        allowed = self._timeout
        failures = 0
        reached = 0
        refreshed = False

        def attempt() -> T:
            nonlocal deadline
            if deadline is None:
                deadline = self._monotonic() + allowed
            reply = call(deadline)
            if mutation is not None:
                mutation.check(reply)
            return reply

        stats = self.stats
        self._watch.add(flight)
        try:
            while True:
                generation = self._refreshes
                flight.attempts += 1
                stats.count_request(flight.op)
                try:
                    if begin is not None and self._prompt is not None:
                        await trio.lowlevel.checkpoint_if_cancelled()
                        start, begin = begin, None
                        exchange = start(self._prompt)
                        if exchange is not None:
                            deadline = self._monotonic() + self._timeout
                            result = await prompt.finish(exchange, self._timeout)
                            if mutation is not None:
                                mutation.check(result)
                            return result
                    return await self._runner.run(flight.op, flight.key, attempt, carrier)
                except Unsuited:
                    # A thread asks again; to stand in line for it costs none of the time left.
                    assert deadline is not None
                    allowed, deadline = deadline - self._monotonic(), None
                except StoreError as error:
                    error.key = error.key or flight.key
                    stats.throttled += isinstance(error, Throttled)
                    outdated = may_need_new_keys(error) and not refreshed
                    if outdated and await self._refresh_once(generation):
                        refreshed = True
                    else:
                        if progress() > reached:
                            reached, failures, deadline = progress(), 0, None
                        failures += 1
                        if deadline is None:  # it got on, or no thread could be started for it
                            deadline = self._monotonic() + self._timeout
                        if mutation is not None:
                            mutation.failed(error)
                        wait = self._wait(
                            error, failures, deadline - self._monotonic(), mutation, resumable
                        )
                        flight.error = error
                        if wait is not None:
                            self._watch.report_slow()
                            await trio.sleep(wait)
                        if mutation is not None and mutation.asks(error, last=wait is None):
                            try:
                                settled = await self._settled(flight.key, mutation)
                            except StoreError:
                                wait = None  # which the request under way has to answer for
                            else:
                                if settled is not None:
                                    return settled
                                if self._monotonic() >= deadline:
                                    wait = None
                        if wait is None:
                            self._failed(flight, error)
                            if mutation is not None:
                                mutation.give_up(error)
                            raise
                stats.retries += 1
        finally:
            self._watch.remove(flight)
            if mutation is not None:
                mutation.corrupt = None

    def _wait(
        self,
        error: StoreError,
        failures: int,
        left: float,
        mutation: Mutation[T] | None,
        resumable: Callable[[], bool],
    ) -> float | None:
        """Return the seconds until the next attempt, None where there is to be none."""
        if mutation is not None and mutation.repairs(error):
            wait = self._rng.uniform(0.0, self._retry.ceiling(failures))
            return wait if wait < left else None
        return self._retry.delay(
            error,
            failures=failures,
            left=left,
            idempotent=(mutation is None or mutation.repeatable) and resumable(),
            rng=self._rng,
        )

    async def _settled(self, key: bytes, mutation: Mutation[T]) -> T | None:
        """Ask whether the object is the mutation's; its reply if so, None if not."""
        try:
            return mutation.settled(await self.head(key, full=True))
        except NotFound:
            return None

    async def _refresh_once(self, generation: int) -> bool:
        """Refresh the credentials unless another request has done so since `generation`.

        One refresh serves all who wait for it to begin, also where it changes nothing: it may take
        ten seconds, and those who wait are as many as there are requests.
        """
        self._refresh_calls += 1
        mine = self._refresh_calls
        async with self._refreshing:
            if self._refreshes != generation:
                return True
            if mine <= self._refresh_answered:
                return False
            answered = self._refresh_calls
            try:
                changed = await self._runner.run("refresh", b"", self._refresh, Carrier.CONTROL)
            except StoreError:
                changed = False  # what the store said is what the caller wants to know
            self._refresh_answered = answered
            if changed:
                self._refreshes += 1
            return changed

    def _failed(self, flight: Flight, error: StoreError) -> None:
        self.stats.failures += 1
        self._watch.failed(flight, error)

    def _count_written(self, data: Sequence[Buffer]) -> None:
        self.stats.bytes_written += sum(len(piece) for piece in data)
