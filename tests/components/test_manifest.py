"""Augmented manifests: what is written is read; what is broken is named by line."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock_components import manifest, s3
from penstock_components.errors import ComponentError
from penstock_components.manifest import Record

json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
lines = st.dictionaries(st.text(min_size=1, max_size=8).filter(lambda key: key != "source-ref"), json_values, max_size=4).map(
    lambda fields: {"source-ref": "s3://bucket/key \u2028.png", **fields}
)


@given(st.lists(lines, min_size=1, max_size=5))
def test_a_manifest_survives_writing_and_reading(written: list[dict[str, Any]]) -> None:
    read = manifest.parse(manifest.dump(written), "m")
    assert [record.fields for record in read] == written
    assert [record.line for record in read] == list(range(1, len(written) + 1))


def test_a_manifest_survives_s3(bucket: str) -> None:
    fields = [{"source-ref": "s3://b/ä.png", "label": 0, "label-metadata": {"class-name": "ö"}}]
    manifest.write(s3.join(bucket, "m"), fields)
    assert [record.fields for record in manifest.read(s3.join(bucket, "m"))] == fields


def test_windows_line_ends_and_a_byte_order_mark_are_read() -> None:
    data = b'\xef\xbb\xbf{"source-ref":"s3://b/1"}\r\n{"source-ref":"s3://b/2"}\r\n'
    assert [record.source for record in manifest.parse(data, "m")] == ["s3://b/1", "s3://b/2"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"", "the line is empty"),
        (b"{", "not JSON: .* column 2"),
        (b"[]", "a JSON list, expected an object"),
        (b"{}", "no 'source-ref'; found nothing"),
        (b'{"source":"text"}', r"no 'source-ref'; found \['source'\]"),
        (b'{"source-ref":"/data/1.png"}', "'/data/1.png' is not an S3 URI"),
        (b'{"source-ref":5}', "5 is not an S3 URI"),
        (b'{"source-ref":"s3://b/folder/"}', "names no object"),
        (b'{"source-ref":"s3://b/1","a":1,"a":2}', "key 'a' stands twice"),
        (b'{"source-ref":"s3://b/1","a":NaN}', "NaN is not JSON"),
        (b'{"source-ref":"s3://b/\xff"}', "not UTF-8 at byte 23"),
        (b'{"source-ref":"s3://b/1","a":"' + b"x" * 20_000 + b'"}', "'a' has 20002 characters, at most 20000"),
        (b'{"source-ref":"s3://b/1","a":"' + b"x" * 100_000 + b'"}', "100032 characters, at most 100000"),
    ],
)
def test_a_broken_line_is_named_with_its_reason(line: bytes, reason: str) -> None:
    good = b'{"source-ref":"s3://b/1"}'
    with pytest.raises(ComponentError, match=rf"(?s)m: 1 of 3 lines cannot be used.*line 2: .*{reason}"):
        manifest.parse(b"\n".join([good, line, good]), "m")


def test_an_empty_manifest_is_refused() -> None:
    with pytest.raises(ComponentError, match="m: the manifest is empty"):
        manifest.parse(b"\n", "m")


def test_too_many_lines_are_refused() -> None:
    with pytest.raises(ComponentError, match="100001 lines, at most 100000"):
        manifest.parse(b"{}\n" * 100_001, "m")


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"l": 1, "l-metadata": {"class-name": "cat"}}, "cat"),
        ({"l": "cat"}, "cat"),
        ({"l": 3}, "3"),
        ({}, None),
        ({"l-metadata": {"failure-reason": "no image"}}, None),
    ],
)
def test_the_class_of_a_record(fields: dict[str, Any], name: str | None) -> None:
    assert manifest.class_name(Record(1, {"source-ref": "s3://b/1", **fields}), "l") == name


@pytest.mark.parametrize("label", [True, 1.5, [0], {"annotations": []}])
def test_a_label_of_another_task_is_refused(label: object) -> None:
    with pytest.raises(ComponentError, match=r"line 4 \(s3://b/1\): 'l' is .*image classification"):
        manifest.class_name(Record(4, {"source-ref": "s3://b/1", "l": label}), "l")
