"""What a shell offers where an option is typed, and the pages made of the table."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from ossfs.cli.pages import main, pages
from ossfs.config.completion import completions
from ossfs.config.table import TABLE

DOCS = Path(__file__).parents[3] / "docs"


def offered(typed: str) -> list[str]:
    *words, incomplete = typed.split(" ")
    return [text for text, _, _ in completions(words, incomplete)]


@pytest.mark.parametrize(
    ("typed", "some"),
    [
        ("oss://b /m -o attr", ["attr_timeout="]),
        ("oss://b /m -o ro,attr", ["ro,attr_timeout="]),
        ("oss://b /m -oro,attr", ["-oro,attr_timeout="]),
        ("oss://b /m --attr", ["--attr_timeout="]),
        ("oss://b /m --close", ["--close_to_open"]),
        ("oss://b /m --log_level=", ["--log_level=info", "--log_level=debug"]),
        ("oss://b /m -o ro=f", ["ro=false"]),
        ("oss://b /m --preset q", ["quick"]),
        ("oss://b /m -o preset=q", ["preset=quick"]),
        ("oss://b /m --dialect ji", ["jindofuse"]),
        ("oss://b /m -", ["-o", "-c", "-f", "-d", "-h"]),
    ],
)
def test_names_and_values_are_offered(typed: str, some: list[str]) -> None:
    assert offered(typed) == some


def test_what_has_no_effect_is_not_offered_and_all_else_is() -> None:
    names = {text.removeprefix("--").removesuffix("=") for text in offered("--")}
    for option in TABLE:
        assert (option.name in names) is option.effective


def test_directories_and_files_are_left_to_the_shell() -> None:
    assert [kind for _, kind, _ in completions([], "/m")] == ["dir"]
    assert [kind for _, kind, _ in completions(["-c"], "/e")] == ["file"]
    assert [kind for _, kind, _ in completions([], "--temp_dir=/t")] == ["file"]


def test_the_pages_are_what_the_table_yields() -> None:
    for name, text in pages().items():
        assert (DOCS / name).read_text(encoding="utf-8") == text
    assert main(["--check"]) == 0


def test_the_man_page_has_every_option_and_is_sound() -> None:
    text = pages()["ossfs.1"]
    for option in TABLE:
        assert (f"\n.B {option.name}" in text) is option.effective
    troff = shutil.which("groff")
    if troff is not None:
        done = subprocess.run(
            [troff, "-ww", "-man", "-z", DOCS / "ossfs.1"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert not done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shells_script_asks_the_command(shell: str) -> None:
    assert f"_OSSFS_COMPLETE={shell}_complete" in pages()[f"completion/ossfs.{shell}"]
