"""The options of `ossfs mount` that do something: one row each.

Names are ossfs 2.0's where it has the option. Defaults are written as a user would type them and go
through the same reader. The table is a constant; nothing changes it at run time.
"""

from __future__ import annotations

from ossfs.config.option import LARGEST_ID, YEAR_S, Dialect, Group, Option, Stability
from ossfs.config.values import GIB, MIB, Kind

ROWS: tuple[Option, ...] = (
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
        "anonymous",
        Kind.FLAG,
        Group.CREDENTIALS,
        "Sign no request, for buckets that anybody may read. Not together with keys.",
        default="false",
        names={Dialect.OSSFS1: ("public_bucket",)},
    ),
    Option(
        "oss_session_token",
        Kind.TEXT,
        Group.CREDENTIALS,
        "Security token of temporary keys that are given as options; they are not renewed then.",
        default_note="OSS_SESSION_TOKEN, with keys from the environment",
        names={Dialect.JINDOFUSE: ("fs.oss.securityToken",)},
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
        "credential_refresh_interval",
        Kind.SECONDS,
        Group.CREDENTIALS,
        "Fetch new keys at least this often, whatever expiration is told. Keys given as options or "
        "in the environment stay as they are.",
        default="0",
        low=1,
        high=86400,
        zero="when they are about to expire",
        stability=Stability.EXPERIMENTAL,
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
        names={Dialect.JINDOFUSE: ("ro_mount",)},
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
        names={
            Dialect.OSSFS1: ("stat_cache_expire",),
            Dialect.JINDOFUSE: ("jindo_attr_timeout", "jindo_entry_timeout"),
        },
    ),
    Option(
        "fuse_attr_timeout",
        Kind.SECONDS,
        Group.METADATA,
        "How long the kernel believes attributes without asking this process. -1 gives it what is "
        "left of attr_timeout, so that the two never add up.",
        default="-1",
        high=YEAR_S,
        minus_one="as attr_timeout",
        stability=Stability.EXPERIMENTAL,
    ),
    Option(
        "fuse_entry_timeout",
        Kind.SECONDS,
        Group.METADATA,
        "The same for names.",
        default="-1",
        high=YEAR_S,
        minus_one="as attr_timeout",
        names={Dialect.JINDOFUSE: ("entry_timeout",)},
        stability=Stability.EXPERIMENTAL,
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
        "oss_negative_cache_timeout",
        Kind.SECONDS,
        Group.METADATA,
        "How long this process remembers that a name does not exist; for programs that probe for "
        "many (Python imports). Forgotten when the name is made here or seen in a listing.",
        default="0",
        high=YEAR_S,
    ),
    Option(
        "oss_negative_cache_size",
        Kind.INTEGER,
        Group.METADATA,
        "Missing names remembered at most; some 200 bytes each.",
        default="10000",
        low=1,
        high=10_000_000,
    ),
    Option(
        "close_to_open",
        Kind.FLAG,
        Group.METADATA,
        "Ask the bucket at every open: what another machine has closed is what is opened here. "
        "Costs a HEAD an open; close() always waits for the upload then.",
        default="false",
    ),
    Option(
        "readdirplus",
        Kind.FLAG,
        Group.METADATA,
        "Give the kernel the attributes of all that is listed. false keeps neither kernel nor this "
        "process an inode for a name that is only listed: less memory with very many files, and a "
        "request for each that is looked at afterwards.",
        default="true",
    ),
    Option(
        "inode_cache_eviction_threshold",
        Kind.INTEGER,
        Group.METADATA,
        "Inodes above which the kernel is asked to forget the surplus: files that nobody has open, "
        "and that nothing is mounted on. Directories stay.",
        default="0",
        high=2**31,
        zero="never",
    ),
    Option(
        "inode_cache_eviction_interval_ms",
        Kind.MILLISECONDS,
        Group.METADATA,
        "How often that is looked at.",
        default="30000",
        low=10,
        high=3_600_000,
    ),
    Option(
        "max_inode_cache_count",
        Kind.INTEGER,
        Group.METADATA,
        "Names that the kernel has forgotten, or that were only listed with readdirplus=false, and "
        "that are kept here until attr_timeout is over: looking at them again costs no request. "
        "Some 450 bytes each.",
        default="0",
        high=2**31,
        zero="none",
    ),
    Option(
        "kernel_readdir_cache_timeout",
        Kind.SECONDS,
        Group.METADATA,
        "How long a listing may be shown again without asking the bucket. Kept by this process, "
        "not by the kernel; a change made here ends it at once.",
        default="0",
        high=YEAR_S,
    ),
    Option(
        "auto_cache",
        Kind.FLAG,
        Group.METADATA,
        "Keep the kernel's pages of a file at open while its object is the same version; false "
        "drops them at every open.",
        default="true",
    ),
    Option(
        "kernel_cache",
        Kind.FLAG,
        Group.METADATA,
        "Keep them also where auto_cache is false. A changed object has other pages in any case.",
        default="false",
    ),
    Option(
        "max_list_ret_count",
        Kind.INTEGER,
        Group.METADATA,
        "Names asked for in one listing request.",
        default="1000",
        low=100,
        high=1000,
        stability=Stability.EXPERIMENTAL,
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
        names={Dialect.JINDOFUSE: ("fs.oss.read.readahead.buffer.size",)},
    ),
    Option(
        "prefetch_concurrency",
        Kind.INTEGER,
        Group.READING,
        "Chunks of all files together that may be on the way at once; 0 turns reading ahead off.",
        default="256",
        high=4096,
        names={
            Dialect.JINDOFUSE: (
                "fs.oss.download.thread.concurrency",
                "fs.oss.download.async.concurrency",
            )
        },
    ),
    Option(
        "prefetch_concurrency_per_file",
        Kind.INTEGER,
        Group.READING,
        "Chunks of one file that may be on the way at once; never more than prefetch_concurrency.",
        default="64",
        low=1,
        high=4096,
        names={
            Dialect.JINDOFUSE: (
                "fs.oss.read.readahead.buffer.count",
                "fs.oss.read.readahead.max.buffer.count",
            )
        },
    ),
    Option(
        "pread",
        Kind.FLAG,
        Group.READING,
        "Read nothing ahead, for programs that read at random; the same as prefetch_concurrency=0.",
        default="false",
    ),
    Option(
        "direct_io",
        Kind.FLAG,
        Group.READING,
        "Keep nothing in the kernel's page cache: every read comes here. Files cannot be mapped "
        "shared (mmap) then.",
        default="false",
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
        "memory_data_cache_size",
        Kind.SIZE,
        Group.CACHING,
        "Memory for what has been read of open files, kept for all handles of a file until the "
        "last is closed; out of total_mem_limit. For several processes that load one model, above "
        "all with direct_io: each byte is fetched once.",
        default="0",
        low=MIB,
        high=1024 * 1024 * GIB,
        zero="off: the kernel's page cache keeps what was read",
    ),
    Option(
        "disk_data_cache_dir",
        Kind.PATH,
        Group.CACHING,
        "Directory on a local disk for what has been read, which is found there again after a "
        "restart; the mount has it for itself. With disk_data_cache_size.",
        default_note="none: nothing is kept on disk",
    ),
    Option(
        "disk_data_cache_size",
        Kind.SIZE,
        Group.CACHING,
        "How much may lie in disk_data_cache_dir; what was used longest ago goes first.",
        default="0",
        low=64 * MIB,
        high=1024 * 1024 * GIB,
        zero="off",
    ),
    Option(
        "disk_available_space",
        Kind.SIZE,
        Group.CACHING,
        "Space that the disk cache leaves free on its file system, whatever its size.",
        default="1G",
        high=1024 * 1024 * GIB,
    ),
    Option(
        "disk_data_cache_max_file_size",
        Kind.SIZE,
        Group.CACHING,
        "Larger files are not kept on disk.",
        default="-1",
        high=1024 * 1024 * GIB,
        minus_one="no limit",
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
        names={
            Dialect.OSSFS1: ("multipart_size",),
            Dialect.JINDOFUSE: ("fs.oss.blocklet.size.mb",),
        },
    ),
    Option(
        "upload_concurrency",
        Kind.INTEGER,
        Group.WRITING,
        "Parts of all files together that may be uploaded at once. It starts with 64M of them, and "
        "becomes more while that makes waiting writers faster, as at a distance it does.",
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
        minus_one="off",
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
        "total_mem_limit",
        Kind.SIZE,
        Group.MEMORY,
        "Memory for all buffers and caches together. 0 takes half of the memory of the machine "
        "or of the cgroup, whichever is smaller, at least 128M and at most 8G.",
        default="0",
        low=128 * MIB,
        high=1024 * 1024 * GIB,
        zero="automatic",
        names={
            Dialect.JINDOFUSE: (
                "fs.oss.memory.pool.size.max.mb",
                "fs.oss.memory.buffer.size.max.mb",
            )
        },
    ),
    Option(
        "oss_request_timeout_ms",
        Kind.MILLISECONDS,
        Group.REQUESTS,
        "How long one request may take, retries included, before the operation fails.",
        default="60000",
        low=1000,
        high=900_000,
        names={Dialect.JINDOFUSE: ("fs.oss.timeout.millisecond",)},
    ),
    Option(
        "connect_timeout_ms",
        Kind.MILLISECONDS,
        Group.REQUESTS,
        "How long connecting may take; never more than a third of oss_request_timeout_ms.",
        default="3000",
        low=100,
        high=900_000,
        names={
            Dialect.OSSFS1: ("connect_timeout",),
            Dialect.JINDOFUSE: ("fs.oss.connection.timeout.millisecond",),
        },
    ),
    Option(
        "io_timeout_ms",
        Kind.MILLISECONDS,
        Group.REQUESTS,
        "How long the store may be silent before the connection is given up; never more than a "
        "third of oss_request_timeout_ms.",
        default="20000",
        low=100,
        high=900_000,
        names={
            Dialect.OSSFS1: ("readwrite_timeout",),
            Dialect.JINDOFUSE: ("fs.oss.io.timeout.millisecond",),
        },
    ),
    Option(
        "retry_count",
        Kind.INTEGER,
        Group.REQUESTS,
        "How often a request that failed for the moment is sent again, if its time permits.",
        default="4",
        high=100,
        names={Dialect.OSSFS1: ("retries",), Dialect.JINDOFUSE: ("fs.oss.retry.count",)},
    ),
    Option(
        "retry_interval_ms",
        Kind.MILLISECONDS,
        Group.REQUESTS,
        "Upper bound of the wait before the first repetition; it doubles with each, up to 10 s, "
        "and chance decides below it.",
        default="200",
        low=1,
        high=60_000,
        names={Dialect.JINDOFUSE: ("fs.oss.retry.interval.millisecond",)},
    ),
    Option(
        "http_proxy",
        Kind.PROXY,
        Group.REQUESTS,
        "HTTP proxy for all requests to the store; https goes through it by CONNECT. Its password "
        "is a secret: better in the environment than on the command line.",
        environment="OSSFS_PROXY",
    ),
    Option(
        "bind_ips",
        Kind.ADDRESSES,
        Group.REQUESTS,
        "Local addresses that connections to the store start from, in turn.",
    ),
    Option(
        "enable_ipv6",
        Kind.FLAG,
        Group.REQUESTS,
        "false resolves the endpoint and the proxy to IPv4 addresses only.",
        default="true",
    ),
    Option(
        "log_dir",
        Kind.LOG,
        Group.LOGGING,
        "Directory of ossfs.log, readable by the mounting user alone. Not inside the mount point. "
        "syslog sends the log there. In the foreground it goes to stderr instead, with /dev/stdout "
        "to standard output.",
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
    Option(
        "log_file_max_size",
        Kind.SIZE,
        Group.LOGGING,
        "Size at which the log file is put aside and a new one begun.",
        default="64M",
        low=64 * 1024,
        high=1024 * GIB,
    ),
    Option(
        "log_file_max_count",
        Kind.INTEGER,
        Group.LOGGING,
        "Log files kept, the current one included.",
        default="8",
        low=1,
        high=1000,
    ),
    Option(
        "fuse_device_fd",
        Kind.INTEGER,
        Group.PROCESS,
        "Serve the mount of a descriptor of /dev/fuse that was inherited; whoever has mounted it "
        "(a container's runtime, CSI) also unmounts it. For processes without the right to mount.",
        default="-1",
        low=3,
        high=1_048_576,
        minus_one="mount",
    ),
    Option(
        "f",
        Kind.FLAG,
        Group.PROCESS,
        "Serve in the foreground, as -f.",
        default="false",
        names={Dialect.OSSFS1: ("foreground",)},
    ),
    Option(
        "d",
        Kind.FLAG,
        Group.PROCESS,
        "Serve in the foreground and log more, as -d.",
        default="false",
        names={Dialect.OSSFS1: ("debug",)},
    ),
)
