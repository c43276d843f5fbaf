"""`./run`, with a virtual environment that only pretends: where it stands when it calls."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

RUN = Path(__file__).resolve().parents[2] / "run"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A directory with the script and a finished environment whose `ossfs` tells what it sees."""
    home = tmp_path / "check out"
    programs = home / ".venv" / "bin"
    programs.mkdir(parents=True)
    shutil.copy2(RUN, home)
    (home / "pyproject.toml").write_text("[project]\n")
    for name, does in (("python", "echo Python 3"), ("ossfs", 'pwd; printf "%s\\n" "$@"')):
        (programs / name).write_text(f"#!/bin/sh\n{does}\n")
        (programs / name).chmod(0o755)
    sum_of = "{ pwd -P; .venv/bin/python -VV; cat pyproject.toml; } | sha256sum"
    stamp = subprocess.run(["sh", "-c", sum_of], cwd=home, capture_output=True, check=True).stdout
    (home / ".venv" / ".ready-base").write_bytes(stamp)
    return home


def told(script: Path, *words: str, cwd: Path) -> list[str]:
    done = subprocess.run([script, *words], cwd=cwd, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_relative_paths_are_those_of_the_caller(checkout: Path, tmp_path: Path) -> None:
    assert told(checkout / "run", "ossfs", "mount", "mnt", cwd=tmp_path) == [
        str(tmp_path),
        "mount",
        "mnt",
    ]


def test_it_can_be_called_by_a_link_from_elsewhere(checkout: Path, tmp_path: Path) -> None:
    link = tmp_path / "bin" / "ossfs-run"
    link.parent.mkdir()
    link.symlink_to(checkout / "run")
    assert told(link, "ossfs", "a b", cwd=link.parent) == [str(link.parent), "a b"]
