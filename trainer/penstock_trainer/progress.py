"""Progress: what a training loop calls at every step, and what rank 0 tells the operator about it.

    with Progress(total_steps=1000, batch_size=64) as progress:
        for step in range(1, 1001):
            loss = train_step()
            progress.update(step, loss=loss)

Rank 0 of a TrainingJob reports; every other rank, a forked child and a process outside a TrainingJob do nothing. A
report never blocks, fails or slows the training: `update` stores its arguments (a tensor is not even read) and a
thread does the rest. The newest value of each metric is kept, so a value that is updated once an epoch stays shown.
"""

from __future__ import annotations

import os
import sys
import time
from types import TracebackType

from penstock_trainer import report
from penstock_trainer.environment import endpoint, rank_and_size
from penstock_trainer.meter import Rate, eta_seconds
from penstock_trainer.reporter import Reporter
from penstock_trainer.sender import Outcome, Sender, Verdict


class Progress:
    """Reports of one training run.

    total_steps, total_epochs: the end, for percent and time left; may be set later as attributes.
    batch_size: samples of one step on this rank; gives samples/s without `samples=` at every update.
    interval: seconds between two reports at least. timeout: of one network operation. close_timeout: what `close` may
    wait. rank, world_size: where the launcher's environment does not tell. verbose: outside a TrainingJob, print
    what would be reported to stderr.
    """

    def __init__(
        self,
        total_steps: int | None = None,
        total_epochs: int | None = None,
        batch_size: int | None = None,
        *,
        interval: float = 1.0,
        timeout: float = 5.0,
        close_timeout: float = 3.0,
        rank: int | None = None,
        world_size: int | None = None,
        verbose: bool = False,
    ) -> None:
        found_rank, found_size = rank_and_size(os.environ)
        self.total_steps = total_steps
        self.total_epochs = total_epochs
        self.batch_size = batch_size
        self.world_size = found_size if world_size is None else world_size
        target = endpoint(os.environ)
        self._sender = Sender(target, timeout) if target else None
        # (step, when, samples so far): one attribute, so that the thread never sees a step with another step's time.
        self._latest: tuple[int, float, float | None] | None = None
        self._epoch: object = None
        self._metrics: dict[str, object] = {}
        self._sent: tuple[int, float, float | None] | None = None
        self._sample_rate = Rate()
        self._step_rate = Rate()
        self._reporter = Reporter(self._deliver, self._finish, interval, close_timeout)
        self._reports = (found_rank if rank is None else rank) == 0 and (target is not None or verbose)

    def update(self, step: int, epoch: int | None = None, samples: float | None = None, **metrics: object) -> None:
        """This step is done. samples: of this rank since the last update. metrics: numbers or one-element tensors."""
        if not self._reports:
            return
        try:
            now = time.monotonic()
            step = int(step)
            before, _, total = self._latest or (None, 0.0, None)
            if samples is not None:
                total = (total or 0.0) + float(samples)
            elif self.batch_size is not None:
                # The first step is only the base line: after a resume it is far from zero.
                total = (total or 0.0) + self.batch_size * max(0, step - (step if before is None else before))
            if epoch is not None:
                self._epoch = epoch
            for name, value in metrics.items():
                # A loss tensor holds its whole graph in memory; detached it holds one number.
                detach = None if type(value) is float else getattr(value, "detach", None)
                self._metrics[name] = value if detach is None else detach()
            self._latest = (step, now, total)
            self._reporter.wake()
        except Exception as error:
            self._reporter.complain("update", f"an update is ignored: {type(error).__name__}: {error}")

    @property
    def due(self) -> bool:
        """An update now would start a report. For loops whose metrics cost something to read."""
        return self._reports and not self._reporter.pending

    def close(self) -> None:
        """Deliver the last state (within close_timeout) and stop. Updates after it are ignored."""
        self._reporter.close()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _deliver(self) -> Outcome | None:
        """In the reporter's thread: send the newest state, if it was not sent yet."""
        latest = self._latest
        if latest is None or latest is self._sent:
            return None
        body = self._report(*latest)
        if self._sender is None:
            sys.stderr.write(f"progress: {body.decode()}\n")
            outcome = Outcome(Verdict.DELIVERED)
        else:
            outcome = self._sender.post(body)
        if outcome.verdict in (Verdict.DELIVERED, Verdict.NEVER):
            self._sent = latest
        return outcome

    def _finish(self) -> None:
        if self._sender is not None:
            self._sender.close()

    def _report(self, step: int, at: float, samples: float | None) -> bytes:
        self._step_rate.observe(step, at)
        if samples is not None:
            self._sample_rate.observe(samples, at)
        own = self._sample_rate.per_second()
        total_steps = self._count("total_steps", self.total_steps)
        fields = {
            "step": self._count("step", step) or 0,
            "totalSteps": total_steps,
            "epoch": self._count("epoch", self._epoch),
            "totalEpochs": self._count("total_epochs", self.total_epochs),
            "samplesPerSecond": None if own is None else round(own * self.world_size, 3),
            "etaSeconds": eta_seconds(step, total_steps, self._step_rate.per_second()),
        }
        metrics = report.metric_values(self._metrics.copy(), self._reporter.complain)
        return report.document(fields, metrics)

    def _count(self, name: str, value: object) -> int | None:
        result = None if value is None else report.count(value)
        if result is None and value is not None:
            self._reporter.complain(name, f"{name} is left out: {value!r} is not a whole number of at least 0")
        return result
