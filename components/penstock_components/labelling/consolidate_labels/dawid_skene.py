"""The true class of each object from several workers' answers, by Dawid and Skene's model (Applied Statistics 28, 1979).

Each worker has a confusion matrix P(answer | true class), each class a share; EM finds both, and with them the probability of
every class for every object. A worker who is often wrong counts little; one who mixes up two classes counts little there.

Priors keep it sane where data is thin (one worker, few answers, a class nobody chose): each class share has one pseudo-object,
each row of a confusion matrix `strength` pseudo-answers of a worker who is right with `accuracy`. Almost without (strength 1)
the model fits noise and loses to the majority vote on 200 objects with 3 answers each; with strength 10 it wins.

All is in log space. The objective (log posterior) never falls from step to step, and the end is where it no longer rises. The
model is blind to workers who are wrong together.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Answers(NamedTuple):
    """All answers as three columns of equal length: index of the object, of the worker, of the class; and how many of each."""

    objects: Ints
    workers: Ints
    labels: Ints
    shape: tuple[int, int, int]

    def counts(self) -> Floats:
        """How often each object was given each class: (objects, classes)."""
        votes = np.zeros((self.shape[0], self.shape[2]))
        np.add.at(votes, (self.objects, self.labels), 1.0)
        return votes


class Estimate(NamedTuple):
    """posterior (objects, classes), shares (classes,), confusion (workers, true class, answer); rows sum to 1."""

    posterior: Floats
    shares: Floats
    confusion: Floats
    objective: list[float]
    converged: bool

    def accuracy(self) -> Floats:
        """Chance of each worker (workers,) to be right about an object drawn by the class shares."""
        found: Floats = np.einsum("k,wkk->w", self.shares, self.confusion)
        return found


def majority(answers: Answers) -> Floats:
    """Share of the votes for each class (objects, classes); a uniform row where nobody answered."""
    votes = answers.counts()
    votes[votes.sum(axis=1) == 0] = 1.0
    shares: Floats = votes / votes.sum(axis=1, keepdims=True)
    return shares


def dawid_skene(
    answers: Answers, strength: float = 10.0, accuracy: float = 0.8, tolerance: float = 1e-7, iterations: int = 1000
) -> Estimate:
    """Maximum a posteriori estimate by EM, started from the majority's shares.

    Ends when an iteration raises the objective by less than `tolerance` an answer; `converged` tells if that was before
    `iterations`. Objects without an answer get the class shares.
    """
    objects, workers, labels, (n_objects, n_workers, n_classes) = answers
    # Layout (worker, answer, true class): one answer picks one row of true classes.
    wrong = (1.0 - accuracy) / max(n_classes - 1, 1)
    pseudo = strength * np.where(np.eye(n_classes, dtype=bool), accuracy, wrong)
    posterior, objective = majority(answers), [-np.inf]
    for _ in range(iterations):
        matrix = np.broadcast_to(pseudo, (n_workers, n_classes, n_classes)).copy()
        np.add.at(matrix, (workers, labels), posterior[objects])
        log_matrix = np.log(matrix / matrix.sum(axis=1, keepdims=True))
        shares = posterior.sum(axis=0) + 1.0
        log_shares = np.log(shares / shares.sum())

        joint = np.repeat(log_shares[None], n_objects, axis=0)
        np.add.at(joint, objects, log_matrix[workers, labels])
        evidence = np.logaddexp.reduce(joint, axis=1)
        posterior = np.exp(joint - evidence[:, None])
        objective.append(float(evidence.sum() + (pseudo * log_matrix).sum() + log_shares.sum()))
        if objective[-1] - objective[-2] < tolerance * max(len(labels), 1):
            break
    confusion = np.exp(log_matrix).swapaxes(1, 2)
    return Estimate(posterior, np.exp(log_shares), confusion, objective[1:], len(objective) - 1 < iterations)


def fleiss_kappa(votes: Floats) -> float | None:
    """Agreement beyond chance of an (objects, classes) table of votes; 1 is full agreement, 0 is chance.

    Fleiss (Psychological Bulletin 76, 1971), with the number of votes free to differ between objects: those with fewer than two
    are left out. None where it is not defined (no object has two votes, or every vote is for one class).
    """
    votes = votes[votes.sum(axis=1) >= 2]
    number = votes.sum(axis=1)
    if not len(votes) or np.count_nonzero(votes.sum(axis=0)) < 2:
        return None
    observed = float(np.mean((np.square(votes).sum(axis=1) - number) / (number * (number - 1))))
    chance = float(np.square(votes.sum(axis=0) / votes.sum()).sum())
    return (observed - chance) / (1.0 - chance)
