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


def link(observed: Observed, writing: Writing) -> list[Action]:
    """Describe the links in the status and return the calls that bring them nearer to the spec."""
    volume, file_system = observed.volume, observed.file_system
    assert volume.spec is not None
    assert file_system is not None
    actions: list[Action] = []
    rows, waiting, failed = [], [], []
    for repository in volume.spec.repositories:
        found, before = association_of(observed, repository), _row(volume, repository)
        row = _described(repository, found, before, writing)
        rows.append(row)
        if elsewhere := led_elsewhere(repository, found):
            failed.append(elsewhere)
        elif found is None:
            actions.append(Link(file_system.id, repository, token(volume, repository, before)))
            waiting.append(repository.path)
        elif found.lifecycle in ("FAILED", "MISCONFIGURED"):
            failed.append(f"{repository.path} -> {repository.s3}: {found.message or found.lifecycle}")
            if found.lifecycle == "FAILED" and _age(row, writing) >= writing.rules.retry:
                actions.append(Unlink(found.id))
        elif found.lifecycle not in GOOD:
            waiting.append(repository.path)
        elif found.lifecycle == "AVAILABLE" and not _same_events(found, repository):
            actions.append(SetEvents(found.id, events(repository.import_events), events(repository.export_events)))
    writing.status["repositories"] = rows
    if failed:
        message = "; ".join(failed) + "; a bucket must exist in the file system's region and let FSx in"
        writing.condition(names.REPOSITORIES_LINKED, False, VolumeReason.LINK_FAILED, message[:1500])
    elif waiting:
        writing.condition(names.REPOSITORIES_LINKED, False, VolumeReason.LINKING, f"linking {', '.join(waiting)}")
    else:
        writing.condition(names.REPOSITORIES_LINKED, True, VolumeReason.LINKED, f"{len(rows)} of {len(rows)} are linked")
    return actions


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


def _row(volume: Volume, repository: Repository) -> Mapping[str, Any]:
    return next((row for row in volume.status.get("repositories", ()) if row["path"] == repository.path), {})


def _described(
    repository: Repository, found: Association | None, before: Mapping[str, Any], writing: Writing
) -> dict[str, Any]:
    lifecycle = found.lifecycle if found else "MISSING"
    known = {"associationId": found.id} if found else {key: before[key] for key in ("associationId",) if key in before}
    since = before["since"] if before.get("lifecycle") == lifecycle and "since" in before else format_time(writing.now)
    message = {"message": found.message[:2048]} if found and found.message else {}
    return {"path": repository.path, "lifecycle": lifecycle, "since": since, **known, **message}


def _age(row: Mapping[str, Any], writing: Writing) -> timedelta:
    since = parse_time(row["since"])
    return writing.now - since if since else timedelta(0)
