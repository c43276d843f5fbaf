"""The grammar of the mount command."""

from __future__ import annotations

import pytest

from ossfs.config.arguments import Setting, quote, scan, split_list
from ossfs.runtime.failure import ExitStatus, UserError


def test_an_option_list_splits_at_commas() -> None:
    assert split_list("a=b,c,d=") == [Setting("a", "b"), Setting("c", None), Setting("d", "")]


def test_a_backslash_keeps_a_comma_in_the_value() -> None:
    assert split_list(r"log_dir=/a\,b,ro") == [Setting("log_dir", "/a,b"), Setting("ro", None)]


def test_a_backslash_keeps_a_backslash() -> None:
    assert split_list(r"x=a\\,ro") == [Setting("x", "a\\"), Setting("ro", None)]


@pytest.mark.parametrize("value", ["plain", "a,b", "a\\", "\\,", ",", "it's\\\\,"])
def test_a_quoted_value_is_read_back_as_it_was(value: str) -> None:
    assert split_list(f"a={quote(value)},b") == [Setting("a", value), Setting("b", None)]


def test_empty_items_of_a_list_are_dropped() -> None:
    assert split_list(",ro,,") == [Setting("ro", None)]


def test_a_value_may_hold_equals_signs() -> None:
    assert split_list("oss_access_key_secret=a=b==") == [Setting("oss_access_key_secret", "a=b==")]


def test_all_spellings_of_an_option_are_understood_in_order() -> None:
    asked = scan(["oss://b", "-o", "a=1,b", "/m", "-oc=2", "--d=3", "--e", "-f"])
    assert asked.positional == ("oss://b", "/m")
    assert asked.settings == (
        Setting("a", "1"),
        Setting("b", None),
        Setting("c", "2"),
        Setting("d", "3"),
        Setting("e", None),
    )
    assert asked.foreground


def test_after_two_dashes_everything_is_a_name() -> None:
    assert scan(["--", "oss://b", "-f"]).positional == ("oss://b", "-f")


@pytest.mark.parametrize("words", [["-fo", "a=1"], ["-foa=1"], ["-o", "a=1", "-f"]])
def test_switches_may_stand_together(words: list[str]) -> None:
    asked = scan(words)
    assert asked.foreground
    assert asked.settings == (Setting("a", "1"),)


@pytest.mark.parametrize("words", [["-o"], ["-x"], ["-fo"], ["-fx"], ["-xo", "a=1"]])
def test_broken_switches_are_refused(words: list[str]) -> None:
    with pytest.raises(UserError) as refused:
        scan(words)
    assert refused.value.status is ExitStatus.USAGE


def test_a_setting_never_shows_its_value() -> None:
    assert "hunter2" not in repr(Setting("oss_access_key_secret", "hunter2"))
