"""Seeds: which one a new set is made from, and what a node shares with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from penstock_local.errors import LocalError
from penstock_local.seeds import Archive, copy, nearest

SIZES = {"pause": 1, "coredns": 50, "operator": 300, "trainer": 3600}
OLD, NEW = Path("old"), Path("new")


def test_the_seed_that_saves_the_most_bytes_is_taken_even_if_another_has_more_images() -> None:
    wanted = {"pause": "p", "coredns": "c", "operator": "o2", "trainer": "t"}
    held = {OLD: {"trainer": "t", "operator": "o1"}, NEW: {"pause": "p", "coredns": "c"}}
    assert nearest(wanted, held, SIZES) == OLD


def test_among_equals_the_newest_is_taken() -> None:
    assert nearest({"pause": "p"}, {OLD: {"pause": "p"}, NEW: {"pause": "p"}}, SIZES) == NEW


def test_a_seed_with_nothing_wanted_is_no_help() -> None:
    assert nearest({"pause": "p2"}, {OLD: {"pause": "p1"}}, SIZES) is None


def test_layers_are_shared_and_databases_are_not(tmp_path: Path) -> None:
    root = tmp_path / "root"
    layer, database = Path("snapshots/1/fs/file"), Path("io.containerd.metadata.v1.bolt/meta.db")
    for one in (layer, database):
        (root / one).parent.mkdir(parents=True)
        (root / one).write_text("seed")
    copy(root, tmp_path / "node")
    assert (tmp_path / "node" / layer).stat().st_ino == (root / layer).stat().st_ino
    (tmp_path / "node" / database).write_text("node")
    assert (root / database).read_text() == "seed"


def test_a_copy_that_was_interrupted_is_not_taken_for_whole(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "file").write_text("whole")
    (tmp_path / "node.partial").mkdir()
    copy(tmp_path / "root", tmp_path / "node")
    assert [one.name for one in sorted(tmp_path.iterdir())] == ["node", "root"]
    assert (tmp_path / "node" / "file").read_text() == "whole"


def test_a_file_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("hello")
    with pytest.raises(LocalError, match="no image archive"):
        Archive.of(tmp_path / "note.txt")
