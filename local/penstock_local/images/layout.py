"""An OCI image layout on disk: made ready for the next image, and rid of what that no longer needs.

The layout stays in the cache between builds because skopeo does not write a blob twice: after a change of code only the thin
last layer is read out of buildah's store.
"""

import json
from pathlib import Path


def forget_image(layout: Path) -> None:
    """Keeps the blobs and drops the index, in which skopeo would keep the earlier image as a nameless first entry."""
    layout.parent.mkdir(parents=True, exist_ok=True)
    (layout / "index.json").unlink(missing_ok=True)


def sweep(layout: Path) -> None:
    """Removes the blobs that belong to earlier images only; a layer may be gigabytes."""
    kept = set(needed(layout))
    for blob in (layout / "blobs" / "sha256").iterdir():
        if blob not in kept:
            blob.unlink()


def needed(layout: Path) -> list[Path]:
    """Manifest, configuration and layers of the layout's image."""
    found: list[Path] = []
    for entry in json.loads((layout / "index.json").read_text())["manifests"]:
        manifest = _blob(layout, entry["digest"])
        content = json.loads(manifest.read_text())
        found += [manifest, *(_blob(layout, each["digest"]) for each in (content["config"], *content["layers"]))]
    return found


def _blob(layout: Path, digest: str) -> Path:
    algorithm, _, value = digest.partition(":")
    return layout / "blobs" / algorithm / value
