"""Keys that are fetched afresh: when, and what happens where that fails."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from ossfs.credentials import Credentials
from ossfs.credentials.files import PasswdFile
from ossfs.credentials.renewed import Renewed
from ossfs.runtime.failure import ExitStatus, UserError

HOUR = 3600.0


class Scripted:
    """A source that gives what the test says."""

    def __init__(self, *, expires: float | None) -> None:
        self.now = 1_000_000.0
        self.broken = False
        self.fetched = 0
        self.offer("one", expires)

    def offer(self, secret: str, lasting: float | None) -> None:
        expires = None if lasting is None else self.now + lasting
        self.keys = Credentials("id", secret, "token-" + secret, expires)

    def check(self) -> tuple[str, ...]:
        return ()

    def fetch(self) -> Credentials:
        self.fetched += 1
        if self.broken:
            raise UserError("it is broken", ExitStatus.CREDENTIALS)
        return self.keys

    def told(self) -> dict[str, str | float | None]:
        return {}


def renewed(source: Scripted) -> Renewed:
    return Renewed(source, wall=lambda: source.now, rng=random.Random(1))


@pytest.mark.parametrize(
    ("lasting", "due"),
    [(2 * HOUR, 2 * HOUR - 1200), (HOUR, HOUR - 900), (60.0, 45.0), (-5.0, -5.0)],
)
def test_keys_are_renewed_twenty_minutes_or_a_quarter_of_their_time_before_the_end(
    lasting: float, due: float
) -> None:
    source = Scripted(expires=lasting)
    assert renewed(source).renew_at() == source.now + due


@pytest.mark.parametrize(("lasting", "due"), [(None, 300.0), (2 * HOUR, 300.0), (60.0, 45.0)])
def test_keys_may_be_fetched_every_so_often(lasting: float | None, due: float) -> None:
    source = Scripted(expires=lasting)
    provider = Renewed(source, wall=lambda: source.now, rng=random.Random(1), every=300.0)
    assert provider.renew_at() == source.now + due
    source.now += 300.0
    source.offer("two", None)
    assert provider.refresh()
    assert provider.renew_at() == source.now + 300.0
    source.now += 300.0
    assert not provider.refresh()  # the same again, and good
    assert provider.renew_at() == source.now + 300.0


def test_keys_without_an_end_are_never_renewed_but_when_refused() -> None:
    source = Scripted(expires=None)
    provider = renewed(source)
    assert provider.renew_at() is None
    assert provider.refresh() is False
    assert provider.renew_at() is None
    source.offer("two", None)
    assert provider.refresh() is True
    assert provider.get().key_secret == "two"


def test_a_source_that_fails_is_told_of_asked_again_ever_less_often_and_the_old_keys_stay(
    expect_log: Callable[[str], None],
) -> None:
    expect_log("it is broken; the keys at hand are kept")
    source = Scripted(expires=HOUR)
    provider = renewed(source)
    source.broken = True
    waits = []
    for _ in range(12):
        due = provider.renew_at()
        assert due is not None
        waits.append(due - source.now)
        source.now = due
        assert provider.refresh() is False
        assert provider.get().key_secret == "one"
    assert 7.5 <= waits[1] <= 15
    assert 15 <= waits[2] <= 30
    assert all(150 <= wait <= 300 for wait in waits[6:])
    source.broken = False
    source.offer("two", HOUR)
    assert provider.refresh() is True
    assert provider.renew_at() == source.now + HOUR - 900


def test_new_keys_that_are_over_on_arrival_are_not_asked_for_all_the_time() -> None:
    source = Scripted(expires=-5.0)
    provider = renewed(source)
    waits = []
    for number in range(8):
        source.offer(f"keys {number}", -5.0)
        assert provider.refresh() is True
        due = provider.renew_at()
        assert due is not None
        waits.append(due - source.now)
        source.now = due
    assert 7.5 <= waits[0] <= 15
    assert 150 <= waits[-1] <= 300


def test_a_source_that_fails_in_any_other_way_ends_nothing(
    expect_log: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    expect_log("too many open files; permit more: ulimit -n; the keys at hand are kept")
    source = Scripted(expires=HOUR)
    provider = renewed(source)

    def fail() -> Credentials:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(source, "fetch", fail)
    source.now += HOUR - 900
    assert provider.refresh() is False
    assert provider.get().key_secret == "one"
    due = provider.renew_at()
    assert due is not None
    assert due > source.now


def test_the_same_keys_again_are_no_new_ones_and_asked_for_after_a_while() -> None:
    source = Scripted(expires=HOUR)
    provider = renewed(source)
    source.now += HOUR - 900
    assert provider.refresh() is False
    due = provider.renew_at()
    assert due is not None
    assert 7.5 <= due - source.now <= 15


def test_the_first_keys_are_the_callers_matter() -> None:
    source = Scripted(expires=None)
    source.broken = True
    with pytest.raises(UserError, match="it is broken"):
        renewed(source)


def test_a_passwd_file_is_read_again_and_its_keys_kept_when_it_cannot_be(
    tmp_path: Path, expect_log: Callable[[str], None]
) -> None:
    expect_log("run chmod 600 on it; the keys at hand are kept")
    path = tmp_path / "p"
    path.write_text("id:one\n")
    path.chmod(0o600)
    provider = Renewed(PasswdFile(str(path), "bucket"))
    assert provider.refresh() is False
    path.write_text("id:two\n")
    assert provider.refresh() is True
    path.chmod(0o644)
    assert provider.refresh() is False
    assert provider.get().key_secret == "two"


def test_the_secrets_of_exchanged_keys_are_known_and_those_of_lately_not_forgotten() -> None:
    source = Scripted(expires=None)
    provider = renewed(source)
    assert set(provider.secrets()) == {"one", "token-one"}
    source.offer("two", None)
    assert provider.refresh()
    assert set(provider.secrets()) == {"one", "token-one", "two", "token-two"}
    for number in range(100):
        source.offer(f"{number}", None)
        assert provider.refresh()
    assert provider.secrets()[:2] == ("99", "token-99")
    assert len(provider.secrets()) < 50
