"""What a command line comes to, and what is refused."""

from __future__ import annotations

import re
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest

from ossfs.config.arguments import scan, split_list
from ossfs.config.options import MountOptions
from ossfs.config.table import BY_NAME, IGNORED_WORDS, KERNEL_WORDS, OPPOSITES, TABLE, Dialect
from ossfs.config.validate import Host, Resolved, resolve, resolve_bucket
from ossfs.config.values import Kind
from ossfs.runtime.failure import ExitStatus, UserError

ROOT = Host(uid=0, gid=0, user_allow_other=False)
USER = Host(uid=1000, gid=100, user_allow_other=False)
ENDPOINT = "oss_endpoint=http://127.0.0.1:9"


def resolved(*words: str, environ: dict[str, str] | None = None, host: Host = ROOT) -> Resolved:
    return resolve(scan(["oss://bucket", "/mnt", "-o", ENDPOINT, *words]), environ or {}, host)


def options(*words: str, **more: Any) -> MountOptions:
    return resolved(*words, **more).options


def refusal(*words: str, **more: Any) -> str:
    with pytest.raises(UserError) as refused:
        resolved(*words, **more)
    assert refused.value.status is ExitStatus.USAGE
    assert "\n" not in refused.value.message
    return refused.value.message


def test_defaults_are_those_of_the_options_class() -> None:
    made = options()
    computed = {"bucket", "mountpoint", "oss_endpoint"}
    for field in fields(MountOptions):
        if field.name not in computed:
            assert field.default is not MISSING
            assert getattr(made, field.name) == field.default, field.name


def test_every_field_of_the_options_is_a_row_or_the_command_lines_own() -> None:
    own = {"bucket", "mountpoint", "kernel_words", "foreground"}
    keys = {"oss_bucket", "oss_access_key_id", "oss_access_key_secret", "oss_session_token"}
    keys |= {"passwd_file"}
    keys |= {"credentials_file", "credential_process", "ram_role"}
    switches = {"f", "d"}
    assert {field.name for field in fields(MountOptions)} - own == {
        option.name for option in TABLE if option.effective
    } - keys - switches


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ("credential_process=helper", "credential_process: it does not begin with the absolute"),
        ("credential_process=/bin/helper $HOME", "there is no shell"),
        ("ram_role=my role", "ram_role: neither the name of a role nor http://HOST/PATH"),
    ],
)
def test_a_program_and_a_role_that_cannot_be_one_are_refused(option: str, reason: str) -> None:
    assert reason in refusal("-o", option)


def test_every_default_is_legal() -> None:
    for option in TABLE:
        if option.default:
            option.read(option.default)


def test_no_name_means_two_options() -> None:
    names = [option.name for option in TABLE]
    names += [name for option in TABLE for group in option.names.values() for name in group]
    names += [*IGNORED_WORDS, *KERNEL_WORDS, *OPPOSITES, "rw"]
    assert len(names) == len(set(names))


def test_the_command_line_wins_over_the_environment_over_the_default() -> None:
    environ = {"OSS_REGION": "cn-beijing"}
    assert options().oss_region == ""
    assert options(environ=environ).oss_region == "cn-beijing"
    assert options("--oss_region=cn-shanghai", environ=environ).oss_region == "cn-shanghai"


def test_the_last_of_two_settings_counts() -> None:
    assert options("-o", "attr_timeout=1", "--attr_timeout=2.5").attr_timeout == 2.5


def test_a_bare_flag_is_true_and_rw_undoes_ro() -> None:
    assert options("-o", "ro").ro is True
    assert options("-o", "ro=false").ro is False
    assert options("-o", "ro,rw").ro is False


@pytest.mark.parametrize("word", ["rw", "ro", "ro=false", "ro,rw"])
def test_asking_to_write_or_not_to_needs_no_note(word: str) -> None:
    assert not resolved("-o", word).notes


def test_long_options_may_be_written_with_hyphens() -> None:
    assert options("--attr-timeout=7").attr_timeout == 7


@pytest.mark.parametrize("dialect", Dialect)
def test_names_of_other_programs_mean_the_same(dialect: Dialect) -> None:
    for option in TABLE:
        for name in option.names.get(dialect, ()):
            assert BY_NAME[name] is option


