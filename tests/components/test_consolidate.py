"""Dawid-Skene against truth that is known, and the component over answers in S3."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.components.conftest import example, kfp_inputs

from penstock_components import manifest, s3
from penstock_components.errors import ComponentError
from penstock_components.labelling.consolidate_labels.component import consolidate_labels
from penstock_components.labelling.consolidate_labels.consolidate import Consolidated, consolidate
from penstock_components.labelling.consolidate_labels.dawid_skene import (
    Answers,
    Estimate,
    Floats,
    Ints,
    dawid_skene,
    fleiss_kappa,
    majority,
)

CLASSES = ["cat", "dog", "eel"]


def answers(rows: list[tuple[int, int, int]], shape: tuple[int, int, int]) -> Answers:
    objects, workers, labels = np.array(rows, dtype=np.int64).reshape(-1, 3).T
    return Answers(objects, workers, labels, shape)


def crowd(seed: int, confusion: Floats, objects: int = 200, each: int = 3) -> tuple[Ints, Answers]:
    """Truth, and answers of workers with the given confusion matrices (workers, truth, answer)."""
    random = np.random.default_rng(seed)
    workers, classes, _ = confusion.shape
    truth = random.integers(0, classes, objects)
    rows = [
        (place, worker, random.choice(classes, p=confusion[worker, truth[place]]))
        for place in range(objects)
        for worker in random.choice(workers, each, replace=False).tolist()
    ]
    return truth, answers(rows, (objects, workers, classes))


def workers_right(accuracy: Floats, classes: int) -> Floats:
    """Confusion matrices of workers who are right with a given chance, and wrong evenly."""
    wrong = (1 - accuracy) / (classes - 1)
    return np.where(np.eye(classes, dtype=bool), accuracy[:, None, None], wrong[:, None, None])


def right(posterior: Floats, truth: Ints) -> float:
    return float((posterior.argmax(axis=1) == truth).mean())


some_answers = st.integers(2, 4).flatmap(
    lambda classes: st.lists(
        st.tuples(st.integers(0, 9), st.integers(0, 4), st.integers(0, classes - 1)), min_size=1, max_size=60
    ).map(lambda rows: answers(rows, (10, 5, classes)))
)


@given(some_answers)
@settings(deadline=None)
def test_probabilities_sum_to_one_and_the_objective_never_falls(found: Answers) -> None:
    estimate = dawid_skene(found)
    np.testing.assert_allclose(estimate.posterior.sum(axis=1), 1)
    np.testing.assert_allclose(estimate.confusion.sum(axis=2), 1)
    np.testing.assert_allclose(estimate.shares.sum(), 1)
    assert (np.diff(estimate.objective) > -1e-9).all()
    assert estimate.converged


@given(some_answers, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_order_of_answers_workers_and_classes_does_not_matter(found: Answers, random: Any) -> None:
    n_objects, n_workers, n_classes = found.shape
    objects, workers, classes = (
        np.array(random.sample(range(count), count), dtype=np.int64) for count in (n_objects, n_workers, n_classes)
    )
    order = np.array(random.sample(range(len(found.labels)), len(found.labels)), dtype=np.int64)
    moved = Answers(objects[found.objects][order], workers[found.workers][order], classes[found.labels][order], found.shape)
    # Few steps: they are the same up to rounding, while near a saddle rounding may decide where 1000 steps end.
    before, after = dawid_skene(found, iterations=20), dawid_skene(moved, iterations=20)
    np.testing.assert_allclose(after.posterior[objects][:, classes], before.posterior, atol=1e-6)
    np.testing.assert_allclose(after.accuracy()[workers], before.accuracy(), atol=1e-6)


@given(st.lists(st.integers(0, 2), min_size=1, max_size=30), st.integers(1, 5))
@settings(deadline=None)
def test_workers_who_agree_are_believed(truth: list[int], workers: int) -> None:
    rows = [(place, worker, label) for place, label in enumerate(truth) for worker in range(workers)]
    assert dawid_skene(answers(rows, (len(truth), workers, 3))).posterior.argmax(axis=1).tolist() == truth


def test_nobodys_object_gets_the_class_shares_and_a_tie_stays_in_doubt() -> None:
    rows = [*((place, worker, 0) for place in range(8) for worker in (0, 1)), (8, 0, 0), (8, 1, 1)]
    estimate = dawid_skene(answers(rows, (10, 2, 2)))
    np.testing.assert_allclose(estimate.posterior[9], estimate.shares)
    assert estimate.posterior[8].max() < 0.95 < estimate.posterior[0].max()


def test_two_equal_workers_who_disagree_leave_it_open() -> None:
    estimate = dawid_skene(answers([(0, 0, 0), (0, 1, 1)], (1, 2, 2)))
    np.testing.assert_allclose(estimate.posterior, 0.5)


def compare(confusion: Callable[[int], Floats], each: int = 3, seeds: int = 30) -> tuple[float, float]:
    """Mean share of right labels over seeds, with the workers of each seed: Dawid-Skene, majority."""
    pairs = []
    for seed in range(seeds):
        truth, found = crowd(seed, confusion(seed), each=each)
        pairs.append((right(dawid_skene(found).posterior, truth), right(majority(found), truth)))
    ours, theirs = np.mean(pairs, axis=0)
    return float(ours), float(theirs)


@pytest.mark.parametrize("each", [3, 5])
def test_with_noisy_workers_it_is_on_average_no_worse_than_the_majority(each: int) -> None:
    def noisy(seed: int) -> Floats:
        return workers_right(np.random.default_rng(1000 + seed).uniform(0.7, 0.9, 10), 4)

    ours, theirs = compare(noisy, each)
    assert ours >= theirs


def test_with_spammers_it_is_much_better_than_the_majority() -> None:
    confusion = workers_right(np.array([0.9, 0.85, 0.8, 0.9, 0.85, 0.8, 0.25, 0.25, 0.25, 0.25]), 4)
    ours, theirs = compare(lambda seed: confusion)
    assert ours > theirs + 0.05


def test_with_workers_who_mix_up_two_classes_it_is_better_than_the_majority() -> None:
    confusion = workers_right(np.full(10, 0.85), 4)
    confusion[::2, :2] = [0.49, 0.49, 0.01, 0.01]
    ours, theirs = compare(lambda seed: confusion)
    assert ours > theirs + 0.02


def test_workers_accuracies_and_confusions_are_found() -> None:
    accuracy = np.array([0.95, 0.9, 0.8, 0.7, 0.6])
    confusion = workers_right(accuracy, 3)
    confusion[4, 0] = [0.2, 0.8, 0.0]
    _, found = crowd(1, confusion, objects=2000, each=4)
    estimate: Estimate = dawid_skene(found)
    np.testing.assert_allclose(estimate.accuracy()[:4], accuracy[:4], atol=0.04)
    np.testing.assert_allclose(estimate.confusion[4, 0], [0.2, 0.8, 0.0], atol=0.06)


def test_fleiss_kappa_of_the_published_example() -> None:
    # Fleiss 1971 as worked in the literature: 10 subjects, 14 raters, 5 categories, kappa 0.210.
    votes = """0 0 0 0 14|0 2 6 4 2|0 0 3 5 6|0 3 9 2 0|2 2 8 1 1|7 7 0 0 0|3 2 6 3 0|2 5 3 2 2|6 5 2 1 0|0 2 2 3 7"""
    table = np.array([[float(n) for n in row.split()] for row in votes.split("|")])
    assert fleiss_kappa(table) == pytest.approx(0.210, abs=0.0005)
    assert fleiss_kappa(np.array([[3.0, 0], [0, 3]])) == 1
    assert fleiss_kappa(np.array([[3.0, 0], [3, 0]])) is None
    assert fleiss_kappa(np.array([[1.0, 0], [0, 1]])) is None


# --- the component ----------------------------------------------------------------------------------------------------------


def respond(bucket: str, place: int, given: dict[str, str], iteration: int = 1, time: str = "2026-11-01T10:00:00Z") -> None:
    """One object's worker response, as Ground Truth writes it."""
    body = {
        "answers": [
            {"workerId": worker, "submissionTime": time, "answerContent": {"crowd-image-classifier": {"label": label}}}
            for worker, label in given.items()
        ]
    }
    uri = s3.join(bucket, f"job/annotations/worker-response/iteration-{iteration}/{place}/{time}.json")
    s3.write(uri, json.dumps(body).encode())


