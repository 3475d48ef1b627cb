"""What only AWS can tell before a labelling job is made: buckets and their region, every object, the work team, the page.

One HEAD request an object (32 at a time; 100,000 take a minute or two and cost 4 cents) against a job that would otherwise end
"complete with labeling errors" days later.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from botocore.exceptions import ClientError

from penstock_components import aws, s3
from penstock_components.errors import ComponentError
from penstock_components.manifest import Record

from .request import Labelling, private_workteam, template_problems

log = logging.getLogger(__name__)

MAX_IMAGE: Final = 40 * 1024 * 1024


def remote_problems(wanted: Labelling, records: Sequence[Record], page: bytes, region: str) -> list[str]:
    """Everything wrong with the settings that shows only by asking S3 and SageMaker; each names its object."""
    found = [*_bucket_problems(wanted, records, region), *template_problems(page, wanted.ui_template_uri or "worker page")]
    # Without its bucket every object would be named: one problem told 100,000 times.
    found += [] if found else _object_problems(records)
    return [*found, *_workteam_problems(wanted)]


def portal(wanted: Labelling) -> str:
    """Where the private team's workers log in, for messages; empty where AWS does not say."""
    team = private_workteam(wanted.workteam_arn)
    if team is None:
        return ""
    try:
        return str(aws.client("sagemaker").describe_workteam(WorkteamName=team)["Workteam"].get("SubDomain", ""))
    except ClientError:
        return ""


def _bucket_problems(wanted: Labelling, records: Sequence[Record], region: str) -> list[str]:
    images = {s3.parse(record.source)[0] for record in records}
    found = []
    for bucket in sorted({s3.parse(wanted.manifest_uri)[0], s3.parse(wanted.output_uri)[0], *images}):
        try:
            if (where := s3.region(bucket)) != region:
                found.append(f"bucket {bucket!r} is in {where}, the labelling job in {region}; they must be the same")
        except ComponentError as error:
            found.append(str(error))
    for bucket in sorted(images):
        if not found and not _allows_browsers(bucket):
            log.warning("bucket %r has no CORS rule: workers' browsers may not load its images (GET from any origin)", bucket)
    return found


def _allows_browsers(bucket: str) -> bool:
    try:
        return bool(aws.client("s3").get_bucket_cors(Bucket=bucket)["CORSRules"])
    except ClientError as error:
        return aws.code(error) != "NoSuchCORSConfiguration"  # not allowed to ask: no reason to warn


def _object_problems(records: Sequence[Record]) -> list[str]:
    def problem(record: Record) -> str | None:
        found = s3.find(record.source)
        if found is None:
            return f"{record}: the image is not there"
        return f"{record}: {found.size} bytes, at most {MAX_IMAGE} are allowed" if found.size > MAX_IMAGE else None

    with ThreadPoolExecutor(aws.CONNECTIONS) as pool:
        return [line for line in pool.map(problem, records) if line]


def _workteam_problems(wanted: Labelling) -> list[str]:
    team = private_workteam(wanted.workteam_arn)
    if team is None:
        return []
    try:
        found = aws.client("sagemaker").describe_workteam(WorkteamName=team)["Workteam"]
    except ClientError as error:
        if aws.transient(error):
            raise
        if aws.code(error) == "AccessDeniedException":
            log.warning("the work team is not checked: %s", aws.message(error))
            return []
        return [f"work team {team!r}: {aws.message(error)}; `aws sagemaker list-workteams` shows those that exist"]
    if found["WorkteamArn"] != wanted.workteam_arn:
        return [f"workteam_arn {wanted.workteam_arn!r}: the team {team!r} of this account is {found['WorkteamArn']!r}"]
    return [] if found.get("MemberDefinitions") else [f"work team {team!r} has no members; nobody would label"]
