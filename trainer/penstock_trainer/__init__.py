"""Progress reports and helpers for programs that run inside a TrainingJob.

Standard library only, Python 3.9 and later; the import costs a few milliseconds and no framework is imported with it.
"""

from penstock_trainer.callbacks import keras_callback, lightning_callback
from penstock_trainer.progress import Progress

__all__ = ["Progress", "keras_callback", "lightning_callback"]
