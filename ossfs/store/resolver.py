"""Host names to socket addresses, within a deadline.

`getaddrinfo` can block for half a minute and cannot be interrupted, so a name is
looked up on a daemon thread of its own, at most one at a time, and whoever needs
it waits no longer than it may. Answers are kept for half a minute; when a fresh
look-up fails, or takes so long that no time would be left to connect, the last
good answer still serves, since a name server that is down for a moment is no
reason to fail a mount whose server is up. A look-up that hangs goes on, and its
answer counts when it comes.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from ossfs.store.errors import DeadlineExceeded, Unavailable


class SocketAddress(NamedTuple):
    family: int
    address: tuple[str | int | bytes, ...]
    """As socket.connect takes it."""


def look_up(
    host: str, port: int, kind: socket.AddressFamily = socket.AF_UNSPEC
) -> Sequence[SocketAddress]:
    """Ask the system's resolver for addresses of a kind; may block for long."""
    found = socket.getaddrinfo(host, port, family=kind, type=socket.SOCK_STREAM)
    return [SocketAddress(family, tuple(address)) for family, _, _, _, address in found]


look_up_ipv4 = partial(look_up, kind=socket.AF_INET)
"""The same without IPv6."""


class Resolver:
    """One host's addresses."""

    lifetime = 30.0
    """Seconds an answer is used before the name is looked up again."""

    patience = 5.0
    """Seconds the last good answer is used after a look-up has failed or hung."""

    share = 0.25
    """Part of the time to connect that a look-up may take where an older answer would do."""

    def __init__(
        self,
        host: str,
        port: int,
        look_up: Callable[[str, int], Sequence[SocketAddress]] = look_up,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._host = host
        self._port = port
        self._look_up = look_up
        self._now = now
        self._condition = threading.Condition()
        self._known: Sequence[SocketAddress] = ()
        self._fresh_until = float("-inf")
        self._running = False
        self._round = 0
        """Look-ups finished; a waiter needs one more than when it came."""
        self._failure = ""

    def addresses(self, deadline: float) -> Sequence[SocketAddress]:
        """Return at least one address or raise Unavailable or DeadlineExceeded."""
        with self._condition:
            if self._now() < self._fresh_until:
                return self._known
            if not self._running:
                self._start()
            begun = time.monotonic()
            until = begun + self.share * (deadline - begun) if self._known else deadline
            came = self._round
            while self._running and self._round == came:
                left = until - time.monotonic()
                if left <= 0:
                    if not self._known:
                        raise DeadlineExceeded(f"looking up {self._host} took too long")
                    # Nobody else need wait for the same look-up.
                    self._fresh_until = self._now() + self.patience
                    break
                self._condition.wait(left)
            if self._known:
                return self._known
            raise Unavailable(f"cannot look up {self._host}: {self._failure}")

    def _start(self) -> None:
        """Begin a look-up; without a thread for it there is only what is known."""
        looking = threading.Thread(target=self._run, name="ossfs-resolver", daemon=True)
        try:
            looking.start()
        except (RuntimeError, MemoryError) as error:
            self._failure = f"no thread for it: {error}"
        else:
            self._running = True

    def _run(self) -> None:
        failure = ""
        found: Sequence[SocketAddress] = ()
        try:
            found = self._look_up(self._host, self._port)
        except (OSError, UnicodeError) as error:
            # UnicodeError: a label that IDNA cannot encode (empty, or over 63 characters).
            failure = error.strerror or str(error) if isinstance(error, OSError) else str(error)
        finally:
            with self._condition:
                if found:
                    self._known = found
                    self._fresh_until = self._now() + self.lifetime
                elif self._known:
                    self._fresh_until = self._now() + self.patience
                self._failure = failure or "no address"
                self._running = False
                self._round += 1
                self._condition.notify_all()
