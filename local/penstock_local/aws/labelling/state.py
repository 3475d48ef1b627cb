"""What labelling remembers: jobs, work teams and who works in them."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from penstock_local.aws.labelling.workers import Answer, Crew

Key = tuple[str, str, str]  # account, region, name in lower case: names are not case-sensitive


@dataclass
class Job:
    """A labelling job. `lines`: its input manifest; `answers` and `failed` go by the number of the line, from 0."""

    name: str
    account: str
    region: str
    request: dict[str, Any]
    status: str = "Initializing"
    since: float = field(default_factory=time.monotonic)
    created: float = field(default_factory=time.time)
    modified: float = field(default_factory=time.time)
    code: str = field(default_factory=lambda: uuid4().hex)
    failure: str = ""
    lines: list[dict[str, Any]] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    waiting: list[int] = field(default_factory=list)  # lines without a label yet, in order
    answers: dict[int, list[Answer]] = field(default_factory=dict)
    failed: dict[int, str] = field(default_factory=dict)
    earned: float = 0.0  # objects that the workers had time for and that are not counted yet
    worked: float = 0.0  # when `earned` was last brought up to date, on the monotonic clock
    output: str = ""  # URI of the output manifest, once it is written

    def become(self, status: str, failure: str = "") -> None:
        self.status, self.since, self.modified, self.failure = status, time.monotonic(), time.time(), failure

    def after(self, seconds: float) -> bool:
        """Has this status lasted so long?"""
        return time.monotonic() - self.since >= seconds

    @property
    def arn(self) -> str:
        return f"arn:aws:sagemaker:{self.region}:{self.account}:labeling-job/{self.name.lower()}"

    @property
    def workers_per_object(self) -> int:
        return int(self.request["HumanTaskConfig"]["NumberOfHumanWorkersPerDataObject"])

    @property
    def team(self) -> str:
        return str(self.request["HumanTaskConfig"]["WorkteamArn"]).rpartition("/")[2].lower()


@dataclass
class LabellingState:
    """All of it; `crews` by the work team's name in lower case, set by the control API before or after the team is made."""

    jobs: dict[Key, Job] = field(default_factory=dict)
    workteams: dict[Key, dict[str, Any]] = field(default_factory=dict)
    crews: dict[str, Crew] = field(default_factory=dict)
