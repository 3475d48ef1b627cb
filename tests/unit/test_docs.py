"""Pages that follow from code are kept true by comparison."""

from __future__ import annotations

import re
from pathlib import Path

from penstock_operator.names import Reason, VolumeReason

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_every_reason_is_explained_and_no_other() -> None:
    jobs, volumes = (DOCS / "reasons.md").read_text().split("## LustreVolumes")
    for page, source in ((jobs, Reason), (volumes, VolumeReason)):
        explained = re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)
        reasons = {value for name, value in vars(source).items() if not name.startswith("_")}
        assert sorted(explained) == sorted(reasons)


def test_links_between_pages_lead_somewhere() -> None:
    pages = [*DOCS.glob("*.md"), DOCS.parent / "README.md"]
    missing = [
        f"{page.name}: {link}"
        for page in pages
        for link in re.findall(r"\]\((?!http)([^)#]+)", page.read_text())
        if not (page.parent / link).exists()
    ]
    assert missing == []
