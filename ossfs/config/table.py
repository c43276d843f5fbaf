"""The option table: one row an option, and everything known about it in that row.

`ossfs mount --help`, docs/OPTIONS.md, parsing and validation are all made from these rows, so an
option added here exists everywhere at once. Defaults are written as a user would type them and
go through the same reader. The table is a constant; nothing changes it at run time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from math import inf, isinf

from ossfs.config.values import GIB, MIB, READERS, Kind, Value, show_size

YEAR_S = 365 * 24 * 3600
LARGEST_ID = 2**32 - 2
"""2**32 - 1 is (uid_t)-1, which the kernel reads as "no such user"."""


class Group(Enum):
    """Heading an option stands under in the help and the docs."""

    BUCKET = "Bucket"
    CREDENTIALS = "Credentials"
    PERMISSIONS = "Ownership and permissions"
    METADATA = "Metadata caching"
    READING = "Reading"
    WRITING = "Writing"
    NAMES = "Names and metadata"
    MEMORY = "Memory"
    REQUESTS = "Requests"
    LOGGING = "Logging"


class Dialect(Enum):
    """Other programs whose option names are understood."""

    OSSFS1 = "ossfs 1"
    JINDOFUSE = "JindoFuse"


@dataclass(frozen=True, slots=True)
class Option:
    """One row. `name` is ossfs 2.0's name and the field of MountOptions where there is one."""

    name: str
    kind: Kind
    group: Group
    help: str
    default: str = ""
    """As typed; empty where the default is worked out (then `default_note` says how)."""
    default_note: str = ""
    low: float = 0
    high: float = inf
    zero: str = ""
    """What 0 means where 0 is legal although below `low`."""
    minus_one: bool = False
    """-1 is read as 0: so other programs write "off"."""
    choices: tuple[str, ...] = ()
    environment: str = ""
    names: Mapping[Dialect, tuple[str, ...]] = field(default_factory=dict)

    @property
    def legal(self) -> str:
        """The legal values in words, for messages and docs."""
        match self.kind:
            case Kind.FLAG:
                return "true or false"
            case Kind.CHOICE:
                return " or ".join(self.choices)
            case Kind.MODE:
                return "0000 to 0777, octal"
            case Kind.PATH:
                return "a path"
            case Kind.ENDPOINT:
                return "http://HOST[:PORT] or https://HOST[:PORT]"
            case Kind.TEXT:
                return "text"
            case Kind.SIZE:
                span = f"{show_size(int(self.low))} to {show_size(int(self.high))}"
            case _:
                span = f"{self.low:.0f} to {self.high:.0f}"
        unit = {Kind.SECONDS: " seconds", Kind.MILLISECONDS: " milliseconds"}.get(self.kind, "")
        return (f"0 ({self.zero}) or " if self.zero else "") + span + unit

    @property
    def shown_default(self) -> str:
        return self.default_note or self.default or "none"

    def read(self, text: str) -> Value:
        """Turn the text as typed into the value; ValueError tells why it cannot be."""
        value = READERS[self.kind](text)
        if self.choices and value not in self.choices:
            raise ValueError("unknown word")
        if self.kind in _RANGED and isinstance(value, int | float):
            if self.minus_one and value == -1:
                return 0
            if self.zero and value == 0:
                return value
            if not self.low <= value <= self.high:
                raise ValueError("out of range")
        return value

    def __post_init__(self) -> None:
        if self.kind in _RANGED and isinf(self.high):
            raise ValueError(f"option {self.name} has no upper bound")


_RANGED = frozenset({Kind.INTEGER, Kind.SECONDS, Kind.MILLISECONDS, Kind.SIZE, Kind.MODE})

