"""The CRDs and the API reference page, generated from the pydantic models (manifests/generate.py writes them).

pydantic's JSON schema is not structural (it has $ref, anyOf with null, additionalProperties beside properties), so `structural`
rewrites it into what apiextensions.k8s.io/v1 accepts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from pydantic import BaseModel

from penstock_operator import names
from penstock_operator.api import lustrevolume, trainingjob
from penstock_operator.api.lustrevolume import LustreVolumeSpec, LustreVolumeStatus
from penstock_operator.api.status import TrainingJobStatus
from penstock_operator.api.trainingjob import TrainingJobSpec

Schema = dict[str, Any]

_DROPPED = ("title", "additionalProperties", "$defs", "discriminator")


def structural(model: type[BaseModel]) -> Schema:
    """The model's OpenAPI v3 structural schema: references inlined, null dropped, enums and constants typed."""
    raw = model.model_json_schema(by_alias=True)
    return _convert(raw, raw.get("$defs", {}))


def _convert(node: Schema, definitions: dict[str, Schema]) -> Schema:
    if "$ref" in node:
        target = definitions[node["$ref"].rsplit("/", 1)[1]]
        node = {**target, **{key: value for key, value in node.items() if key != "$ref"}}
        return _convert(node, definitions)
    if "anyOf" in node:
        variants = [variant for variant in node["anyOf"] if variant != {"type": "null"}]
        if len(variants) != 1:
            raise ValueError(f"a union has no structural schema: {node}")
        node = {**variants[0], **{key: value for key, value in node.items() if key != "anyOf"}}
        return _convert(node, definitions)
    built: Schema = {}
    for key, value in node.items():
        if key == "properties":
            built[key] = {name: _convert(schema, definitions) for name, schema in value.items()}
        elif key == "items" or (key == "additionalProperties" and isinstance(value, dict)):
            built[key] = _convert(value, definitions)
        elif key == "maxLength" and node.get("type") == "object":
            built["maxProperties"] = value
        elif key == "default" and (value is None or value in ({}, [])):
            continue  # the parser supplies empty values; a default in the CRD would only be written into every object
        elif key not in _DROPPED:
            built[key] = value
    return built


@dataclass(frozen=True)
class Kind:
    """Everything that decides a CRD."""

    name: str
    plural: str
    short: str
    description: str
    spec: type[BaseModel]
    status: type[BaseModel]
    rules: Sequence[Schema]
    columns: Sequence[tuple[str, str, str, int]]
    categories: Sequence[str]
    subresources: Mapping[str, Schema]
    # An empty object as default lets the API server fill in the defaults below it, so users and CEL rules see them.
    opened: Sequence[str] = ()


KINDS = (
    Kind(
        name=names.KIND,
        plural=names.PLURAL,
        short="tj",
        description="TrainingJob runs one distributed training: N workers, an MPI ring over ssh, one program.",
        spec=TrainingJobSpec,
        status=TrainingJobStatus,
        rules=trainingjob.ROOT_RULES,
        columns=trainingjob.PRINTER_COLUMNS,
        categories=("kubeflow", "training"),
        subresources={
            "status": {},
            "scale": {
                "specReplicasPath": ".spec.workers.replicas",
                "statusReplicasPath": ".status.workers.current",
                "labelSelectorPath": ".status.selector",
            },
        },
        opened=("workers", "mpi", "runPolicy"),
    ),
    Kind(
        name=names.VOLUME_KIND,
        plural=names.VOLUME_PLURAL,
        short="lvol",
        description="LustreVolume is an FSx for Lustre file system with its links to S3 and the claim that pods mount.",
        spec=LustreVolumeSpec,
        status=LustreVolumeStatus,
        rules=lustrevolume.ROOT_RULES,
        columns=lustrevolume.PRINTER_COLUMNS,
        categories=("training",),
        subresources={"status": {}},
    ),
)


