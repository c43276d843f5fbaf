"""Making files through a directory and removing all of them again, many at once.

Many, because one after another would take a round trip each: minutes on a distant bucket.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from ossfs.cli.workloads.files import File, content, write
from ossfs.cli.workloads.workers import WorkloadError, together

BATCH = 1_000
"""Files made in one go, so that progress can be shown in between."""
_AT_ONCE = 32
_ATTEMPTS = 5
"""Files of writers that were killed may still appear while others are removed."""
_PAUSE_S = 0.5
_libc = ctypes.CDLL(None, use_errno=True)


def make(directory: Path, files: Sequence[File]) -> None:
    """Write files and the directories they are in; WorkloadError where that fails.

    They are on the disk then, where it is one: pages that wait to be written cannot be dropped.
    """
    for folder in sorted({os.path.dirname(file.path) for file in files}):
        (directory / folder).mkdir(parents=True, exist_ok=True)
    content()  # made once and not by each process

    def member(number: int) -> Callable[[], None]:
        def work() -> None:
            for file in files[number::_AT_ONCE]:
                write(directory, file)

        return work

    together(min(_AT_ONCE, len(files)), member)
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if _libc.syncfs(fd):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(directory))
    finally:
        os.close(fd)


def remove(directory: Path) -> None:
    """Remove a directory and all in it, if it is there; OSError or WorkloadError if it stays."""
    for attempt in range(_ATTEMPTS):
        try:
            _remove(directory)
        except FileNotFoundError:
            return
        except (OSError, WorkloadError):
            if attempt == _ATTEMPTS - 1:
                raise
            time.sleep(_PAUSE_S)
        else:
            return


def _remove(directory: Path) -> None:
    folders: list[Path] = [directory]
    names: list[Path] = []
    for folder in folders:
        for path, is_folder in _entries(folder):
            (folders if is_folder else names).append(path)

    def member(number: int) -> Callable[[], None]:
        def work() -> None:
            for name in names[number::_AT_ONCE]:
                with suppress(FileNotFoundError):
                    os.unlink(name)

        return work

    if names:
        together(min(_AT_ONCE, len(names)), member)
    for folder in reversed(folders):
        os.rmdir(folder)


def _entries(folder: Path) -> Iterator[tuple[Path, bool]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            yield folder / entry.name, entry.is_dir(follow_symlinks=False)
