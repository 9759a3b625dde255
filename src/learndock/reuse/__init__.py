"""The last step of the journey: run the model that was found, measure it, make it one's own."""

from learndock.reuse.evaluate import Evaluation, evaluate
from learndock.reuse.finetune import finetune
from learndock.reuse.merge import merge_adapters
from learndock.reuse.predict import predict, write_predictions
from learndock.reuse.run import load_writer, load_writers, write
from learndock.reuse.trial import Trial, try_matches

__all__ = [
    "Evaluation",
    "Trial",
    "evaluate",
    "finetune",
    "load_writer",
    "load_writers",
    "merge_adapters",
    "predict",
    "try_matches",
    "write",
    "write_predictions",
]
