"""Which sample goes to train, validation or test: by class, nothing in two splits, the same for the same seed. No I/O.

Samples of one group (a patient, a scene) and images with the same bytes form a unit, and a unit goes to one split whole. Units
are placed class by class, rarest class first, each where that class lacks most (iterative stratification: Sechidis, Tsoumakas,
Vlahavas, ECML 2011). scikit-learn's splitters are not used: train_test_split knows no groups, and StratifiedGroupKFold can
leave a split without a rare class though there were groups enough. The order among equals is by a hash of seed and content, so
it does not depend on the order of the manifest, nor on a random generator's version.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Final, NamedTuple

from penstock_components.errors import ComponentError, several
from penstock_components.manifest import Record

SPLITS: Final = ("train", "validation", "test")


class Sample(NamedTuple):
    """One labelled image: its line, its class (index), its group (None: alone) and the SHA-256 (hex) of its bytes."""

    record: Record
    label: int
    group: str | None
    digest: str


def split(samples: Sequence[Sample], classes: Sequence[str], fractions: dict[str, float], seed: int) -> dict[str, list[Sample]]:
    """Samples of each split, in a shuffled order that depends on seed and content only.

    A split with a fraction above 0 gets at least one sample of each class, else round(fraction x samples of the class).

    Raises:
        ComponentError: a class has too few units for the splits, or equal images have different classes; each is named.
    """
    used = [name for name in SPLITS if fractions[name] > 0]
    units = sorted(_units(samples, classes), key=lambda unit: (-len(unit), _rank(seed, unit[0])))
    _enough(units, classes, used)
    wanted = {
        label: _targets(count, {name: fractions[name] for name in used})
        for label, count in Counter(sample.label for sample in samples).items()
    }
    room = {name: sum(targets[name] for targets in wanted.values()) for name in used}
    placed: dict[str, list[Sample]] = {name: [] for name in SPLITS}
    has: set[tuple[str, int]] = set()
    done: set[int] = set()
    holding: dict[int, list[int]] = defaultdict(list)
    for number, unit in enumerate(units):
        for label in {sample.label for sample in unit}:
            holding[label].append(number)
    for label in sorted(wanted, key=lambda label: (sum(wanted[label].values()), label)):
        pending = [number for number in holding[label] if number not in done]
        for left, number in zip(range(len(pending), 0, -1), pending, strict=True):
            lacking = [name for name in used if (name, label) not in has]
            choice = lacking if len(lacking) >= left else used
            home = max(choice, key=lambda name: (wanted[label][name], room[name]))
            placed[home] += units[number]
            done.add(number)
            for sample in units[number]:
                wanted[sample.label][home] -= 1
                room[home] -= 1
                has.add((home, sample.label))
    _covered(placed, classes, used)
    return {name: sorted(of, key=lambda sample: _rank(seed, sample)) for name, of in placed.items()}


def duplicates(samples: Sequence[Sample]) -> list[list[Sample]]:
    """Samples whose images have the same bytes, in groups of two or more, in the order of the manifest."""
    same: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        same[sample.digest].append(sample)
    return [group for group in same.values() if len(group) > 1]


def _units(samples: Sequence[Sample], classes: Sequence[str]) -> list[list[Sample]]:
    """Samples that must stay together, joined over groups and over equal images."""
    clashes = [group for group in duplicates(samples) if len({sample.label for sample in group}) > 1]
    if clashes:
        lines = (", ".join(f"{sample.record} is {classes[sample.label]!r}" for sample in group) for group in clashes)
        raise several("the same image has different labels; keep one line of each", lines)
    leader: dict[str, str] = {}

    def find(key: str) -> str:
        while leader.setdefault(key, key) != key:
            leader[key] = key = leader[leader[key]]
        return key

    for sample in samples:
        if sample.group is not None:
            leader[find(f"group {sample.group}")] = find(sample.digest)
    units: dict[str, list[Sample]] = defaultdict(list)
    for sample in sorted(samples, key=lambda sample: (sample.digest, sample.record.source, sample.record.line)):
        units[find(sample.digest)].append(sample)
    return list(units.values())


def _targets(count: int, fractions: dict[str, float]) -> dict[str, int]:
    """How many of a class's `count` samples each split should get: at least one each, train gets what is left."""
    targets = {name: max(1, round(count * fraction)) for name, fraction in fractions.items() if name != "train"}
    while sum(targets.values()) > count - ("train" in fractions):
        targets[max(targets, key=lambda name: targets[name])] -= 1
    return {"train": count - sum(targets.values()), **targets} if "train" in fractions else targets


def _enough(units: Sequence[Sequence[Sample]], classes: Sequence[str], used: Sequence[str]) -> None:
    have = Counter(label for unit in units for label in {sample.label for sample in unit})
    few = [f"{name!r} has {have[index]}" for index, name in enumerate(classes) if have[index] < len(used)]
    if few:
        raise several(
            f"too few samples to have each class in {', '.join(used)}: a class needs {len(used)} that may be parted (a group "
            "or a set of equal images counts as one); label more, take the class out, or set a fraction to 0",
            few,
        )


def _covered(placed: dict[str, list[Sample]], classes: Sequence[str], used: Sequence[str]) -> None:
    missing = [
        f"{name} has no {classes[label]!r}"
        for name in used
        for label in sorted(set(range(len(classes))) - {sample.label for sample in placed[name]})
    ]
    if missing:
        raise several("the groups are too large to have each class in each split; use finer groups or fewer splits", missing)


def check_fractions(validation: float, test: float) -> dict[str, float]:
    """The three fractions from the two that are given.

    Raises:
        ComponentError: they are not fractions, or nothing is left for train.
    """
    if validation < 0 or test < 0 or validation + test >= 1:
        raise ComponentError(f"validation_fraction {validation} and test_fraction {test}: each from 0, together below 1")
    return {"train": 1.0 - validation - test, "validation": validation, "test": test}


def _rank(seed: int, sample: Sample) -> tuple[bytes, str, int]:
    digest = hashlib.sha256(f"{seed} {sample.digest}".encode()).digest()
    return digest, sample.record.source, sample.record.line