def run(bucket: str, **changed: Any) -> Consolidated:
    inputs: dict[str, Any] = {
        "manifest_uri": s3.join(bucket, "input.manifest"),
        "worker_responses_uri": s3.join(bucket, "job/annotations/worker-response"),
        "output_uri": s3.join(bucket, "out"),
        "label_attribute": "animal",
        "label_categories": CLASSES,
        "job_name": "animals",
    }
    return consolidate(**inputs | changed)[0]


@pytest.fixture
def job(bucket: str) -> str:
    """Six objects: 0 to 3 with three equal answers, 4 with two that differ, 5 with none."""
    manifest.write(s3.join(bucket, "input.manifest"), [{"source-ref": f"s3://b/{n}.png", "site": n} for n in range(6)])
    for place, label in enumerate(["cat", "dog", "eel", "cat"]):
        respond(bucket, place, {"ann": label, "bob": label, "cid": label})
    respond(bucket, 4, {"ann": "cat", "bob": "dog"}, time="2026-11-02T10:00:00Z")
    return bucket


def test_labels_are_written_in_ground_truths_form(job: str) -> None:
    result = run(job)
    lines = [record.fields for record in manifest.read(result.manifest_uri)]
    assert [line.get("animal") for line in lines[:4]] == [0, 1, 2, 0]
    metadata = lines[1]["animal-metadata"]
    assert metadata.pop("confidence") > 0.9
    assert metadata == {
        "class-name": "dog",
        "type": "groundtruth/image-classification",
        "job-name": "labeling-job/animals",
        "human-annotated": "yes",
        "creation-date": "2026-11-02T10:00:00.000000",
    }
    assert lines[5] == {"source-ref": "s3://b/5.png", "site": 5}
    assert (result.labelled_objects, result.relabel_objects) == (5, 2)


