"""Import of an image archive into a containerd: only the layers that it lacks are read and sent.

`ctr images import` writes and hashes the whole archive before it sees what is there: 3 GB for each node, although the project's
images share all but a few MB of that. What it leaves out of its own accord is only the unpacking.
"""

from __future__ import annotations

import os
import re
import subprocess
import tarfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from penstock_local.errors import LocalError

_BLOBS = "blobs/sha256/"
_PIPE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Part:
    """`length` bytes of an archive from `start` on."""

    start: int
    length: int


def import_archive(ctr: Sequence[str], archive: Path) -> None:
    """Import into the containerd that this command line asks.

    Raises:
        LocalError: with containerd's words.
    """
    size = archive.stat().st_size
    parts = lacking(archive, set(_run([*ctr, "content", "list", "--quiet"]).split()))
    if parts != [Part(0, size)] and _is_whole_after(ctr, archive, parts):
        return
    _send(ctr, archive, [Part(0, size)])


def lacking(archive: Path, held: Collection[str]) -> list[Part]:
    """What of the archive is not among these digests, as parts that make a tar themselves.

    All of it when it has no index of the OCI: Docker's older format names layers by their place in the archive.
    """
    try:
        with tarfile.open(archive, "r:") as tar:
            members = tar.getmembers()
    except tarfile.ReadError:
        members = []  # what containerd says of it is said better
    if not {"oci-layout", "index.json"} <= {member.name for member in members}:
        return [Part(0, archive.stat().st_size)]
    ends = [*(member.offset for member in members[1:]), archive.stat().st_size]
    parts: list[Part] = []
    for member, end in zip(members, ends, strict=True):
        if member.name.startswith(_BLOBS) and f"sha256:{member.name.removeprefix(_BLOBS)}" in held:
            continue
        if parts and parts[-1].start + parts[-1].length == member.offset:
            parts[-1] = Part(parts[-1].start, end - parts[-1].start)
        else:
            parts.append(Part(member.offset, end - member.offset))
    return parts


def _is_whole_after(ctr: Sequence[str], archive: Path, parts: Sequence[Part]) -> bool:
    """Import these parts; False when something is missing then: containerd may collect a layer after it was listed."""
    try:
        said = _send(ctr, archive, parts)
    except LocalError:
        return False
    imported = re.findall(r"^unpacking (\S+) \(", said, re.MULTILINE)
    return bool(imported) and set(imported) <= set(_run([*ctr, "images", "check", "--quiet"]).split())


def _send(ctr: Sequence[str], archive: Path, parts: Sequence[Part]) -> str:
    # By way of standard input: the archive may lie under /var/lib or /run, which a node has of its own.
    command = [*ctr, "images", "import", "-"]
    pipe = subprocess.PIPE
    with (
        archive.open("rb") as content,
        subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, pipesize=_PIPE_BYTES) as process,
    ):
        assert process.stdin is not None
        try:
            for part in parts:
                start, left = part.start, part.length
                while left and (sent := os.sendfile(process.stdin.fileno(), content.fileno(), start, left)):
                    start, left = start + sent, left - sent
            # Whatever the last part ended with, a tar ends with two empty blocks.
            process.stdin.write(bytes(1024))
        except BrokenPipeError:
            pass  # it has ended, and says why
        output, words = process.communicate()
    if process.returncode != 0:
        raise LocalError(f"{archive} cannot be imported: {words.decode(errors='replace').strip()}")
    return output.decode(errors="replace")


def _run(command: Sequence[str]) -> str:
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        raise LocalError(f"{' '.join(command)}: {result.stderr.strip()}")
    return result.stdout
