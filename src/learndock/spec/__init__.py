"""Specifications: the numbers that stand for a model's or a task's behaviour."""

from learndock.spec.domain import Domain, make_domain
from learndock.spec.file import check_shape, read_spec, spec_from_bytes, spec_to_bytes, write_spec
from learndock.spec.make import make_spec
from learndock.spec.spec import Spec, require_same_space, similarity

__all__ = [
    "Domain",
    "Spec",
    "check_shape",
    "make_domain",
    "make_spec",
    "read_spec",
    "require_same_space",
    "similarity",
    "spec_from_bytes",
    "spec_to_bytes",
    "write_spec",
]
