"""One user for launcher and workers: an sshd without root serves nobody but the user it runs as, and ssh asks by name.

A worker of another user takes the connection and ends it, which looks like a lost node and would be tried for hours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from penstock_operator import names
from penstock_operator.names import Reason
from penstock_operator.trainingjob.observe import Observed
from penstock_operator.trainingjob.verdict import Stall


def users_differ(observed: Observed) -> Stall | None:
    """Templates that make two users of launcher and workers."""
    spec = observed.job.spec
    assert spec is not None
    workers = run_as(spec.workers.template.spec, names.ROLE_WORKER)
    launcher = run_as(spec.launcher.template.spec, names.ROLE_LAUNCHER)
    if workers == launcher:
        return None
    return Stall(
        Reason.UNUSABLE_USER,
        f"runAsUser is {workers} by spec.workers.template and {launcher} by spec.launcher.template; ssh lets in only the user "
        "that sshd runs as: give both the same, one that the image's /etc/passwd knows",
        give_back=True,
    )


def run_as(template: Mapping[str, Any], role: str) -> Any:
    """The user of the main container of a pod with this template."""
    containers = template.get("containers")
    main = [one for one in containers if _field(one, "name") == role] if isinstance(containers, list) else []
    for place in (*main, template):
        user = _field(_field(place, "securityContext"), "runAsUser")
        if user is not None:
            return user
    return names.RUN_AS


def _field(body: Any, key: str) -> Any:
    """A template may hold anything; the API server judges it when the pod is created."""
    return body.get(key) if isinstance(body, Mapping) else None
