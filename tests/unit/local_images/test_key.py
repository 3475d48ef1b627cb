"""The key of an image: it changes with what the image is made of and with nothing else."""

import re
import shutil
from pathlib import Path

import pytest

from penstock_local.images import ImagesError
from penstock_local.images.catalogue import IMAGES, Image, checkout, content_key, find

IMAGE = Image(name="sample", dockerfile="Dockerfile", context=".", inputs=("code", "pins.txt"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "code").mkdir()
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    (tmp_path / "pins.txt").write_text("a==1\n")
    (tmp_path / "code" / "main.py").write_text("print(1)\n")
    return tmp_path


def key(root: Path, image: Image = IMAGE, recipe: str = "base 1") -> str:
    return content_key(image, root, recipe)


def test_the_same_inputs_in_another_folder_have_the_same_key(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    copy = tmp_path_factory.mktemp("copy") / "checkout"
    shutil.copytree(root, copy)
    assert key(copy) == key(root)


@pytest.mark.parametrize("changed", ["Dockerfile", "pins.txt", "code/main.py"])
def test_a_changed_input_changes_the_key(root: Path, changed: str) -> None:
    before = key(root)
    (root / changed).write_text("other\n")
    assert key(root) != before


def test_a_new_a_renamed_and_an_executable_file_change_the_key(root: Path) -> None:
    keys = [key(root)]
    (root / "code" / "more.py").write_text("")
    keys.append(key(root))
    (root / "code" / "more.py").rename(root / "code" / "less.py")
    keys.append(key(root))
    (root / "code" / "less.py").chmod(0o755)
    keys.append(key(root))
    assert len(set(keys)) == 4


def test_byte_code_and_files_that_are_no_input_do_not_change_the_key(root: Path) -> None:
    before = key(root)
    (root / "code" / "__pycache__").mkdir()
    (root / "code" / "__pycache__" / "main.cpython-311.pyc").write_bytes(b"\0")
    (root / "README.md").write_text("hello\n")
    assert key(root) == before


def test_the_base_and_the_build_arguments_are_part_of_the_key(root: Path) -> None:
    with_argument = Image(
        name="sample", dockerfile="Dockerfile", context=".", inputs=IMAGE.inputs, arguments={"VARIANT": "cpu"}
    )
    assert len({key(root), key(root, recipe="base 2"), key(root, with_argument)}) == 3


def test_a_missing_input_is_named(root: Path) -> None:
    (root / "pins.txt").unlink()
    with pytest.raises(ImagesError, match=r"image sample is built from pins\.txt, which is not in"):
        key(root)


def test_an_unknown_image_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(
        ImagesError, match="no image is called 'trainr'; there are operator, trainer, serving, components, mpich-test"
    ):
        find("trainr")


@pytest.mark.parametrize("image", IMAGES.values(), ids=lambda image: image.name)
def test_everything_a_dockerfile_copies_from_the_checkout_is_part_of_its_key(image: Image) -> None:
    root = checkout()
    inputs = [root / name for name in image.inputs]
    text = (root / image.dockerfile).read_text().replace("\\\n", " ")
    copied = [
        root / image.context / source
        for words in re.findall(r"^COPY (?!--from)(.*)$", text, re.MULTILINE)
        for source in words.split()[:-1]
    ]
    assert copied
    for path in copied:
        assert path.exists(), f"{image.dockerfile} copies {path}, which is not there"
        assert any(path == each or each in path.parents for each in inputs), f"{path} is not among the inputs of {image.name}"
