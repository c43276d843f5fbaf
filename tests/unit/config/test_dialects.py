"""The same words in three dialects, PAI's JSON, jindosdk.cfg, and presets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ossfs.config import layers
from ossfs.config.arguments import scan
from ossfs.config.option import Dialect
from ossfs.config.options import MountOptions
from ossfs.config.pai import split_arguments
from ossfs.config.validate import Host, Resolved, resolve
from ossfs.credentials import Credentials, KeySettings, sources
from ossfs.runtime.failure import ExitStatus, UserError

HOST = Host(uid=0, gid=0, user_allow_other=False)
ENDPOINT = "--oss_endpoint=http://127.0.0.1:9"


def resolved(*words: str, source: str = "oss://bucket") -> Resolved:
    asked = scan([*([source] if source else []), "/mnt", *words])
    return resolve(asked, {}, HOST, layers.gather(asked.settings))


def options(*words: str, **more: Any) -> MountOptions:
    return resolved(ENDPOINT, *words, **more).options


def refusal(*words: str, **more: Any) -> str:
    with pytest.raises(UserError) as refused:
        options(*words, **more)
    assert refused.value.status is ExitStatus.USAGE
    assert "\n" not in refused.value.message
    return refused.value.message


def times(made: MountOptions) -> tuple[float, float, float, float]:
    """Attributes here, attributes, names and absences in the kernel."""
    return (
        made.attr_timeout,
        made.fuse_attr_timeout,
        made.fuse_entry_timeout,
        made.negative_timeout,
    )


@pytest.mark.parametrize(
    ("words", "ossfs", "jindofuse"),
    [
        ("", (60, -1, -1, 0), (60, 60, 60, 60)),
        ("attr_timeout=3", (3, -1, -1, 0), (3, 3, 60, 60)),
        ("attr_timeout=7200", (7200, -1, -1, 0), (60, 7200, 60, 60)),
        ("entry_timeout=5", (60, -1, 5, 0), (60, 60, 5, 60)),
        ("negative_timeout=7", (60, -1, -1, 7), (60, 60, 60, 7)),
        (
            "attr_timeout=0,entry_timeout=0,negative_timeout=0",
            (0, -1, 0, 0),
            (0, 0, 0, 0),
        ),
        ("attr_timeout=3,jindo_attr_timeout=9", (9, -1, -1, 0), (9, 3, 60, 60)),
        ("jindo_attr_timeout=9,jindo_entry_timeout=4", (4, -1, -1, 0), (4, 60, 60, 60)),
    ],
)
def test_the_same_words_mean_what_they_mean_in_each_dialect(
    words: str,
    ossfs: tuple[float, float, float, float],
    jindofuse: tuple[float, float, float, float],
) -> None:
    given = ["-o", words] if words else []
    assert times(options(*given)) == ossfs
    assert times(options(*given, "--dialect=ossfs2")) == ossfs
    assert times(options(*given, "--dialect", "jindofuse")) == jindofuse
    assert times(options("-o", "dialect=jindofuse", *given)) == jindofuse


def test_keys_of_jindosdk_mean_what_they_mean_there(tmp_path: Path) -> None:
    path = tmp_path / "jindosdk.cfg"
    path.write_text(
        "[common]\nlogger.dir = /tmp/x\n\n[jindosdk]\nfs.oss.endpoint = http://127.0.0.1:9\n"
        "fs.oss.retry.count = 7\nfs.oss.retry.interval.millisecond = 500\n"
        "fs.oss.timeout.millisecond = 30000\nfs.oss.connection.timeout.millisecond = 4000\n"
        "fs.oss.io.timeout.millisecond = 9000\nfs.oss.blocklet.size.mb = 16\n"
        "fs.oss.memory.pool.size.max.mb = 512\nfs.oss.upload.thread.concurrency = 32\n"
        "fs.oss.download.thread.concurrency = 24\nfs.oss.read.readahead.buffer.count = 12\n"
        "fs.oss.read.readahead.buffer.size = 4194304\nfs.oss.append.enable = true\n"
        "fs.oss.flush.interval.millisecond = 1000\nfs.oss.write.buffer.size = 262144\n"
    )
    found = resolved("-c", str(path), "--dialect=jindofuse")
    made = found.options
    assert (made.retry_count, made.retry_interval_ms) == (7, 500)
    assert (made.oss_request_timeout_ms, made.connect_timeout_ms) == (30_000, 4_000)
    assert made.io_timeout_ms == 9_000
    assert (made.upload_buffer_size, made.total_mem_limit) == (16 << 20, 512 << 20)
    assert (made.upload_concurrency, made.prefetch_concurrency) == (32, 24)
    assert (made.prefetch_concurrency_per_file, made.prefetch_chunk_size) == (12, 4 << 20)
    assert made.enable_appendable_object
    assert made.flush_interval_ms == 1000
    assert sorted(note.partition(" has")[0] for note in found.notes) == [
        f"{path} line 2: logger.dir",
        f"fs.oss.write.buffer.size (from {path} line 19)",
    ]


@pytest.mark.parametrize(
    ("uri", "bucket", "prefix", "endpoint"),
    [
        ("oss://bucket/", "bucket", "", "http://127.0.0.1:9"),
        ("oss://bucket/a/b", "bucket", "a/b", "http://127.0.0.1:9"),
        (
            "oss://bucket.oss-cn-beijing-internal.aliyuncs.com/a/",
            *("bucket", "a", "https://oss-cn-beijing-internal.aliyuncs.com"),
        ),
    ],
)
def test_a_uri_names_bucket_prefix_and_endpoint(
    uri: str, bucket: str, prefix: str, endpoint: str
) -> None:
    given = [] if "." in uri else [ENDPOINT]
    for made in (
        resolved(f"-ouri={uri}", *given, source="").options,
        resolved(*given, source=uri).options,
    ):
        assert (made.bucket, made.oss_bucket_prefix) == (bucket, prefix)
        assert made.oss_endpoint == endpoint


def test_the_endpoint_of_a_uri_counts_as_typed_and_an_option_beside_it_more() -> None:
    uri = "oss://bucket.oss-cn-beijing.aliyuncs.com/a"
    asked = scan([uri, "/mnt"])
    made = resolve(asked, {"OSS_ENDPOINT": "http://127.0.0.1:8"}, HOST).options
    assert made.oss_endpoint == "https://oss-cn-beijing.aliyuncs.com"
    assert resolved(ENDPOINT, source=uri).options.oss_endpoint == "http://127.0.0.1:9"


@pytest.mark.parametrize(
    ("key", "taken", "field", "value"),
    [
        ("fs.oss.read.readahead.buffer.size=524288", "1048576", "prefetch_chunk_size", 1 << 20),
        ("fs.oss.flush.interval.millisecond=-5", "0", "flush_interval_ms", 0),
        ("fs.oss.flush.interval.millisecond=5", "100", "flush_interval_ms", 100),
        ("fs.oss.memory.pool.size.max.mb=64", "134217728", "total_mem_limit", 128 << 20),
        ("fs.oss.timeout.millisecond=500", "1000", "oss_request_timeout_ms", 1000),
        ("fs.oss.retry.count=1000", "100", "retry_count", 100),
    ],
)
def test_what_jindofuse_takes_beyond_our_ranges_is_the_nearest_in_them(
    key: str, taken: str, field: str, value: int
) -> None:
    found = resolved(ENDPOINT, "--dialect=jindofuse", f"-o{key}")
    assert getattr(found.options, field) == value
    (note,) = found.notes
    assert note.startswith(f"{key} is taken for {taken}; legal: ")
    assert "fs.oss.timeout.millisecond=x: not a whole number" in refusal(
        "--dialect=jindofuse", "-ofs.oss.timeout.millisecond=x"
    )


def test_dashes_for_underscores_change_nothing() -> None:
    made = options("--dialect=jindofuse", "--attr-timeout=3", "--jindo-attr-timeout=9")
    assert times(made) == (9, 3, 60, 60)
    assert options("--connect-timeout=300").connect_timeout_ms == 300_000


def test_a_word_for_the_kernel_is_taken_back_by_what_counts_more(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("noexec\nnoatime\n")
    assert options("-c", str(path), "-o", "exec").kernel_words == ("noatime",)
    assert options("-c", str(path)).kernel_words == ("noexec", "noatime")


def test_ossfs_1s_options_are_known() -> None:
    found = resolved(
        ENDPOINT,
        *("-o", "multipart_size=20,stat_cache_expire=30,retries=2,readwrite_timeout=7"),
        *("-o", "use_cache=/tmp/x,sigv4,max_stat_cache_size=5"),
    )
    made = found.options
    assert (made.upload_buffer_size, made.attr_timeout) == (20 << 20, 30)
    assert (made.retry_count, made.io_timeout_ms) == (2, 7_000)
    assert [note.partition(" has no")[0] for note in found.notes] == [
        *("use_cache", "max_stat_cache_size", "sigv4")
    ]


def test_oss_hdfs_is_refused_by_name() -> None:
    uri = "oss://bucket.cn-hangzhou.oss-dls.aliyuncs.com/"
    with pytest.raises(UserError, match="OSS-HDFS's, which is not served"):
        resolved(f"-ouri={uri}", source="")
    with pytest.raises(UserError, match="OSS-HDFS's, which is not served"):
        resolved("--oss_endpoint=cn-hangzhou.oss-dls.aliyuncs.com")


def test_ossfs2_ignores_what_it_does_not_know_and_says_so() -> None:
    found = resolved(ENDPOINT, "--atr_timeout=3", "--ro", "--dialect=ossfs2")
    assert found.options.ro
    (note,) = found.notes
    assert note.startswith('warning: unknown option "atr_timeout"; did you mean attr_timeout?')
    assert "did you mean" in refusal("--atr_timeout=3")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("-oattr_timeout=3, -onegative_timeout=0", ["attr_timeout=3", "negative_timeout=0"]),
        ("-onegative_timeout=0, -oclose_to_open", ["negative_timeout=0", "close_to_open"]),
        (
            "-oattr_timeout=0-oentry_timeout=0-onegative_timeout=0",
            ["attr_timeout=0", "entry_timeout=0", "negative_timeout=0"],
        ),
        (
            "-oattr_timeout=0 -oauto_cache -ono_symlink",
            ["attr_timeout=0", "auto_cache", "no_symlink"],
        ),
        ("-oro-okernel_cache-ono_symlink", ["ro", "kernel_cache", "no_symlink"]),
        ("-o ro,-o attr_timeout=5,", ["ro", "attr_timeout=5"]),
        (
            "-ouri=oss://bucket-one/on-off -oro",
            ["uri=oss://bucket-one/on-off", "ro"],
        ),
        ("-otemp_dir=/tmp/-old -oro", ["temp_dir=/tmp/-old", "ro"]),
        ("-oattr_timeout=3,negative_timeout=0,ro", ["attr_timeout=3", "negative_timeout=0", "ro"]),
        ("-oentry_timeout=0-orw-ouri=oss://b-od/", ["entry_timeout=0", "rw", "uri=oss://b-od/"]),
        ("-obind_ips=1.1.1.1,2.2.2.2 -oro", ["bind_ips=1.1.1.1,2.2.2.2", "ro"]),
        ("-oatr_timeout=3 -oro", ["atr_timeout=3", "ro"]),
        ("", []),
    ],
)
def test_options_are_split_however_they_are_separated(text: str, found: list[str]) -> None:
    pairs = split_arguments(text)
    assert [name if value is None else f"{name}={value}" for name, value in pairs] == found


def pai(**fields: Any) -> str:
    return json.dumps({name.replace("__", "."): value for name, value in fields.items()})


def test_pais_json_is_text_or_a_file(tmp_path: Path) -> None:
    text = pai(mountType="ossfs", fs__ossfs__args="-oattr_timeout=3, -onegative_timeout=0")
    path = tmp_path / "pai.json"
    path.write_text(text)
    for told in (text, str(path)):
        found = resolved(ENDPOINT, "--pai", told)
        assert times(found.options) == (3, -1, -1, 0)
    assert found.origins["attr_timeout"] == f"{path} fs.ossfs.args"


def test_pais_jindo_options_are_jindofuses() -> None:
    text = json.dumps(
        {
            "fs.jindo.args": "-oattr_timeout=3-oentry_timeout=0-onegative_timeout=0-oauto_cache",
            "fs.oss.upload.thread.concurrency": "32",
            "fs.oss.download.thread.concurrency": 32,
            "fs.oss.append.enable": True,
            "fs.jindo.fuse.pod.mem.limit": "10Gi",
            "fs.jindo.fuse.pod.image.tag": "6.7.0",
        }
    )
    found = resolved(ENDPOINT, "--pai", text)
    made = found.options
    assert times(made) == (3, 3, 0, 0)
    assert (made.upload_concurrency, made.prefetch_concurrency) == (32, 32)
    assert made.enable_appendable_object
    assert made.total_mem_limit == 5 << 30
    (note,) = found.notes
    assert "fs.jindo.fuse.pod.image.tag has no effect" in note


def test_keys_may_stand_in_pais_json_and_whoever_can_read_them_is_said(tmp_path: Path) -> None:
    text = pai(fs__oss__accessKeyId="id", fs__oss__accessKeySecret="secret")
    path = tmp_path / "pai.json"
    path.write_text(text)
    for told, mode, warned in (
        (text, 0o600, "the secret in the JSON of PAI on the command line"),
        (str(path), 0o644, f"the secret in {path}; run chmod 600"),
        (str(path), 0o600, ""),
    ):
        path.chmod(mode)
        found = resolved(ENDPOINT, "--pai", told)
        assert (found.keys.key_id, found.keys.key_secret) == ("id", "secret")
        assert bool(found.notes) is bool(warned)
        assert warned in "".join(found.notes)


def keys_of(words: list[str], text: str, path: Path, **environ: str) -> KeySettings:
    path.write_text(text)
    asked = scan(["oss://bucket", "/mnt", ENDPOINT, "-c", str(path), *words])
    return resolve(asked, environ, HOST, layers.gather(asked.settings)).keys


def test_an_id_and_its_secret_come_from_one_place(tmp_path: Path) -> None:
    path = tmp_path / "f"
    pair = "oss_access_key_id=filed\noss_access_key_secret=filed-secret\n"
    keys = keys_of([], pair, path, OSS_ACCESS_KEY_ID="stray")
    assert (keys.key_id, keys.key_secret, keys.from_file) == ("filed", "filed-secret", True)
    keys = keys_of([], pair, path, OSS_ACCESS_KEY_ID="env", OSS_ACCESS_KEY_SECRET="env-secret")
    assert (keys.key_id, keys.key_secret, keys.from_file) == ("", "", False)
    keys = keys_of(["--oss_access_key_id=typed"], pair, path)
    assert (keys.key_id, keys.key_secret) == ("typed", "filed-secret")
    keys = keys_of([], "oss_access_key_id=filed\n", path, OSS_ACCESS_KEY_SECRET="env-secret")
    assert (keys.key_id, keys.key_secret, keys.from_file) == ("filed", "", False)


@pytest.mark.parametrize(
    "below", ["ram_role=role", "credentials_file=/f", "oss_access_key_secret=filed"]
)
def test_a_source_of_keys_that_is_typed_wins_over_any_of_a_file(tmp_path: Path, below: str) -> None:
    keys = keys_of(["--passwd_file=/mine"], below + "\n", tmp_path / "f")
    assert keys == KeySettings(passwd_file="/mine")
    typed = ["--oss_access_key_id=id", "--oss_access_key_secret=typed"]
    keys = keys_of(typed, below + "\n", tmp_path / "f")
    assert keys == KeySettings(key_id="id", key_secret="typed")


def test_a_token_goes_with_keys_that_are_options(tmp_path: Path) -> None:
    text = "fs.oss.accessKeyId=STS.id\nfs.oss.accessKeySecret=s\nfs.oss.securityToken=t\n"
    keys = keys_of([], text, tmp_path / "f")
    assert sources.find(keys, "bucket", {}).fetch() == Credentials("STS.id", "s", "t")
    assert "oss_session_token" not in repr(keys.token) + repr(keys)


def test_the_pods_limit_gives_way_to_a_limit_of_its_own() -> None:
    limit = {"fs.jindo.fuse.pod.mem.limit": "10Gi", "fs.oss.memory.pool.size.max.mb": "256"}
    for fields in (limit, dict(reversed(limit.items()))):
        made = options("--pai", json.dumps(fields))
        assert made.total_mem_limit == 256 << 20


def test_the_command_line_wins_over_pai_over_a_preset() -> None:
    text = pai(fs__ossfs__args="-oattr_timeout=3")
    preset = "--preset=read-only"
    made = options("--pai", text, preset, "--negative_timeout=1")
    assert (made.attr_timeout, made.negative_timeout, made.ro) == (3, 1, True)
    assert options(preset).attr_timeout == 7200
    assert options(preset, "-o", "attr_timeout=9").attr_timeout == 9


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--pai", "{"], "no JSON"),
        (["--pai", '{"a": ' + "[" * 100_000], "no JSON"),
        (["--pai", "[]"], "pai: "),
        (["--pai", "/no/such/file"], "/no/such/file"),
        (["--pai", '{"mountType":"nas"}'], "mountType nas is not served"),
        (["--pai", '{"mountTyp":"ossfs"}'], "unknown key 'mountTyp'"),
        (["--pai", '{"fs.ossfs.args":"attr_timeout=3"}'], "does not begin with -o"),
        (["--pai", '{"fs.ossfs.args":"-oatr_timeout=3"}'], "did you mean attr_timeout?"),
        (
            ["--pai", '{"fs.ossfs.args":"-oattr_timeout=x"}'],
            "attr_timeout (from PAI fs.ossfs.args)",
        ),
        (["--pai", '{"fs.ossfs.args":"-oconf=/x"}'], "names another conf"),
        (["--pai", '{"fs.ossfs.args":{}}'], "fs.ossfs.args is no text"),
        (["--pai", '{"fs.jindo.fuse.pod.mem.limit":"much"}'], "no size such as 10Gi"),
        (["--pai", '{"mountType":"ossfs","fs.jindo.args":"-oro"}'], "does not go with"),
        (["--pai", '{"fs.jindo.args":"-oro"}', "--dialect=ossfs2"], "does not go with PAI's"),
        (["--preset=read-onl"], "did you mean read-only?"),
        (["--preset=x"], "there are append-log"),
        (["--preset="], "preset needs a value"),
        (["--dialect=s3fs"], "there are ossfs, ossfs1, ossfs2, jindofuse"),
        (["--preset=quick", "-o", "preset=read-only"], "preset is given twice"),
    ],
)
def test_mistakes_are_named(words: list[str], reason: str) -> None:
    assert reason in refusal(*words)


def test_there_are_ten_presets_and_each_says_what_it_gives_up() -> None:
    assert layers.presets() == [
        *("append-log", "checkpoint", "consistent", "distributed", "fast-rw", "incremental"),
        *("many-files", "quick", "read-only", "static-data"),
    ]
    for name in layers.presets():
        found = resolved(ENDPOINT, f"--preset={name}")
        assert not found.notes
        assert f"preset {name}" in found.origins.values()
        text = (Path("configs/presets") / f"{name}.conf").read_text()
        assert text.startswith("# For ")
        assert "\n# Given up: " in text


@pytest.mark.parametrize("dialect", list(Dialect))
def test_a_preset_means_the_same_in_every_dialect(dialect: Dialect) -> None:
    made = options("--preset=read-only", f"--dialect={dialect.value}")
    assert times(made)[1:] == (-1, -1, 7200)
    assert made.attr_timeout == 7200


def test_a_preset_without_time_outs_leaves_them_alone_in_jindofuses_dialect() -> None:
    made = options("--preset=many-files", "--dialect=jindofuse")
    assert times(made) == (60, -1, -1, 0)


def test_close_to_open_waits_for_uploads() -> None:
    found = resolved(ENDPOINT, "-o", "close_to_open,sync_upload=false")
    assert found.options.sync_upload
    assert found.notes == ("close_to_open turns sync_upload on: close() waits for the upload",)


def test_anonymous_does_not_go_with_keys() -> None:
    assert resolved(ENDPOINT, "-o", "anonymous").keys.anonymous
    assert "anonymous does not go with keys" in refusal("-o", "anonymous,passwd_file=/x")


def test_the_password_of_a_proxy_is_not_shown() -> None:
    message = refusal("-o", "http_proxy=https://user:hunter2@proxy")
    assert "hunter2" not in message
    made = options("-o", "http_proxy=user:hunter2@proxy")
    assert made.http_proxy == "http://user:hunter2@proxy:3128"
    assert "hunter2" not in repr(made)
