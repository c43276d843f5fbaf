"""A store whose small requests are made as the trio loop makes them, for tests without trio."""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from ossfs.store.api import PLAIN, Buffer, GetReply, ListPage, ObjectInfo, PutOptions, PutReply
from ossfs.store.errors import StoreError
from ossfs.store.exchange import Exchange, Unsuited
from ossfs.store.http_store import HttpStore
from ossfs.store.prompt import ENTRIES

T = TypeVar("T")


class Promptly:
    """Wraps a store; what cannot be made so, and all other calls, go to it as they are."""

    def __init__(self, inner: HttpStore) -> None:
        self._inner = inner
        self._warm = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def head(self, key: bytes, *, full: bool = False, deadline: float) -> ObjectInfo:
        return self._carry(
            lambda: self._inner.begin_head(key, full=full),
            lambda: self._inner.head(key, full=full, deadline=deadline),
            deadline,
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
        page: dict[str, Any] = {
            "delimiter": delimiter,
            "token": token,
            "start_after": start_after,
            "max_keys": max_keys,
        }
        return self._carry(
            lambda: self._inner.begin_list(prefix, **page) if max_keys <= ENTRIES else None,
            lambda: self._inner.list_page(prefix, **page, deadline=deadline),
            deadline,
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
        def begin() -> Exchange[GetReply] | None:
            if if_match is None or on_filled is not None or len(buffers) != 1 or offset < 0:
                return None
            return (
                self._inner.begin_range(key, offset, buffers[0], if_match) if buffers[0] else None
            )

        return self._carry(
            begin,
            lambda: self._inner.get_range_into(
                key, offset, buffers, if_match=if_match, on_filled=on_filled, deadline=deadline
            ),
            deadline,
        )

    def put(
        self, key: bytes, data: Sequence[Buffer], options: PutOptions = PLAIN, *, deadline: float
    ) -> PutReply:
        return self._carry(
            lambda: self._inner.begin_put(key, data, options),
            lambda: self._inner.put(key, data, options, deadline=deadline),
            deadline,
        )

    def delete(self, key: bytes, *, deadline: float) -> None:
        self._carry(
            lambda: self._inner.begin_delete(key),
            lambda: self._inner.delete(key, deadline=deadline),
            deadline,
        )

    def _carry(
        self, begin: Callable[[], Exchange[T] | None], by_thread: Callable[[], T], deadline: float
    ) -> T:
        if not self._warm:
            self._warm = True
            with suppress(StoreError):  # an answer is not what it is for
                self._inner.head(b"whatever", deadline=deadline)
        exchange = begin()
        if exchange is None:
            return by_thread()
        try:
            while True:
                left = max(0.0, deadline - time.monotonic())
                ready, _, _ = select.select([exchange], [], [], left)
                assert ready, "the server says nothing"
                if exchange.advance():
                    return exchange.outcome()
        except Unsuited:
            return by_thread()
