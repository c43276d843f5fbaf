"""A bucket that s3fs or rclone has written reads right through ours, and the reverse."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mount.conftest import MountMaker
from tests.support.mount import run, wait_until
from tests.support.peers import Peer, peers_on
from tests.support.s3_bucket import S3Bucket
from tests.support.weed import WeedProcess

TIME = 1_234_567_890
UPLOADED_WITHIN_S = 60.0
"""Of a close or a change of time; rclone does it in its own time."""


@pytest.fixture
def store() -> str:
    return "s3"


@pytest.fixture(params=["s3fs", "rclone"])
def peer(
    request: pytest.FixtureRequest, weed: WeedProcess, bucket: S3Bucket, tmp_path: Path
) -> Iterator[Peer]:
    with peers_on(weed, bucket.bucket_name, tmp_path / "peer", attentive=True)[
        request.param
    ]() as mounted:
        yield mounted


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Files on both sides of one part, odd names, an empty directory, one time for all."""
    top = tmp_path / "source"
    numbers = random.Random(11)
    for name, size in {
        "empty": 0,
        "small": 17,
        "a b+c%41#.txt": 4_096,
        "größe": 100_000,
        "deep/er/large": 21_000_000,
    }.items():
        file = top / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(numbers.randbytes(size))
    (top / "nothing in it").mkdir()
    for path in top.rglob("*"):
        os.utime(path, (TIME, TIME))
    return top


def copy(source: Path, target: Path) -> None:
    run("cp", "-r", f"{source}/.", target)


def set_times(source: Path, target: Path) -> None:
    """Give the files of a copy the source's time; of directories s3fs cannot set one here."""
    for name in files_of(source):
        os.utime(target / name, (TIME, TIME))


def files_of(source: Path) -> list[str]:
    return [str(path.relative_to(source)) for path in source.rglob("*") if path.is_file()]


def holds(bucket: S3Bucket, source: Path) -> bool:
    """Say whether the bucket has every file in its size."""
    names = files_of(source)
    return set(names) <= set(bucket.keys()) and all(
        bucket.head_object(name).content_length == (source / name).stat().st_size for name in names
    )


def has_times(bucket: S3Bucket, source: Path) -> bool:
    """Say whether the bucket has every file with its time."""
    heads = [bucket.head_object(name).headers for name in files_of(source)]
    return all(head.get("x-amz-meta-mtime", "").startswith(str(TIME)) for head in heads)


def test_what_another_wrote_reads_right(
    mount: MountMaker, peer: Peer, bucket: S3Bucket, source: Path
) -> None:
    if peer.name == "rclone":  # which keeps an empty directory to itself
        (source / "nothing in it").rmdir()
    copy(source, peer.path)
    # Not before: rclone gives an upload up when the file's time changes meanwhile.
    wait_until(lambda: holds(bucket, source), UPLOADED_WITHIN_S)
    set_times(source, peer.path)
    wait_until(lambda: has_times(bucket, source), UPLOADED_WITHIN_S)
    ours = mount("preserve_mtime=true").path
    run("diff", "-r", source, ours)
    for name in ("small", "a b+c%41#.txt", "deep/er/large"):
        assert (ours / name).stat().st_mtime == TIME, name


def test_what_ours_wrote_reads_right_elsewhere(mount: MountMaker, peer: Peer, source: Path) -> None:
    mounted = mount("preserve_mtime=true")
    copy(source, mounted.path)
    set_times(source, mounted.path)
    mounted.unmount()
    run("diff", "-r", source, peer.path)
    assert (peer.path / "nothing in it").is_dir()
    for name in ("small", "a b+c%41#.txt", "deep/er/large"):
        assert (peer.path / name).stat().st_mtime == TIME, name


def test_what_another_removed_and_replaced_is_so_for_ours(
    mount: MountMaker, peer: Peer, bucket: S3Bucket
) -> None:
    ours = mount("attr_timeout=0").path
    (ours / "d").mkdir()
    (ours / "d" / "f").write_bytes(b"ours")
    assert (peer.path / "d" / "f").read_bytes() == b"ours"
    (peer.path / "d" / "f").write_bytes(b"theirs, longer")
    wait_until(lambda: bucket.objects("d/").get("f") == b"theirs, longer", UPLOADED_WITHIN_S)
    assert (ours / "d" / "f").read_bytes() == b"theirs, longer"
    (peer.path / "d" / "f").unlink()
    wait_until(lambda: not bucket.object_exists("d/f"), UPLOADED_WITHIN_S)
    assert not (ours / "d" / "f").exists()
    assert os.listdir(ours / "d") == []


def test_a_symlink_of_s3fs_is_a_file_that_holds_its_target(
    mount: MountMaker, weed: WeedProcess, bucket: S3Bucket, tmp_path: Path
) -> None:
    with peers_on(weed, bucket.bucket_name, tmp_path / "peer", attentive=True)["s3fs"]() as peer:
        (peer.path / "link").symlink_to("elsewhere")
    assert (mount().path / "link").read_bytes() == b"elsewhere"
