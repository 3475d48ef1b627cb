"""The tables of `penstock local status`."""

from __future__ import annotations

from penstock_local.status import image_rows, node_row, table


def test_columns_are_as_wide_as_their_longest_cell() -> None:
    assert table(("A", "LONGER"), [("wide cell", "1"), ("b", "2")]) == "A           LONGER\nwide cell   1\nb           2"


def test_an_image_is_one_row_with_the_nodes_that_hold_this_digest() -> None:
    held = {"node1": {"a": "sha256:1", "b": "sha256:2"}, "node2": {"a": "sha256:1", "b": "sha256:3"}}
    assert image_rows(held) == [
        ("a", "node1 node2", "sha256:1"),
        ("b", "node1", "sha256:2"),
        ("b", "node2", "sha256:3"),
    ]


def test_a_node_that_has_reported_nothing_yet_is_a_row_too() -> None:
    assert node_row({"metadata": {"name": "n"}, "status": {}}) == ("n", "no", "-", "-", "-", "0", "0")
