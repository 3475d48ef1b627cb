"""From a name to an archive: built once for the same inputs, by one process at a time."""

import io
import json
import subprocess
import sys
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from penstock_local.images import ImagesError, archive, digest, store
from penstock_local.images.catalogue import Image
from penstock_local.images.engine import choose
from penstock_local.images.process import Report
from penstock_local.locks import locked


def write_tar(path: Path, name: str, content: object) -> None:
    data = json.dumps(content).encode()
    with tarfile.open(path, "w") as tar:
        member = tarfile.TarInfo(name)
        member.size = len(data)
        tar.addfile(member, io.BytesIO(data))


@dataclass
class CountingEngine:
    """An engine whose image is a number: how often it has built."""

    name: str = "counting"
    recipe: str = "nothing"
    built: list[str] = field(default_factory=list)

    def build(self, image: Image, root: Path, *, log: Path, report: Report) -> None:
        self.built.append(image.name)

    def export(self, image: Image, target: Path, *, log: Path, report: Report) -> None:
        write_tar(target, "index.json", {"manifests": [{"digest": f"sha256:{len(self.built):064d}"}]})


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> CountingEngine:
    counting = CountingEngine()
    monkeypatch.setenv("PENSTOCK_CACHE", str(tmp_path))
    monkeypatch.setattr("penstock_local.images.engine.choose", lambda cache: counting)
    return counting


def test_unchanged_inputs_are_built_once(engine: CountingEngine) -> None:
    first = archive("trainer")
    assert archive("trainer") == first
    assert digest("trainer") == "sha256:" + f"{1:064d}"
    assert engine.built == ["trainer"]


def test_other_build_arguments_are_another_image_and_the_old_archive_goes(engine: CountingEngine) -> None:
    first = archive("trainer")
    second = archive("trainer", arguments={"VARIANT": "full"})
    assert first != second
    assert second.exists()
    assert not first.exists()
    assert digest("trainer", arguments={"VARIANT": "full"}) == "sha256:" + f"{2:064d}"


def test_an_archive_of_one_image_survives_the_build_of_another(engine: CountingEngine) -> None:
    first = archive("trainer")
    archive("operator")
    assert first.exists()


def test_the_digest_is_read_from_both_archive_formats(tmp_path: Path) -> None:
    write_tar(tmp_path / "oci.tar", "index.json", {"manifests": [{"digest": "sha256:abc"}]})
    write_tar(tmp_path / "docker.tar", "manifest.json", [{"Config": "def.json"}])
    assert store.digest_of(tmp_path / "oci.tar") == "sha256:abc"
    assert store.digest_of(tmp_path / "docker.tar") == "sha256:def"


def test_a_file_that_is_no_archive_is_named(tmp_path: Path) -> None:
    write_tar(tmp_path / "x.tar", "other.json", {})
    with pytest.raises(ImagesError, match=r"x\.tar is no image archive"):
        store.digest_of(tmp_path / "x.tar")


def test_without_a_builder_the_message_names_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("PENSTOCK_IMAGE_BUILDER", raising=False)
    with pytest.raises(ImagesError, match="apt-get install --no-install-recommends buildah mmdebstrap skopeo"):
        choose(tmp_path)


def test_an_unknown_builder_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PENSTOCK_IMAGE_BUILDER", "podman")
    with pytest.raises(ImagesError, match="PENSTOCK_IMAGE_BUILDER is 'podman'; it can be docker or buildah"):
        choose(tmp_path)


def test_a_second_process_waits_for_the_lock_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    program = (
        "import sys; from pathlib import Path; from penstock_local.locks import locked\n"
        "with locked(Path(sys.argv[1]), lambda: print('waiting', flush=True)): print('mine', flush=True)"
    )
    with locked(path, lambda: None):
        other = subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True)
        assert other.stdout is not None
        assert other.stdout.readline() == "waiting\n"
    assert other.communicate(timeout=20)[0] == "mine\n"
