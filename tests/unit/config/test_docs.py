"""Help and docs say what the table says."""

from __future__ import annotations

from pathlib import Path

from ossfs.config.docs import main, markdown, mount_help
from ossfs.config.table import TABLE

PAGE = Path(__file__).parents[3] / "docs" / "OPTIONS.md"


def test_the_options_page_is_what_the_table_yields() -> None:
    assert PAGE.read_text(encoding="utf-8") == markdown()
    assert main(["--check"]) == 0


def test_every_option_is_in_the_help_with_its_default() -> None:
    text = " ".join(mount_help().split())
    for option in TABLE:
        shown = f" {option.name}=" in text or f" {option.name}[=" in text
        assert shown is option.effective, option.name
        if option.effective:
            assert f"Default: {option.shown_default}." in text


def test_every_option_is_on_the_page_and_what_has_no_effect_says_why() -> None:
    text = markdown()
    for option in TABLE:
        assert f"| `{option.name}` |" in text
        assert option.help.replace("|", "\\|") in text


def test_the_help_fits_a_terminal() -> None:
    assert max(len(line) for line in mount_help().splitlines()) <= 100
