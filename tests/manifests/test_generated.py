"""Generated files are what their sources give: the CRD, its chart template, the reference page and kustomize's base."""

from __future__ import annotations

import importlib.util
from types import ModuleType

import pytest
from tests.manifests.tools import ROOT


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "manifests/generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("source", ["from_types", "from_chart"])
def test_generated_files_are_up_to_date(generate: ModuleType, source: str) -> None:
    for path, text in getattr(generate, source)().items():
        assert (ROOT / path).read_text() == text, f"{path} is out of date; run `make generate`"


def test_the_crd_is_small_enough_for_client_side_apply() -> None:
    files = list((ROOT / "manifests/crds").glob("*.penstock.dev.yaml"))
    assert len(files) == 2
    assert all(file.stat().st_size < 60_000 for file in files)