def test_ossfs_1_names_its_endpoint_url() -> None:
    asked = scan(["bucket:/deep/down/", "/mnt", "-o", "url=http://127.0.0.1:9"])
    made = resolve(asked, {}, ROOT).options
    assert (made.bucket, made.oss_bucket_prefix) == ("bucket", "deep/down")
    assert made.oss_endpoint == "http://127.0.0.1:9"


def test_words_of_mount_8_are_dropped_or_handed_to_the_kernel() -> None:
    made = options(
        "-o", "_netdev,nofail,x-systemd.automount,users,noexec,noatime,comment=x,user=me"
    )
    assert made.kernel_words == ("noexec", "noatime")


@pytest.mark.parametrize(
    ("words", "kernel"),
    [
        ("noexec,exec", ()),
        ("exec,noexec", ("noexec",)),
        ("noatime,strictatime,sync", ("sync",)),
        ("sync,async,noexec", ("noexec",)),
    ],
)
def test_of_two_words_that_contradict_each_other_the_last_counts(
    words: str, kernel: tuple[str, ...]
) -> None:
    assert options("-o", words).kernel_words == kernel


def test_remount_is_refused_rather_than_ignored() -> None:
    assert "unmount and mount again" in refusal("-o", "remount")


@pytest.mark.parametrize(
    ("typo", "meant"),
    [
        ("atr_timeout=3", "attr_timeout"),
        ("prefetch_chunksize=8M", "prefetch_chunk_size"),
        ("allow-othr", "allow_other"),
        ("oss_end_point=x", "oss_endpoint"),
    ],
)
def test_an_unknown_option_names_the_nearest_known_one(typo: str, meant: str) -> None:
    assert f"did you mean {meant}?" in refusal("-o", typo)


def test_an_option_like_no_other_points_to_the_help() -> None:
    assert "ossfs mount --help" in refusal("-o", "zzzzzz=1")


@pytest.mark.parametrize(
    ("typed", "legal"),
    [
        ("prefetch_chunk_size=1K", "1M to 128M"),
        ("prefetch_chunk_size=129M", "1M to 128M"),
        ("prefetch_concurrency=4097", "0 to 4096"),
        ("prefetch_concurrency_per_file=0", "1 to 4096"),
        ("oss_request_timeout_ms=999", "1000 to 900000 milliseconds"),
        ("total_mem_limit=64M", "0 (automatic) or 128M"),
        ("attr_timeout=-1", "0 to 31536000 seconds"),
        ("attr_timeout=soon", "0 to 31536000 seconds"),
        ("uid=4294967295", "0 to 4294967294"),
        ("file_mode=0888", "octal"),
        ("ro=perhaps", "true or false"),
        ("log_level=loud", "info or debug"),
        ("oss_endpoint=ftp://x", "http://HOST"),
        ("upload_buffer_size=1K", "1M to 5G"),
        ("upload_buffer_size=6G", "1M to 5G"),
        ("upload_concurrency=0", "1 to 1024"),
        ("upload_copy_concurrency=1025", "1 to 1024"),
        ("appendable_object_autoswitch_threshold=6G", "0 to 5G"),
        ("flush_interval_ms=99", "0 (off) or 100 to 3600000 milliseconds"),
        ("flush_interval_ms=-2", "0 (off) or 100 to 3600000 milliseconds"),
        ("random_write_max_file_size=49T", "1M to 48T"),
        ("temp_dir_free_bytes=63M", "64M to 1P"),
        ("temp_dir_free_percent=100", "0 to 99"),
        ("temp_dir=", "a path"),
        ("rename_dir_limit=0", "1 to 2147483648"),
        ("rename_dir_concurrency=0", "1 to 1024"),
        ("sync_upload=later", "true or false"),
    ],
)
def test_an_illegal_value_is_refused_with_what_is_legal(typed: str, legal: str) -> None:
    message = refusal("-o", typed)
    assert message.startswith(typed)
    assert legal in message


def test_every_ranged_option_refuses_what_lies_beyond_either_end() -> None:
    ranged = {Kind.INTEGER, Kind.SECONDS, Kind.MILLISECONDS, Kind.SIZE}
    for option in TABLE:
        if option.kind in ranged:
            assert option.read(f"{option.low:.0f}") == option.low
            assert option.read(f"{option.high:.0f}") == option.high
            with pytest.raises(ValueError, match="out of range"):
                option.read(f"{option.high + 1:.0f}")


