"""From a labelled manifest to a dataset in S3: read, check, split, preprocess, write shards, and `dataset.json` last.

The images are read twice: once to check them all and to hash them (equal images must not end in two splits), once to make
arrays. So every bad line and image is known before anything is written, and memory holds a few images and one shard. A dataset
is never changed: where `dataset.json` lies already, inputs and arrays must be the same, and then nothing new is written.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

from penstock_components import manifest, s3
from penstock_components.errors import ComponentError, several
from penstock_components.manifest import Record

from . import images, shards
from .profile import Profile
from .shards import Example, Shard
from .split import SPLITS, Sample, check_fractions, duplicates, split

log = logging.getLogger(__name__)


class Prepared(NamedTuple):
    """The component's outputs, in this order; its README says what each means."""

    dataset_uri: str
    classes: list[str]
    train_samples: int
    validation_samples: int
    test_samples: int
    left_out: int
    duplicates: int

    def metrics(self) -> dict[str, float]:
        """The numbers among them."""
        return {name: value for name, value in self._asdict().items() if isinstance(value, int)}


def prepare(
    manifest_uri: str,
    output_uri: str,
    label_attribute: str,
    classes: Sequence[str] = (),
    validation_fraction: float = 0.1,
    test_fraction: float = 0.1,
    group_attribute: str = "",
    min_confidence: float = 0.0,
    skip_unlabelled: bool = False,
    preprocess: str = "",
    image_size: int = 224,
    shard_mib: int = 64,
    seed: int = 0,
) -> tuple[Prepared, str]:
    """Write the dataset under `output_uri`; returns the component's outputs and the profile page (HTML).

    Raises:
        ComponentError: a setting, line, label, image or array is wrong; each is named by line and object.
    """
    if shard_mib < 1 or image_size < 1:
        raise ComponentError(f"shard_mib {shard_mib} and image_size {image_size} must be at least 1")
    fractions = check_fractions(validation_fraction, test_fraction)
    function = images.function(preprocess, image_size)
    content = s3.read(manifest_uri)
    records = manifest.parse(content, manifest_uri)
    labels = _labels(records, label_attribute, min_confidence, skip_unlabelled)
    names = _classes(labels, classes, label_attribute)
    samples = _samples(records, labels, names, group_attribute)
    parts = split(samples, names, fractions, seed)
    # All that decides what is in the dataset, and the images by content.
    source = {
        "manifest": manifest_uri,
        "attribute": label_attribute,
        "seed": seed,
        "fractions": fractions,
        "group": group_attribute,
        "min_confidence": min_confidence,
        "preprocess": preprocess or f"scaled_rgb({image_size})",
        "shard_mib": shard_mib,
        "inputs_sha256": _digest(content, [sample.digest for sample in samples]),
    }
    dataset_uri = s3.join(output_uri, "dataset.json")
    existing = _existing(dataset_uri, source)

    profile = Profile(names)
    written: dict[str, list[Shard]] = {}
    shape: list[tuple[int, ...]] = []
    for name in SPLITS:
        examples = _examples(parts[name], function, shape, partial(profile.add, name))
        written[name] = shards.write(s3.join(output_uri, name), examples, shard_mib * 1024 * 1024, existing)
    _remove_leftovers(output_uri, written)
    counts = {name: _counts(parts[name], names) for name in SPLITS}
    dataset = {
        "classes": names,
        "shape": list(shape[0]),
        "dtype": "float32",
        "counts": counts,
        "shards": {name: [shard._asdict() for shard in of] for name, of in written.items()},
        "source": source,
    }
    s3.write(dataset_uri, json.dumps(dataset, indent=1).encode(), "application/json")
    log.info("%s: %s", dataset_uri, {name: sum(of.values()) for name, of in counts.items()})
    same = duplicates(samples)
    train, validation, test = (len(parts[name]) for name in SPLITS)
    outputs = Prepared(
        dataset_uri=output_uri.rstrip("/"),
        classes=names,
        train_samples=train,
        validation_samples=validation,
        test_samples=test,
        left_out=len(records) - len(samples),
        duplicates=sum(len(group) - 1 for group in same),
    )
    return outputs, profile.html(counts, same)


