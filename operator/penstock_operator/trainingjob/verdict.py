"""The shapes of a decision: what policies return (verdicts) and what a plan asks for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from penstock_operator.cloud.catalogue import Catalogue
from penstock_operator.trainingjob.children.common import Child, Surroundings
from penstock_operator.trainingjob.observe import PodView


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The operator's settings that decisions depend on."""

    surroundings: Surroundings
    catalogue: Catalogue = field(default_factory=Catalogue)
    startup_error: timedelta = timedelta(seconds=20)
    worker_ready: timedelta = timedelta(seconds=60)
    settle: timedelta = timedelta(seconds=3)
    backoff: timedelta = timedelta(seconds=1)
    backoff_max: timedelta = timedelta(seconds=60)
    infrastructure_limit: int = 50


@dataclass(frozen=True, slots=True)
class Finish:
    """The job is over."""

    succeeded: bool
    reason: str
    message: str
    failure: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Restart:
    """A new attempt: dead pods go, the living workers stay, a new launcher starts when all are Ready."""

    cause: Literal["code", "infrastructure", "change"]
    reason: str
    message: str
    failure: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Stall:
    """The job cannot go on without help. `give_back`: its pods are deleted meanwhile, so that nothing is held half-made."""

    reason: str
    message: str
    give_back: bool = False
    wait: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Hold:
    """Something is on its way, and nothing is made before it is there. `condition` is the one that says so."""

    condition: str
    reason: str
    message: str
    wait: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to decide before this time has passed."""

    wait: timedelta


Verdict = Finish | Restart | Stall | Hold | Wait


def settling(ended: datetime | None, rules: Rules, now: datetime) -> Wait | None:
    """Wait for what is told a moment after a container's end; None when that moment is over. A node's clock may be ahead."""
    if ended is None or now - ended >= rules.settle:
        return None
    return Wait(min(ended + rules.settle - now, rules.settle))


@dataclass(frozen=True, slots=True)
class Removal:
    """Delete this very pod (the uid is a precondition, so never a namesake)."""

    pod: PodView


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do now. `status` is the whole status as it should be; None leaves it alone."""

    rehearse: tuple[Child, ...] = ()
    """Asked of the API server in a dry run before anything is made: what comes last must not be refused with a ring in hand."""
    create: tuple[Child, ...] = ()
    remove: tuple[Removal, ...] = ()
    remove_job: bool = False
    status: dict[str, Any] | None = None
    again: timedelta | None = None
