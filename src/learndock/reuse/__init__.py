"""The last step of the journey: run the model that was found, measure it, make it one's own."""

from learndock.reuse.answers import write_predictions
from learndock.reuse.evaluate import Evaluation, evaluate
from learndock.reuse.finetune import finetune
from learndock.reuse.generate import generate, load_generative_model, load_generative_models
from learndock.reuse.merge import merge_adapters
from learndock.reuse.predict import predict
from learndock.reuse.trial import Trial, try_matches

__all__ = [
    "Evaluation",
    "Trial",
    "evaluate",
    "finetune",
    "generate",
    "load_generative_model",
    "load_generative_models",
    "merge_adapters",
    "predict",
    "try_matches",
    "write_predictions",
]
