"""Values against botocore's models: what AWS would refuse in a request, and what no AWS answer could look like.

The words are those of AWS's own validation ("1 validation error detected: Value 'x' at 'y' failed to satisfy constraint: ...").
Patterns with Unicode classes (\\p{L}, in tags) are not checked: Python's re does not know them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from botocore.model import ListShape, MapShape, OperationModel, ServiceModel, Shape, StructureShape
from botocore.session import get_session

_TYPES: dict[str, type | tuple[type, ...]] = {
    "string": str, "integer": int, "long": int, "boolean": bool, "structure": dict, "list": list, "map": dict,
    "timestamp": (int, float), "double": (int, float), "float": (int, float),
}  # fmt: skip


@cache
def operation(service: str, action: str) -> OperationModel:
    return _service(service).operation_model(action)


def request_error(service: str, action: str, request: dict[str, Any]) -> str:
    """AWS's message for a request that breaks the model; empty for a good one."""
    shape = operation(service, action).input_shape
    found = list(_problems(shape, request, "", known_only=False)) if shape else []
    return f"{len(found)} validation error{'s' if len(found) > 1 else ''} detected: {'; '.join(found)}" if found else ""


def answer_problems(service: str, action: str, answer: dict[str, Any]) -> list[str]:
    """Where an answer breaks the model: wrong or missing members, and members that AWS does not have."""
    shape = operation(service, action).output_shape
    return list(_problems(shape, answer, "", known_only=True)) if shape else [str(answer)] if answer else []


@cache
def _service(name: str) -> ServiceModel:
    return get_session().get_service_model(name)


def _problems(shape: Shape, value: Any, path: str, *, known_only: bool) -> Iterator[str]:
    expected = _TYPES.get(shape.type_name)
    if expected and (not isinstance(value, expected) or (isinstance(value, bool) and shape.type_name != "boolean")):
        yield _problem(value, path, f"Member must be of type {shape.type_name}")
    elif isinstance(shape, StructureShape):
        yield from _members(shape, value, path, known_only)
    elif isinstance(shape, ListShape):
        yield from _limits(shape, value, len(value), path)
        for number, each in enumerate(value, start=1):
            yield from _problems(shape.member, each, f"{path}.{number}.member", known_only=known_only)
    elif isinstance(shape, MapShape):
        for key, each in value.items():
            yield from _problems(shape.value, each, f"{path}.{key}", known_only=known_only)
    else:
        yield from _limits(shape, value, len(value) if isinstance(value, str) else value, path)
        yield from _wording(shape, value, path)


def _members(shape: StructureShape, value: dict[str, Any], path: str, known_only: bool) -> Iterator[str]:
    for name in shape.required_members:
        if value.get(name) is None:
            yield _problem(None, _join(path, name), "Member must not be null")
    for name, each in value.items():
        if name not in shape.members:
            if known_only:
                yield _problem(each, _join(path, name), f"{shape.name} has no such member")
        elif each is not None:
            yield from _problems(shape.members[name], each, _join(path, name), known_only=known_only)


def _limits(shape: Shape, value: Any, size: float, path: str) -> Iterator[str]:
    measure = "length" if isinstance(value, str | list) else "value"
    low, high = shape.metadata.get("min"), shape.metadata.get("max")
    if low is not None and size < low:
        yield _problem(value, path, f"Member must have {measure} greater than or equal to {low}")
    if high is not None and size > high:
        yield _problem(value, path, f"Member must have {measure} less than or equal to {high}")


def _wording(shape: Shape, value: Any, path: str) -> Iterator[str]:
    choices, pattern = getattr(shape, "enum", None), shape.metadata.get("pattern")
    if choices and value not in choices:
        yield _problem(value, path, f"Member must satisfy enum value set: [{', '.join(choices)}]")
    if pattern and "\\p" not in pattern and not re.fullmatch(pattern, value):
        yield _problem(value, path, f"Member must satisfy regular expression pattern: {pattern}")


def _problem(value: Any, path: str, constraint: str) -> str:
    shown = "null" if value is None else f"'{str(value)[:200]}'"
    return f"Value {shown} at '{path}' failed to satisfy constraint: {constraint}"


def _join(path: str, name: str) -> str:
    return f"{path}.{name[0].lower()}{name[1:]}" if path else f"{name[0].lower()}{name[1:]}"
