"""The script that turns namespaces into a node, and files that are written only when they change."""

from __future__ import annotations

from pathlib import Path

from penstock_local.files import put
from penstock_local.namespaces import preparation


def test_state_and_cache_under_var_lib_stay_visible_and_nothing_else_there(tmp_path: Path) -> None:
    lines = preparation("node1", Path("/var/lib/x/node1"), [Path("/var/lib"), tmp_path]).splitlines()
    kept = [line for line in lines if "mount --rbind /run/host" in line]
    assert kept == ["mkdir -p /var/lib; mount --rbind /run/host /var/lib"]
    assert lines.index("mount -t tmpfs -o mode=755 tmpfs /var/lib") < lines.index(kept[0])


def test_mounts_propagate_only_after_the_machines_own_are_made() -> None:
    lines = preparation("node1", Path("/srv/node1"), []).splitlines()
    shared = lines.index("mount --make-rshared /")
    assert all(index < shared for index, line in enumerate(lines) if "mount --bind" in line or "tmpfs" in line)


def test_an_unchanged_file_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "kube-proxy.yaml"
    put(path, "a: 1")
    before = path.stat()
    put(path, "a: 1")
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    put(path, "a: 2")
    assert path.read_text() == "a: 2"


def test_a_secret_file_is_never_readable_by_others(tmp_path: Path) -> None:
    put(tmp_path / "kubeconfig", "secret", mode=0o600)
    assert (tmp_path / "kubeconfig").stat().st_mode & 0o777 == 0o600
