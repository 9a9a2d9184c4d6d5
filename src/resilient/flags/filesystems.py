"""The kind of file system that holds a file."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

# File systems on which two hosts, or two clients of one server, do not share locks and memory.
NETWORK: Final = frozenset(
    (
        "nfs", "nfs4", "cifs", "smb", "smb3", "smbfs", "afs", "ceph", "glusterfs", "lustre", "gpfs",
        "beegfs", "ocfs2", "gfs2", "davfs", "fuse.sshfs", "fuse.glusterfs", "fuse.s3fs",
        "fuse.ceph", "fuse.rclone",
    )
)  # fmt: skip

_ESCAPED: Final = re.compile(r"\\([0-7]{3})")  # a space, a tab, a line break, a backslash


def network_file_system(directory: Path) -> str:
    """Return the kind of network file system that a directory is on, "" for any other."""
    kind = _file_system(directory)
    return kind if kind in NETWORK else ""


def _file_system(directory: Path) -> str:
    while not os.path.exists(directory) and directory != directory.parent:
        directory = directory.parent
    try:
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    real, best, kind = os.path.realpath(directory), "", ""
    for line in lines.splitlines():
        left, _, right = line.partition(" - ")
        mount = _ESCAPED.sub(lambda found: chr(int(found[1], 8)), left.split(" ")[4])
        inside = real == mount or real.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(best):
            best, kind = mount, right.split(" ")[0]
    return kind
