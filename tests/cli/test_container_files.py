"""The examples of configs/container: what they name exists, and their options are options."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.cli.command import Ossfs

CHECKOUT = Path(__file__).resolve().parents[2]
FILES = CHECKOUT / "configs" / "container"
SIDECAR = FILES / "kubernetes-sidecar.yaml"
VOLUME = FILES / "kubernetes-static-pv.yaml"


def dockerfile() -> list[tuple[str, str]]:
    """Return the instructions of the Dockerfile, each whole: its name and its words."""
    lines = (FILES / "Dockerfile").read_text().splitlines(keepends=True)
    text = "".join(line for line in lines if not line.startswith("#")).replace("\\\n", "")
    made = [line.partition(" ") for line in text.splitlines() if line]
    return [(name, words) for name, _, words in made]


def scalar(text: str) -> str:
    """Undo the quotes of a YAML scalar of one line."""
    value = json.loads(text) if text.startswith('"') else text
    assert isinstance(value, str)
    return value


def value_of(file: Path, name: str) -> str:
    """Return the one value of a key."""
    (found,) = re.findall(rf"^ *{name}: (.+)$", file.read_text(), re.MULTILINE)
    return scalar(found)


def variable(name: str) -> str:
    """Return what the sidecar's environment says."""
    (found,) = re.findall(rf"- name: {name}\n +value: (.+)$", SIDECAR.read_text(), re.MULTILINE)
    return scalar(found)


def test_what_the_image_is_built_from_exists() -> None:
    copied = [words.split() for name, words in dockerfile() if name == "COPY"]
    paths = [path for words in copied if not words[0].startswith("--from") for path in words[:-1]]
    assert paths
    assert [path for path in paths if not (CHECKOUT / path).exists()] == []


def test_the_image_has_all_that_make_install_reads() -> None:
    copied = {word for name, words in dockerfile() if name == "COPY" for word in words.split()}
    _, _, recipe = (CHECKOUT / "Makefile").read_text().partition("\ninstall:")
    recipe, _, _ = recipe.partition("\nuninstall:")
    read = set(re.findall(r"(?<![\w/.$()])(cmd|configs|docs|ossfs|systemd)(?=[/ ])", recipe))
    read |= set(re.findall(r"[\w]+\.(?:toml|md)\b", recipe))
    assert {"cmd", "configs", "docs", "systemd", "pyproject.toml"} <= read
    assert read <= copied


@pytest.mark.parametrize("script", [words for name, words in dockerfile() if name == "RUN"])
def test_what_the_build_runs_is_shell(script: str) -> None:
    done = subprocess.run(["sh", "-n"], input=script, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_images_entrypoint_is_what_make_installs() -> None:
    (words,) = (words for name, words in dockerfile() if name == "ENTRYPOINT")
    (path,) = json.loads(words)
    done = subprocess.run(
        ["make", "-n", "install", "DESTDIR=/package"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert f'"/package{path}"' in done.stdout


@pytest.mark.parametrize("file", [SIDECAR, VOLUME], ids=lambda file: file.name)
def test_every_document_is_an_object_of_kubernetes(file: Path) -> None:
    text = file.read_text()
    assert "\t" not in text
    for document in text.split("\n---\n"):
        tops = re.findall(r"^(\w+):", document, re.MULTILINE)
        assert tops == ["apiVersion", "kind", "metadata", "spec"]
        names = re.findall(r"^  +(?:- )?(\w+):(?: |$)", document, re.MULTILINE)
        assert names, document
        depths = re.findall(r"^( *)[\w-]", document, re.MULTILINE)
        assert all(len(depth) % 2 == 0 for depth in depths)


def test_the_sidecars_options_are_options(ossfs: Ossfs) -> None:
    words = [variable("OSSFS_SOURCE"), "-o", variable("OSSFS_OPTIONS")]
    reply = ossfs("check", *words)
    assert (reply.status, reply.stderr) == (0, "")


def test_the_sidecar_mounts_below_what_both_containers_share() -> None:
    text = SIDECAR.read_text()
    point = variable("OSSFS_MOUNTPOINT")
    shared = set(re.findall(r"mountPath: (.+)", text))
    assert shared == {os.path.dirname(point)}
    assert re.findall(r"mountPropagation: (.+)", text) == ["Bidirectional", "HostToContainer"]
    probed = re.findall(r'command: \["mountpoint", "-q", "(.+)"\]', text)
    assert set(probed) == {point}


def test_the_volumes_other_options_are_words_of_the_command_line(ossfs: Ossfs) -> None:
    source = f"oss://{value_of(VOLUME, 'bucket')}{value_of(VOLUME, 'path')}"
    endpoint = f"oss_endpoint={value_of(VOLUME, 'url')}"
    more = shlex.split(value_of(VOLUME, "otherOpts"))
    reply = ossfs("check", source, "-o", endpoint, *more)
    assert (reply.status, reply.stderr) == (0, "")
    assert re.search(r"attr_timeout\W+7200", reply.stdout), reply.stdout


def test_the_claim_finds_the_volume_and_the_driver_too() -> None:
    text = VOLUME.read_text()
    assert value_of(VOLUME, "driver") == "ossplugin.csi.alibabacloud.com"
    labels = re.findall(r"alicloud-pvname: (.+)", text)
    names = re.findall(r"^  name: (.+)", text, re.MULTILINE)
    assert labels == [names[0]] * 2
    assert value_of(VOLUME, "volumeHandle") == names[0]
    assert value_of(VOLUME, "claimName") == names[1]
