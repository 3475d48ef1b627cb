"""Images on nodes: imported once, shared by new nodes, not imported again."""

from __future__ import annotations

from pathlib import Path

import pytest

from penstock_local import oci
from penstock_local.cluster import Cluster
from penstock_local.errors import LocalError
from penstock_local.seeds import Archive

pytestmark = pytest.mark.e2e


def _archive(folder: Path, content: str) -> Archive:
    root = folder / content
    root.mkdir()
    (root / "file").write_text(content)
    target = folder / f"{content}.tar"
    oci.write_image(target, "localhost/penstock-extra:1", root, ["/file"])
    return Archive.of(target)


def test_an_image_is_on_every_node_and_the_same_digest_is_not_imported_again(cluster: Cluster, tmp_path: Path) -> None:
    archive = _archive(tmp_path, "one")
    cluster.load_image("extra", archive)
    for node in cluster.nodes():
        assert "localhost/penstock-extra:1" in node.images()
    archive.path.unlink()
    cluster.load_image("extra", archive)  # would fail if it read the archive


def test_a_changed_image_replaces_the_one_of_the_same_name(cluster: Cluster, tmp_path: Path) -> None:
    cluster.load_image("extra", _archive(tmp_path, "two"))
    changed = _archive(tmp_path, "three")
    cluster.load_image("extra", changed)
    for node in cluster.nodes():
        listed = node.machine.run([*node.ctr(), "images", "list", "name==localhost/penstock-extra:1"])
        assert changed.digest in listed


def test_a_file_that_is_no_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no tar")
    with pytest.raises(LocalError, match="no image archive"):
        Archive.of(tmp_path / "text")