TABLE: tuple[Option, ...] = (
    Option(
        "store",
        Kind.CHOICE,
        Group.BUCKET,
        "Protocol the bucket is reached by: OSS's own, or S3's for MinIO, SeaweedFS, Ceph and the "
        "like. See docs/S3.md for what is different there.",
        default_note="s3 for s3://BUCKET, else oss",
        choices=("oss", "s3"),
    ),
    Option(
        "oss_bucket",
        Kind.TEXT,
        Group.BUCKET,
        "Bucket to mount; the usual way to name it is oss://BUCKET[/PREFIX] or s3://BUCKET[/PREFIX].",
        default_note="from oss://BUCKET or s3://BUCKET",
        names={Dialect.OSSFS1: ("bucket",)},
    ),
    Option(
        "oss_bucket_prefix",
        Kind.TEXT,
        Group.BUCKET,
        "Mount only the keys under this prefix, as the root directory. Slashes at either end "
        "are ignored.",
        default_note="from oss://BUCKET/PREFIX",
    ),
    Option(
        "oss_endpoint",
        Kind.ENDPOINT,
        Group.BUCKET,
        "Where the bucket is served. Without http:// or https:// it is taken as https.",
        default_note="of OSS, or of Amazon S3, when oss_region is set; else required",
        environment="OSS_ENDPOINT",
        names={Dialect.OSSFS1: ("url",), Dialect.JINDOFUSE: ("fs.oss.endpoint",)},
    ),
    Option(
        "oss_region",
        Kind.TEXT,
        Group.BUCKET,
        "Region such as cn-hangzhou. Set: requests carry signature V4. Unset: V1. S3 always takes "
        "V4, without a region that of us-east-1 or what the server names.",
        environment="OSS_REGION",
        names={Dialect.OSSFS1: ("region",), Dialect.JINDOFUSE: ("fs.oss.region",)},
    ),
    Option(
        "path_style",
        Kind.FLAG,
        Group.BUCKET,
        "Address objects as endpoint/bucket/key instead of bucket.endpoint/key; for endpoints "
        "without wildcard DNS.",
        default_note="false; for S3 true, but for amazonaws.com and aliyuncs.com",
        names={Dialect.OSSFS1: ("use_path_request_style",)},
    ),
    Option(
        "oss_access_key_id",
        Kind.TEXT,
        Group.CREDENTIALS,
        "Access key ID.",
        environment="OSS_ACCESS_KEY_ID",
        names={Dialect.JINDOFUSE: ("fs.oss.accessKeyId",)},
    ),
    Option(
        "oss_access_key_secret",
        Kind.TEXT,
        Group.CREDENTIALS,
        "Access key secret. On the command line other users can read it while the command "
        "starts: prefer passwd_file or the environment. The security token of temporary keys "
        "comes from OSS_SESSION_TOKEN. For S3 AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and "
        "AWS_SESSION_TOKEN are looked at too, if the others are not set.",
        environment="OSS_ACCESS_KEY_SECRET",
        names={Dialect.JINDOFUSE: ("fs.oss.accessKeySecret",)},
    ),
    Option(
        "passwd_file",
        Kind.PATH,
        Group.CREDENTIALS,
        "File with lines ID:SECRET or BUCKET:ID:SECRET, of the mounting user or root, readable "
        "by its owner alone (chmod 600). Wins over the environment; read again when OSS does not "
        "take the keys any more.",
    ),
    Option(
        "credentials_file",
        Kind.PATH,
        Group.CREDENTIALS,
        "File with a JSON object: AccessKeyId, AccessKeySecret and, for temporary keys, "
        "SecurityToken and Expiration (such as 2026-11-26T21:00:00Z). Under the same rules as "
        "passwd_file. Read again before the keys expire and when OSS does not take them any more.",
    ),
    Option(
        "credential_process",
        Kind.TEXT,
        Group.CREDENTIALS,
        "Program that prints such a JSON object, by its absolute path, and its arguments; no shell "
        "expands them. It has 10 s and is run again before the keys expire and when OSS does not "
        "take them any more. Wins over keys of options, environment and files.",
    ),
    Option(
        "ram_role",
        Kind.TEXT,
        Group.CREDENTIALS,
        "RAM role of the ECS instance, whose temporary keys come from the metadata service and are "
        "renewed in time; or the full http:// address of the keys. Wins over all other keys.",
    ),
    Option(
        "uid",
        Kind.INTEGER,
        Group.PERMISSIONS,
        "Owner of every file and directory.",
        default_note="the mounting user",
        high=LARGEST_ID,
    ),
    Option(
        "gid",
        Kind.INTEGER,
        Group.PERMISSIONS,
        "Group of every file and directory.",
        default_note="the mounting user's group",
        high=LARGEST_ID,
    ),
    Option(
        "file_mode",
        Kind.MODE,
        Group.PERMISSIONS,
        "Permissions of every file, before umask: shown is file_mode & ~umask.",
        default="0777",
        high=0o777,
    ),
    Option(
        "dir_mode",
        Kind.MODE,
        Group.PERMISSIONS,
        "Permissions of every directory, before umask: shown is dir_mode & ~umask.",
        default="0777",
        high=0o777,
    ),
    Option(
        "umask",
        Kind.MODE,
        Group.PERMISSIONS,
        "Permission bits taken away from file_mode and dir_mode; umask=022 shows 0755.",
        default="0000",
        high=0o777,
    ),
    Option(
        "allow_other",
        Kind.FLAG,
        Group.PERMISSIONS,
        "Let other users than the mounting one use the mount, as far as the modes permit. For "
        "users other than root it needs user_allow_other in /etc/fuse.conf and is off without.",
        default="true",
    ),
    Option(
        "ro",
        Kind.FLAG,
        Group.PERMISSIONS,
        "Mount read-only.",
        default="false",
    ),
    Option(
        "nonempty",
        Kind.FLAG,
        Group.PERMISSIONS,
        "Permit a mount point that is not empty; what it holds is hidden while mounted.",
        default="false",
    ),
    Option(
        "attr_timeout",
        Kind.SECONDS,
        Group.METADATA,
        "How long names and attributes are believed before the bucket is asked again. Long for "
        "data that never changes, 0 to see every change made elsewhere at once.",
        default="60",
        high=YEAR_S,
    ),
    Option(
        "negative_timeout",
        Kind.SECONDS,
        Group.METADATA,
        "How long the kernel remembers that a name does not exist.",
        default="0",
        high=YEAR_S,
    ),
    Option(
        "prefetch_chunk_size",
        Kind.SIZE,
        Group.READING,
        "Unit of reading ahead, rounded up to a whole MiB; a file no larger is fetched whole at "
        "its first read. Where pages are pushed, a near store is asked for two units at once.",
        default="8M",
        low=MIB,
        high=128 * MIB,
    ),
    Option(
        "prefetch_concurrency",
        Kind.INTEGER,
        Group.READING,
        "Chunks of all files together that may be on the way at once; 0 turns reading ahead off.",
        default="256",
        high=4096,
    ),
    Option(
        "prefetch_concurrency_per_file",
        Kind.INTEGER,
        Group.READING,
        "Chunks of one file that may be on the way at once; never more than prefetch_concurrency.",
        default="64",
        low=1,
        high=4096,
    ),
    Option(
        "read_ahead_kb",
        Kind.INTEGER,
        Group.READING,
        "Kernel readahead of the mount in KiB, set after mounting where that is permitted (root). "
        "0 leaves the kernel's own; pages are then pushed into its cache ahead of the reader.",
        default="8192",
        low=0,
        high=131072,
    ),
    Option(
        "upload_buffer_size",
        Kind.SIZE,
        Group.WRITING,
        "Part size of uploads, rounded up to a whole MiB; a file no larger is one PutObject. It "
        "doubles every 2,000 parts, up to what total_mem_limit leaves for a part. Larger parts "
        "make fewer requests and take more memory.",
        default="8M",
        low=MIB,
        high=5 * GIB,
    ),
    Option(
        "upload_concurrency",
        Kind.INTEGER,
        Group.WRITING,
        "Parts of all files together that may be uploaded at once. S3-compatible servers nearby "
        "get slower by more than a few.",
        default_note="64; for S3 16",
        low=1,
        high=1024,
        names={
            Dialect.OSSFS1: ("parallel_count",),
            Dialect.JINDOFUSE: (
                "fs.oss.upload.thread.concurrency",
                "fs.oss.upload.async.concurrency",
            ),
        },
    ),
    Option(
        "upload_copy_concurrency",
        Kind.INTEGER,
        Group.WRITING,
        "Parts of all files together that the store may be copying at once: the unchanged ranges "
        "of files that are appended to or staged, and large files that are renamed.",
        default="64",
        low=1,
        high=1024,
    ),
    Option(
        "sync_upload",
        Kind.FLAG,
        Group.WRITING,
        "close() returns when the file is in the bucket, or fails. false lets it return while the "
        "upload goes on: for programs that close many small files in a row and can bear that a "
        "later failure is told by the log alone.",
        default="true",
    ),
    Option(
        "ignore_fsync",
        Kind.FLAG,
        Group.WRITING,
        "fsync() returns at once and uploads nothing, as in ossfs 2.0. For programs that call it "
        "often and need no more than what close() promises.",
        default="false",
    ),
    Option(
        "enable_appendable_object",
        Kind.FLAG,
        Group.WRITING,
        "Write new files with AppendObject: others can read them while they grow, and none can be "
        "larger than 5G. For logs. Not together with temp_dir.",
        default="false",
        names={Dialect.JINDOFUSE: ("fs.oss.append.enable",)},
    ),
    Option(
        "appendable_object_autoswitch_threshold",
        Kind.SIZE,
        Group.WRITING,
        "Objects of the normal kind up to this size are made appendable when a program appends to "
        "them; 0 leaves their kind as it is. Needs enable_appendable_object.",
        default="0",
        high=5 * GIB,
    ),
    Option(
        "flush_interval_ms",
        Kind.MILLISECONDS,
        Group.WRITING,
        "How often the new bytes of open files go into the bucket although no program asks for "
        "it, so that others see a log grow; best with enable_appendable_object. -1 is the same "
        "as 0.",
        default="0",
        low=100,
        high=3_600_000,
        zero="off",
        minus_one=True,
        names={Dialect.JINDOFUSE: ("fs.oss.flush.interval.millisecond",)},
    ),
    Option(
        "temp_dir",
        Kind.PATH,
        Group.WRITING,
        "Directory on a local disk that turns on staged mode: files are changed there in any "
        "order (databases, git, zip, truncate, mmap) and uploaded at fsync and close. Not inside "
        "the mount point, and not together with enable_appendable_object.",
        default_note="none: files are written from beginning to end",
    ),
    Option(
        "random_write_max_file_size",
        Kind.SIZE,
        Group.WRITING,
        "Largest file in staged mode; writing beyond it fails with EFBIG.",
        default="100G",
        low=MIB,
        high=48 * 1024 * GIB,
    ),
    Option(
        "temp_dir_free_bytes",
        Kind.SIZE,
        Group.WRITING,
        "Space left free on the file system of temp_dir; a write that would need it fails with "
        "ENOSPC. The larger of this and temp_dir_free_percent counts.",
        default="1G",
        low=64 * MIB,
        high=1024 * 1024 * GIB,
    ),
    Option(
        "temp_dir_free_percent",
        Kind.INTEGER,
        Group.WRITING,
        "The same as a share of that file system, in percent.",
        default="0",
        high=99,
    ),
    Option(
        "allow_rename_dir",
        Kind.FLAG,
        Group.NAMES,
        "Rename directories, which copies and deletes every object below them; false refuses it "
        "with ENOTSUP.",
        default="true",
    ),
    Option(
        "rename_dir_limit",
        Kind.INTEGER,
        Group.NAMES,
        "Entries a directory may have below it and still be renamed; one with more is refused "
        "before anything is copied.",
        default="2000000",
        low=1,
        high=2**31,
    ),
    Option(
        "rename_dir_concurrency",
        Kind.INTEGER,
        Group.NAMES,
        "Objects that may be copied at once while a directory is renamed.",
        default="128",
        low=1,
        high=1024,
    ),
    Option(
        "enable_symlink",
        Kind.FLAG,
        Group.NAMES,
        "Keep symbolic links as OSS symlink objects; their targets must be relative and stay "
        "inside of what is mounted. Without it making one fails with ENOTSUP.",
        default="false",
    ),
    Option(
        "preserve_mtime",
        Kind.FLAG,
        Group.NAMES,
        "Show the modification times that programs set (rsync -t, cp -p), read back from the "
        "user metadata; that costs a request for every file looked at. Without it such a time "
        "lasts only as long as the mount remembers the file.",
        default="false",
    ),
    Option(
        "enable_xattr",
        Kind.FLAG,
        Group.NAMES,
        "Show ETag, storage class, object type, CRC-64 and user metadata as extended attributes "
        "user.*. The kernel then asks for attributes at every write and every listed entry.",
        default="false",
    ),
    Option(
        "no_symlink",
        Kind.FLAG,
        Group.NAMES,
        "Turn symbolic links off, also where enable_symlink turns them on.",
        default="false",
    ),
    Option(
        "no_xattr",
        Kind.FLAG,
        Group.NAMES,
        "Turn extended attributes off, also where enable_xattr turns them on.",
        default="false",
    ),
    Option(
        "no_flock",
        Kind.FLAG,
        Group.NAMES,
        "Accepted because JindoFuse has it; changes nothing. Locks (flock, fcntl) are always "
        "local to the mount: other machines do not see them.",
        default="false",
    ),
    Option(
        "total_mem_limit",
        Kind.SIZE,
        Group.MEMORY,
        "Memory for all buffers and caches together. 0 takes half of the memory of the machine "
        "or of the cgroup, whichever is smaller, at least 128M and at most 8G.",
        default="0",
        low=128 * MIB,
        high=1024 * 1024 * GIB,
        zero="automatic",
    ),
    Option(
        "oss_request_timeout_ms",
        Kind.MILLISECONDS,
        Group.REQUESTS,
        "How long one request may take, retries included, before the operation fails.",
        default="60000",
        low=1000,
        high=900_000,
    ),
    Option(
        "log_dir",
        Kind.PATH,
        Group.LOGGING,
        "Directory of ossfs.log (eight files of 64 MiB, readable by the mounting user alone). "
        "Not inside the mount point. In the foreground the log goes to stderr instead.",
        default_note="/tmp/ossfs for root, /tmp/ossfs-UID for others",
    ),
    Option(
        "log_level",
        Kind.CHOICE,
        Group.LOGGING,
        "How much is logged.",
        default="info",
        choices=("info", "debug"),
    ),
)

BY_NAME: Mapping[str, Option] = {option.name: option for option in TABLE} | {
    alias: option for option in TABLE for names in option.names.values() for alias in names
}
"""Every accepted spelling, the dialects' included."""

_IGNORED = """
defaults auto noauto user nouser users nousers owner noowner group nogroup _netdev nofail
suid nosuid dev nodev norelatime relatime nostrictatime diratime nodiratime lazytime nolazytime
silent loud iversion noiversion nomand default_permissions
"""

IGNORED_WORDS = frozenset(_IGNORED.split())
"""mount(8)'s words that change nothing here: nosuid, nodev and default_permissions always hold."""

KERNEL_WORDS = frozenset({"noexec", "noatime", "sync", "dirsync"})
"""mount(8)'s words that are handed to the kernel as they are."""

OPPOSITES: Mapping[str, str] = {
    "exec": "noexec",
    "atime": "noatime",
    "strictatime": "noatime",
    "async": "sync",
}
"""Words that take back one for the kernel: of two that contradict each other the last counts."""
