"""The installer's limits, as tables: file systems, RAID levels, reserved names and paths.

Sources: blivet's `formats/` (sizes, labels) and `devicelibs/raid.py`; libblockdev's `fs` plugin (`check_label`);
Anaconda's `data/anaconda.conf`, [Storage Constraints], and `core/users.py`; mount(8), ext4(5), xfs(5) (options).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

TIB: Final = 1024 * 1024
"""A TiB in MiB, the unit of kickstarts."""


@dataclass(frozen=True, slots=True)
class FormatLimits:
    """The limits of a file system: sizes in MiB (a `max_mib` of 0 is no limit), and the longest label in bytes.

    `linux`: it has owners and permissions. `boot`: GRUB 2 can read /boot from it. `options` is a pattern for the
    names of its mount options other than those of mount(8).
    """

    min_mib: float
    max_mib: float
    label_bytes: int
    linux: bool = False
    boot: bool = False
    options: str = ""


_EXT: Final = (
    r"acl|noacl|bsddf|minixdf|check|debug|errors|grpid|bsdgroups|nogrpid|sysvgroups|resgid|resuid|sb|nouid32|oldalloc"
    r"|orlov|user_xattr|nouser_xattr|journal_\w+|data|data_err|barrier|nobarrier|commit|norecovery|noload|discard"
    r"|nodiscard|quota|noquota|usrquota|grpquota|prjquota|usrjquota|grpjquota|jqfmt|delalloc|nodelalloc|stripe"
    r"|(no)?auto_da_alloc|(no)?init_itable|(no)?dioread_(no)?lock|dioread_lock|(no)?block_validity|max_batch_time"
    r"|min_batch_time|inode_readahead_blks|abort|dax|(no)?prefetch_block_bitmaps|no_prefetch_block_bitmaps"
    r"|max_dir_size_kb|i_version|mb_optimize_scan|test_dummy_encryption|inlinecrypt|nombcache|no_mbcache"
)
_XFS: Final = (
    r"allocsize|attr2|noattr2|dax|discard|nodiscard|grpid|bsdgroups|nogrpid|sysvgroups|filestreams|ikeep|noikeep"
    r"|inode32|inode64|largeio|nolargeio|logbufs|logbsize|logdev|rtdev|noalign|norecovery|nouuid|noquota|uquota"
    r"|usrquota|quota|uqnoenforce|qnoenforce|gquota|grpquota|gqnoenforce|pquota|prjquota|pqnoenforce|sunit|swidth"
    r"|swalloc|wsync|lifetime"
)
_FAT: Final = (
    r"uid|gid|umask|dmask|fmask|allow_utime|check|codepage|cvf_format|cvf_option|conv|debug|discard|dos1xfloppy"
    r"|errors|fat|iocharset|nfs|tz|time_offset|quiet|rodir|showexec|sys_immutable|usefree|dots|nodots|dotsOK"
    r"|uni_xlate|posix|nonumtail|utf8|shortname"
)
FORMATS: Final = {
    "ext2": FormatLimits(2, 8 * TIB, 16, True, True, _EXT),
    "ext3": FormatLimits(2, 16 * TIB, 16, True, True, _EXT),
    "ext4": FormatLimits(2, 1024 * 1024 * TIB, 16, True, True, _EXT),
    "xfs": FormatLimits(300, 16 * 1024 * 1024 * TIB, 12, True, True, _XFS),
    "vfat": FormatLimits(2, TIB, 11, options=_FAT),
    "efi": FormatLimits(32, TIB, 11, options=_FAT),
    "swap": FormatLimits(1, 16 * TIB, 16, options="pri|discard|sw"),
    "biosboot": FormatLimits(0.5, 2, 0),
    "prepboot": FormatLimits(4, 10, 0),
    "lvmpv": FormatLimits(8, 0, 0),
    "tmpfs": FormatLimits(
        0, 16 * TIB, 0, True, options="size|nr_blocks|nr_inodes|mode|gid|uid|huge|mpol|noswap|inode32|inode64"
    ),
    "btrfs": FormatLimits(256, 16 * 1024 * 1024 * TIB, 255, True, options=r"\w+"),
}
"""The limits by the argument of `--fstype`. XFS: xfsprogs 5.19 and later refuse less than 300 MiB."""
TOLERATED_MIB: Final = {("RHEL9", "xfs"): 16.0}
"""Sizes below `min_mib` that a version still accepts, by the names of the version and the file system. RHEL 9's
xfsprogs 5.19.0-1 has the change "Tolerate tiny (<300MB) filesystems" (rhbz#2142910); its blivet has an
`XFS._min_size` of 16 MiB."""

GENERAL_OPTIONS: Final = re.compile(
    r"defaults|(no)?(auto|dev|exec|suid|user|users|atime|diratime|relatime|strictatime|iversion|mand|lazytime"
    r"|symfollow|fail|owner|group)|_netdev|async|sync|dirsync|remount|rw|ro|silent|loud|bind|rbind|errors"
    r"|(fs|def|root)?context|comment|[xX][-.].+"
)
"""The mount options of all file systems: mount(8), systemd.mount(5)."""

RAID_MEMBERS: Final = {"RAID0": 2, "RAID1": 2, "RAID4": 3, "RAID5": 3, "RAID6": 4, "RAID10": 4}
ON_ROOT: Final = ("/bin", "/dev", "/sbin", "/etc", "/lib", "/root", "/mnt", "/proc", "/lib64", "/run", "/sys")
"""Directories that must be on the root file system: Anaconda's must_be_on_root, and those that the kernel, systemd
and the package filesystem create there."""
ON_LINUX: Final = ("/", "/var", "/tmp", "/usr", "/home", "/usr/share", "/usr/lib")  # noqa: S108
"""Directories that must be on a Linux file system: Anaconda's must_be_on_linuxfs."""

RESERVED_USERS: Final = (
    *(
        "root",
        "bin",
        "daemon",
        "adm",
        "lp",
        "sync",
        "shutdown",
        "halt",
        "mail",
        "operator",
        "games",
        "ftp",
        "nobody",
    ),
    *(
        "home",
        "system",
        "boot",
        "dev",
        "etc",
        "lib",
        "lib64",
        "media",
        "mnt",
        "opt",
        "proc",
        "run",
        "sbin",
        "srv",
    ),
    *("sys", "tmp", "usr", "var"),
)
"""Names that Anaconda's `check_username` refuses: accounts of the package setup, and the folders of /."""
ACCOUNT_NAME: Final = re.compile(r"[a-zA-Z0-9._][a-zA-Z0-9._-]{0,30}([a-zA-Z0-9._-]|\$)?", re.ASCII)
HOST_NAME: Final = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9-]{1,63}(?<!-))*\.?", re.ASCII)
HOST_NAME_MAX: Final = 64
VOLUME_NAME: Final = re.compile(r"(?!-)[A-Za-z0-9+_.-]{1,127}", re.ASCII)
VOLUME_NAME_RESERVED: Final = re.compile(
    r"\.{1,2}|(pvmove|snapshot).*"
    r"|.*_(cdata|cmeta|mimage|mlog|pmspare|rimage|rmeta|tdata|tmeta|vorigin).*"
)
DEVICE_NAME: Final = re.compile(
    r"(sd|vd|hd|xvd)[a-z]+\d*|nvme\d+(n\d+(p\d+)?)?|(dm-|loop|md|ram|sg|sr|tty|zram)\d*|bsg|block|bus|char|console"
    r"|core|cpu|disk|dri|fd|full|fuse|hugepages|hwrng|input|kmsg|kvm|log|mapper|mem|mqueue|net|null|port|ptmx|pts|random"
    r"|rtc\d*|shm|snd|std(in|out|err)|urandom|usb|vfio|watchdog\d*|zero"
)
"""Names in /dev, where a volume group has its own folder."""
EXTENT_MIB: Final = 4
"""The default size of LVM's extents."""
SHELL_VARIABLE: Final = re.compile(r"\$([A-Za-z_]\w*|\{[A-Za-z_]\w*\})")
"""A shell variable, which a %pre script replaces."""
