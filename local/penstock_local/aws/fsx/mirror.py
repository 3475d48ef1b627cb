"""A folder and a prefix of a bucket that follow each other: which files and objects changed since they were last equal.

FSx for Lustre User Guide, "Importing changes from your data repository", "Exporting changes to the data repository", "POSIX
metadata support for data repositories". Here an import copies the bytes, where Lustre makes a stub and fetches them at the
first read. Links and names that are no path (a//b, ../c) are left out, and empty folders are not exported. Mode and owner
travel as the object metadata that FSx writes, those of a folder with the object that ends in a slash; the owner is restored
when this process is root.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from uuid import uuid4

from penstock_local.aws import buckets

_FILE_MODE = 0o755  # of an object without metadata, as the guide says
_AGENT = "aws-fsx-lustre"


class Stamp(NamedTuple):
    """What tells one state of a file from another."""

    modified: int
    size: int
    inode: int


class Synced(NamedTuple):
    """A file as it was when it equalled its object, and that object's ETag."""

    stamp: Stamp
    etag: str


@dataclass
class Mirror:
    """`synced`: the files that equalled their object once; `seen`: the objects of the last look, by ETag."""

    account: str
    bucket: str
    prefix: str  # "" or ending in /
    folder: Path
    incoming: Path  # on the same disk: files are written here and renamed, so nobody reads half of one
    synced: dict[str, Synced] = field(default_factory=dict)
    seen: dict[str, str] = field(default_factory=dict)
    folders: dict[str, str] = field(default_factory=dict)  # the folder objects that were applied, by ETag
    last_scan: dict[str, Stamp] = field(default_factory=dict)
    polled: float = 0.0  # when, on the monotonic clock
    scanned: float = 0.0

    def objects(self) -> dict[str, str]:
        """Paths and ETags of the bucket's objects that can be files."""
        found = buckets.listing(self.account, self.bucket, self.prefix)
        paths = ((key[len(self.prefix) :], etag) for key, etag in found.items())
        return {path: etag for path, etag in paths if _is_path(path)}

    def files(self) -> dict[str, Stamp]:
        return dict(_walk(self.folder))

    def look(self) -> None:
        """Take the objects that are there as known, without importing them."""
        self.seen = self.objects()

    def import_changes(self, events: Collection[str], chosen: Callable[[str], bool] = lambda _: True) -> None:
        """Bring new, changed and deleted objects into the folder, as far as `events` says."""
        self._import_folders()
        objects = self.objects()
        for path, etag in objects.items():
            event = "CHANGED" if path in self.seen else "NEW"
            if self.seen.get(path) != etag and event in events and chosen(path):
                self.import_one(path)
        for path in [path for path in self.seen if path not in objects]:
            if "DELETED" in events and chosen(path):
                with suppress(OSError):
                    (self.folder / path).unlink()
                self.synced.pop(path, None)
        self.seen = objects

    def _import_folders(self) -> None:
        """Objects that end in a slash, the prefix itself among them, are folders with a mode and an owner."""
        for key, etag in buckets.listing(self.account, self.bucket, self.prefix).items():
            path = key[len(self.prefix) :].removesuffix("/")
            if not key.endswith("/") or self.folders.get(path) == etag or (path and not _is_path(path)):
                continue
            found = buckets.read(self.account, self.bucket, key)
            if found is not None:
                with suppress(OSError):  # a file where a folder should be
                    (self.folder / path).mkdir(parents=True, exist_ok=True)
                    _apply(self.folder / path, found.metadata)
                    self.folders[path] = etag

    def import_one(self, path: str) -> str:
        """Write one object into its file. The error code of a task's report, empty when it went well."""
        found = buckets.read(self.account, self.bucket, self.prefix + path)
        if found is None:
            return "PathNotFound"
        target, fresh = self.folder / path, self.incoming / uuid4().hex
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            fresh.parent.mkdir(parents=True, exist_ok=True)
            fresh.write_bytes(found.body)
            _apply(fresh, found.metadata)
            fresh.replace(target)
        except OSError:  # a folder where a file should be, or the other way round
            fresh.unlink(missing_ok=True)
            return "InternalError"
        self.synced[path] = Synced(_stamp(target.lstat()), found.etag)
        self.seen[path] = found.etag
        return ""

    def export_changes(self, events: Collection[str]) -> None:
        """Bring written and removed files into the bucket, as far as `events` says. A file counts as written when two scans
        find it the same."""
        if buckets.region(self.account, self.bucket) is None:
            return
        files = self.files()
        for path, stamp in files.items():
            event = "CHANGED" if path in self.synced else "NEW"
            if self._differs(path, stamp) and self.last_scan.get(path) == stamp and event in events:
                self.export_one(path)
        for path in [path for path in self.synced if path not in files]:
            if "DELETED" in events:
                buckets.delete(self.account, self.bucket, self.prefix + path)
                self.seen.pop(path, None)
            del self.synced[path]
        self.last_scan = files

    def changed(self) -> list[str]:
        """The files that differ from what was imported or exported last."""
        return sorted(path for path, stamp in self.files().items() if self._differs(path, stamp))

    def stale(self) -> list[str]:
        """The objects that are not in the folder as they are in the bucket now."""
        objects = self.objects()
        return sorted(path for path, etag in objects.items() if path not in self.synced or self.synced[path].etag != etag)

    def _differs(self, path: str, stamp: Stamp) -> bool:
        return path not in self.synced or self.synced[path].stamp != stamp

    def export_one(self, path: str) -> str:
        """Write one file into its object. The error code of a task's report, empty when it went well."""
        source = self.folder / path
        try:
            status = source.lstat()
            body = source.read_bytes()
        except OSError:
            return "PathNotFound"
        if buckets.region(self.account, self.bucket) is None:
            return "S3Error"
        self.seen[path] = buckets.write(self.account, self.bucket, self.prefix + path, body, _metadata(status))
        self.synced[path] = Synced(_stamp(status), self.seen[path])
        return ""

    def clear(self) -> None:
        """Remove the folder's contents."""
        with suppress(FileNotFoundError):
            for each in self.folder.iterdir():
                shutil.rmtree(each) if each.is_dir() and not each.is_symlink() else each.unlink()


