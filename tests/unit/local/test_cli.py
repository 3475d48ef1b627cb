"""The command line: help, and errors without a traceback."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest

from penstock_local import config, paths, status
from penstock_local.cli import main


@pytest.fixture(autouse=True)
def _empty_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("PENSTOCK_CACHE", str(tmp_path / "cache"))


def test_help_names_every_action_and_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["local", "--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    for action in ("up", "down", "status", "kubeconfig", "load-image", "logs", "aws-env", "pod-identity", "reset"):
        assert f"\n    {action}" in text
    assert "export KUBECONFIG=$(penstock local kubeconfig)" in text


@pytest.mark.parametrize(
    "action",
    [["status"], ["kubeconfig"], ["logs"], ["load-image", "x.tar"], ["aws-env"], ["pod-identity", "associate", "a", "b"]],
)
def test_without_a_cluster_the_way_to_one_is_told(action: list[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["local", *action])
    assert end.value.code == "penstock: no cluster 'penstock'; run: penstock local up"


@pytest.mark.parametrize("action", [["aws-env"], ["pod-identity", "associate", "a", "b"]])
def test_without_the_fake_aws_the_way_to_it_is_told(action: list[str]) -> None:
    config.write(paths.state() / "penstock", config.Config())
    with pytest.raises(SystemExit) as end:
        main(["local", *action])
    assert end.value.code == "penstock: cluster penstock has no fake AWS; to start one: penstock local up --aws --name penstock"


def test_down_without_a_cluster_says_so_and_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    main(["local", "down", "--name", "none"])
    assert capsys.readouterr().err == "there is no cluster 'none'\n"


@pytest.mark.parametrize(
    ("flag", "value"), [("--nodes", "0"), ("--nodes", "x"), ("--gpus", "-1"), ("--port", "80"), ("--instance-type", "p4d")]
)
def test_what_cannot_be_is_refused_with_what_can(flag: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["local", "up", f"{flag}={value}"])
    assert end.value.code == 2
    assert f"found '{value}'; expected" in capsys.readouterr().err


def test_the_cluster_of_the_environment_is_meant_where_none_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_CLUSTER", "mine")
    with pytest.raises(SystemExit) as end:
        main(["local", "status"])
    assert end.value.code == "penstock: no cluster 'mine'; run: penstock local up"


@pytest.mark.parametrize("well", [True, False])
def test_status_ends_with_1_when_something_is_down(
    well: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config.write(paths.state() / "penstock", config.Config())
    monkeypatch.setattr(status, "report", lambda cluster: status.Page("the page", well))
    with nullcontext() if well else pytest.raises(SystemExit) as end:
        main(["local", "status"])
    assert well or end.value.code == 1
    assert capsys.readouterr().out == "the page\n"
