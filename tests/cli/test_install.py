"""`make install` into a directory, as a package is built, and `make uninstall`."""

from __future__ import annotations

import os
import shutil
import site
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

import ossfs

CHECKOUT = Path(__file__).resolve().parents[2]
PACKAGES = Path(site.getsitepackages()[0])
OFFLINE = "PIP_ARGS=--no-index --no-deps --no-build-isolation"
COMMANDS = ["jindo-fuse", "ossfs", "ossfs-container-entrypoint", "ossfs2"]


@dataclass(frozen=True)
class Tree:
    """A DESTDIR, installed for one PREFIX."""

    place: Path
    prefix: str

    @property
    def root(self) -> Path:
        return self.place / self.prefix.lstrip("/")

    @property
    def helper(self) -> Path:
        return self.place / "sbin" / "mount.ossfs"

    @property
    def unit(self) -> Path:
        return self.place / "usr/lib/systemd/system/ossfs@.service"

    def make(self, target: str, **environment: str) -> None:
        words = [f"DESTDIR={self.place}", f"PREFIX={self.prefix}", f"PYTHON={sys.executable}"]
        tell(["make", "-s", target, *words, OFFLINE], environment)

    def files(self) -> list[Path]:
        return [path for path in self.place.rglob("*") if path.is_symlink() or not path.is_dir()]


def tell(command: list[str | Path], environment: Mapping[str, str]) -> str:
    """Run a command, which must not complain; return what it printed."""
    done = subprocess.run(
        command,
        cwd=CHECKOUT,
        env={"PATH": os.environ["PATH"], "HOME": "/root"} | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


def told(*command: str | Path) -> str:
    """Run an installed program; what the package depends on is the development environment's."""
    return tell(list(command), {"PYTHONPATH": str(PACKAGES)})


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What builds a wheel, and nothing else: not this checkout's own package."""
    made = tmp_path_factory.mktemp("tools")
    for path in PACKAGES.iterdir():
        if path.name.startswith(("setuptools", "_distutils_hack", "pkg_resources")):
            (made / path.name).symlink_to(path)
    return made


@pytest.fixture(scope="module")
def installed(tools: Path, tmp_path_factory: pytest.TempPathFactory) -> Tree:
    tree = Tree(tmp_path_factory.mktemp("package"), "/usr/local")
    tree.make("install", PYTHONPATH=str(tools))
    return tree


def test_the_commands_work_where_they_are_and_where_they_are_moved(
    installed: Tree, tmp_path: Path
) -> None:
    moved = Tree(tmp_path / "moved", installed.prefix)
    shutil.copytree(installed.place, moved.place, symlinks=True)
    for tree in (installed, moved):
        program = tree.root / "bin" / "ossfs"
        assert told(program, "--version") == f"ossfs {ossfs.__version__}\n"
        effective = told(program, "check", "oss://bucket", "-o", "oss_region=cn-hangzhou")
        assert "cn-hangzhou" in effective
        python = tree.root / "lib/ossfs/.venv/bin/python"
        where = told(python, "-P", "-c", "import ossfs; print(ossfs.__file__)")
        assert Path(where).is_relative_to(tree.root)


def test_every_link_of_the_package_leads_to_one_of_its_files(installed: Tree) -> None:
    programs = installed.root / "bin"
    assert sorted(path.name for path in programs.iterdir()) == COMMANDS
    for program in programs.iterdir():
        assert program.resolve().is_relative_to(installed.root / "lib/ossfs/cmd")
        assert os.access(program, os.X_OK)
    # Whole, and as it is once moved: where /sbin is a link, a relative one would lead elsewhere.
    target = os.readlink(installed.helper)
    assert target == "/usr/local/lib/ossfs/cmd/mount.ossfs"
    told("test", "-x", installed.place / target.lstrip("/"))


def test_nothing_of_the_package_names_the_directory_it_was_built_in(installed: Tree) -> None:
    environment = installed.root / "lib/ossfs/.venv"
    texts = [environment / "pyvenv.cfg", installed.unit]
    texts += (installed.root / "lib/ossfs/cmd").iterdir()
    assert all(str(installed.place) not in path.read_text() for path in texts)
    names = {path.name for path in (environment / "bin").iterdir()}
    assert {name.rstrip("0123456789.") for name in names} == {"python"}


def test_documents_presets_and_units_are_where_they_are_looked_for(installed: Tree) -> None:
    share = installed.root / "share"
    for name in (
        "man/man1/ossfs.1",
        "bash-completion/completions/ossfs",
        "zsh/site-functions/_ossfs",
        "fish/vendor_completions.d/ossfs.fish",
        "ossfs/systemd/data.automount",
    ):
        assert (share / name).read_text(), name
    ours = {path.relative_to(CHECKOUT) for path in (CHECKOUT / "configs").rglob("*")}
    theirs = {path.relative_to(share / "ossfs") for path in (share / "ossfs/configs").rglob("*")}
    assert ours == theirs


def test_what_is_installed_goes_again_and_nothing_else(tools: Path, tmp_path: Path) -> None:
    tree = Tree(tmp_path / "package", "/opt/local")
    others = [tree.root / "bin" / "other", tree.unit.with_name("other.service")]
    for path in others:
        path.parent.mkdir(parents=True)
        path.touch()
    tree.make("install", PYTHONPATH=str(tools))
    assert "ExecStart=/opt/local/bin/ossfs mount" in tree.unit.read_text()
    tree.make("install", PYTHONPATH=str(tools))  # over an older one
    tree.make("uninstall")
    assert sorted(tree.files()) == sorted(others)
    assert not (tree.root / "lib/ossfs").exists()
    assert not (tree.root / "share/ossfs").exists()
