"""Files that would run code are refused before any of it runs, and torch alone is shown to run it: each makes a folder."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.serving import models
from tests.serving.conftest import Start
from torch import nn

from penstock_serving import archive

Change = Callable[[dict[str, bytes]], None]
PROGRAM = "models/model.json"
WEIGHTS = "data/weights/model_weights_config.json"
CONSTANTS = "data/constants/model_constants_config.json"


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


def sample(mark: Path) -> Change:
    def change(entries: dict[str, bytes]) -> None:
        entries["data/sample_inputs/model.pt"] = pickle.dumps((Evil(mark),))

    return change


def weight(mark: Path) -> Change:
    def change(entries: dict[str, bytes]) -> None:
        config = json.loads(entries[WEIGHTS])
        next(iter(config["config"].values()))["use_pickle"] = True
        entries[WEIGHTS] = json.dumps(config).encode()
        target = mark.parent / "evil.pt"
        torch.save(Evil(mark), target)
        entries["data/weights/weight_0"] = target.read_bytes()

    return change


def constant(mark: Path) -> Change:
    def change(entries: dict[str, bytes]) -> None:
        meta = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True, "tensor_meta": None}
        entries[CONSTANTS] = json.dumps({"config": {"c": meta}}).encode()
        entries["data/constants/opaque_obj_0"] = pickle.dumps(Evil(mark))

    return change


def constant_under_a_tensors_name(mark: Path) -> Change:
    def change(entries: dict[str, bytes]) -> None:
        meta = {"path_name": "tensor_0", "is_param": False, "use_pickle": True, "tensor_meta": None}
        entries[CONSTANTS] = json.dumps({"config": {"c": meta}}).encode()
        target = mark.parent / "evil.pt"
        torch.save(Evil(mark), target)
        entries["data/constants/tensor_0"] = target.read_bytes()

    return change


def expression(mark: Path) -> Change:
    def edit(program: Any) -> None:
        sizes = program["graph_module"]["graph"]["tensor_values"]["rows"]["sizes"]
        sizes[0]["as_expr"]["expr_str"] = f"__import__('os').mkdir('{mark}') or Symbol('s1')"

    return models.edited(PROGRAM, edit)


def name(text: str) -> Change:
    """The input's name ends up in the signature of a generated function."""

    def edit(program: Any) -> None:
        program["graph_module"]["module_call_graph"][0]["signature"]["forward_arg_names"] = [text]

    return models.edited(PROGRAM, edit)


def node(text: str) -> Change:
    def edit(program: Any) -> None:
        program["graph_module"]["graph"]["inputs"][-1]["as_tensor"]["name"] = text

    return models.edited(PROGRAM, edit)


def guard(mark: Path) -> Change:
    """Text of the file that torch compiles by default; it is not refused, but never looked at."""

    def edit(program: Any) -> None:
        program["guards_code"] = [f"not __import__('os').mkdir('{mark}')"]

    return models.edited(PROGRAM, edit)


def operator(target: str, *arguments: str) -> Change:
    def edit(program: Any) -> None:
        node = program["graph_module"]["graph"]["nodes"][0]
        node["target"] = target
        node["inputs"] = [{"name": "", "arg": {"as_string": text}, "kind": 1} for text in arguments]

    return models.edited(PROGRAM, edit)


def tree() -> Change:
    def edit(program: Any) -> None:
        signature = program["graph_module"]["module_call_graph"][0]["signature"]
        spec = json.loads(signature["in_spec"])
        spec[1]["children_spec"][0]["type"] = "collections.defaultdict"
        spec[1]["children_spec"][0]["context"] = json.dumps(
            {"default_factory_module": "antigravity", "default_factory_name": "x"}
        )
        signature["in_spec"] = json.dumps(spec)

    return models.edited(PROGRAM, edit)


