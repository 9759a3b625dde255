"""Load a classifier of texts or images in torch from local files, and run it.

Shared by the transformers, the PEFT and the timm format. torch and transformers are imported inside the functions.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from learndock.data.examples import Input
from learndock.data.schema import Schema
from learndock.errors import ModelError
from learndock.package.extras import need
from learndock.package.formats import Progress
from learndock.package.formats._cross_encoder import Activation
from learndock.package.formats._image_settings import read_pixels
from learndock.package.formats._outputs import Floats, checked, shares, sigmoid, softmax, two_columns
from learndock.package.formats._pixels import PixelBatch, Pixels, reads_images
from learndock.package.formats._quiet import quiet
from learndock.package.formats._tokenizer_settings import positions_of
from learndock.package.formats._tokens import BATCH, Batch, TextTokens
from learndock.package.formats._torchvision import mend_torchvision
from learndock.package.json_file import read_object
from learndock.package.safety import check_settings

if TYPE_CHECKING:
    import torch

#: Names that the output layer of a sequence classifier has in transformers.
HEADS = ("classifier", "score", "classification_head", "logits_proj", "sequence_summary", "qa_outputs")
#: What the libraries raise over a model that does not fit its configuration.
_FAILURES = (OSError, ValueError, RuntimeError, TypeError, KeyError, AttributeError, ImportError)
#: The id of padding for models that name none: texts are not padded, so no token may look like it.
NO_PADDING = -1
_REMEDY = "save it again with transformers' save_pretrained(..., safe_serialization=True)"


def libraries(why: str) -> tuple[Any, Any]:
    """``torch`` and ``transformers``.

    Raises:
        MissingExtra: one of them is not installed.
    """
    torch = need("torch", extra="torch", why=why)
    mend_torchvision()  # transformers imports it where it finds it
    return torch, need("transformers", extra="torch", why=why)


def load_classifier(folder: Path, *, outputs: int | None = None) -> tuple[Any, set[str]]:
    """The classifier in ``folder`` as float32, and the names of weights that it lacked.

    Of images where the folder says how they are prepared, of texts otherwise.

    ``outputs`` asks for a new output layer of that many columns where the model's own is different. Reads
    local safetensors only, builds only models that transformers itself knows.

    Raises:
        ModelError: it does not load; the message says why.
        UnsafeModel: its configuration names code.
    """
    torch, transformers = libraries("a transformers model")
    source = read_object(folder / "config.json")
    check_settings(source, where="config.json")
    auto = transformers.models.auto.modeling_auto
    if reads_images(folder):
        what, loader = "image classifier", transformers.AutoModelForImageClassification
        known = auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES
    else:
        what, loader = "sequence classifier", transformers.AutoModelForSequenceClassification
        known = auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES
    kind = source.get("model_type")
    if kind not in known:
        raise ModelError(
            f"config.json: model_type {kind!r} is not a {what} of transformers {transformers.__version__}",
            remedy="update transformers, or export the model to ONNX",
        )
    failures: tuple[type[Exception], ...] = (*_FAILURES, *_library_failures())
    pinned = {"local_files_only": True, "trust_remote_code": False}
    change = {} if outputs is None else {"num_labels": outputs}
    try:
        with quiet():
            config = transformers.AutoConfig.from_pretrained(folder, **pinned, **change)
            model, info = loader.from_pretrained(
                folder,
                config=config,
                use_safetensors=True,
                dtype=torch.float32,
                **({} if reads_images(folder) else {"attn_implementation": "eager"}),
                ignore_mismatched_sizes=outputs is not None,
                output_loading_info=True,
                **pinned,
            )
    except failures as error:
        raise ModelError(
            f"transformers cannot load it ({_short(error)})", remedy=f"{_REMEDY}", about=folder.name
        ) from None
    missing = {str(k) for k in info["missing_keys"]} | {_first(k) for k in info["mismatched_keys"]}
    return model.eval(), missing


def _library_failures() -> tuple[type[Exception], ...]:
    """Errors of the libraries that descend from nothing but ``Exception``."""
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError

    return (StrictDataclassError, SafetensorError)


def _first(key: Any) -> str:
    return str(key[0] if isinstance(key, tuple | list) else key)


def _short(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else text[:300] + "..."


def in_head(name: str) -> bool:
    """Whether a weight belongs to the output layer."""
    return any(part in HEADS for part in name.split("."))


@dataclass(frozen=True)
class TorchModel:
    """A loaded classifier (``Model``). ``columns`` are its outputs in the order of the schema."""

    network: Any
    tokens: TextTokens | Pixels
    schema: Schema
    columns: Sequence[int]
    activation: Activation = "softmax"

    def predict(self, inputs: Sequence[Input], *, progress: Progress | None = None) -> Floats:
        """See ``Model``."""
        logits = self.logits(inputs, progress=progress)
        if self.schema.type == "regression":
            values = sigmoid(logits[:, 0]) if self.activation == "sigmoid" else logits[:, 0]
            return checked(values, self.schema, len(inputs))
        if logits.shape[1] == 1:
            found = two_columns(sigmoid(logits[:, 0]))
        elif self.activation == "sigmoid":
            found = shares(sigmoid(logits))
        else:
            found = softmax(logits)
        return checked(found[:, list(self.columns)], self.schema, len(inputs))

    def remarks(self) -> tuple[str, ...]:
        """See ``remarks_of``."""
        return self.tokens.remarks() if isinstance(self.tokens, TextTokens) else ()

    def logits(self, inputs: Sequence[Input], *, progress: Progress | None = None) -> NDArray[np.float32]:
        """Raw outputs ``(n, columns of the model)``.

        Raises:
            ModelError: the model does not run on an input.
        """
        import torch

        network = self.network
        width = int(network.num_classes if of_timm(network) else network.config.num_labels)
        found = np.zeros((len(inputs), width), dtype=np.float32)
        done = 0
        with torch.inference_mode():
            for batch in self.tokens.batches(inputs, BATCH):
                found[batch.rows] = self._answers(batch)
                done += len(batch.rows)
                if progress is not None:
                    progress(done, len(inputs))
        return found

    def _answers(self, batch: Batch | PixelBatch) -> NDArray[np.float32]:
        try:
            answers: NDArray[np.float32] = forward(self.network, batch).numpy()
            return answers
        except (RuntimeError, ValueError, IndexError, TypeError, AttributeError) as error:
            if len(batch.rows) > 1 and isinstance(batch, Batch):
                # Some models take a batch apart by the end tokens in it, which texts themselves may hold
                return np.concatenate([self._answers(batch.row(i)) for i in range(len(batch.rows))])
            what = "preparation of images" if isinstance(batch, PixelBatch) else "tokenizer"
            raise ModelError(
                f"input {int(batch.rows[0]) + 1}: the model does not run on it ({_short(error)})",
                remedy=f"check that its {what} and its weights belong together",
            ) from None


def model_of(
    network: Any,
    folder: Path,
    schema: Schema,
    columns: Sequence[int],
    tokenizer: Path,
    activation: Activation = "softmax",
) -> TorchModel:
    """A ``TorchModel`` with the tokenizer, or the preparation of images, of the folder ``tokenizer``.

    Raises:
        ModelError: the tokenizer is missing, or has more words than the model; images prepared in unknown ways.
    """
    if reads_images(tokenizer):
        return TorchModel(network, read_pixels(tokenizer), schema, columns, activation)
    config = network.config
    padding = getattr(config, "pad_token_id", None)
    said = {"model_type": config.model_type, "pad_token_id": padding}
    for key in ("max_position_embeddings", "position_biased_input"):
        if hasattr(config, key):
            said[key] = getattr(config, key)
    tokens = TextTokens(tokenizer, positions=positions_of(said), pad_id=padding)
    if padding is None:
        # Decoders look for the last token that is not padding: without padding that is the last one
        config.pad_token_id = NO_PADDING
    words = _words(network)
    if words is not None and tokens.words > words:
        raise ModelError(
            f"the tokenizer has {tokens.words} words, the model {words}",
            remedy="they do not belong together",
            about=folder.name,
        )
    return TorchModel(network, tokens, schema, columns, activation)


def _words(network: Any) -> int | None:
    """How many token ids a network has vectors for; None where it has no table of them."""
    try:
        table = network.get_input_embeddings()
    except NotImplementedError:
        return None
    weight = getattr(getattr(table, "base_layer", table), "weight", None)
    return None if weight is None else int(weight.shape[0])


def forward(network: Any, batch: Batch | PixelBatch) -> torch.Tensor:
    """Outputs ``(b, columns)`` of one batch."""
    import torch

    if isinstance(batch, PixelBatch):
        pixels = torch.from_numpy(batch.pixels)
        seen: torch.Tensor = network(pixels) if of_timm(network) else network(pixel_values=pixels).logits
        return seen
    base = network.get_base_model() if hasattr(network, "get_base_model") else network
    arguments = {"input_ids": torch.from_numpy(batch.ids)}
    if _takes(base, "attention_mask"):
        arguments["attention_mask"] = torch.from_numpy(batch.mask)
    if batch.typed and _takes(base, "token_type_ids"):  # zeros too: GPT-2 adds the vector of the token 0 for them
        arguments["token_type_ids"] = torch.from_numpy(batch.types)
    outputs: torch.Tensor = network(**arguments).logits
    return outputs


def of_timm(network: Any) -> bool:
    """Whether timm built the network: such a one takes images alone and answers with a tensor."""
    return hasattr(network, "pretrained_cfg")


def _takes(network: Any, name: str) -> bool:
    return name in inspect.signature(network.forward).parameters


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """torch's generator at ``seed`` inside the block, as it was outside."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(seed)
        yield
