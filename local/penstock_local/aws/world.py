"""The state of what this package adds to moto, behind one lock, and the beat that moves it on.

Nothing of it is kept on disk: a new process starts empty. moto's own state (S3, IAM, ...) is in moto.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, RLock, Thread
from typing import Any, NamedTuple

from penstock_local.aws.fsx.state import FsxState
from penstock_local.aws.labelling.state import LabellingState
from penstock_local.aws.settings import Settings

Beat = Callable[["World"], None]
BEAT_SECONDS = 0.02


class Caller(NamedTuple):
    """Whose call it is, and where."""

    account: str
    region: str


@dataclass
class World:
    """Everything the handlers share. Handlers and beats run with `lock` held."""

    folder: Path
    settings: Settings = field(default_factory=Settings)
    lock: RLock = field(default_factory=RLock)
    fsx: FsxState = field(default_factory=FsxState)
    labelling: LabellingState = field(default_factory=LabellingState)


Handler = Callable[[World, Caller, dict[str, Any]], dict[str, Any]]


def start(world: World, beats: list[Beat]) -> None:
    """Call every beat some fifty times a second for as long as the process lives; one that raises is logged and goes on."""

    def run() -> None:
        rest = Event()
        while not rest.wait(BEAT_SECONDS):
            for beat in beats:
                try:
                    with world.lock:
                        beat(world)
                except Exception:
                    logging.exception("%s failed; it is called again", beat.__module__)

    Thread(target=run, name="beat", daemon=True).start()
