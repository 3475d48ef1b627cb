"""Callbacks for Keras and Lightning that feed a Progress. No framework is imported before one is asked for.

Both frameworks want an instance of their own Callback class (Lightning refuses anything else, Keras 2 calls private
methods of it), so the class is made when the callback is: the hooks below in front of the framework's base class.
The hooks never raise into the training.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from penstock_trainer.progress import Progress
from penstock_trainer.reporter import log

KERAS = ("keras.callbacks", "tf_keras.callbacks", "tensorflow.keras.callbacks")
LIGHTNING = ("lightning.pytorch.callbacks", "pytorch_lightning.callbacks")
_RESERVED = frozenset({"self", "step", "epoch", "samples"})

Hook = TypeVar("Hook", bound=Callable[..., None])


def keras_callback(batch_size: int | None = None, progress: Progress | None = None) -> Any:
    """A keras.callbacks.Callback for `model.fit(callbacks=[...])`.

    batch_size: of this rank, for samples/s (Keras does not tell it to callbacks). progress: one of your own, which
    you close; without it the callback makes one for each fit. Raises ImportError where there is no Keras.
    """
    return _class(KerasHooks, KERAS, "keras")(batch_size, progress)


def lightning_callback(progress: Progress | None = None) -> Any:
    """A Lightning Callback for `Trainer(callbacks=[...])`. Raises ImportError where there is no Lightning."""
    return _class(LightningHooks, LIGHTNING, "lightning")(progress)


def _harmless(hook: Hook) -> Hook:
    @functools.wraps(hook)
    def guarded(*args: Any, **kwargs: Any) -> None:
        try:
            hook(*args, **kwargs)
        except Exception:
            log.warning("progress reports: %s failed (the training goes on)", hook.__name__, exc_info=True)

    return guarded  # type: ignore[return-value]


class KerasHooks:
    """Steps are counted over all epochs; epochs from 1."""

    params: Mapping[str, Any] | None

    def __init__(self, batch_size: int | None = None, progress: Progress | None = None) -> None:
        super().__init__()
        self._batch_size = batch_size
        self._given = progress
        self._progress = progress
        self._epoch = 0
        self._first_step = 0
        self._step = 0

    @_harmless
    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        self._progress = self._given or Progress(batch_size=self._batch_size)
        self._step = 0
        epochs, steps = self._param("epochs"), self._param("steps")
        self._progress.total_epochs = epochs
        self._progress.total_steps = epochs * steps if epochs and steps else None

    @_harmless
    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._epoch = epoch + 1
        steps = self._param("steps")
        # With initial_epoch the first epoch is not number 0, and the steps before it were another run's.
        self._first_step = epoch * steps if steps else self._step

    @_harmless
    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._step = self._first_step + batch + 1
        self._update(logs)

    @_harmless
    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._update(logs)

    @_harmless
    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        if self._progress is not None and self._given is None:
            self._progress.close()

    def _update(self, logs: Mapping[str, Any] | None) -> None:
        if self._progress is not None:
            self._progress.update(self._step, self._epoch, **_metrics(logs or {}))

    def _param(self, name: str) -> int | None:
        value = (self.params or {}).get(name)
        return int(value) if value else None


class LightningHooks:
    """Steps are the trainer's optimizer steps; epochs from 1; metrics are what the module logged."""

    def __init__(self, progress: Progress | None = None) -> None:
        super().__init__()
        self._given = progress
        self._progress = progress

    def __reduce__(self) -> tuple[Any, ...]:
        # The class is made at run time, so pickle cannot find it by name; a copy in another process makes its own.
        return (lightning_callback, ())

    @_harmless
    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        if self._given is None:
            # Lightning's own launchers set no RANK for the first process; under mpirun it may not know of the others.
            ranks = (trainer.global_rank, trainer.world_size) if trainer.world_size > 1 else (None, None)
            self._progress = Progress(rank=ranks[0], world_size=ranks[1])
        assert self._progress is not None
        epochs, steps = trainer.max_epochs, trainer.estimated_stepping_batches
        self._progress.total_epochs = epochs if epochs and epochs > 0 else None
        self._progress.total_steps = int(steps) if 0 < steps < float("inf") else None

    @_harmless
    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        # callback_metrics reduces every logged metric when it is read, so it is read only for a report.
        due = self._progress is not None and self._progress.due
        self._update(trainer, trainer.callback_metrics if due else {}, samples=_batch_length(batch))

    @_harmless
    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self._update(trainer, trainer.callback_metrics)

    @_harmless
    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self._update(trainer, trainer.callback_metrics)
        self._close()

    @_harmless
    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self._close()

    def _update(self, trainer: Any, metrics: Mapping[str, Any], samples: int | None = None) -> None:
        if self._progress is not None:
            # At the end current_epoch is already the number of epochs, so it must not be counted up once more.
            epoch = min(trainer.current_epoch + 1, self._progress.total_epochs or sys.maxsize)
            self._progress.update(trainer.global_step, epoch, samples, **_metrics(metrics))

    def _close(self) -> None:
        if self._progress is not None and self._given is None:
            self._progress.close()


def _class(hooks: type, modules: tuple[str, ...], framework: str) -> Any:
    """The hooks in front of the framework's Callback; a flavour the program has already imported goes first."""
    loaded = [name for name in modules if name.rpartition(".")[0] in sys.modules]
    for name in [*loaded, *modules]:
        try:
            base = importlib.import_module(name).Callback
        except ImportError:
            continue
        return type("PenstockProgress", (hooks, base), {"__module__": __name__})
    raise ImportError(f"no {framework} to make a callback for: none of {', '.join(modules)} can be imported")


def _metrics(values: Mapping[str, Any]) -> dict[str, Any]:
    return {str(name): value for name, value in values.items() if name not in _RESERVED}


def _batch_length(batch: Any) -> int | None:
    """Samples in a batch: the first dimension of the first array in it, None where there is none."""
    if isinstance(batch, Mapping):
        batch = next(iter(batch.values()), None)
    elif isinstance(batch, (list, tuple)):
        return _batch_length(batch[0]) if batch else None
    shape = getattr(batch, "shape", None)
    return int(shape[0]) if shape else None
