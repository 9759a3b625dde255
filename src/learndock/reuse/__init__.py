"""The last step of the journey: run the model that was found, measure it, make it one's own."""

from learndock.reuse.evaluate import Evaluation, evaluate
from learndock.reuse.finetune import finetune
from learndock.reuse.predict import predict, write_predictions

__all__ = ["Evaluation", "evaluate", "finetune", "predict", "write_predictions"]
