"""Writing a torch helper as two ONNX graphs whose weights stay in the helper's own file.

``make_fx`` flattens forward and backward pass into plain operations, ``torch.export`` frees batch and length.
B stands in the forward pass once per example, so that one backward pass gives every example's own gradient.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from learndock.errors import SpaceError
from learndock.files import sha256_bytes
from learndock.tensor_file import safetensors_header

if TYPE_CHECKING:
    import torch


class Traceable(Protocol):
    """What is traced: a helper of texts or of images."""

    @property
    def features(self) -> Callable[..., torch.Tensor]:
        """Features ``(n, width)`` for B (or None) and the inputs."""
        ...

    @property
    def gradients(self) -> Callable[..., tuple[torch.Tensor, torch.Tensor]]:
        """Features and per-example gradients for the inputs and a direction."""
        ...


@contextmanager
def _plain_linear() -> Iterator[None]:
    """Linear layers as one product and one sum: the fused one pins shapes while it is traced."""
    import torch

    kept = torch.nn.Linear.forward

    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        product: torch.Tensor = x @ self.weight.T
        return product if self.bias is None else product + self.bias

    torch.nn.Linear.forward = forward  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        torch.nn.Linear.forward = kept  # type: ignore[method-assign]


def write_graphs(
    helper: Traceable,
    given: dict[str, torch.Tensor],
    free: dict[str, dict[int, Any]],
    out: Path,
    weights: Path,
) -> dict[str, list[str]]:
    """Write ``gradients.onnx`` and ``features.onnx``; returns which tensors each takes from ``weights``.

    ``given`` are example arguments by name, ``direction`` last; ``free`` says which axes of each may vary.
    """

    # make_fx counts the arguments of a bound method wrongly, hence the functions
    def gradients(*args: torch.Tensor) -> Any:
        return helper.gradients(*args)

    def features(*args: torch.Tensor) -> Any:
        return helper.features(None, *args)

    external = {}
    inputs = {k: v for k, v in given.items() if k != "direction"}
    for file, function, taken in (("gradients.onnx", gradients, given), ("features.onnx", features, inputs)):
        outputs = ["features", "gradients"] if function is gradients else ["features"]
        external[file] = write_graph(function, taken, outputs, free, out / file, weights)
    return external


def write_graph(
    function: Callable[..., Any],
    given: dict[str, torch.Tensor],
    outputs: list[str],
    free: dict[str, dict[int, Any]],
    out: Path,
    weights: Path,
) -> list[str]:
    """Write one graph as the file ``out``; returns which tensors it takes from ``weights``."""

    def plain(*args: torch.Tensor) -> Any:
        return function(*args)

    model = _trace(plain, given, outputs, free)
    _refer_to_weights(model, weights)
    _strip(model)
    out.write_bytes(model.SerializeToString(deterministic=True))
    return sorted(t.name for t in model.graph.initializer if t.external_data)


def _trace(
    function: Callable[..., Any], given: dict[str, torch.Tensor], outputs: list[str], free: dict[str, dict[int, Any]]
) -> Any:
    """An ONNX model of ``function`` whose inputs are ``given``'s, with the ``free`` axes left open."""
    import torch
    from torch.fx.experimental.proxy_tensor import make_fx

    class Graph(torch.nn.Module):
        def __init__(self, traced: Any) -> None:
            super().__init__()
            self.traced = traced

        def forward(self, *args: Any) -> Any:
            return self.traced(*args)

    shapes = (tuple(free[name] for name in given),)
    args = tuple(given.values())
    with _plain_linear(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = make_fx(function, tracing_mode="symbolic", _allow_non_fake_inputs=True)(*args)
        _drop_zeros(traced)
        program = torch.export.export(Graph(traced), args, dynamic_shapes=shapes, strict=False)
        exported = torch.onnx.export(
            program,
            (),
            dynamo=True,
            optimize=False,
            verbose=False,
            input_names=list(given),
            output_names=outputs,
        )
    assert exported is not None
    return exported.model_proto


def _drop_zeros(traced: Any) -> None:
    """Take additions of zeros out of a traced graph: the offsets by which it was differentiated."""
    import torch

    plus, zeros = torch.ops.aten.add.Tensor, torch.ops.aten.zeros.default
    for node in list(traced.graph.nodes):
        if node.op == "call_function" and node.target is plus:
            kept = [a for a in node.args if not (isinstance(a, torch.fx.Node) and a.target is zeros)]
            if len(kept) == 1:
                node.replace_all_uses_with(kept[0])
    traced.graph.eliminate_dead_code()
    traced.recompile()


def _refer_to_weights(model: Any, weights: Path) -> None:
    """Replace constants that stand in ``weights`` by references, renamed to the tensor's name there."""
    import onnx
    from safetensors.numpy import load_file

    with weights.open("rb") as stream:
        header = safetensors_header(stream, weights.stat().st_size, where=str(weights), error=SpaceError)
    known = {(v.shape, sha256_bytes(v.tobytes())): k for k, v in reversed(load_file(weights).items())}
    renamed: dict[str, str] = {}
    kept = {}
    for tensor in model.graph.initializer:
        array = onnx.numpy_helper.to_array(tensor)
        name = known.get((array.shape, sha256_bytes(array.tobytes()))) if array.nbytes >= 1024 else None
        if name is None:
            kept[tensor.name] = tensor
            continue
        renamed[tensor.name] = name
        found = header.tensors[name]
        fresh = onnx.TensorProto(name=name, data_type=tensor.data_type, dims=tensor.dims)
        fresh.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (
            ("location", weights.name),
            ("offset", str(found.begin)),
            ("length", str(found.end - found.begin)),
        ):
            fresh.external_data.add(key=key, value=value)
        kept[name] = fresh
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = renamed.get(name, name)
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept.values())


def _strip(model: Any) -> None:
    """Drop what only the exporter's own tools read; it is most of the file."""
    model.ClearField("metadata_props")
    model.graph.ClearField("metadata_props")
    model.graph.ClearField("value_info")
    model.producer_version = ""
    for node in model.graph.node:
        for field in ("metadata_props", "doc_string", "name"):
            node.ClearField(field)
    for value in (*model.graph.input, *model.graph.output):
        value.ClearField("metadata_props")
    for tensor in model.graph.initializer:
        tensor.ClearField("metadata_props")
