"""From a name to a file: build when the inputs changed, keep the archive under their key, remember its digest.

The cache folder holds `images/NAME-KEY.tar`, beside it `NAME-KEY.digest`, `NAME.log` of the last build and `NAME.lock`. The
lock lets two commands that want the same image at once build it once.
"""

import json
import shutil
import sys
import tarfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from penstock_local import paths
from penstock_local.images import catalogue, engine
from penstock_local.images.errors import ImagesError
from penstock_local.images.process import Report
from penstock_local.locks import locked


def archive(name: str, *, arguments: Mapping[str, str] | None = None, report: Report | None = None) -> Path:
    """The image as an OCI archive with uncompressed layers, named as in pods; built first if its inputs changed."""
    path, _ = _current(name, arguments, report)
    return path


def digest(name: str, *, arguments: Mapping[str, str] | None = None, report: Report | None = None) -> str:
    """The image's digest, `sha256:…`, which changes with its content; builds it first if its inputs changed."""
    _, value = _current(name, arguments, report)
    return value


def build(name: str, *, arguments: Mapping[str, str] | None = None, report: Report | None = None) -> str:
    """Builds an image by name and returns its reference; `all` builds what the project ships."""
    references = []
    for each in catalogue.SHIPPED if name == "all" else (name,):
        _current(each, arguments, report)
        references.append(catalogue.find(each).reference)
    return " ".join(references)


def clean() -> None:
    """Removes archives, logs and buildah's store; what a Docker engine holds stays, it may be in use by others."""
    cache = paths.cache()
    for folder in (cache / "images", cache / "buildah"):
        shutil.rmtree(folder, ignore_errors=True)
        if folder.exists():
            raise ImagesError(f"{folder} could not be removed whole: is a build still running?")


def printed(name: str, write: Callable[[str], object] | None = None) -> Report:
    """A report that prints lines such as `[ 12 s] trainer: …` on standard error."""
    start = time.monotonic()

    def report(line: str) -> None:
        text = f"[{time.monotonic() - start:4.0f} s] {name}: {line}"
        if write is not None:
            write(text)
        else:
            print(text, file=sys.stderr, flush=True)

    return report


def _current(name: str, arguments: Mapping[str, str] | None, report: Report | None) -> tuple[Path, str]:
    image = catalogue.find(name)
    if arguments:
        image = replace(image, arguments={**image.arguments, **arguments})
    report = report or printed(name)
    root = catalogue.checkout()
    cache = paths.cache()
    folder = cache / "images"
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / f"{name}.lock", lambda: report("waiting for another build of this image")):
        builder = engine.choose(cache)
        key = catalogue.content_key(image, root, builder.recipe)
        path = folder / f"{name}-{key}.tar"
        remembered = path.with_suffix(".digest")
        if path.is_file() and remembered.is_file():
            return path, remembered.read_text().strip()
        log = folder / f"{name}.log"
        log.unlink(missing_ok=True)
        report(f"building with {builder.name}")
        builder.build(image, root, log=log, report=report)
        report("exporting")
        partial = path.with_suffix(".partial")
        partial.unlink(missing_ok=True)
        builder.export(image, partial, log=log, report=report)
        value = digest_of(partial)
        partial.rename(path)
        remembered.write_text(value + "\n")
        for old in folder.glob(f"{name}-*"):
            if old.stem != path.stem:
                old.unlink()
        report(f"ready: {image.reference}, {path.stat().st_size / 1e6:,.0f} MB, {value[:19]}")
        return path, value


def digest_of(path: Path) -> str:
    """The digest that names an archive's content: of its manifest (OCI), or of its configuration in Docker's older format."""
    return identity(path)[0]


def identity(path: Path) -> tuple[str, str]:
    """`digest_of` an archive, and the name that containerd will give its image; "" when it does not say a whole one."""
    with tarfile.open(path) as tar:
        # Not getmember(), which would walk gigabytes of layers when the index comes first.
        for member in tar:
            if member.name in ("index.json", "manifest.json"):
                file = tar.extractfile(member)
                content = json.load(file) if file else None
                if member.name == "index.json" and content:
                    first = content["manifests"][0]
                    said = first.get("annotations") or {}
                    name = said.get("io.containerd.image.name") or said.get("org.opencontainers.image.ref.name") or ""
                    return str(first["digest"]), name if "/" in name else ""
                if content:
                    digest = str(content[0]["Config"]).removeprefix("blobs/sha256/").removesuffix(".json")
                    return f"sha256:{digest}", ""
    raise ImagesError(f"{path} is no image archive: it has neither index.json nor manifest.json; remove it and build again")