def test_doubtful_and_unanswered_objects_are_listed_to_be_labelled_again(job: str) -> None:
    again = manifest.read(run(job).relabel_manifest_uri)
    assert [record.fields for record in again] == [{"source-ref": f"s3://b/{n}.png", "site": n} for n in (4, 5)]


def test_objects_labelled_before_are_kept_and_not_asked_again(job: str) -> None:
    before = {"source-ref": "s3://b/5.png", "animal": 2, "animal-metadata": {"class-name": "eel"}}
    lines = [record.fields for record in manifest.read(s3.join(job, "input.manifest"))]
    manifest.write(s3.join(job, "input.manifest"), [*lines[:5], before])
    result = run(job, min_confidence=0.0)
    assert manifest.read(result.manifest_uri)[5].fields == before
    assert result.relabel_manifest_uri == ""


def test_the_report_tells_about_workers_and_agreement(job: str) -> None:
    report = json.loads(s3.read(run(job).report_uri))
    assert report["workers"]["ann"]["answers"] == 5
    assert report["workers"]["cid"]["agrees_with_result"] == 1
    assert all(0.7 < worker["accuracy"] <= 1 for worker in report["workers"].values())
    assert report["agreement"]["unanimous"] == 4
    assert report["agreement"]["ties"] == 1
    assert report["agreement"]["fleiss_kappa"] == pytest.approx((4 / 5 - 74 / 196) / (1 - 74 / 196), abs=1e-4)


def test_an_outvoted_good_worker_is_told_as_a_change(job: str, bucket: str) -> None:
    manifest.write(s3.join(bucket, "input.manifest"), [{"source-ref": f"s3://b/{n}.png"} for n in range(60)])
    random = np.random.default_rng(3)
    for place in range(60):
        truth, noise = CLASSES[place % 3], [CLASSES[n] for n in random.integers(0, 3, 2)]
        respond(bucket, place, {"ann": truth, "bob": truth, "x": noise[0], "y": noise[1]})
    respond(bucket, 0, {"ann": "cat", "bob": "cat", "x": "dog", "y": "dog", "z": "dog"})
    changed = json.loads(s3.read(run(bucket).report_uri))["changed_from_majority"]
    assert {"line": 1, "source": "s3://b/0.png", "class": "cat", "votes": {"cat": 2, "dog": 3}} in changed


def test_the_later_answer_of_a_worker_counts(job: str) -> None:
    respond(job, 4, {"bob": "cat"}, iteration=2, time="2026-11-03T10:00:00Z")
    assert manifest.read(run(job).manifest_uri)[4].fields["animal-metadata"]["class-name"] == "cat"


def test_the_same_answers_give_the_same_bytes(job: str) -> None:
    first = [s3.read(uri) for uri in run(job)[:3]]
    assert [s3.read(uri) for uri in run(job)[:3]] == first


@pytest.mark.parametrize(
    ("place", "given", "message"),
    [
        (1, {"ann": "fox"}, r"iteration-1/1/.*worker ann answered 'fox'; the classes are \['cat', 'dog', 'eel'\]"),
        (6, {"ann": "cat"}, "object 6 .* the manifest has 6 lines; give the labelling job's input manifest"),
    ],
)
def test_answers_that_do_not_fit_are_named(job: str, place: int, given: dict[str, str], message: str) -> None:
    respond(job, place, given)
    with pytest.raises(ComponentError, match=message):
        run(job)


@pytest.mark.parametrize(
    "body",
    [b"{", b"[]", b'{"answers": [{"workerId": "a"}]}', b'{"answers": [{"workerId": "a", "answerContent": {"other": 1}}]}'],
)
def test_a_broken_response_is_named(job: str, body: bytes) -> None:
    uri = s3.join(job, "job/annotations/worker-response/iteration-1/2/other.json")
    s3.write(uri, body)
    with pytest.raises(ComponentError, match=r"1 of 6 worker responses cannot be used\n  s3://.*/2/other.json: "):
        run(job)


def test_no_responses_is_an_error(job: str) -> None:
    with pytest.raises(ComponentError, match=r"no worker responses there; expected .*worker-response"):
        run(job, worker_responses_uri=s3.join(job, "elsewhere"))


def test_every_input_of_the_component_is_taken() -> None:
    kfp_inputs(consolidate_labels, consolidate)


def test_the_readmes_example_runs(job: str, kfp_local: object) -> None:
    pipeline = example("labelling/consolidate_labels")
    outputs = pipeline(bucket=job).outputs
    assert outputs["manifest_uri"] == s3.join(job, "consolidated/consolidated.manifest")
    assert s3.exists(outputs["manifest_uri"])
    assert outputs["relabel_objects"] == 2
