"""Limits of memory, as hosts, containers and nested groups show them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ossfs.runtime.machine import cgroup_limit, physical_memory

MIB = 1 << 20


class Host:
    """A /proc/self and the cgroup file systems it speaks of."""

    def __init__(self, place: Path) -> None:
        self.root = place
        self.proc = place / "proc"
        self.proc.mkdir()
        self._cgroup: list[str] = []
        self._mounts: list[str] = ["21 1 0:20 / / rw - ext4 /dev/vda rw"]

    def v2(self, path: str, top: str = "/") -> None:
        self._cgroup.append(f"0::{path}")
        self._mounts.append(f"30 21 0:26 {top} /sys/fs/cgroup rw shared:9 - cgroup2 cgroup2 rw")

    def v1(self, path: str, top: str = "/") -> None:
        self._cgroup += [f"7:memory:{path}", f"3:cpu,cpuacct:{path}"]
        self._mounts.append(f"31 21 0:27 {top} /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory")
        self._mounts.append(f"32 21 0:28 {top} /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu")

    def set(self, path: str, limit: object) -> None:
        file = self.root / "sys/fs/cgroup" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{limit}\n")

    @property
    def limit(self) -> int | None:
        (self.proc / "cgroup").write_text("\n".join(self._cgroup) + "\n")
        (self.proc / "mountinfo").write_bytes(os.fsencode("\n".join(self._mounts) + "\n"))
        return cgroup_limit(self.proc, self.root)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_without_a_limit_there_is_none(host: Host) -> None:
    host.v2("/user.slice")
    host.set("user.slice/memory.max", "max")
    assert host.limit is None


def test_a_group_of_ones_own(host: Host) -> None:
    host.v2("/system.slice/ossfs.service")
    host.set("system.slice/ossfs.service/memory.max", 512 * MIB)
    host.set("system.slice/memory.max", "max")
    assert host.limit == 512 * MIB


@pytest.mark.parametrize("name", ["caf\udce9", "a\x85b", "a\rb"])
def test_a_mount_point_of_somebody_with_any_name_hides_no_limit(host: Host, name: str) -> None:
    host._mounts.insert(0, f"29 21 0:25 / /srv/{name} rw - ext4 /dev/vdb rw")
    host.v2("/system.slice/ossfs.service")
    host.set("system.slice/ossfs.service/memory.max", 512 * MIB)
    assert host.limit == 512 * MIB


def test_the_tightest_of_the_groups_above_counts(host: Host) -> None:
    host.v2("/pods/burst/inner")
    host.set("pods/burst/inner/memory.max", "max")
    host.set("pods/burst/memory.max", 768 * MIB)
    host.set("pods/memory.max", 2048 * MIB)
    assert host.limit == 768 * MIB


def test_a_container_sees_its_group_at_the_mount(host: Host) -> None:
    host.v2("/docker/0123", top="/docker/0123")
    host.set("memory.max", 512 * MIB)
    assert host.limit == 512 * MIB


def test_a_container_with_a_view_of_its_own(host: Host) -> None:
    host.v2("/../../elsewhere", top="/docker/0123")
    host.set("memory.max", 512 * MIB)
    assert host.limit == 512 * MIB


def test_the_first_version(host: Host) -> None:
    host.v1("/docker/0123", top="/docker/0123")
    host.set("memory/memory.limit_in_bytes", 300 * MIB)
    host.set("cpu/memory.limit_in_bytes", 1)
    assert host.limit == 300 * MIB


def test_the_first_version_on_the_host(host: Host) -> None:
    host.v1("/jobs/one")
    host.set("memory/jobs/one/memory.limit_in_bytes", 9223372036854771712)
    host.set("memory/jobs/memory.limit_in_bytes", 300 * MIB)
    assert host.limit == 300 * MIB


def test_a_system_without_cgroups(tmp_path: Path) -> None:
    assert cgroup_limit(tmp_path / "nothing", tmp_path) is None


def test_this_machine_has_memory() -> None:
    assert physical_memory() > 64 * MIB
