"""The catalogue's own figures hold together; a file with more types is read, or stops the start with one line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from penstock_operator.cloud.catalogue import CatalogueError, InstanceType, load

KNOWN = load()
PUBLISHED = ["p3dn.24xlarge", "p4d.24xlarge", "p5.48xlarge", "g5.12xlarge"]


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_formula_gives_the_figures_that_karpenter_publishes(name: str) -> None:
    published = KNOWN.types[name]
    computed = published.model_copy(update={"allocatable": None})
    assert published.allocatable is not None
    assert (computed.cpu_millis, computed.memory_mib) == (published.allocatable.cpu_millis, published.allocatable.memory_mib)


def test_every_type_has_devices_and_no_more_for_pods_than_the_machine_has() -> None:
    for one in KNOWN.types.values():
        assert one.devices, one.name
        assert one.vcpu * 900 < one.cpu_millis < one.vcpu * 1000, one.name
        assert one.memory_gib * 1024 * 0.8 < one.memory_mib < one.memory_gib * 1024, one.name
        assert one.pods, one.name
        assert one.gpu or not one.gpus, one.name


def test_what_replaces_a_retired_type_is_known_and_the_retired_one_is_not() -> None:
    assert set(KNOWN.retired.values()) <= set(KNOWN.types)
    assert set(KNOWN.retired).isdisjoint(KNOWN.types)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("p4d.24xlrge", "p4d.24xlarge"),
        ("p5.12xlarge", "p5.4xlarge"),
        ("g6e.32xlarge", "g6e.2xlarge"),
        ("trn1.16xl", "trn1.32xlarge"),
    ],
)
def test_a_name_that_is_nearly_right_leads_to_the_right_one(name: str, near: str) -> None:
    assert near in KNOWN.nearest(name)


def test_a_name_like_no_other_leads_nowhere() -> None:
    assert KNOWN.nearest("x9z.huge") == []


def test_a_file_adds_types_and_replaces_known_ones(tmp_path: Path) -> None:
    file = tmp_path / "types.yaml"
    file.write_text(
        "- {name: p7.48xlarge, gpus: 8, efa: 16, vcpu: 192, memoryGiB: 2048, pods: 198}\n"
        "- {name: p4d.24xlarge, gpus: 8, vcpu: 96, memoryGiB: 1152, allocatable: {cpuMillis: 90000, memoryMiB: 1000000}}\n"
        "- {name: p3.2xlarge, gpus: 1, vcpu: 8, memoryGiB: 61}\n"
        "- {name: c7i.8xlarge, vcpu: 32, memoryGiB: 64}\n"
    )
    found = load(str(file), huge_pages=False)
    assert found.types["p7.48xlarge"].memory_mib == KNOWN.types["p5en.48xlarge"].memory_mib
    assert (found.types["p4d.24xlarge"].cpu_millis, found.types["p4d.24xlarge"].efa) == (90000, 0)
    assert "p3.2xlarge" not in found.retired
    assert (found.types["c7i.8xlarge"].devices, found.types["c7i.8xlarge"].ranks) == ({}, 1)
    assert len(found.types) == len(KNOWN.types) + 3
    assert (found.huge_pages, KNOWN.huge_pages) == (False, True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- {name: p7.48xlarge, gpus: 8, vcpu: 192}", ("entry 1 (p7.48xlarge)", "memoryGiB", "Field required")),
        ("- {vcpu: 8, memoryGiB: 8}", ("entry 1 (no name)", "name")),
        ("- {name: P7, vcpu: 8, memoryGiB: 8}", ("entry 1 (P7)", "name", "found 'P7'")),
        ("- {name: p7.xlarge, vcpu: 8, memoryGiB: 16, gpu: 8, colour: red}", ("entry 1 (p7.xlarge)",)),
        ("- {name: p7.xlarge, vcpu: 8, memoryGiB: 16, gpus: many}", ("gpus", "found 'many'")),
        ("- {name: p7.xlarge, vcpu: 8, memoryGiB: 16, gpus: -1}", ("gpus", "greater than or equal to 0")),
        ("- {name: p7.xlarge, vcpu: 8, memoryGiB: 16, gpus: 1, neuronDevices: 1, neuronCores: 2}", ("one or the other",)),
        ("- {name: p7.xlarge, vcpu: 8, memoryGiB: 16, neuronDevices: 2, neuronCores: 3}", ("neuronCores is 3", "multiple")),
        ("- {name: p7.xlarge, vcpu: 8, memoryGiB: 2}", ("leave a worker nothing",)),
        ("- {name: a.b, vcpu: 8, memoryGiB: 16}\n- {name: a.b, vcpu: 8, memoryGiB: 16}", ("entry 2", "a.b is there twice")),
        ("- [", ("is no YAML",)),
        ("just words", ("use a list of entries",)),
        ("- words", ("use a list of entries",)),
        ("kinds: []", ("kinds", "use a list of entries")),
    ],
)
def test_a_wrong_file_is_refused_with_entry_and_field(tmp_path: Path, text: str, words: tuple[str, ...]) -> None:
    file = tmp_path / "types.yaml"
    file.write_text(text)
    with pytest.raises(CatalogueError) as refused:
        load(str(file))
    for word in ("PENSTOCK_INSTANCE_TYPES_FILE", str(file), *words):
        assert word in str(refused.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match=r"PENSTOCK_INSTANCE_TYPES_FILE: .*nowhere cannot be read"):
        load(str(tmp_path / "nowhere"))


def test_the_operator_does_not_start_with_a_wrong_file_and_says_why_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "types.yaml"
    file.write_text("- {name: p7.48xlarge, gpus: 8, vcpu: 192}")
    ended = subprocess.run(
        [sys.executable, "-m", "penstock_operator"],
        env={**os.environ, "PENSTOCK_INSTANCE_TYPES_FILE": str(file), "PENSTOCK_LOG_FORMAT": "text"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 1
    [line] = (ended.stdout + ended.stderr).strip().splitlines()
    assert "entry 1 (p7.48xlarge): memoryGiB: Field required" in line


def test_a_type_with_few_pods_keeps_less_for_the_kubelet() -> None:
    few, many = (InstanceType.model_validate({"name": "a.b", "vcpu": 8, "memoryGiB": 64, "pods": pods}) for pods in (29, 234))
    assert few.memory_mib - many.memory_mib == 11 * (234 - 29)
