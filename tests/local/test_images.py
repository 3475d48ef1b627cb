"""Images on nodes: imported once, shared by new nodes, not imported again."""

from __future__ import annotations

from pathlib import Path

import pytest

from penstock_local import oci, seeds
from penstock_local.cluster import Cluster, Config
from penstock_local.errors import LocalError
from penstock_local.seeds import Archive
from penstock_local.steps import Steps

pytestmark = pytest.mark.e2e


EXTRA = "localhost/penstock-extra:1"


def _archive(folder: Path, content: str, *, name: str = EXTRA, entrypoint: str = "/file") -> Archive:
    root = folder / content
    root.mkdir(exist_ok=True)
    (root / "file").write_text(content)
    target = folder / f"{content}-{name.replace('/', '-')}.tar"
    oci.write_image(target, name, root, [entrypoint])
    return Archive.of(target)


def _blank(archive: Archive, what: bytes) -> None:
    """Spoil the layer that holds these bytes: whoever reads it finds that its digest is wrong."""
    content = archive.path.read_bytes()
    assert what in content
    archive.path.write_bytes(content.replace(what, bytes(len(what))))


def test_an_image_is_on_every_node_and_the_same_digest_is_not_imported_again(cluster: Cluster, tmp_path: Path) -> None:
    archive = _archive(tmp_path, "one")
    cluster.load_image("extra", archive)
    for node in cluster.nodes():
        assert EXTRA in node.images()
    archive.path.unlink()
    cluster.load_image("extra", archive)  # would fail if it read the archive


def test_a_changed_image_replaces_the_one_of_the_same_name(cluster: Cluster, tmp_path: Path) -> None:
    cluster.load_image("extra", _archive(tmp_path, "two"))
    changed = _archive(tmp_path, "three")
    cluster.load_image("extra", changed)
    for node in cluster.nodes():
        assert node.images()[EXTRA] == changed.digest


def test_an_image_is_known_by_what_it_is_and_not_by_what_it_was_called(cluster: Cluster, tmp_path: Path) -> None:
    first = _archive(tmp_path, "four")
    cluster.load_image("extra", first)
    cluster.load_image("five.tar", _archive(tmp_path, "five"))
    cluster.load_image("extra", first)  # containerd knows it still, but the name stands for another now
    for node in cluster.nodes():
        assert node.images()[EXTRA] == first.digest
    first.path.unlink()
    cluster.load_image("four.tar", first)  # would fail if it read the archive


def test_of_a_changed_image_only_the_layers_that_a_node_lacks_are_read(cluster: Cluster, tmp_path: Path) -> None:
    cluster.load_image("extra", _archive(tmp_path, "a layer that stays"))
    changed = _archive(tmp_path, "a layer that stays", entrypoint="/other")
    _blank(changed, b"a layer that stays")
    cluster.load_image("extra", changed)
    for node in cluster.nodes():
        assert node.images()[EXTRA] == changed.digest
        ready = node.machine.run([*node.ctr(), "images", "check", "--quiet"])
        assert EXTRA in ready.split()


def test_an_image_of_a_spoiled_archive_does_not_reach_a_node(cluster: Cluster, tmp_path: Path) -> None:
    spoiled = _archive(tmp_path, "a layer that is new", name="localhost/penstock-spoiled:1")
    _blank(spoiled, b"a layer that is new")
    with pytest.raises(LocalError, match=r"node\d: .* cannot be imported"):
        cluster.load_image("spoiled", spoiled)
    with pytest.raises(LocalError):  # not taken for loaded
        cluster.load_image("spoiled", spoiled)


@pytest.mark.usefixtures("still_machine")
def test_a_new_cluster_has_all_that_was_unpacked_before(cluster: Cluster, probe: Archive) -> None:
    seeds.ensure({"probe": probe}, Steps(quiet=True))
    new = Cluster(f"{cluster.name}-new")
    new.down()
    try:
        new.up(Config(nodes=1))
        new.load_image("called otherwise", Archive(Path("/nowhere"), probe.digest, probe.reference))
    finally:
        new.down()


def test_a_file_that_is_no_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no tar")
    with pytest.raises(LocalError, match="no image archive"):
        Archive.of(tmp_path / "text")
