"""Keys of a source that are fetched afresh before they expire, and when the store refuses them.

Renewal begins twenty minutes before the keys expire, as in ossfs 2.0, or when a quarter of their
time is left, if that is later. What goes wrong is a warning in the log: the keys at hand are kept,
and the source is asked again, less and less often. `get` may be called from any thread and never
asks the source; the reference it returns is replaced as a whole, after its secrets have become
known as such. `refresh` belongs to one thread at a time.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable

from ossfs.credentials import Credentials, Source
from ossfs.runtime.failure import UserError, remedy_of

MARGIN_S = 20 * 60.0
_SHARE = 0.25
"""Of the keys' time, for keys that live shorter than the margin allows."""
_AGAIN_S = 15.0
"""Seconds until the source is asked once more; doubled each time, up to _SELDOM_S."""
_SELDOM_S = 300.0
_SECRETS_REMEMBERED = 16

log = logging.getLogger(__name__)


class Renewed:
    """A provider over a source."""

    def __init__(
        self,
        source: Source,
        *,
        wall: Callable[[], float] = time.time,
        rng: random.Random | None = None,
        every: float = 0.0,
    ) -> None:
        """Fetch the first keys; UserError as `Source.fetch`.

        New ones are fetched `every` so many seconds, unless it is 0, whatever expiration is told.
        """
        self._source = source
        self._every = every
        self._wall = wall
        self._rng = rng or random.Random()
        self._failures = 0
        self._secrets: tuple[str, ...] = ()
        self._take(source.fetch())

    def get(self) -> Credentials:
        return self._credentials

    def exchange(self, source: Source) -> None:
        """Ask another source from now on; the keys at hand stay until it has given others."""
        self._source = source

    def refresh(self) -> bool:
        """Ask the source; the keys at hand stay when it fails or has none but these."""
        try:
            fresh = self._source.fetch()
        except UserError as error:
            log.warning("%s; the keys at hand are kept", error.message)
            self._put_off()
            return False
        except Exception as error:  # noqa: BLE001  whoever renews them serves the mount as well
            # Not its text, which may quote what the source said.
            told = remedy_of(error) or f"internal error: {type(error).__name__}"
            log.error("the keys cannot be fetched: %s; the keys at hand are kept", told)
            self._put_off()
            return False
        if fresh == self._credentials:
            if self._every and (fresh.expires is None or fresh.expires > self._wall()):
                self._take(fresh)  # still good: asked for again when it is time again
            else:
                self._put_off()
            return False
        failures = self._failures
        self._take(fresh)
        if self._renew_at is not None and self._renew_at <= self._wall():
            # Over on arrival, as where this clock is ahead: no reason to ask all the time.
            self._failures = failures
            self._put_off()
        return True

    def renew_at(self) -> float | None:
        return self._renew_at

    def secrets(self) -> tuple[str, ...]:
        return self._secrets

    def _take(self, fresh: Credentials) -> None:
        self._failures = 0
        self._secrets = (fresh.secrets() + self._secrets)[:_SECRETS_REMEMBERED]
        self._credentials = fresh
        self._renew_at: float | None = None
        if fresh.expires is not None:
            left = fresh.expires - self._wall()
            self._renew_at = fresh.expires - max(min(MARGIN_S, _SHARE * left), 0.0)
        if self._every:
            due = self._wall() + self._every
            self._renew_at = due if self._renew_at is None else min(due, self._renew_at)

    def _put_off(self) -> None:
        """Where keys are to be renewed at all, ask again after a while."""
        if self._renew_at is None:
            return
        wait = min(_AGAIN_S * 2**self._failures, _SELDOM_S)
        self._failures = min(self._failures + 1, 10)
        # Mounts of many machines whose keys expire together do not all ask at once.
        asked_again = self._wall() + self._rng.uniform(wait / 2, wait)
        self._renew_at = max(self._renew_at, asked_again)
