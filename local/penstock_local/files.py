"""Configuration files are written only when they change: kube-proxy ends itself when its file is written, be it the same."""

from __future__ import annotations

from pathlib import Path


def put(path: Path, text: str, *, mode: int = 0o644) -> None:
    """Make the file hold this text: whole or not at all, and untouched when it does already."""
    try:
        if path.read_text() == text:
            return
    except FileNotFoundError:
        pass
    partial = path.with_name(f"{path.name}.partial")
    partial.touch(mode=mode)
    partial.write_text(text)
    partial.rename(path)
