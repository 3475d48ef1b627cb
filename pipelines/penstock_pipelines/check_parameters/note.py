"""`run.json`: what a run was asked for, and which start of it owns what it makes."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

from penstock_components import adoption, s3
from penstock_components.errors import ComponentError, several
from penstock_pipelines import run as runs

log = logging.getLogger(__name__)

# How a run is waited for and who does it; what it makes is the same with other values.
_MAY_DIFFER: Final = {
    *("run", "job_id", "namespace", "labelling_attempt"),
    *("labelling_hours", "training_hours", "model_minutes", "poll_seconds"),
}


def write(uri: str, wanted: Mapping[str, Any]) -> None:
    """Write run.json, or refuse a run of that name that was asked for something else.

    A start with the same parameters becomes the owner, also while the one before is under way: a start that was killed tells
    nobody, and going on is what the name is given for. The former owner's exit handler then touches nothing.
    """
    job_id = str(wanted["job_id"])
    asked = {key: adoption.plain(value) for key, value in wanted.items() if key not in _MAY_DIFFER}
    asked = json.loads(json.dumps(asked))
    if not s3.exists(uri):
        _own(uri, [job_id], runs.now(), asked)
        return
    try:
        found = json.loads(s3.read(uri))
        before, started, owners = found["parameters"], found["started"], [*found["former_owners"], found["owner"]]
        differs = [f"{name} is {asked[name]!r}, was {before.get(name)!r}" for name in asked if asked[name] != before.get(name)]
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ComponentError(f"run: {uri} was not written by this pipeline ({error!r}); choose another name") from error
    if differs:
        raise several(f"run: {uri} is a run with other parameters; choose another name for this one. What differs:", differs)
    log.info("%s: this run was started before, at %s; it goes on", uri, started)
    if owners[-1] != job_id:
        log.info("%s: %s takes the run over from %s", uri, job_id, owners[-1])
        _own(uri, [*(each for each in owners if each != job_id), job_id], started, before)


def _own(uri: str, owners: Sequence[str], started: str, asked: Mapping[str, Any]) -> None:
    about = {
        "started": started,
        "owner": owners[-1],
        "owner_since": runs.now(),
        "former_owners": list(owners[:-1]),
        "parameters": asked,
    }
    s3.write(uri, json.dumps(about, indent=1).encode(), "application/json")