def _labels(records: Sequence[Record], attribute: str, least: float, skip: bool) -> dict[int, str]:
    """Class names by place in the manifest; without those left out."""
    found: dict[int, str] = {}
    missing: list[str] = []
    problems: list[str] = []
    for place, record in enumerate(records):
        try:
            name = manifest.class_name(record, attribute)
        except ComponentError as error:
            problems.append(str(error))
            continue
        metadata = record.fields.get(f"{attribute}-metadata")
        confidence = metadata.get("confidence", 1.0) if isinstance(metadata, dict) else 1.0
        if name is None:
            missing.append(f"{record} has no {attribute!r}")
        elif confidence >= least:
            found[place] = name
    if len(missing) == len(records):
        raise ComponentError(f"no line has a label {attribute!r}; label attributes there are: {manifest.attributes(records)}")
    problems += [] if skip else missing
    if problems:
        hint = "" if skip else " (skip_unlabelled leaves out those without)"
        raise several(f"{len(problems)} of {len(records)} lines have no usable label{hint}", problems)
    if not found:
        raise ComponentError(f"no label has a confidence of {least} or more; lower min_confidence")
    return found


def _classes(labels: dict[int, str], wanted: Sequence[str], attribute: str) -> list[str]:
    there = set(labels.values())
    if not wanted:
        return sorted(there)
    if len(set(wanted)) != len(wanted) or there != set(wanted):
        extra, empty = sorted(there - set(wanted)), sorted(set(wanted) - there)
        raise ComponentError(
            f"classes {list(wanted)} are not those of {attribute!r}: without a sample {empty}, not in the list {extra}; "
            "each must be there, once"
        )
    return list(wanted)


def _samples(records: Sequence[Record], labels: dict[int, str], names: Sequence[str], group: str) -> list[Sample]:
    """Every image read, decoded and hashed; all that is wrong comes as one error."""
    chosen = [records[place] for place in labels]
    problems = [f"{record} has no {group!r} (group_attribute)" for record in chosen if group and group not in record.fields]
    if problems:
        raise several(f"{len(problems)} of {len(chosen)} lines have no group", problems)

    def digest(record: Record) -> str | ComponentError:
        try:
            return images.read(record).digest
        except ComponentError as error:
            return error

    samples = []
    for record, name, found in zip(chosen, labels.values(), images.ahead(digest, chosen), strict=True):
        if isinstance(found, ComponentError):
            problems.append(str(found))
        else:
            key = json.dumps(record.fields[group], sort_keys=True) if group else None
            samples.append(Sample(record, names.index(name), key, found))
    if problems:
        raise several(f"{len(problems)} of {len(chosen)} images cannot be used", problems)
    return samples


def _examples(
    samples: Sequence[Sample], function: images.Function, shape: list[tuple[int, ...]], note: Any
) -> Iterator[Example]:
    """Arrays in order; the first one's shape (kept in `shape`) is everyone's."""
    pictures = images.ahead(images.read, [sample.record for sample in samples])
    for sample, picture in zip(samples, pictures, strict=True):
        if picture.digest != sample.digest:
            raise ComponentError(f"{sample.record} changed while it was read; run again")
        array = images.apply(function, picture, sample.record, shape[0] if shape else None)
        if not shape:
            shape.append(array.shape)
        note(sample.label, picture.image, array)
        yield Example(f"{sample.record.line:08}", array, sample.label)


def _existing(dataset_uri: str, source: dict[str, Any]) -> set[str] | None:
    """SHA-256 of all shards of the finished dataset there, None if there is none. Refuses one of other inputs."""
    if not s3.exists(dataset_uri):
        return None
    try:
        found = json.loads(s3.read(dataset_uri))
        there = found["source"]
        differs = [f"{key} is {there.get(key)!r}, wanted {value!r}" for key, value in source.items() if there.get(key) != value]
        digests = {shard["sha256"] for of in found["shards"].values() for shard in of}
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ComponentError(f"{dataset_uri} was not written by this component; give another output_uri") from error
    if differs:
        raise several(f"{dataset_uri} is a dataset of other inputs, which is never changed; give another output_uri", differs)
    return digests


def _remove_leftovers(output_uri: str, written: dict[str, list[Shard]]) -> None:
    """Shards of an unfinished run with other inputs: a reader that lists the folder would take them for ours."""
    for name, of in written.items():
        ours = {s3.join(output_uri, name, shard.name) for shard in of}
        for found in s3.objects(s3.join(output_uri, name, "shard-")):
            if found.uri not in ours:
                log.warning("%s is left of an unfinished run and is deleted", found.uri)
                s3.delete(found.uri)


def _counts(samples: Sequence[Sample], names: Sequence[str]) -> dict[str, int]:
    counts = Counter(sample.label for sample in samples)
    return {name: counts[label] for label, name in enumerate(names)}


def _digest(content: bytes, digests: Sequence[str]) -> str:
    return hashlib.sha256(b"\n".join([content, *(digest.encode() for digest in digests)])).hexdigest()
