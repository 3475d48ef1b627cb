"""The hooks of the Keras and Lightning callbacks, driven in the order in which the frameworks call them.

The frameworks themselves are not installed for these tests; docs/trainer.md names the versions the callbacks ran with.
"""

from __future__ import annotations

import copy
import pickle
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from penstock_trainer import Progress, keras_callback, lightning_callback


class Recorded(Progress):
    """A Progress that keeps the calls instead of sending them."""

    def __init__(self) -> None:
        super().__init__()
        self.updates: list[tuple[int, int | None, float | None, dict[str, object]]] = []
        self.closed = 0

    @property
    def due(self) -> bool:
        return True

    def update(self, step: int, epoch: int | None = None, samples: float | None = None, **metrics: object) -> None:
        self.updates.append((step, epoch, samples, metrics))

    def close(self) -> None:
        self.closed += 1


class Base:
    """The part of a framework's Callback class that the hooks rely on: a constructor and, for Keras, params."""

    params: dict[str, Any] | None = None


@pytest.fixture(params=["keras.callbacks", "tf_keras.callbacks", "lightning.pytorch.callbacks"])
def framework(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    install(monkeypatch, request.param)
    return str(request.param)


def install(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for other in ("keras", "tf_keras", "tensorflow", "lightning", "pytorch_lightning"):
        # None makes an import fail, so that a framework on this machine changes nothing.
        monkeypatch.setitem(sys.modules, other, None)
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        module = ModuleType(".".join(parts[:end]))
        module.__path__ = []
        monkeypatch.setitem(sys.modules, module.__name__, module)
    module.Callback = Base  # type: ignore[attr-defined]


@pytest.fixture
def keras(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "keras.callbacks")


@pytest.fixture
def lightning(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "lightning.pytorch.callbacks")


def test_the_callback_is_an_instance_of_the_frameworks_own_class(framework: str) -> None:
    make = lightning_callback if "lightning" in framework else keras_callback
    assert isinstance(make(), Base)


def test_a_missing_framework_is_an_import_error_that_names_what_was_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "unrelated")
    with pytest.raises(ImportError, match=r"no keras .* keras.callbacks, tf_keras.callbacks, tensorflow"):
        keras_callback()
    with pytest.raises(ImportError, match=r"no lightning .* lightning.pytorch.callbacks, pytorch_lightning"):
        lightning_callback()


@pytest.mark.usefixtures("keras")
def test_keras_steps_run_over_all_epochs_and_totals_come_from_fit() -> None:
    progress = Recorded()
    callback = keras_callback(progress=progress)
    callback.params = {"epochs": 2, "steps": 2, "verbose": 0}
    callback.on_train_begin()
    for epoch in range(2):
        callback.on_epoch_begin(epoch, {})
        for batch in range(2):
            callback.on_train_batch_end(batch, {"loss": 1.0})
        callback.on_epoch_end(epoch, {"loss": 0.5, "val_loss": 0.7})
    callback.on_train_end({"loss": 0.5})
    assert (progress.total_steps, progress.total_epochs, progress.closed) == (4, 2, 0)
    assert progress.updates == [
        (1, 1, None, {"loss": 1.0}),
        (2, 1, None, {"loss": 1.0}),
        (2, 1, None, {"loss": 0.5, "val_loss": 0.7}),
        (3, 2, None, {"loss": 1.0}),
        (4, 2, None, {"loss": 1.0}),
        (4, 2, None, {"loss": 0.5, "val_loss": 0.7}),
    ]


@pytest.mark.usefixtures("keras")
def test_keras_with_an_unknown_number_of_steps_and_a_later_first_epoch_counts_what_it_saw() -> None:
    progress = Recorded()
    callback = keras_callback(progress=progress)
    callback.params = {"epochs": 12, "steps": None}
    callback.on_train_begin()
    callback.on_epoch_begin(10)
    callback.on_train_batch_end(0)
    callback.on_train_batch_end(1)
    callback.on_epoch_begin(11)
    callback.on_train_batch_end(0)
    assert progress.total_steps is None
    assert [(step, epoch) for step, epoch, _, _ in progress.updates] == [(1, 11), (2, 11), (3, 12)]


@pytest.mark.usefixtures("keras")
def test_a_log_named_like_an_argument_of_update_and_a_hook_that_fails_do_not_stop_the_training(
    caplog: pytest.LogCaptureFixture,
) -> None:
    progress = Recorded()
    callback = keras_callback(progress=progress)
    callback.on_train_begin()
    callback.on_epoch_begin(0)
    callback.on_train_batch_end(0, {"step": 9, "epoch": 9, "loss": 0.5})
    callback.on_train_batch_end("not a number")
    assert progress.updates == [(1, 1, None, {"loss": 0.5})]
    assert "on_train_batch_end failed (the training goes on)" in caplog.text


def trainer(**overrides: Any) -> SimpleNamespace:
    values = {
        "global_rank": 0,
        "world_size": 1,
        "max_epochs": 2,
        "estimated_stepping_batches": 8,
        "global_step": 0,
        "current_epoch": 0,
        "callback_metrics": {"loss": 0.5, "epoch": 1.0},
    }
    return SimpleNamespace(**{**values, **overrides})


@pytest.mark.usefixtures("lightning")
def test_lightning_steps_are_optimizer_steps_and_samples_come_from_the_batch() -> None:
    progress = Recorded()
    callback = lightning_callback(progress)
    fit = trainer()
    batch = SimpleNamespace(shape=(32, 3))
    callback.on_train_start(fit, None)
    fit.global_step = 1
    callback.on_train_batch_end(fit, None, None, [batch, batch], 0)
    callback.on_train_batch_end(fit, None, None, {"image": batch}, 1)
    callback.on_train_batch_end(fit, None, None, "text", 2)
    fit.current_epoch, fit.global_step = 2, 8
    callback.on_train_end(fit, None)
    assert (progress.total_steps, progress.total_epochs, progress.closed) == (8, 2, 0)
    assert progress.updates == [
        (1, 1, 32, {"loss": 0.5}),
        (1, 1, 32, {"loss": 0.5}),
        (1, 1, None, {"loss": 0.5}),
        (8, 2, None, {"loss": 0.5}),
    ]


@pytest.mark.usefixtures("lightning")
def test_lightning_without_an_end_reports_no_totals() -> None:
    progress = Recorded()
    callback = lightning_callback(progress)
    callback.on_train_start(trainer(max_epochs=-1, estimated_stepping_batches=float("inf")), None)
    assert (progress.total_steps, progress.total_epochs) == (None, None)


@pytest.mark.usefixtures("lightning")
def test_lightnings_own_rank_counts_where_it_knows_of_several(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[dict[str, object]] = []

    def make(**options: object) -> Recorded:
        made.append(options)
        return Recorded()

    monkeypatch.setattr("penstock_trainer.callbacks.Progress", make)
    callback = lightning_callback()
    callback.on_train_start(trainer(global_rank=3, world_size=4), None)
    callback.on_exception(trainer(), None, RuntimeError())
    callback.on_train_start(trainer(), None)
    assert made == [{"rank": 3, "world_size": 4}, {"rank": None, "world_size": None}]


@pytest.mark.usefixtures("lightning")
def test_the_lightning_callback_can_be_copied_and_sent_to_another_process() -> None:
    callback = lightning_callback()
    assert isinstance(copy.deepcopy(callback), Base)
    assert isinstance(pickle.loads(pickle.dumps(callback)), Base)
