"""How values are written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossfs.config import values


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("8388608", 8 * 1024**2),
        ("8M", 8 * 1024**2),
        ("8m", 8 * 1024**2),
        ("8MB", 8 * 1024**2),
        ("8MiB", 8 * 1024**2),
        ("1GiB", 1024**3),
        ("2T", 2 * 1024**4),
        ("512K", 512 * 1024),
        ("7B", 7),
    ],
)
def test_sizes_are_1024_based_whatever_their_suffix(text: str, size: int) -> None:
    assert values.read_size(text) == size


@pytest.mark.parametrize("text", ["", "M", "1.5G", "-1", "8X", "8 M B", "٨M", "0x10"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        values.read_size(text)


@given(st.integers(min_value=0, max_value=2**62))
def test_a_shown_size_reads_back_as_itself(size: int) -> None:
    assert values.read_size(values.show_size(size)) == size


@pytest.mark.parametrize("text", ["true", "TRUE", "1", "yes", "on"])
def test_flags_can_be_on_in_several_words(text: str) -> None:
    assert values.read_flag(text) is True


@pytest.mark.parametrize("text", ["false", "False", "0", "no", "off"])
def test_flags_can_be_off_in_several_words(text: str) -> None:
    assert values.read_flag(text) is False


@pytest.mark.parametrize("text", ["", "maybe", "2"])
def test_other_words_are_no_flag(text: str) -> None:
    with pytest.raises(ValueError):
        values.read_flag(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("0h", 0), ("45s", 45), ("30m", 1800), (" 24 H ", 86_400), ("7d", 604_800)],
)
def test_durations_have_a_unit(text: str, seconds: int) -> None:
    assert values.read_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "24", "-1h", "1.5h", "1w", "h", "1h30m", "9" * 10 + "s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        values.read_duration(text)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0s"),
        (59, "59s"),
        (60, "1m 0s"),
        (3599, "59m 59s"),
        (3600, "1h 0m"),
        (86_399, "23h 59m"),
        (90_061, "1d 1h"),
    ],
)
def test_a_duration_is_shown_in_its_two_largest_units(seconds: int, shown: str) -> None:
    assert values.show_duration(seconds) == shown


@pytest.mark.parametrize(
    ("text", "mode"),
    [("0755", 0o755), ("644", 0o644), ("0000", 0), ("0", 0), ("22", 0o22), ("7", 0o7)],
)
def test_modes_are_octal(text: str, mode: int) -> None:
    assert values.read_mode(text) == mode


@pytest.mark.parametrize("text", ["", "8", "0o755", "0888", "rwxr-xr-x", "01777777"])
def test_what_is_not_octal_is_no_mode(text: str) -> None:
    with pytest.raises(ValueError):
        values.read_mode(text)


@pytest.mark.parametrize("text", ["nan", "inf", "1e3", "", "1s"])
def test_seconds_are_plain_numbers(text: str) -> None:
    with pytest.raises(ValueError):
        values.read_seconds(text)


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("oss-cn-hangzhou.aliyuncs.com", "https://oss-cn-hangzhou.aliyuncs.com"),
        ("http://127.0.0.1:8000/", "http://127.0.0.1:8000"),
        ("HTTPS://Example.COM", "https://example.com"),
        ("http://[::1]:80", "http://[::1]:80"),
    ],
)
def test_an_endpoint_is_brought_into_one_form(text: str, endpoint: str) -> None:
    assert values.read_endpoint(text) == endpoint


@pytest.mark.parametrize(
    "text",
    [
        "ftp://host",
        "http://",
        "http://host/bucket",
        "http://me:pw@host",
        "http://host:0",
        "http://host:99999",
        "http://a b",
        "https://me:hunter2",
        "https://me:hunter2/x@host",
        "me:hunter2@host",
    ],
)
def test_what_is_no_endpoint_is_refused(text: str) -> None:
    with pytest.raises(ValueError) as refused:
        values.read_endpoint(text)
    assert "hunter2" not in str(refused.value)
