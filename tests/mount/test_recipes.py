"""The recipes of PAI's page, given as they stand there, do what the page promises of them."""

from __future__ import annotations

import json
import os
from typing import Any

import oss2
import pytest

from tests.mount.conftest import MountMaker
from tests.mount.test_presets import counts, inodes, missing
from tests.support.emulator import EmulatorProcess
from tests.support.mount import wait_until


def given(**fields: Any) -> str:
    """Return a JSON as PAI has it, as an option of a list."""
    text = json.dumps({name.replace("__", "."): value for name, value in fields.items()})
    return "pai=" + text.replace("\\", "\\\\").replace(",", "\\,")


# ossfs 2.0


def test_ossfs_data_that_never_changes(
    emulator: EmulatorProcess, data: oss2.Bucket, mount: MountMaker
) -> None:
    mounted = mount(given(mountType="ossfs", fs__ossfs__args="-oattr_timeout=7200"))
    file = mounted.path / "data" / "file-0"
    assert file.read_bytes() == b"old 0"
    data.put_object("data/file-0", b"new and longer")
    counts(emulator)
    assert (os.stat(file).st_size, file.read_bytes()) == (5, b"old 0")
    assert not counts(emulator)


def test_ossfs_quick_read_and_write(data: oss2.Bucket, mount: MountMaker) -> None:
    mounted = mount(
        given(mountType="ossfs", fs__ossfs__args="-oattr_timeout=3, -onegative_timeout=0")
    )
    file = mounted.path / "data" / "file-0"
    assert os.stat(file).st_size == 5
    data.put_object("data/file-0", b"new and longer")
    wait_until(lambda: os.stat(file).st_size == 14, 15)
    assert missing(mounted.path / "data" / "late")
    data.put_object("data/late", b"1")
    assert not missing(mounted.path / "data" / "late")


def test_ossfs_one_view_on_several_nodes(data: oss2.Bucket, mount: MountMaker) -> None:
    text = given(mountType="ossfs", fs__ossfs__args="-onegative_timeout=0, -oclose_to_open")
    here, there = mount(text), mount(text)
    for turn in range(10):
        (here.path / "data" / "file-0").write_text(f"turn {turn}")
        assert (there.path / "data" / "file-0").read_text() == f"turn {turn}"


def test_ossfs_out_of_memory_with_very_many_files(data: oss2.Bucket, mount: MountMaker) -> None:
    for number in range(300):
        data.put_object(f"many/file-{number:03d}", b"x")
    mounted = mount(
        given(
            mountType="ossfs",
            fs__ossfs__args="-oreaddirplus=false, -oinode_cache_eviction_threshold=300000",
        )
    )
    assert len(os.listdir(mounted.path / "many")) == 300
    assert inodes(mounted) < 10


# JindoFuse

QUICK = "-oattr_timeout=3 -oentry_timeout=0 -onegative_timeout=0 -oauto_cache -ono_symlink"


@pytest.mark.parametrize("downloads", [True, False], ids=["quick", "incremental"])
def test_jindo_quick_and_incremental(
    emulator: EmulatorProcess, data: oss2.Bucket, mount: MountMaker, downloads: bool
) -> None:
    fields = {"fs.jindo.args": QUICK, "fs.oss.upload.thread.concurrency": "32"}
    if downloads:
        fields["fs.oss.download.thread.concurrency"] = "32"
    mounted = mount(given(**fields))
    file = mounted.path / "data" / "file-0"
    assert file.read_bytes() == b"old 0"
    counts(emulator)
    assert file.read_bytes() == b"old 0"  # auto_cache: the pages are still those of the object
    assert not counts(emulator)["get"]
    data.put_object("data/file-0", b"new and longer")
    wait_until(lambda: os.stat(file).st_size == 14, 15)
    assert missing(mounted.path / "data" / "late")
    data.put_object("data/late", b"1")
    assert not missing(mounted.path / "data" / "late")
    with pytest.raises(OSError, match="not supported"):
        (mounted.path / "data" / "link").symlink_to("late")


def test_jindo_consistent(data: oss2.Bucket, mount: MountMaker) -> None:
    text = given(
        fs__jindo__args="-oattr_timeout=0-oentry_timeout=0-onegative_timeout=0"
        "-oauto_cache-ono_symlink"
    )
    here, there = mount(text), mount(text)
    for turn in range(10):
        (here.path / "data" / "file-0").write_text("x" * (turn + 1))
        assert os.stat(there.path / "data" / "file-0").st_size == turn + 1
        assert (there.path / "data" / "file-0").read_text() == "x" * (turn + 1)
    assert missing(there.path / "data" / "late")
    (here.path / "data" / "late").touch()
    assert not missing(there.path / "data" / "late")


def test_jindo_read_only(emulator: EmulatorProcess, data: oss2.Bucket, mount: MountMaker) -> None:
    mounted = mount(
        given(
            fs__jindo__args="-oro -oattr_timeout=7200 -oentry_timeout=7200 "
            "-onegative_timeout=7200 -okernel_cache -ono_symlink"
        )
    )
    file = mounted.path / "data" / "file-0"
    assert file.read_bytes() == b"old 0"
    assert missing(mounted.path / "data" / "none")
    data.put_object("data/none", b"")
    counts(emulator)
    assert file.read_bytes() == b"old 0"
    assert missing(mounted.path / "data" / "none")
    assert not counts(emulator)
    with pytest.raises(OSError, match="Read-only"):
        file.write_bytes(b"")


def test_jindo_appendable(data: oss2.Bucket, mount: MountMaker) -> None:
    fields = {
        "fs.jindo.args": "-oattr_timeout=0-oentry_timeout=0-onegative_timeout=0",
        "fs.oss.append.enable": "true",
        "fs.oss.flush.interval.millisecond": "1000",
        "fs.oss.read.readahead.buffer.size": "4194304",
        "fs.oss.write.buffer.size": "262144",
    }
    here, there = mount(given(**fields)), mount(given(**fields))
    with open(here.path / "grows.log", "ab", buffering=0) as log:
        log.write(b"first\n")
        wait_until(lambda: not missing(there.path / "grows.log"), 5)
        log.write(b"second\n")
        wait_until(lambda: (there.path / "grows.log").read_bytes() == b"first\nsecond\n", 5)
    assert data.head_object("grows.log").object_type == "Appendable"


def test_jindo_in_a_pod(data: oss2.Bucket, mount: MountMaker) -> None:
    mounted = mount(
        given(
            **{
                "fs.jindo.args": QUICK,
                "fs.jindo.fuse.pod.image.tag": "6.7.0",
                "fs.jindo.fuse.pod.mem.limit": "1Gi",
            }
        )
    )
    assert mounted.statistics()["budget_limit"] == 512 << 20
    assert (mounted.path / "data" / "file-1").read_bytes() == b"old 1"


def test_jindo_distributed_on_oss(data: oss2.Bucket, mount: MountMaker) -> None:
    """The recipe for OSS-HDFS, on OSS: what belongs to OSS-HDFS alone is said to have no effect."""
    fields = {
        "fs.jindo.args": "-oattr_timeout=0-oentry_timeout=0-onegative_timeout=0-ono_symlink"
        "-ono_xattr-ono_flock-odirect_io",
        "fs.oss.flush.interval.millisecond": "10000",
        "fs.oss.randomwrite.sync.interval.millisecond": "10000",
    }
    here, there = mount(given(**fields)), mount(given(**fields))
    (here.path / "data" / "file-0").write_text("shared")
    assert (there.path / "data" / "file-0").read_text() == "shared"
