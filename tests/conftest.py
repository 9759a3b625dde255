"""What all tests share: no network, and three tiny spaces that are authored once a session.

tiny_space         a two-layer BERT of width 32, mean of its hidden states, word pieces
tiny_masked_space  a one-layer RoBERTa of width 32, read at the mask of a template, byte pairs
tiny_causal_space  a one-layer llama of width 48, prompts and completions
minilm             the published space, for tests that need real weights; skips where they are absent
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import string
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

import learndock
from learndock.files import sha256_bytes, sha256_file

# Before any test imports a library that would ask a hub
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("LEARNDOCK_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

LOOPBACK = ("127.", "::1", "localhost")
WORDS = """
    the a of in it was is very and not no film food day nurse wrote down temperature twice interest rates rose who
    painted ceiling when restored after long rain that winter good fine great bad awful poor blood pain heart bank
    loan money team goal match rain sun cold patient doctor review positive negative question answer one two three
""".split()  # noqa: SIM905 - words read better as a text


class NetworkUse(RuntimeError):
    """A test reached for the network."""


def _stay_here(event: str, args: tuple[Any, ...]) -> None:
    """Audit hook: sockets may talk to this machine only."""
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        address = args[1]
        host = address[0] if args[0].family in (socket.AF_INET, socket.AF_INET6) and address else "localhost"
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = args[0] or "localhost"
    else:
        return
    if not str(host if isinstance(host, str) else host.decode()).startswith(LOOPBACK):
        raise NetworkUse(f"{event} to {host}: tests use no network")


sys.addaudithook(_stay_here)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What takes a minute runs when it is asked for: ``pytest -m slow``."""
    if "slow" not in config.getoption("-m"):
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="takes a minute; run with -m slow"))


# --- helpers to author from ----------------------------------------------------------------------------------


def write_word_pieces(folder: Path) -> int:
    """A WordPiece tokenizer over ``WORDS`` and single letters; returns the size of its vocabulary."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *string.ascii_lowercase, *",.?!'-", *WORDS]
    pieces += [f"##{letter}" for letter in string.ascii_lowercase]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    _write_tokenizer_config(folder, pad="[PAD]", unk="[UNK]", cls="[CLS]", sep="[SEP]", mask="[MASK]")
    return len(vocabulary)


def write_byte_pairs(folder: Path) -> int:
    """A byte-level BPE tokenizer trained on ``WORDS``, RoBERTa's way; returns the size of its vocabulary."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([" ".join(["", *WORDS, "It was."])] * 20, trainer)
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, special=True)])
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    tokenizer.save(str(folder / "tokenizer.json"))
    _write_tokenizer_config(folder, pad="<pad>", unk="<unk>", cls="<s>", sep="</s>", mask="<mask>")
    return int(tokenizer.get_vocab_size())


def _write_tokenizer_config(folder: Path, **tokens: str) -> None:
    named = {f"{name}_token": token for name, token in tokens.items()}
    whole = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 64, **named}
    (folder / "tokenizer_config.json").write_text(json.dumps(whole))


def write_encoder(folder: Path, *, masked: bool = False, seed: int = 0) -> Path:
    """A random encoder in a folder, as transformers saves it: BERT, or a masked RoBERTa."""
    import torch
    import transformers

    folder.mkdir(parents=True)
    sizes = {
        "hidden_size": 32,
        "num_hidden_layers": 1 if masked else 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "initializer_range": 0.2,
    }
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if masked:
            config = transformers.RobertaConfig(
                vocab_size=write_byte_pairs(folder), max_position_embeddings=66, type_vocab_size=1, **sizes
            )
            model = transformers.RobertaForMaskedLM(config)
        else:
            words = write_word_pieces(folder)
            model = transformers.BertModel(
                transformers.BertConfig(vocab_size=words, max_position_embeddings=64, **sizes)
            )
        model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the BERT that ``tiny_space`` is authored from."""
    return write_encoder(tmp_path_factory.mktemp("encoders") / "bert")


@pytest.fixture(scope="session")
def tiny_masked_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the RoBERTa that ``tiny_masked_space`` is authored from."""
    return write_encoder(tmp_path_factory.mktemp("encoders") / "roberta", masked=True, seed=1)


def authored(config: pytest.Config, encoder: Path, name: str, recipe: Any) -> Any:
    """The space that ``build_space`` makes of ``encoder``.

    Tracing takes half a minute, so pytest's cache keeps it, under the hash of everything that it is made from.
    """
    from learndock.spaces import get_space
    from learndock.spaces.authoring.author import build_causal_space, build_space
    from learndock.spaces.authoring.causal_helper import CausalRecipe

    package = Path(learndock.__file__).parent
    made_from = [Path(__file__), package / "files.py", *sorted((package / "spaces").rglob("*.py"))]
    made_from += sorted(encoder.iterdir())
    versions = [version(p) for p in ("torch", "transformers", "onnx", "onnxscript", "tokenizers", "safetensors")]
    text = repr((name, recipe, versions, [sha256_file(p) for p in made_from]))
    kept = config.cache.mkdir("learndock-spaces") / sha256_bytes(text.encode())[:16]
    if not kept.exists():
        with tempfile.TemporaryDirectory(dir=kept.parent) as work:
            build = build_causal_space if isinstance(recipe, CausalRecipe) else build_space
            build(encoder, Path(work) / name, name=name, recipe=recipe)
            with contextlib.suppress(OSError):  # another run was first
                Path(work).rename(kept)
                Path(work).mkdir()
    return get_space(kept / name)


@pytest.fixture(scope="session")
def tiny_space(tiny_encoder: Path, pytestconfig: pytest.Config) -> Any:
    """A space of 768 numbers, authored here; use ``tiny_space.folder`` where a folder is asked for."""
    from learndock.spaces.authoring.torch_helper import Recipe

    return authored(pytestconfig, tiny_encoder, "tiny", Recipe(rank=4, max_tokens=64))


@pytest.fixture(scope="session")
def tiny_masked_space(tiny_masked_encoder: Path, pytestconfig: pytest.Config) -> Any:
    """A space that reads a masked LM at the mask of a template."""
    from learndock.spaces.authoring.torch_helper import Recipe

    recipe = Recipe(rank=4, max_tokens=64, pooling="mask", template="{text} It was <mask>.")
    return authored(pytestconfig, tiny_masked_encoder, "tiny-masked", recipe)


@pytest.fixture(scope="session")
def tiny_causal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the causal model that ``tiny_causal_space`` is authored from."""
    from tests.support.causal import write_causal

    return write_causal(tmp_path_factory.mktemp("causal") / "llama")


@pytest.fixture(scope="session")
def tiny_causal_space(tiny_causal: Path, pytestconfig: pytest.Config) -> Any:
    """A space of prompts and completions, authored here."""
    from learndock.spaces.authoring.causal_helper import CausalRecipe

    recipe = CausalRecipe(rank=4, prompt_tokens=48, completion_tokens=12, adapted=1.0)
    return authored(pytestconfig, tiny_causal, "tiny-causal", recipe)


@pytest.fixture(scope="session")
def minilm() -> Any:
    """The published space minilm-l6."""
    from learndock.spaces import get_space

    space = get_space("minilm-l6")
    absent = [file for file in space.files if space.find(file) is None]
    if absent:
        pytest.skip(f"weights of minilm-l6 are not on this machine ({', '.join(absent)})")
    return space
