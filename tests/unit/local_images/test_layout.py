"""The OCI layout that is kept between builds holds one image and shares its unchanged layers with the next."""

import hashlib
import json
from pathlib import Path

from penstock_local.images.layout import forget_image, sweep


def add_blob(layout: Path, content: bytes) -> str:
    value = hashlib.sha256(content).hexdigest()
    folder = layout / "blobs" / "sha256"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / value).write_bytes(content)
    return f"sha256:{value}"


def write_image(layout: Path, *layers: bytes) -> None:
    manifest = {
        "config": {"digest": add_blob(layout, b"config of " + b"+".join(layers))},
        "layers": [{"digest": add_blob(layout, layer)} for layer in layers],
    }
    digest = add_blob(layout, json.dumps(manifest).encode())
    (layout / "index.json").write_text(json.dumps({"manifests": [{"digest": digest}]}))


def layers_left(layout: Path) -> set[bytes]:
    contents = {path.read_bytes() for path in (layout / "blobs" / "sha256").iterdir()}
    return {content for content in contents if content.startswith(b"layer")}


def test_a_new_image_keeps_shared_layers_and_drops_those_of_the_old_one(tmp_path: Path) -> None:
    layout = tmp_path / "layouts" / "trainer"
    forget_image(layout)
    write_image(layout, b"layer torch", b"layer code 1")
    forget_image(layout)
    assert not (layout / "index.json").exists()
    write_image(layout, b"layer torch", b"layer code 2")
    sweep(layout)
    assert layers_left(layout) == {b"layer torch", b"layer code 2"}
    assert len(list((layout / "blobs" / "sha256").iterdir())) == 4
