"""Links to S3: every repository of the spec has an association that follows the events it names.

An association that failed (a bucket that is missing or in another region) cannot be mended in AWS: it is deleted and made
again, with a pause, so that the volume heals by itself when the bucket does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

from penstock_operator import names
from penstock_operator.api.lustrevolume import Repository, RepositoryEvent
from penstock_operator.cloud.fsx import Association, slashed
from penstock_operator.conditions import format_time, parse_time
from penstock_operator.lustrevolume.observe import Observed, Volume
from penstock_operator.lustrevolume.verdict import Action, Link, SetEvents, Unlink, Writing
from penstock_operator.names import VolumeReason

GOOD = ("AVAILABLE", "UPDATING")
ENDED = ("AVAILABLE", "FAILED", "MISCONFIGURED")
"""AWS works on it no more, and takes calls about it."""


def link(observed: Observed, writing: Writing) -> list[Action]:
    """Describe the links in the status and return the calls that bring them nearer to the spec."""
    volume, file_system = observed.volume, observed.file_system
    assert volume.spec is not None
    assert file_system is not None
    actions: list[Action] = []
    rows, waiting, failed, count = [], [], [], len(volume.spec.repositories)
    for repository in volume.spec.repositories:
        found, before = association_of(observed, repository), _row(volume, repository.path)
        row = _described(repository.path, found, before, writing)
        rows.append(row)
        own = found is not None and is_own(volume, found)
        if own and led_elsewhere(repository, found):  # the spec was corrected; unlinked below
            waiting.append(repository.path)
        elif problem := led_elsewhere(repository, found):
            failed.append(problem)
        elif found is None:
            actions.append(Link(file_system.id, repository, token(volume, repository, before)))
            waiting.append(repository.path)
        elif found.lifecycle in ("FAILED", "MISCONFIGURED"):
            failed.append(f"{repository.path} -> {repository.s3}: {found.message or found.lifecycle}")
            if own and found.lifecycle == "FAILED" and _age(row, writing) >= writing.rules.retry:
                actions.append(Unlink(found.id))
        elif found.lifecycle not in GOOD:
            waiting.append(repository.path)
        elif not own:
            failed += _lacking(repository, found)
        elif found.lifecycle == "AVAILABLE" and not _same_events(found, repository):
            actions.append(SetEvents(found.id, events(repository.import_events), events(repository.export_events)))
    for stale in _unwanted(observed):
        actions += [Unlink(stale.id)] if stale.lifecycle in ENDED else []
        if stale.path not in {slashed(row["path"]) for row in rows}:
            path = stale.path.rstrip("/")
            rows.append(_described(path, stale, _row(volume, path), writing))
    writing.status["repositories"] = rows[:8]
    if failed:
        message = "; ".join(failed) + "; a bucket must exist in the file system's region and let FSx in"
        writing.condition(names.REPOSITORIES_LINKED, False, VolumeReason.LINK_FAILED, message[:1500])
    elif waiting:
        writing.condition(names.REPOSITORIES_LINKED, False, VolumeReason.LINKING, f"linking {', '.join(waiting)}")
    else:
        writing.condition(names.REPOSITORIES_LINKED, True, VolumeReason.LINKED, f"{count} of {count} are linked")
    return actions


def is_own(volume: Volume, association: Association) -> bool:
    """Made by this LustreVolume. What another made, or a person, is neither changed nor removed: on an adopted file system both
    would go on changing it for ever."""
    return association.tag == volume.uid


def _unwanted(observed: Observed) -> list[Association]:
    """Own links that the spec does not name: it was corrected (the CRD allows that where a link was never there)."""
    spec = observed.volume.spec
    assert spec is not None
    wanted = {(slashed(one.path), slashed(one.s3)) for one in spec.repositories}
    return [one for one in observed.associations if is_own(observed.volume, one) and (one.path, one.s3) not in wanted]


def _lacking(repository: Repository, found: Association) -> list[str]:
    """Events that the spec wants and somebody else's link has not. More than is wanted does no harm."""
    kinds = (
        ("importEvents", repository.import_events, found.import_events),
        ("exportEvents", repository.export_events, found.export_events),
    )
    lack = [f"{kind} {', '.join(sorted(more))}" for kind, wanted, has in kinds if (more := set(events(wanted)) - has)]
    whose = f"LustreVolume {found.tag}" if found.tag else "somebody else"
    return [f"{repository.path} was linked by {whose}, without {' and '.join(lack)}: give another path"] if lack else []


def association_of(observed: Observed, repository: Repository) -> Association | None:
    """The repository's association; one on its way out counts only while there is no other."""
    found = [one for one in observed.associations if one.path == slashed(repository.path)]
    return next((one for one in found if one.lifecycle != "DELETING"), found[0] if found else None)


def led_elsewhere(repository: Repository, found: Association | None) -> str:
    """What is wrong where the path follows another place than the spec says (an adopted file system's own links); else ''."""
    if found is None or found.s3 == slashed(repository.s3):
        return ""
    return f"{repository.path} of this file system is linked to {found.s3}, not to {repository.s3}: give another path"


def token(volume: Volume, repository: Repository, before: Mapping[str, Any]) -> str:
    """Idempotency token: the same repository of the same volume asks the same thing. The id of an association that failed and
    is gone makes it another: with the old token AWS would answer with what failed."""
    text = f"{volume.uid}/{repository.path}/{repository.s3}/{before.get('associationId', '')}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def events(wanted: Iterable[RepositoryEvent]) -> tuple[str, ...]:
    """As AWS writes them."""
    return tuple(sorted(event.value.upper() for event in wanted))


def _same_events(found: Association, repository: Repository) -> bool:
    both = (found.import_events, found.export_events)
    return both == (frozenset(events(repository.import_events)), frozenset(events(repository.export_events)))


def _row(volume: Volume, path: str) -> Mapping[str, Any]:
    return next((row for row in volume.status.get("repositories", ()) if row["path"] == path), {})


def _described(path: str, found: Association | None, before: Mapping[str, Any], writing: Writing) -> dict[str, Any]:
    lifecycle = found.lifecycle if found else "MISSING"
    known = {"associationId": found.id} if found else {key: before[key] for key in ("associationId",) if key in before}
    since = before["since"] if before.get("lifecycle") == lifecycle and "since" in before else format_time(writing.now)
    message = {"message": found.message[:2048]} if found and found.message else {}
    return {"path": path, "lifecycle": lifecycle, "since": since, **known, **message}


def _age(row: Mapping[str, Any], writing: Writing) -> timedelta:
    since = parse_time(row["since"])
    return writing.now - since if since else timedelta(0)