def test_only_where_a_row_says_so_is_minus_one_the_same_as_off() -> None:
    assert options("-o", "fs.oss.flush.interval.millisecond=-1").flush_interval_ms == 0
    assert options("--flush_interval_ms=-1").flush_interval_ms == 0
    for option in TABLE:
        if option.kind in (Kind.INTEGER, Kind.SECONDS, Kind.MILLISECONDS) and not option.minus_one:
            with pytest.raises(ValueError, match="out of range"):
                option.read("-1")


def test_a_value_from_the_environment_is_named_by_its_variable() -> None:
    message = refusal_without_endpoint({"OSS_ENDPOINT": "gopher://x"})
    assert "from OSS_ENDPOINT" in message


def refusal_without_endpoint(environ: dict[str, str], *words: str) -> str:
    with pytest.raises(UserError) as refused:
        resolve(scan(["oss://bucket", "/mnt", *words]), environ, ROOT)
    return refused.value.message


def test_so_is_a_region_from_the_environment() -> None:
    message = refusal(environ={"OSS_REGION": "no region"})
    assert message.startswith("oss_region (from OSS_REGION)=no region: ")
    assert refusal("-o", "oss_region=?", environ={"OSS_REGION": "x"}).startswith("oss_region=?: ")


@pytest.mark.parametrize(
    "words",
    [
        ["oss://me:hunter2@bucket", "/mnt"],
        ["oss://me:hun/ter2@bucket", "/mnt"],
        ["me:hunter2@bucket", "/mnt"],
        ["me:hunter2", "/mnt"],
        ["s3://me:hunter2@bucket", "/mnt"],
        ["/mnt", "--oss_bucket=me:hunter2@bucket"],
        ["oss://bucket", "/mnt", "-o", "oss_bucket=me:hunter2"],
        ["oss://bucket", "/mnt", "-o", "me:hunter2"],
        ["oss://bucket", "/mnt", "-o", "LTAI5tAbC:hunter2,allow_other"],
        ["oss://bucket", "/mnt", "--oss_access_key_secret:hunter2"],
        ["oss://bucket", "/mnt", "-o", "oss_access_key_secret=a,Hunter2"],
        ["oss://bucket", "/mnt", "-o", "passwd_file=me:hunter2"],
        ["oss://bucket", "/mnt", "-o", "oss_endpoint=https://me:hunter2@host"],
        ["oss://bucket", "/mnt", "-o", "oss_endpoint=me:hunter2@host"],
        ["oss://bucket", "/mnt", "-o", "oss_endpoint=me:hunter2"],
        ["oss://bucket", "/mnt", "-o", "oss_endpoint=https://me:hunt/er2@host"],
        ["oss://bucket", "/mnt", "-p", "hunter2"],
        ["oss://bucket", "/mnt", "--oss_access_key_secret", "hunter2"],
    ],
)
def test_what_may_be_a_secret_in_the_wrong_place_is_not_repeated(words: list[str]) -> None:
    with pytest.raises(UserError) as refused:
        resolve(scan(["-o", ENDPOINT, *words]), {}, ROOT)
    assert refused.value.status is ExitStatus.USAGE
    message = refused.value.message.lower()
    assert not any(piece in message for piece in ("hunter2", "hun/ter2", "er2", "ter2"))


def test_nor_is_one_from_the_environment() -> None:
    message = refusal_without_endpoint({"OSS_ENDPOINT": "https://me:hunter2@host"})
    assert "from OSS_ENDPOINT" in message
    assert "hunter2" not in message


def test_a_missing_endpoint_says_how_to_give_one() -> None:
    assert "oss_endpoint=https://" in refusal_without_endpoint({})


def test_a_region_alone_gives_the_public_endpoint() -> None:
    asked = scan(["oss://bucket", "/mnt", "-o", "oss_region=oss-cn-hangzhou"])
    made = resolve(asked, {}, ROOT).options
    assert made.oss_region == "cn-hangzhou"
    assert made.oss_endpoint == "https://oss-cn-hangzhou.aliyuncs.com"