def _walk(root: Path, below: str = "") -> Iterator[tuple[str, Stamp]]:
    try:
        entries = list(os.scandir(root / below))
    except OSError:  # removed meanwhile, or not there yet
        return
    for entry in entries:
        path = f"{below}/{entry.name}" if below else entry.name
        with suppress(OSError):
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(root, path)
            elif entry.is_file(follow_symlinks=False):
                yield path, _stamp(entry.stat(follow_symlinks=False))


def _stamp(status: os.stat_result) -> Stamp:
    return Stamp(status.st_mtime_ns, status.st_size, status.st_ino)


def _is_path(text: str) -> bool:
    parts = text.split("/")
    return bool(text) and "\0" not in text and ".." not in parts and str(PurePosixPath(text)) == text and parts[0] != ""


def _metadata(status: os.stat_result) -> dict[str, str]:
    return {
        "file-permissions": f"{status.st_mode:07o}",
        "file-owner": str(status.st_uid),
        "file-group": str(status.st_gid),
        "file-atime": f"{status.st_atime_ns}ns",
        "file-mtime": f"{status.st_mtime_ns}ns",
        "user-agent": _AGENT,
    }


def _apply(path: Path, metadata: dict[str, str]) -> None:
    try:
        mode = stat.S_IMODE(int(metadata["file-permissions"], 8))
        owner, group = int(metadata["file-owner"]), int(metadata["file-group"])
    except (KeyError, ValueError):
        path.chmod(_FILE_MODE)
        return
    path.chmod(mode)
    if os.geteuid() == 0:
        os.chown(path, owner, group)
