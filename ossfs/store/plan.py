"""What may go wrong at a `FaultyStore`, and when: plans as data.

A plan is a sequence of `Rule`s: which calls (operation, key, the nth of them, how many times)
and which fault. Everything here is immutable, and compared by identity, so that two equal rules
are counted apart.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from ossfs.store.errors import StoreError


class Call(NamedTuple):
    """One call as it arrived."""

    op: str
    """The method's name."""
    key: bytes
    """The key, a listing's prefix, a copy's target, the first of delete_many."""
    offset: int = 0
    """Of get_range_into and copy_part in the object, of append the position."""
    size: int = 0
    """Bytes asked for or sent; of a listing max_keys, of delete_many the number of keys."""


@dataclass(frozen=True, slots=True, eq=False)
class Raise:
    """Fail before anything is performed."""

    error: StoreError


@dataclass(frozen=True, slots=True, eq=False)
class LoseReply:
    """Perform, then fail, as when the connection breaks after the store has done its work."""

    error: StoreError


@dataclass(frozen=True, slots=True, eq=False)
class Hang:
    """Sleep until the call's deadline, then raise DeadlineExceeded."""


@dataclass(frozen=True, slots=True, eq=False)
class Hold:
    """Stop before performing until the test sets `release`, or the deadline passes."""

    release: threading.Event
    entered: threading.Event = field(default_factory=threading.Event)
    """Set when a call has arrived here."""


@dataclass(frozen=True, slots=True, eq=False)
class TruncateBody:
    """Deliver `after` bytes of a GET's body, then raise Truncated."""

    after: int


@dataclass(frozen=True, slots=True, eq=False)
class CorruptByte:
    """Flip the lowest bit of byte `at` of a GET's body, counted from the range's start."""

    at: int


@dataclass(frozen=True, slots=True, eq=False)
class CorruptCrc:
    """Return another CRC than the store computed; a reply without one is left alone."""


@dataclass(frozen=True, slots=True, eq=False)
class ExpireToken:
    """Raise Expired until `FaultyStore.refresh` has been called."""


Fault: TypeAlias = (
    Raise | LoseReply | Hang | Hold | TruncateBody | CorruptByte | CorruptCrc | ExpireToken
)


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """Which calls meet which fault."""

    op: str | None
    """A method's name, None for every method."""
    fault: Fault
    key: bytes | Callable[[bytes], bool] | None = None
    """A key, a predicate on keys, None for all."""
    nth: int = 1
    """Skip this many matching calls less one; 1 fires at the first."""
    times: int | None = 1
    """Fire at this many matching calls on end, None for ever."""

    def matches(self, call: Call) -> bool:
        if self.op is not None and self.op != call.op:
            return False
        if self.key is None or isinstance(self.key, bytes):
            return self.key is None or self.key == call.key
        return self.key(call.key)

    def fires_at(self, count: int) -> bool:
        """Say whether the `count`-th matching call (from 1) meets the fault."""
        return count >= self.nth and (self.times is None or count < self.nth + self.times)
