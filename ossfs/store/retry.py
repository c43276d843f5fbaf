"""Whether a failed request is worth another attempt, and after how long.

Pure functions of the error, the count of failures and the time left, with randomness passed in;
`store.client` does the waiting. The rules: only `Transient` errors are repeated; a request whose
effect must not happen twice is repeated only when the store refused it before doing anything; a
store that asks for patience is obeyed; nothing is waited for past the request's deadline.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from ossfs.store.errors import Expired, StoreError, Throttled, Transient


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential backoff with full jitter (the average of which spreads a herd best)."""

    attempts: int = 5
    """Attempts in all at one request that makes no progress."""
    base: float = 0.2
    """Upper bound of the first wait, in seconds; it doubles with every failure."""
    cap: float = 10.0
    """Upper bound of any wait the store did not ask for, in seconds."""

    def delay(
        self,
        error: StoreError,
        *,
        failures: int,
        left: float,
        idempotent: bool,
        rng: random.Random,
    ) -> float | None:
        """Return the seconds to wait before the next attempt, or None to give up.

        `failures` counts attempts that failed without progress, this one included; `left` is
        what remains until the request's deadline, in seconds.
        """
        if not isinstance(error, Transient) or not (idempotent or certainly_refused(error)):
            return None
        if failures >= self.attempts and not _rate_limited(error):
            return None
        wait = rng.uniform(0.0, self.ceiling(failures))
        if error.retry_after is not None:
            wait += error.retry_after
        return wait if wait < left else None

    def ceiling(self, failures: int) -> float:
        """Return the longest wait after `failures` failures, in seconds."""
        # The exponent is bounded because a rate-limited request may fail a thousand times.
        return float(min(self.cap, self.base * 2 ** min(failures - 1, 32)))


def may_need_new_keys(error: StoreError) -> bool:
    """Say whether other keys may be accepted where these were not.

    Temporary keys expire; permanent ones are exchanged in their file, and the old ones deleted.
    """
    return isinstance(error, Expired) or error.code == "InvalidAccessKeyId"


def certainly_refused(error: StoreError) -> bool:
    """Say whether the store rejected the request before it did anything."""
    return isinstance(error, Throttled)


def _rate_limited(error: StoreError) -> bool:
    """Say whether the account's request rate is the only obstacle; it passes by itself."""
    return isinstance(error, Throttled) and "QpsLimitExceeded" in error.code
