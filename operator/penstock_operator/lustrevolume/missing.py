"""AWS knows no file system: that is no proof that there is none.

The operator may ask in another account or region than it did before, AWS lists what is new with a delay, and a CreateFileSystem
may still be on its way. A file system that is believed gone too early costs on without an owner, and its data with it. So an
absence counts only where the file system would be, and only when it has stood for `Rules.doubt`, from a moment that the status
keeps; or when AWS has taken our own DeleteFileSystem.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from penstock_operator import names
from penstock_operator.cloud.fsx import Place
from penstock_operator.conditions import condition, format_time, parse_time
from penstock_operator.lustrevolume.observe import Observed, Trouble, Volume
from penstock_operator.lustrevolume.verdict import CreateFileSystem, Plan, Writing
from penstock_operator.names import VolumePhase, VolumeReason


def place_of(volume: Volume) -> Place:
    """Where its file system is, or was asked for."""
    return Place(volume.status.get("account", ""), volume.status.get("region", ""))


def note_place(writing: Writing, place: Place) -> None:
    """Keep it in the status: before a file system is asked for, and from what AWS then shows."""
    known = {"account": place.account, "region": place.region}
    writing.status |= {key: value for key, value in known.items() if value}


def forget_place(writing: Writing) -> None:
    """Nothing was made there."""
    for key in ("account", "region"):
        writing.status.pop(key, None)


def refused(trouble: Trouble | None) -> bool:
    """AWS said no to CreateFileSystem, so nothing was made (but by a token that it knows with other parameters)."""
    return (
        trouble is not None
        and isinstance(trouble.action, CreateFileSystem)
        and trouble.reason == VolumeReason.CLOUD_REFUSED
        and not trouble.message.startswith("IncompatibleParameterError")
    )


def perhaps_there(observed: Observed) -> bool:
    """It was seen, or asked for without an answer that is a no."""
    status = observed.volume.status
    return "fileSystemId" in status or ("region" in status and not refused(observed.trouble))


def elsewhere(observed: Observed) -> str:
    """Why an absence here says nothing; '' where the file system would be here."""
    expected, asked = place_of(observed.volume), observed.place
    wrong = [
        f"{kind} {right}, and the operator asks in {found or 'one that it cannot tell'}"
        for kind, right, found in (
            ("region", expected.region, asked.region),
            ("account", expected.account, asked.account),
        )
        if right and right != found
    ]
    what = observed.volume.status.get("fileSystemId") or "the file system"
    return f"{what} is in {'; '.join(wrong)}: mend AWS_REGION or the operator's role" if wrong else ""


def stall_elsewhere(observed: Observed, writing: Writing, message: str) -> Plan:
    """What is mounted stays mounted, and nothing is let go."""
    if not writing.is_true(names.FILE_SYSTEM_AVAILABLE) and not observed.volume.deleting:
        writing.condition(names.FILE_SYSTEM_AVAILABLE, False, VolumeReason.ELSEWHERE, message)
    phase = VolumePhase.DELETING if observed.volume.deleting else writing.status.get("phase", VolumePhase.PENDING)
    writing.phase(phase, VolumeReason.ELSEWHERE)
    writing.stalled(VolumeReason.ELSEWHERE, message)
    return Plan(status=writing.status, again=writing.rules.retry)


def doubt_left(writing: Writing) -> timedelta:
    """How long the absence must stand yet; its first moment is noted."""
    since = parse_time(writing.status.setdefault("missingSince", format_time(writing.now)))
    assert since is not None
    return max(since + writing.rules.doubt - writing.now, timedelta(0))


def seen(observed: Observed, writing: Writing) -> None:
    """The file system is there: what its status says of where, and no more of an absence."""
    if observed.file_system is not None:
        writing.status.pop("missingSince", None)
        note_place(writing, observed.file_system.place)


def is_being_deleted(volume: Volume) -> bool:
    """DeleteFileSystem was decided on; the call came after that was written, or did not come."""
    found = condition(volume.status, names.FILE_SYSTEM_AVAILABLE)
    return found is not None and found["reason"] == VolumeReason.DELETING


def looked_again(plan: Plan, left: timedelta, writing: Writing) -> Plan:
    """Not later than the doubt ends, and now and then before."""
    return replace(plan, again=min(max(left, writing.rules.poll), writing.rules.retry / 2))