def crd(kind: Kind) -> Schema:
    """The CustomResourceDefinition of a kind as a plain object."""
    spec, status = structural(kind.spec), structural(kind.status)
    for field in kind.opened:
        spec["properties"][field]["default"] = {}
    columns = []
    for name, form, path, priority in kind.columns:
        columns.append({"name": name, "type": form, "jsonPath": path} | ({"priority": priority} if priority else {}))
    version = {
        "name": names.VERSION,
        "served": True,
        "storage": True,
        "additionalPrinterColumns": columns,
        "subresources": dict(kind.subresources),
        "schema": {
            "openAPIV3Schema": {
                "description": kind.description,
                "type": "object",
                "required": ["spec"],
                "properties": {
                    "apiVersion": {"type": "string"},
                    "kind": {"type": "string"},
                    "metadata": {"type": "object"},
                    "spec": spec,
                    "status": status,
                },
                "x-kubernetes-validations": list(kind.rules),
            }
        },
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{kind.plural}.{names.GROUP}",
            "labels": {"app.kubernetes.io/name": "penstock", "app.kubernetes.io/part-of": "penstock"},
        },
        "spec": {
            "group": names.GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind.name,
                "listKind": f"{kind.name}List",
                "plural": kind.plural,
                "singular": kind.name.lower(),
                "shortNames": [kind.short],
                "categories": list(kind.categories),
            },
            "versions": [version],
        },
    }


def crd_yaml(kind: Kind) -> str:
    return "# Generated by `make generate` from operator/penstock_operator/api; do not edit.\n" + yaml.safe_dump(
        crd(kind), sort_keys=False, width=150, allow_unicode=True
    )


def reference() -> str:
    """docs/api.md: one table row per field, in the order of the models."""
    lines = ["# API reference", "", f"`{names.API_VERSION}`. Generated by `make generate`; do not edit."]
    for kind in KINDS:
        lines += ["", f"## {kind.name} (`{kind.short}`)", "", kind.description]
        for title, model in (("spec", kind.spec), ("status", kind.status)):
            lines += ["", f"### {kind.name} {title}", "", "| field | type | default | meaning |", "|---|---|---|---|"]
            lines += list(_rows(structural(model), f"{title}."))
        lines += ["", f"### Rules over the whole {kind.name}", ""]
        lines += [f"- {one['message']}" for one in kind.rules]
    return "\n".join(lines) + "\n"


def _rows(schema: Schema, prefix: str) -> Iterator[str]:
    required = set(schema.get("required", ()))
    for name, field in schema["properties"].items():
        items = field.get("items", {})
        default = "required" if name in required else _default(field)
        yield f"| `{prefix}{name}` | {_type(field)} | {default} | {_meaning(field)} |"
        if "properties" in field:
            yield from _rows(field, f"{prefix}{name}.")
        elif "properties" in items:
            yield from _rows(items, f"{prefix}{name}[].")


def _type(field: Schema) -> str:
    if "enum" in field:
        return " \\| ".join(map(str, field["enum"]))
    if field.get("type") == "array":
        return f"[]{_type(field['items'])}"
    if isinstance(field.get("additionalProperties"), dict):
        return f"map of {_type(field['additionalProperties'])}"
    if field.get("x-kubernetes-int-or-string"):
        return "quantity"
    return str(field.get("type", "any"))


def _default(field: Schema) -> str:
    return f"`{field['default']}`" if field.get("default") not in (None, {}) else ""


def _meaning(field: Schema) -> str:
    ruled = (field, field.get("items", {}))
    rules = [one["message"] for each in ruled for one in each.get("x-kubernetes-validations", ())]
    bounds = [
        f"{label} {field[key]}"
        for key, label in (("minimum", "≥"), ("maximum", "≤"))
        if key in field and field[key] < 2**31 - 1
    ]
    parts = [field.get("description", ""), *(f"Rule: {one}." for one in rules), *([", ".join(bounds) + "."] if bounds else [])]
    return " ".join(part for part in parts if part).replace("|", "\\|").replace("\n", " ")
