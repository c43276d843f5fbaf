"""RetryPolicy is pure: no clock and no sleeping here."""

from __future__ import annotations

import random

import pytest

from ossfs.store.errors import (
    Changed,
    Corrupt,
    DeadlineExceeded,
    Denied,
    Expired,
    NotFound,
    StoreError,
    Throttled,
    Truncated,
    Unavailable,
)
from ossfs.store.retry import RetryPolicy

POLICY = RetryPolicy(attempts=4, base=0.2, cap=1.0)


def delay(error: StoreError, failures: int = 1, left: float = 100.0, idempotent: bool = True):
    return POLICY.delay(
        error, failures=failures, left=left, idempotent=idempotent, rng=random.Random(1)
    )


class Highest(random.Random):
    """Always draws the upper bound."""

    def uniform(self, a: float, b: float) -> float:
        return b


@pytest.mark.parametrize("kind", [Unavailable, Truncated, DeadlineExceeded, Throttled])
def test_a_passing_trouble_is_worth_another_attempt(kind):
    assert delay(kind("x")) is not None


@pytest.mark.parametrize("kind", [NotFound, Changed, Corrupt, Denied, Expired])
def test_an_answer_is_not_asked_for_twice(kind):
    assert delay(kind("x")) is None


def test_the_bound_of_the_wait_doubles_up_to_the_cap():
    assert [POLICY.ceiling(n) for n in range(1, 6)] == [0.2, 0.4, 0.8, 1.0, 1.0]
    assert POLICY.ceiling(100_000) == 1.0


def test_the_jitter_is_full_from_nothing_to_the_bound():
    rng = random.Random(7)
    waits = [
        POLICY.delay(Unavailable("x"), failures=2, left=100.0, idempotent=True, rng=rng)
        for _ in range(500)
    ]
    assert min(waits) < 0.02
    assert 0.38 < max(waits) <= 0.4


def test_attempts_are_bounded():
    assert delay(Unavailable("x"), failures=3) is not None
    assert delay(Unavailable("x"), failures=4) is None


def test_nothing_is_waited_for_beyond_the_deadline():
    highest = Highest()
    for left, expected in ((0.3, 0.2), (0.2, None), (-1.0, None)):
        assert (
            POLICY.delay(Unavailable("x"), failures=1, left=left, idempotent=True, rng=highest)
            == expected
        )


def test_a_store_that_asks_for_patience_is_obeyed():
    error = Throttled("x")
    error.retry_after = 5.0
    assert 5.0 < delay(error) <= 5.2, "all who were sent away would come back at once"
    assert delay(error, left=5.0) is None


def test_a_rate_limit_of_the_account_is_waited_out_until_the_deadline():
    limited = Throttled("x", code="TotalQpsLimitExceeded")
    assert delay(limited, failures=1_000) is not None
    assert delay(limited, failures=1_000, left=0.0) is None
    assert delay(Throttled("x", code="DownloadTrafficRateLimitExceeded"), failures=4) is None


def test_what_must_not_happen_twice_is_repeated_only_if_it_surely_did_not_happen():
    assert delay(Unavailable("x"), idempotent=False) is None
    assert delay(DeadlineExceeded("x"), idempotent=False) is None
    assert delay(Throttled("x"), idempotent=False) is not None
