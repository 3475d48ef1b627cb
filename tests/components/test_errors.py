"""What the log of a step that fails ends with."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.components.played import as_process

from penstock_components.evaluation.evaluate.gate import gate


def test_what_a_user_can_put_right_ends_the_log_of_a_step_without_a_traceback(
    bucket: str, kfp_local: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(RuntimeError, match="FAILURE"):
        gate(metrics_uri=f"{bucket}/nothing.json")
    told = capsys.readouterr().out
    assert "Traceback" not in told
    last = told.rstrip().splitlines()[-1].strip()  # kfp indents what a step prints
    assert last.startswith(f"{bucket}/nothing.json: the object is not there")


@pytest.mark.parametrize(
    ("runtime", "error", "traced"),
    [("true", "ComponentError('no image')", False), ("true", "KeyError('a')", True), ("", "ComponentError('no image')", True)],
)
def test_a_bug_keeps_its_traceback_and_so_does_every_error_outside_a_step(runtime: str, error: str, traced: bool) -> None:
    code = f"from penstock_components.errors import ComponentError\nraise {error}"
    with as_process(code, {"_KFP_RUNTIME": runtime}) as process:
        told, _ = process.communicate(timeout=30)
        assert process.returncode == 1
    assert ("Traceback" in told) is traced
    assert "no image" in told or "KeyError" in told
