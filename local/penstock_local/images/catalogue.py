"""Which images there are, what each is built from, and the key that changes when any of it does."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from penstock_local import paths
from penstock_local.images.errors import ImagesError

VERSION = "0.1.0"


@dataclass(frozen=True)
class Image:
    """One Dockerfile and everything that decides what comes out of it; paths are relative to the repository's root."""

    name: str
    dockerfile: str
    context: str
    inputs: tuple[str, ...]
    arguments: Mapping[str, str] = field(default_factory=dict)

    @property
    def reference(self) -> str:
        return f"docker.io/penstock/{self.name}:{VERSION}"


_LISTS = ("trainer/requirements-torch.txt", "trainer/requirements.txt")

IMAGES: Mapping[str, Image] = {
    image.name: image
    for image in (
        Image(
            name="operator",
            dockerfile="Dockerfile",
            context=".",
            inputs=("pyproject.toml", "constraints.txt", *_LISTS, "README.md", "LICENSE", "operator"),
        ),
        Image(
            name="trainer",
            dockerfile="trainer/Dockerfile",
            context=".",
            inputs=("trainer",),
            # The nodes of a local cluster have no GPU: the same torch without what only a GPU loads, half the size.
            arguments={"VARIANT": "cpu"},
        ),
        Image(
            name="serving",
            dockerfile="serving/Dockerfile",
            context=".",
            inputs=("serving", "constraints.txt", *_LISTS, "trainer/requirements-gpu.txt", "trainer/keep-loaded-libraries"),
            arguments={"VARIANT": "cpu"},
        ),
        Image(
            name="components",
            dockerfile="components/Dockerfile",
            context=".",
            inputs=("components", "pipelines", "constraints.txt", "pyproject.toml", *_LISTS),
        ),
        Image(
            name="mpich-test",
            dockerfile="tests/e2e/images/mpich/Dockerfile",
            context="tests/e2e/images/mpich",
            inputs=("tests/e2e/images/mpich",),
        ),
    )
}

# What `build all` means: the images a user runs. The test image is built by `make test`, or by the test that needs it.
SHIPPED = ("operator", "trainer", "serving", "components")


def find(name: str) -> Image:
    if name not in IMAGES:
        raise ImagesError(f"no image is called {name!r}; there are {', '.join(IMAGES)}")
    return IMAGES[name]


def checkout() -> Path:
    root = paths.checkout()
    if not (root / "trainer" / "Dockerfile").is_file():
        raise ImagesError(
            f"the Dockerfiles are not at {root}: images are built from a checkout; install it with 'pip install -e .'"
        )
    return root


def content_key(image: Image, root: Path, recipe: str) -> str:
    """Hash of all that decides the image's content; `recipe` describes the base it stands on."""
    digest = hashlib.sha256()
    for part in (recipe, image.reference, *(f"{name}={value}" for name, value in sorted(image.arguments.items()))):
        digest.update(part.encode() + b"\0")
    for path in sorted({root / image.dockerfile, *_files(image, root)}):
        executable = path.stat().st_mode & 0o100
        digest.update(f"{path.relative_to(root)}\0{executable}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _files(image: Image, root: Path) -> Iterator[Path]:
    for name in image.inputs:
        path = root / name
        if path.is_file():
            yield path
        elif path.is_dir():
            yield from (p for p in path.rglob("*") if p.is_file() and "__pycache__" not in p.parts and p.suffix != ".pyc")
        else:
            raise ImagesError(f"image {image.name} is built from {name}, which is not in {root}")
