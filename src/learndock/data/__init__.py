"""The first room: examples and what their labels mean, from files into arrays."""

from learndock.data.choose import few_shot, require_classes
from learndock.data.examples import Examples, Input
from learndock.data.images import Image, decode
from learndock.data.metrics import higher_is_better, score
from learndock.data.options import ReadOptions
from learndock.data.prompts import Prompt
from learndock.data.read import read_examples
from learndock.data.schema import Schema

__all__ = [
    "Examples",
    "Image",
    "Input",
    "Prompt",
    "ReadOptions",
    "Schema",
    "decode",
    "few_shot",
    "higher_is_better",
    "read_examples",
    "require_classes",
    "score",
]
