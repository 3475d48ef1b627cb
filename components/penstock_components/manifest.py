"""Augmented manifests: JSON Lines in UTF-8, one object a line, `source-ref` (an S3 URI) and any number of attributes.

The format is SageMaker's (developer guide: "Input manifest file", "Output data"); a label of classification is
`"<attribute>": <class index>` with `"<attribute>-metadata": {"class-name": ...}`. Lines keep their number from the file, so
that every later error can name line and object. Limits of the service are checked here: 100,000 objects, 100,000 characters a
line, 20,000 characters an attribute.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from . import s3
from .errors import ComponentError, several

MAX_LINES: Final = 100_000
MAX_LINE: Final = 100_000
MAX_ATTRIBUTE: Final = 20_000
SOURCE: Final = "source-ref"


class Record(NamedTuple):
    """One line: its number (from 1) and its JSON object."""

    line: int
    fields: dict[str, Any]

    @property
    def source(self) -> str:
        """The S3 URI of the object."""
        return str(self.fields[SOURCE])

    def __str__(self) -> str:
        return f"line {self.line} ({self.source})"


def read(uri: str) -> list[Record]:
    """Read and check a manifest in S3.

    Raises:
        ComponentError: it is not there, or has broken lines; each is named with its number and what is wrong.
    """
    return parse(s3.read(uri), uri)


def parse(data: bytes, name: str) -> list[Record]:
    """Records of a manifest's bytes; `name` stands in errors. Raises as `read`."""
    # Not splitlines(): U+2028 and its like may stand inside a JSON string.
    lines = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    if lines[-1].strip() == b"":
        lines.pop()
    if not any(line.strip() for line in lines):
        raise ComponentError(f"{name}: the manifest is empty")
    if len(lines) > MAX_LINES:
        raise ComponentError(f"{name}: {len(lines)} lines, at most {MAX_LINES} are allowed; split it")
    records: list[Record] = []
    problems: list[str] = []
    for number, line in enumerate(lines, start=1):
        try:
            records.append(Record(number, _object(line)))
        except ValueError as error:
            problems.append(f"line {number}: {error}")
    if problems:
        raise several(f"{name}: {len(problems)} of {len(lines)} lines cannot be used", problems)
    return records


def dump(fields: Iterable[Mapping[str, Any]]) -> bytes:
    """The bytes of a manifest: one compact JSON object a line, keys in the order given, a newline at the end of each."""
    lines = (json.dumps(each, ensure_ascii=False, allow_nan=False, separators=(",", ":")) for each in fields)
    return "".join(f"{line}\n" for line in lines).encode()


def write(uri: str, fields: Iterable[Mapping[str, Any]]) -> None:
    """Write a manifest to S3."""
    s3.write(uri, dump(fields), "application/jsonlines")


def class_name(record: Record, attribute: str) -> str | None:
    """The class of a record: `class-name` of the metadata, else the attribute itself; None where it is not labelled.

    Raises:
        ComponentError: there is a label, but it is neither a class name nor a class index.
    """
    metadata = record.fields.get(f"{attribute}-metadata")
    if isinstance(metadata, dict) and isinstance(metadata.get("class-name"), str):
        return str(metadata["class-name"])
    label = record.fields.get(attribute)
    if label is None:
        return None
    if isinstance(label, str | int) and not isinstance(label, bool):
        return str(label)
    raise ComponentError(f"{record}: {attribute!r} is {label!r}; expected a class index or name (image classification)")


def attributes(records: Sequence[Record]) -> list[str]:
    """Names of the label attributes in use (those with a `-metadata` beside them), sorted: for errors that help."""
    keys = {key for record in records for key in record.fields}
    return sorted(key.removesuffix("-metadata") for key in keys if key.endswith("-metadata"))


def _object(line: bytes) -> dict[str, Any]:
    """One line's JSON object, with a good `source-ref`."""
    try:
        text = line.decode().strip()
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 at byte {error.start + 1}") from error
    if not text:
        raise ValueError("the line is empty")
    if len(text) > MAX_LINE:
        raise ValueError(f"{len(text)} characters, at most {MAX_LINE} are allowed")
    try:
        fields = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at column {error.colno}") from error
    if not isinstance(fields, dict):
        raise ValueError(f"a JSON {type(fields).__name__}, expected an object with {SOURCE!r}")
    if SOURCE not in fields:
        raise ValueError(f"no {SOURCE!r}; found {sorted(fields) or 'nothing'}")
    _, key = s3.parse(fields[SOURCE])
    if not key or key.endswith("/"):
        raise ValueError(f"{SOURCE} {fields[SOURCE]!r} names no object")
    for name, value in fields.items():
        size = len(json.dumps(value, ensure_ascii=False))
        if size > MAX_ATTRIBUTE:
            raise ValueError(f"{name!r} has {size} characters, at most {MAX_ATTRIBUTE} are allowed")
    return fields


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"key {next(name for name in names if names.count(name) > 1)!r} stands twice")
    return found


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not JSON")
