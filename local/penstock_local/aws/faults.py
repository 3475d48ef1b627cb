"""Faults on request: the next calls of an action are answered with an error instead of, or after, being done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from threading import Lock
from typing import Any

from penstock_local.aws.errors import AWSError


@dataclass
class Fault:
    """One fault; `times` is how often it is still to come."""

    service: str
    action: str
    code: str
    message: str = "injected fault"
    status: int = 400
    times: int = 1
    after: bool = False
    fields: dict[str, Any] = field(default_factory=dict)

    @property
    def error(self) -> AWSError:
        return AWSError(self.code, self.message, self.status, self.fields)


class Faults:
    """The faults that are still to come, in the order they were asked for."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._lock = Lock()

    def add(self, given: Mapping[str, Any]) -> None:
        """Raises ValueError for a fault that says too little or too much."""
        try:
            fault = Fault(**given)
        except TypeError as error:
            raise ValueError(f"a fault has service, action, code and may have {sorted(_OPTIONAL)}: {error}") from None
        if fault.times < 1 or not 400 <= fault.status <= 599:
            raise ValueError(f"times is {fault.times} and status {fault.status}; expected 1 or more and 400 to 599")
        with self._lock:
            self._faults.append(fault)

    def take(self, service: str, action: str) -> Fault | None:
        """The first fault for such a call, counted down."""
        with self._lock:
            for fault in self._faults:
                if fault.service == service and fault.action in (action, "*"):
                    fault.times -= 1
                    if not fault.times:
                        self._faults.remove(fault)
                    return fault
        return None

    def clear(self) -> None:
        with self._lock:
            self._faults.clear()

    def shown(self) -> list[dict[str, Any]]:
        with self._lock:
            return [asdict(fault) for fault in self._faults]


_OPTIONAL = {"message", "status", "times", "after", "fields"}
