"""`python -m penstock_pipelines.compile [FOLDER]`: write every pipeline as YAML, ready to be uploaded, into FOLDER.

FOLDER is `pipelines/` of the checkout unless given. The YAML is in the repository, so that a change of a pipeline or of a
component's signature is seen in review; a test compiles again and compares.
"""

# mypy: disable-error-code="import-untyped"

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kfp import compiler

from penstock_pipelines.end_to_end import end_to_end

PIPELINES: dict[str, Callable[..., Any]] = {"end_to_end": end_to_end}
FOLDER = Path(__file__).parents[1]


def write(folder: Path) -> list[Path]:
    """Compile all pipelines into the folder; the files."""
    paths = [folder / f"{name}.yaml" for name in PIPELINES]
    for path, pipeline in zip(paths, PIPELINES.values(), strict=True):
        compiler.Compiler().compile(pipeline, str(path))
    return paths


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    for path in write(folder):
        print(path)


if __name__ == "__main__":
    main()
