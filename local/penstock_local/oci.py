"""One-layer OCI images from a folder, for the two images every node needs and no registry is asked for: pause and CoreDNS."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from penstock_local import binaries, paths
from penstock_local.errors import LocalError

PAUSE = "localhost/penstock-pause:1"
COREDNS = "localhost/penstock-coredns:1"

# The whole job of a pod's first container: hold the namespaces, reap what is orphaned, go when told.
_PAUSE_GO = """package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGCHLD)
	for received := range signals {
		if received != syscall.SIGCHLD {
			os.Exit(0)
		}
		for {
			if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); err != nil || pid <= 0 {
				break
			}
		}
	}
}
"""


def pause_archive() -> Path:
    """The pause image as an archive in the cache."""
    target = paths.cache() / "images" / f"pause-{hashlib.sha256(_PAUSE_GO.encode()).hexdigest()[:12]}.tar"
    if not target.exists():
        with tempfile.TemporaryDirectory() as folder:
            source, made = Path(folder, "pause.go"), Path(folder, "root", "pause")
            source.write_text(_PAUSE_GO)
            made.parent.mkdir()
            command = [binaries.toolchain(), "build", "-trimpath", "-ldflags=-s -w", "-o", str(made), str(source)]
            result = subprocess.run(command, env=binaries.build_environment(), capture_output=True, text=True)
            if result.returncode != 0:
                raise LocalError(f"the pause image does not build: {result.stderr.strip()}")
            write_image(target, PAUSE, made.parent, ["/pause"])
    return target


def coredns_archive() -> Path:
    """The CoreDNS image as an archive in the cache."""
    program = binaries.ensure(("coredns",)) / "coredns"
    target = paths.cache() / "images" / f"coredns-{program.parent.name}.tar"
    if not target.exists():
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "coredns").write_bytes(program.read_bytes())
            Path(folder, "coredns").chmod(0o755)
            write_image(target, COREDNS, Path(folder), ["/coredns"])
    return target


def write_image(target: Path, name: str, root: Path, entrypoint: list[str]) -> None:
    """Write `root` as a one-layer OCI archive named `name`; reproducible, and whole or not at all."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        tar.add(root, arcname=".", filter=_anonymous)
    blobs: dict[str, bytes] = {}

    def blob(content: bytes, media: str) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        blobs[digest] = content
        return {"mediaType": f"application/vnd.oci.image.{media}", "digest": f"sha256:{digest}", "size": len(content)}

    layer_entry = blob(layer.getvalue(), "layer.v1.tar")
    config = {
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [layer_entry["digest"]]},
        "config": {"Entrypoint": entrypoint},
    }
    config_entry = blob(json.dumps(config).encode(), "config.v1+json")
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config_entry,
        "layers": [layer_entry],
    }
    manifest_entry = blob(json.dumps(manifest).encode(), "manifest.v1+json")
    manifest_entry["annotations"] = {
        "io.containerd.image.name": name,
        "org.opencontainers.image.ref.name": name.rpartition(":")[2],
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
    with tarfile.open(partial, "w") as tar:
        _put(tar, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        _put(tar, "index.json", json.dumps({"schemaVersion": 2, "manifests": [manifest_entry]}).encode())
        for digest, content in blobs.items():
            _put(tar, f"blobs/sha256/{digest}", content)
    partial.rename(target)


def _anonymous(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.mtime, info.uid, info.gid, info.uname, info.gname = 0, 0, 0, "", ""
    return info


def _put(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))