def test_an_option_that_needs_a_value_says_so() -> None:
    assert refusal("-o", "uid") == "uid needs a value: uid=N"


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["/mnt"],
        ["oss://bucket"],
        ["oss://bucket", "/a", "/b"],
        ["http://b", "/a"],
        ["oss://", "/a"],
        ["oss://Bucket", "/a"],
        ["oss://b_c", "/a"],
        ["oss://bucket", ""],
    ],
)
def test_what_is_no_bucket_and_mount_point_is_refused(words: list[str]) -> None:
    with pytest.raises(UserError) as refused:
        resolve(scan([*words, "-o", ENDPOINT]), {}, ROOT)
    assert refused.value.status is ExitStatus.USAGE


def test_the_bucket_may_be_an_option_as_in_ossfs_2() -> None:
    asked = scan(["/mnt", "--oss_bucket=bucket", "--oss_bucket_prefix=/a/b/", "--" + ENDPOINT])
    made = resolve(asked, {}, ROOT).options
    assert (made.bucket, made.oss_bucket_prefix, made.mountpoint) == ("bucket", "a/b", "/mnt")
    assert made.source == "oss://bucket/a/b"


def test_bucket_or_prefix_given_twice_must_agree() -> None:
    assert "twice" in refusal("-o", "oss_bucket=other")
    asked = scan(["oss://bucket/a", "/mnt", "-o", ENDPOINT, "-o", "oss_bucket_prefix=b"])
    with pytest.raises(UserError, match="twice"):
        resolve(asked, {}, ROOT)


@pytest.mark.parametrize("prefix", ["a//b", "a/../b", ".", "x" * 1022, "\udcff"])
def test_a_prefix_that_no_path_can_hold_is_refused(prefix: str) -> None:
    assert "oss_bucket_prefix" in refusal(f"--oss_bucket_prefix={prefix}")


def test_umask_takes_bits_from_both_modes() -> None:
    made = options("-o", "umask=027,file_mode=0666")
    assert (made.file_mode, made.dir_mode) == (0o640, 0o750)


def test_owner_is_the_mounting_user_unless_said_otherwise() -> None:
    made = options(host=USER)
    assert (made.uid, made.gid) == (1000, 100)
    made = options("-o", "uid=0,gid=7", host=USER)
    assert (made.uid, made.gid) == (0, 7)


def test_allow_other_is_off_with_a_note_where_the_system_forbids_it() -> None:
    made = resolved(host=USER)
    assert made.options.allow_other is False
    assert any("user_allow_other" in note for note in made.notes)
    permitted = resolved(host=Host(1000, 100, user_allow_other=True))
    assert permitted.options.allow_other is True
    assert not permitted.notes


def test_an_allow_other_nobody_wants_needs_no_note() -> None:
    assert not resolved("-o", "allow_other=false", host=USER).notes


@pytest.mark.parametrize(
    ("line", "allowed"),
    [
        ("user_allow_other\n", True),
        ("  user_allow_other  \n", True),
        ("user_allow_other # for all\n", True),
        ("user_allow_other\r\n", True),
        ("#user_allow_other\n", False),
        ("user_allow_other", False),
        ("user_allow_other" + " " * 239 + "\n", False),
        ("user_allow_other=1\n", False),
    ],
)
def test_fuse_conf_is_read_as_fusermount3_reads_it(
    tmp_path: Path, line: str, allowed: bool
) -> None:
    conf = tmp_path / "fuse.conf"
    conf.write_text("# a comment\nmount_max = 10\n" + line)
    assert Host.here(str(conf)).user_allow_other is allowed


def test_a_missing_fuse_conf_permits_nothing(tmp_path: Path) -> None:
    assert Host.here(str(tmp_path / "none")).user_allow_other is False


def test_each_user_has_a_log_directory_of_their_own() -> None:
    assert options().log_dir != options(host=USER).log_dir


def test_a_secret_on_the_command_line_is_taken_with_a_warning_that_does_not_repeat_it() -> None:
    made = resolved("-o", "oss_access_key_id=me,oss_access_key_secret=hunter2")
    assert made.keys.key_secret == "hunter2"
    assert len(made.notes) == 1
    assert "hunter2" not in made.notes[0] + repr(made)


def test_chunks_are_rounded_to_whole_mebibytes_and_one_file_gets_no_more_than_all() -> None:
    made = options("-o", "prefetch_chunk_size=1500K,prefetch_concurrency=8")
    assert made.prefetch_chunk_size == 2 * 1024**2
    assert made.prefetch_concurrency_per_file == 8
    assert options("-o", "prefetch_concurrency=0").prefetch_concurrency_per_file == 64


