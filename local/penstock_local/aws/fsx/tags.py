"""Tags of FSx resources are in moto, so that its TagResource, UntagResource and ListTagsForResource see them."""

from __future__ import annotations

from typing import Any

from moto.fsx.models import fsx_backends


def put(account: str, region: str, arn: str, tags: list[dict[str, str]] | None) -> None:
    if tags:
        fsx_backends[account][region].tagger.tag_resource(arn, tags)


def of(account: str, region: str, arn: str) -> dict[str, Any]:
    """`{"Tags": [...]}`, empty where there are none: AWS leaves the member out."""
    tags = fsx_backends[account][region].list_tags_for_resource(arn)
    return {"Tags": tags} if tags else {}


def remove(account: str, region: str, arn: str) -> None:
    fsx_backends[account][region].tagger.delete_all_tags_for_resource(arn)
