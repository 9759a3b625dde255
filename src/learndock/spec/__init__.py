"""Specifications: the numbers that stand for a model's or a task's behaviour."""

from learndock.spec.file import check_shape, read_spec, spec_from_bytes, spec_to_bytes, write_spec
from learndock.spec.make import make_spec
from learndock.spec.spec import Spec, require_same_space, similarity

__all__ = [
    "Spec",
    "check_shape",
    "make_spec",
    "read_spec",
    "require_same_space",
    "similarity",
    "spec_from_bytes",
    "spec_to_bytes",
    "write_spec",
]
