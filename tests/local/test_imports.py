"""What of an archive is sent to a containerd that holds some of it."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

from penstock_local import oci
from penstock_local.imports import Part, lacking


def _names(archive: Path, parts: list[Part]) -> dict[str, int]:
    """The files of the tar that these parts make, with their sizes."""
    content = archive.read_bytes()
    joined = b"".join(content[part.start : part.start + part.length] for part in parts) + bytes(1024)
    with tarfile.open(fileobj=io.BytesIO(joined)) as tar:
        return {member.name: member.size for member in tar}


def _image(folder: Path) -> Path:
    (folder / "root").mkdir()
    (folder / "root" / "file").write_text("content" * 1000)
    oci.write_image(folder / "image.tar", "localhost/image:1", folder / "root", ["/file"])
    return folder / "image.tar"


def test_what_is_held_is_left_out_and_the_rest_is_a_tar_itself(tmp_path: Path) -> None:
    archive = _image(tmp_path)
    everything = _names(archive, lacking(archive, ()))
    for left_out in everything:
        if left_out.startswith("blobs/"):
            held = {f"sha256:{left_out.rpartition('/')[2]}", "sha256:of-another-image"}
            assert _names(archive, lacking(archive, held)) == {k: v for k, v in everything.items() if k != left_out}


def test_an_archive_of_which_nothing_is_held_is_sent_as_it_is(tmp_path: Path) -> None:
    archive = _image(tmp_path)
    assert lacking(archive, {"sha256:of-another-image"}) == [Part(0, archive.stat().st_size)]


def test_an_archive_in_dockers_older_format_is_sent_as_it_is(tmp_path: Path) -> None:
    archive = tmp_path / "docker.tar"
    with tarfile.open(archive, "w") as tar:
        for name, content in {"blobs/sha256/abc": "layer", "manifest.json": json.dumps([{"Config": "abc.json"}])}.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content.encode()))
    assert lacking(archive, {"sha256:abc"}) == [Part(0, archive.stat().st_size)]


def test_what_is_no_plain_tar_is_left_to_containerd_to_refuse(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_text("no tar")
    assert lacking(tmp_path / "x.tar", ()) == [Part(0, 6)]