def test_what_writing_goes_by_arrives_as_it_was_typed() -> None:
    made = options(
        "-o",
        "upload_buffer_size=16M,upload_concurrency=3,upload_copy_concurrency=4,sync_upload=false,"
        "ignore_fsync,flush_interval_ms=1000,temp_dir=/scratch/stage,"
        "random_write_max_file_size=1T,temp_dir_free_bytes=2G,temp_dir_free_percent=5,"
        "allow_rename_dir=no,rename_dir_limit=9,rename_dir_concurrency=7,preserve_mtime,no_flock",
    )
    assert made.upload_buffer_size == 16 * 1024**2
    assert (made.upload_concurrency, made.upload_copy_concurrency) == (3, 4)
    assert (made.sync_upload, made.ignore_fsync) == (False, True)
    assert made.flush_interval_ms == 1000
    assert made.temp_dir == "/scratch/stage"
    assert made.random_write_max_file_size == 1024**4
    assert (made.temp_dir_free_bytes, made.temp_dir_free_percent) == (2 * 1024**3, 5)
    assert (made.allow_rename_dir, made.rename_dir_limit) == (False, 9)
    assert made.rename_dir_concurrency == 7
    assert made.preserve_mtime


def test_parts_of_uploads_are_whole_mebibytes() -> None:
    assert options("-o", "upload_buffer_size=1500K").upload_buffer_size == 2 * 1024**2
    assert options("-o", "upload_buffer_size=5G").upload_buffer_size == 5 * 1024**3


def test_a_recipe_of_jindofuse_for_appending_is_understood() -> None:
    made = options(
        "-ofs.oss.append.enable=true",
        "-ofs.oss.flush.interval.millisecond=1000",
        "-ofs.oss.upload.thread.concurrency=32",
        "-ono_symlink",
    )
    assert made.enable_appendable_object is True
    assert (made.flush_interval_ms, made.upload_concurrency) == (1000, 32)
    assert options("-ofs.oss.upload.async.concurrency=5").upload_concurrency == 5


@pytest.mark.parametrize("words", ["enable_symlink,no_symlink", "no_symlink,enable_symlink=true"])
def test_no_symlink_wins_over_enable_symlink(words: str) -> None:
    assert options("-o", "enable_symlink").enable_symlink is True
    assert options("-o", words).enable_symlink is False


@pytest.mark.parametrize("words", ["enable_xattr,no_xattr", "no_xattr,enable_xattr=true"])
def test_no_xattr_wins_over_enable_xattr(words: str) -> None:
    assert options("-o", "enable_xattr").enable_xattr is True
    assert options("-o", words).enable_xattr is False


def test_files_are_staged_or_appended_to_but_not_both() -> None:
    message = refusal("-o", "temp_dir=/scratch,enable_appendable_object")
    assert "temp_dir and enable_appendable_object exclude each other" in message
    made = options("-o", "temp_dir=/scratch,enable_appendable_object=false")
    assert made.temp_dir == "/scratch"


def test_a_threshold_that_would_be_ignored_is_refused() -> None:
    message = refusal("-o", "appendable_object_autoswitch_threshold=1G")
    assert "add enable_appendable_object" in message
    made = options("-o", "enable_appendable_object,appendable_object_autoswitch_threshold=1G")
    assert made.appendable_object_autoswitch_threshold == 1024**3
    assert options("-o", "appendable_object_autoswitch_threshold=0").temp_dir == ""


@pytest.mark.parametrize("directory", ["/mnt", "/mnt/stage", "/mnt/../mnt/a/b", "/mnt/"])
def test_a_stage_inside_the_mount_point_is_refused(directory: str) -> None:
    assert "inside the mount point" in refusal("-o", f"temp_dir={directory}")


@pytest.mark.parametrize("directory", ["/mnt2", "/", "/mnt/.."])
def test_a_stage_beside_or_above_the_mount_point_is_legal(directory: str) -> None:
    assert options("-o", f"temp_dir={directory}").temp_dir


def test_a_relative_stage_is_where_the_user_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert options("-o", "temp_dir=stage").temp_dir == str(tmp_path / "stage")


