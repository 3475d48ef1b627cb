"""The two builders behind one small surface: Docker where an engine answers, else buildah with a store of its own in the cache.

buildah runs without a daemon, with chroot isolation and the host's network, which is what a container or a small machine
without systemd can do; its base is made by mmdebstrap because it may have no registry to pull from.
"""

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from penstock_local.images import host
from penstock_local.images.catalogue import Image
from penstock_local.images.errors import ImagesError
from penstock_local.images.layout import forget_image, sweep
from penstock_local.images.process import Report, run
from penstock_local.locks import locked

# As in Debian's own slim images, and for what is installed on top of it too: no manuals, no caches, nothing recommended. The
# caches by a hook, because mmdebstrap itself needs the packages that apt would throw away; usr-is-merged, because the other way
# to a merged /usr brings 47 MB of Perl.
_APT_KEEPS_NOTHING = 'APT::Keep-Downloaded-Packages "false"; Dir::Cache::pkgcache ""; Dir::Cache::srcpkgcache "";'
_MMDEBSTRAP = (
    "mmdebstrap",
    "--variant=minbase",
    "--include=ca-certificates,usr-is-merged",
    "--hook-dir=/usr/share/mmdebstrap/hooks/maybe-merged-usr",
    '--aptopt=APT::Install-Recommends "false"',
    f"--customize-hook=rm -f $1/var/cache/apt/*.bin; printf %s '{_APT_KEEPS_NOTHING}' > $1/etc/apt/apt.conf.d/keep-nothing",
    *(f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in ("man", "locale", "doc", "info")),
    "--dpkgopt=path-include=/usr/share/doc/*/copyright",
    "--format=tar",
    "bookworm",
)
_BASE_DOCKERFILE = 'FROM scratch\nADD base.tar /\nCMD ["bash"]\n'
_BASE = f"localhost/penstock/base:{hashlib.sha256(' '.join(_MMDEBSTRAP).encode()).hexdigest()[:12]}"