def load_as_torch_does(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.load(path).module()(torch.zeros(1, 4))


@pytest.mark.parametrize("attack", [sample, weight, constant, constant_under_a_tensors_name, expression])
def test_an_archive_that_would_run_code_is_refused(attack: Callable[[Path], Change], iris: Path, tmp_path: Path) -> None:
    mark = tmp_path / "it ran"
    path = models.changed(iris / "model.pt2", tmp_path / "model.pt2", attack(mark))
    with pytest.raises(archive.UnsafeModel):
        archive.check(path)
    assert not mark.exists()
    # What is refused is a danger: torch alone runs it, whatever it says afterwards.
    with contextlib.suppress(Exception):
        load_as_torch_does(path)
    assert mark.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (operator("torch.os.system", "true"), "operator 'torch.os.system' is not served"),
        (operator("_operator.methodcaller", "x"), "operator '_operator.methodcaller' is not served"),
        (
            operator("torch.ops.aten.from_file.default", "/etc/passwd"),
            "operator 'torch.ops.aten.from_file.default' is not served",
        ),
        (operator("#ext:thing"), "operator '#ext:thing' is not served"),
        (name("rows=__import__('os')"), "forward_arg_names \"rows=__import__('os')\" is not a name"),
        (node("rows\n"), "name 'rows\\n' is not a name"),
        (tree(), "inputs or outputs of type collections.defaultdict"),
        (lambda entries: entries.update({"data/aotinductor/model/a.so": b""}), "holds 'data/aotinductor/model/a.so'"),
        (lambda entries: entries.update({"data/weights/model.pt": b""}), "holds 'data/weights/model.pt'"),
        (lambda entries: entries.update({"Models/model.json": b""}), "two of one name"),
        (lambda entries: entries.update({"models/other.json": b""}), "holds 'models/other.json'"),
        (lambda entries: entries.pop(PROGRAM), f"no {PROGRAM}"),
        (lambda entries: entries.update({PROGRAM: b"{"}), f"{PROGRAM}: is not JSON"),
        (lambda entries: entries.update({PROGRAM: b"[]"}), f"{PROGRAM}: is not what torch.export.save writes"),
        (lambda entries: entries.pop("extra/penstock.json"), "extra/penstock.json is missing"),
        (lambda entries: entries.update({"extra/penstock.json": b"[]"}), "expected an object, found list"),
    ],
)
def test_an_archive_with_what_is_not_served_is_refused(change: Change, message: str, iris: Path, tmp_path: Path) -> None:
    path = models.changed(iris / "model.pt2", tmp_path / "model.pt2", change)
    with pytest.raises(archive.UnsafeModel) as refused:
        archive.check(path)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os')",
        "Symbol('s0').__class__",
        "(lambda: 1)()",
        "[x for x in (1,)]",
        "Max('__import__(1)')",
        "exec('1')",
        "Symbol('s0')\nimport os",
        "s0; s1",
        "f'{1}'",
        "globals",
    ],
)
def test_an_expression_that_is_more_than_arithmetic_is_refused(text: str, iris: Path, tmp_path: Path) -> None:
    def edit(program: Any) -> None:
        program["graph_module"]["graph"]["tensor_values"]["rows"]["sizes"][0]["as_expr"]["expr_str"] = text

    path = models.changed(iris / "model.pt2", tmp_path / "model.pt2", models.edited(PROGRAM, edit))
    with pytest.raises(archive.UnsafeModel, match="is not an arithmetic expression"):
        archive.check(path)


def test_a_compressed_archive_is_refused(iris: Path, tmp_path: Path) -> None:
    path = models.changed(iris / "model.pt2", tmp_path / "model.pt2", lambda _: None, zipfile.ZIP_DEFLATED)
    with pytest.raises(archive.UnsafeModel, match="is compressed or encrypted"):
        archive.check(path)


def test_two_entries_of_one_name_are_refused(iris: Path, tmp_path: Path) -> None:
    path = models.changed(iris / "model.pt2", tmp_path / "model.pt2", lambda _: None)
    with zipfile.ZipFile(path, "a") as file:
        root = file.namelist()[0].partition("/")[0]
        with pytest.warns(UserWarning, match="Duplicate name"):
            file.writestr(f"{root}/{PROGRAM}", b"{}")
    with pytest.raises(archive.UnsafeModel, match="two of one name"):
        archive.check(path)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(10, 16)
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), 1)
        self.head = nn.Linear(16, 3)
        self.scale = torch.ones(3)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            scale = self.scale * tokens.shape[0]
        return self.head(self.encoder(self.embedding(tokens)).mean(1)) * scale


class Pictures(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(8 * 16, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found = nn.functional.max_pool2d(torch.relu(self.norm(self.convolution(images))), 2)
        # Shapes that are computed from the batch make symbolic expressions.
        return self.head(found.view(found.shape[0] * 2, -1).reshape(-1, 8 * 16))


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize(("model", "row", "dtype"), [(Attention(), [7], "int64"), (Pictures(), [3, 8, 8], "float32")])
def test_usual_networks_are_served(model: nn.Module, row: list[int], dtype: str, tmp_path: Path) -> None:
    from penstock_serving.model import load

    path = models.save(tmp_path / "model.pt2", model, row, dtype)
    loaded = load(str(path), max_bytes=1 << 24, warm_up_rows=4, threads=1)
    rows = torch.ones([2, *row], dtype=getattr(torch, dtype))
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(loaded.run(rows.numpy())), model.eval()(rows))


def test_code_in_guards_is_not_run(iris: Path, start: Start, tmp_path: Path) -> None:
    mark = tmp_path / "it ran"
    path = models.changed(iris / "model.pt2", tmp_path / "model.pt2", guard(mark))
    server = start(path).ready()
    assert server.post("/v1/models/m:predict", {"instances": [[1, 2, 3, 4]]}).status == 200
    assert not mark.exists()
    load_as_torch_does(path)
    assert mark.exists()


def test_the_server_refuses_a_pickle_without_running_it(start: Start, tmp_path: Path) -> None:
    mark, path = tmp_path / "it ran", tmp_path / "model.pt2"
    path.write_bytes(pickle.dumps(Evil(mark)))
    log = start(path).fails()
    assert f"{path}: a pickle; expected an archive of torch.export.save" in log
    assert not mark.exists()
    pickle.loads(path.read_bytes())
    assert mark.exists()


def test_the_server_refuses_a_file_of_torch_save(start: Start, tmp_path: Path) -> None:
    mark, path = tmp_path / "it ran", tmp_path / "model.pt2"
    torch.save({"weights": Evil(mark)}, path)
    assert "a pickle of torch.save; expected an archive of torch.export.save" in start(path).fails()
    assert not mark.exists()


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_the_server_refuses_torchscript(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), path)
    assert "TorchScript; expected an archive of torch.export.save" in start(path).fails()
