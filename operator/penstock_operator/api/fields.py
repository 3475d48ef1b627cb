"""The pieces the API models are made of: the frozen base model, Kubernetes scalar types, and how they show in the CRD.

A pydantic field carries everything the CRD needs: description, bounds, defaults and, through `extension(...)`, the
`x-kubernetes-*` keys. crd.py turns the models into an OpenAPI v3 structural schema; nothing is written twice.
"""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema
from pydantic.alias_generators import to_camel


class ApiModel(BaseModel):
    """Frozen, camelCase on the wire, unknown fields refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)


def rule(
    expression: str, message: str, *, found: str = "", field_path: str | None = None, reason: str = "FieldValueInvalid"
) -> dict[str, Any]:
    """One CEL rule, as the API server wants it in x-kubernetes-validations.

    `found` is a CEL expression for what was found. Rules over one scalar need none: the API server tells its value. What is put
    together from values is refused as too dear (a number as text has no known length): a choice of constants is not.
    """
    built = {"rule": expression, "message": message, "reason": reason}
    if found:
        built["messageExpression"] = f"{json.dumps(message)} + '; found ' + {found}"
    if field_path:
        built["fieldPath"] = field_path
    return built


def extension(*rules: dict[str, Any], **keys: Any) -> dict[str, Any]:
    """`json_schema_extra` for a field or model: CEL rules and `x-kubernetes-*` keys (`list_type="map"`)."""
    built: dict[str, Any] = {}
    if rules:
        built["x-kubernetes-validations"] = list(rules)
    for key, value in keys.items():
        built["x-kubernetes-" + key.replace("_", "-")] = value
    return built


WITHOUT_NUL = r"^[^\x00]*$"
"""What can be an argument or a variable of a process."""

OpenObject = Annotated[dict[str, Any], WithJsonSchema({"type": "object", "x-kubernetes-preserve-unknown-fields": True})]
"""A Kubernetes object we pass through untouched (pod template parts): the API server checks it when the pod is created."""

Quantity = Annotated[
    int | str,
    WithJsonSchema(
        {
            "x-kubernetes-int-or-string": True,
            "maxLength": 32,
            **extension(
                rule(
                    "isQuantity(string(self)) && !quantity(string(self)).isLessThan(quantity('0'))",
                    "must be an amount such as 2, 500m or 16Gi, and not negative",
                )
            ),
        }
    ),
]
"""An amount of a resource. The API server checks it here, not only in the pods that would be refused later."""

Count = Annotated[int, Field(ge=0, le=2**31 - 1, json_schema_extra={"format": "int32"})]
BigCount = Annotated[int, Field(ge=0, json_schema_extra={"format": "int64"})]
Timestamp = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]