def test_a_bucket_alone_is_found_by_the_options_of_a_mount() -> None:
    words = f"{ENDPOINT},path_style,oss_region=cn-hangzhou,oss_request_timeout_ms=5000,ro,noexec"
    made = resolve_bucket("oss://bucket/a/b/", tuple(split_list(words)), {}).options
    assert (made.bucket, made.oss_bucket_prefix, made.mountpoint) == ("bucket", "a/b", "")
    assert (made.oss_endpoint, made.oss_region) == ("http://127.0.0.1:9", "cn-hangzhou")
    assert (made.path_style, made.oss_request_timeout_ms) == (True, 5000)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("", ENDPOINT),
        ("oss://b_c", ENDPOINT),
        ("http://bucket", ENDPOINT),
        ("oss://me:hunter2@bucket", ENDPOINT),
        ("oss://bucket", ""),
        ("oss://bucket/a//b", ENDPOINT),
        ("oss://bucket", f"{ENDPOINT},atr_timeout=1"),
        ("oss://bucket", f"{ENDPOINT},me:hunter2"),
        ("oss://bucket", f"{ENDPOINT},passwd_file=me:hunter2"),
        ("oss://bucket/a", f"{ENDPOINT},oss_bucket_prefix=b"),
    ],
)
def test_and_refused_as_a_mount_of_it_would_be(source: str, words: str) -> None:
    with pytest.raises(UserError) as refused:
        resolve_bucket(source, tuple(split_list(words)), {})
    assert refused.value.status is ExitStatus.USAGE
    assert "hunter2" not in refused.value.message


def test_a_secret_on_its_command_line_is_warned_of_as_well() -> None:
    words = f"{ENDPOINT},oss_access_key_id=me,oss_access_key_secret=hunter2"
    made = resolve_bucket("oss://bucket", tuple(split_list(words)), {})
    assert (made.keys.key_id, made.keys.key_secret) == ("me", "hunter2")
    assert len(made.notes) == 1
    assert "hunter2" not in made.notes[0] + repr(made)


S3 = "oss_endpoint=http://127.0.0.1:8333"


def of_s3(*options: str, source: str = "s3://my.bucket/p") -> MountOptions:
    return resolve(scan([source, "/mnt", "-o", ",".join(options)]), {}, ROOT).options


def test_a_bucket_of_s3_is_named_by_its_scheme_or_by_an_option() -> None:
    options = of_s3(S3)
    assert (options.store, options.bucket, options.oss_bucket_prefix) == ("s3", "my.bucket", "p")
    assert options.source == "s3://my.bucket/p"
    assert of_s3(S3, "store=s3", source="my.bucket:/p") == options
    assert of_s3(S3, source="oss://bucket").store == "oss"


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        (S3, True),
        ("oss_region=eu-west-1", False),
        ("oss_endpoint=https://s3.oss-cn-hangzhou.aliyuncs.com", False),
        (f"{S3},path_style=false", False),
        ("oss_region=eu-west-1,path_style", True),
    ],
)
def test_an_s3_bucket_stands_in_the_path_unless_its_cloud_wants_it_in_the_host(
    option: str, expected: bool
) -> None:
    assert of_s3(option).path_style is expected


def test_a_region_of_s3_names_amazons_endpoint() -> None:
    assert of_s3("oss_region=eu-west-1").oss_endpoint == "https://s3.eu-west-1.amazonaws.com"


@pytest.mark.parametrize(
    ("options", "source", "said"),
    [
        ((S3, "store=oss"), "s3://bucket", "the store is given twice"),
        ((S3, "store=gcs"), "bucket", "legal: oss or s3"),
        ((S3, "enable_symlink"), "s3://bucket", "enable_symlink takes OSS"),
        ((S3, "enable_appendable_object"), "s3://bucket", "enable_appendable_object takes OSS"),
        (("ro",), "s3://bucket", "oss_endpoint=https://HOST"),
        ((S3,), "s3://Bucket", "letters, digits, dots and hyphens"),
    ],
)
def test_what_does_not_fit_s3_is_refused(options: tuple[str, ...], source: str, said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said)) as caught:
        of_s3(*options, source=source)
    assert caught.value.status == ExitStatus.USAGE


def test_s3_gets_fewer_parts_at_once_unless_somebody_says_otherwise() -> None:
    assert of_s3(S3).upload_concurrency == 16
    assert of_s3(S3, "upload_concurrency=64").upload_concurrency == 64
    assert of_s3(S3, source="oss://bucket").upload_concurrency == 64
