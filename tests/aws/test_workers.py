"""The noise of the workers, and what is made of it. Pure functions, no server."""

from __future__ import annotations

from collections import Counter

import pytest

from penstock_local.aws.labelling.consolidation import consolidated
from penstock_local.aws.labelling.workers import Answer, Crew, Worker, answers

CREW = Crew((Worker("good", 0.9), Worker("fair", 0.7), Worker("poor", 0.5)), seed=3)


def test_workers_are_right_as_often_as_their_accuracy() -> None:
    right: Counter[str] = Counter()
    for number in range(2000):
        for answer in answers(CREW, f"s3://b/{number}", number % 4, 4, 3, 0.0):
            right[answer.worker] += answer.label == number % 4
    assert right["good"] / 2000 == pytest.approx(0.9, abs=0.03)
    assert right["fair"] / 2000 == pytest.approx(0.7, abs=0.03)
    assert right["poor"] / 2000 == pytest.approx(0.5, abs=0.03)


def test_the_same_seed_gives_the_same_answers_and_another_does_not() -> None:
    def given(seed: int) -> list[list[int]]:
        crew = Crew(CREW.workers, seed)
        return [[each.label for each in answers(crew, f"s3://b/{number}", 0, 3, 3, 0.0)] for number in range(50)]

    assert given(1) == given(1)
    assert given(1) != given(2)


def test_a_confusion_says_which_class_is_taken_for_which() -> None:
    crew = Crew((Worker("w", 1.0, ((0.0, 1.0, 0.0), (0.0, 1.0, 0.0), (0.5, 0.0, 0.5))),))
    given = {truth: {answers(crew, f"s3://b/{n}", truth, 3, 1, 0.0)[0].label for n in range(40)} for truth in range(3)}
    assert given == {0: {1}, 1: {1}, 2: {0, 2}}


def test_the_wanted_number_of_different_workers_answers() -> None:
    chosen = [{each.worker for each in answers(CREW, f"s3://b/{number}", 0, 2, 2, 0.0)} for number in range(40)]
    assert all(len(each) == 2 for each in chosen)
    assert set.union(*chosen) == {"good", "fair", "poor"}


def test_a_truth_outside_the_classes_is_told() -> None:
    with pytest.raises(ValueError, match="the truth of s3://b/k is class 3; the job has 3 classes"):
        answers(CREW, "s3://b/k", 3, 3, 1, 0.0)


def test_a_worker_who_agrees_with_the_others_outweighs_one_who_does_not() -> None:
    given = {n: [Answer("a", n % 2, 0, 1), Answer("b", n % 2, 0, 1), Answer("never", 1 - n % 2, 0, 1)] for n in range(20)}
    given[20] = [Answer("a", 1, 0, 1), Answer("never", 0, 0, 1)]
    labels = consolidated(given, 2)
    assert [labels[n].category for n in range(20)] == [n % 2 for n in range(20)]
    assert labels[20].category == 1
    assert labels[20].confidence > 0.9


def test_agreement_is_more_certain_than_disagreement_and_one_answer_is_not_certain_at_all() -> None:
    same = [Answer(worker, 0, 0, 1) for worker in "abc"]
    split = [Answer("a", 0, 0, 1), Answer("b", 1, 0, 1), Answer("c", 2, 0, 1)]
    labels = consolidated({0: same, 1: split, 2: [Answer("a", 2, 0, 1)], 3: same}, 3)
    assert labels[0].confidence > labels[1].confidence
    assert (labels[2].category, labels[2].confidence) == (2, 0.0)
    assert consolidated({}, 3) == {}