class Engine(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def recipe(self) -> str:
        """What the images stand on, for their key."""

    def build(self, image: Image, root: Path, *, log: Path, report: Report) -> None: ...

    def export(self, image: Image, target: Path, *, log: Path, report: Report) -> None:
        """Writes the built image as an archive that `ctr images import` reads."""


def choose(cache: Path) -> Engine:
    """The builder of this machine; PENSTOCK_IMAGE_BUILDER=docker|buildah decides where both could."""
    wanted = os.environ.get("PENSTOCK_IMAGE_BUILDER", "")
    if wanted not in ("", "docker", "buildah"):
        raise ImagesError(f"PENSTOCK_IMAGE_BUILDER is {wanted!r}; it can be docker or buildah")
    if wanted == "docker" or (not wanted and _docker_answers()):
        return Docker()
    missing = [command for command in ("buildah", "mmdebstrap", "skopeo") if shutil.which(command) is None]
    if missing:
        raise ImagesError(
            f"no Docker engine answers here and {' and '.join(missing)} cannot be found: start Docker, "
            f"or install the missing (on Debian: apt-get install --no-install-recommends buildah mmdebstrap skopeo)"
        )
    return Buildah(cache)


def _docker_answers() -> bool:
    if shutil.which("docker") is None:
        return False
    try:
        return subprocess.run(["docker", "info"], capture_output=True, timeout=30, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


@contextmanager
def _build_options(environment: Mapping[str, str]) -> Iterator[list[str]]:
    """Secrets and proxies of this machine as options that both engines understand."""
    bundle = host.certificate_bundle(environment)
    settings = host.pip_settings(host.pip_files(environment, Path.home()), environment, certificates=bundle is not None)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pip.conf"
        path.write_text(settings)
        options = ["--network", "host", "--secret", f"id=pip,src={path}"]
        if bundle is not None:
            options += ["--secret", f"id=certificates,src={bundle}"]
        for name, value in host.proxies(environment).items():
            options += ["--build-arg", f"{name}={value}"]
        yield options


def _arguments(values: Mapping[str, str]) -> list[str]:
    return [word for name, value in values.items() for word in ("--build-arg", f"{name}={value}")]


@dataclass(frozen=True)
class Docker:
    name: str = "docker"
    recipe: str = "debian:bookworm-slim"

    def build(self, image: Image, root: Path, *, log: Path, report: Report) -> None:
        environment = {**os.environ, "DOCKER_BUILDKIT": "1"}
        with _build_options(environment) as options:
            command = ["docker", "build", "--progress", "plain", *options, *_arguments(image.arguments)]
            command += ["--tag", image.reference, "--file", str(root / image.dockerfile), str(root / image.context)]
            run(command, log=log, report=report, environment=environment, what=f"building image {image.name}")

    def export(self, image: Image, target: Path, *, log: Path, report: Report) -> None:
        command = ["docker", "save", "--output", str(target), image.reference]
        run(command, log=log, report=report, environment=os.environ, what=f"exporting image {image.name}")


@dataclass(frozen=True)
class Buildah:
    cache: Path
    name: str = "buildah"

    @property
    def recipe(self) -> str:
        return _BASE

    def build(self, image: Image, root: Path, *, log: Path, report: Report) -> None:
        self._ensure_base(log=log, report=report)
        with _build_options(os.environ) as options:
            command = self._buildah("bud", "--layers", *options, *_arguments({"BASE": _BASE, **image.arguments}))
            command += ["--tag", image.reference, "--file", str(root / image.dockerfile), str(root / image.context)]
            run(command, log=log, report=report, environment=self._environment(), what=f"building image {image.name}")

    def export(self, image: Image, target: Path, *, log: Path, report: Report) -> None:
        # skopeo and not `buildah push`, which compresses whatever it is told (2 GB of gzip nobody needs) and writes every
        # layer each time: 57 s against 30 s at first and less than one later.
        layout = self.cache / "images" / "layouts" / image.name
        forget_image(layout)
        source = f"containers-storage:[{self._driver()}@{self.store}+{self.run_root}]{image.reference}"
        command = [
            "skopeo",
            "copy",
            "--quiet",
            "--dest-oci-accept-uncompressed-layers",
            source,
            f"oci:{layout}:{image.reference}",
        ]
        run(command, log=log, report=report, environment=os.environ, what=f"exporting image {image.name}")
        sweep(layout)
        # The index first: who reads the digest need not pass the layers.
        command = ["tar", "--create", "--file", str(target), "--directory", str(layout), "oci-layout", "index.json", "blobs"]
        run(command, log=log, report=report, environment=os.environ, what=f"packing image {image.name}")

    def _ensure_base(self, *, log: Path, report: Report) -> None:
        with locked(self.cache / "images" / "base.lock", lambda: report("waiting for the base that another build is making")):
            inspect = self._buildah("inspect", "--type", "image", _BASE)
            if subprocess.run(inspect, capture_output=True, env=self._environment(), check=False).returncode != 0:
                self._make_base(log=log, report=report)

    def _make_base(self, *, log: Path, report: Report) -> None:
        report("base: Debian 12 by mmdebstrap")
        with tempfile.TemporaryDirectory(dir=self.cache) as folder:
            command = [*_MMDEBSTRAP, f"{folder}/base.tar"]
            run(command, log=log, report=report, environment=os.environ, what="making the Debian base with mmdebstrap")
            (Path(folder) / "Dockerfile").write_text(_BASE_DOCKERFILE)
            command = self._buildah("bud", "--tag", _BASE, folder)
            run(command, log=log, report=report, environment=self._environment(), what="importing the Debian base into buildah")

    @property
    def store(self) -> Path:
        return self.cache / "buildah"

    @property
    def run_root(self) -> str:
        # It holds mount counts, which must not outlive a boot: /run, one folder per store.
        return f"/run/penstock/buildah-{hashlib.sha256(str(self.store).encode()).hexdigest()[:8]}"

    def _driver(self) -> str:
        return os.environ.get("STORAGE_DRIVER", "overlay")

    def _buildah(self, command: str, *arguments: str) -> list[str]:
        options = ["--root", str(self.store), "--runroot", self.run_root, "--storage-driver", self._driver()]
        return ["buildah", *options, command, *arguments]

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "BUILDAH_ISOLATION": "chroot"}
