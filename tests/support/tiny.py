"""Three tiny spaces and the random models that they are made of, committed under ``tests/spaces/tiny``.

    python -m tests.support.tiny        # write them again, after a change to how spaces are authored

Tracing takes half a minute for each, so tests open the committed folders. That tracing still gives the same is a
slow test (tests/spaces/test_tiny.py).

tiny         a two-layer BERT of width 32, mean of its hidden states, word pieces
tiny-masked  a one-layer RoBERTa of width 32, read at the mask of a template, byte pairs
tiny-causal  a one-layer llama of width 48, prompts and completions
"""

from __future__ import annotations

import json
import shutil
import string
import tempfile
from pathlib import Path

TINY = Path(__file__).parents[1] / "spaces" / "tiny"
#: Folder of a space to folder of the model that it is made of. A model's weights and tokenizer are those of its space.
SOURCES = {"tiny": "bert", "tiny-masked": "roberta", "tiny-causal": "llama"}
SHARED = ("model.safetensors", "tokenizer.json")

WORDS = """
    the a of in it was is very and not no film food day nurse wrote down temperature twice interest rates rose who
    painted ceiling when restored after long rain that winter good fine great bad awful poor blood pain heart bank
    loan money team goal match rain sun cold patient doctor review positive negative question answer one two three
""".split()  # noqa: SIM905 - words read better as a text


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
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 64, **named}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


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


def write_source(name: str, folder: Path) -> Path:
    """The random model that the space ``name`` is made of, drawn again; a folder as transformers saves it."""
    from tests.support.causal import write_causal

    if name == "tiny-causal":
        return write_causal(folder)
    return write_encoder(folder, masked=name == "tiny-masked", seed=int(name == "tiny-masked"))


def trace(name: str, source: Path, out: Path) -> None:
    """Author the space ``name`` from the model in ``source`` into the folder ``out``."""
    from learndock.spaces.authoring.author import build_causal_space, build_space
    from learndock.spaces.authoring.causal_helper import CausalRecipe
    from learndock.spaces.authoring.torch_helper import Recipe

    if name == "tiny-causal":
        recipe = CausalRecipe(rank=4, prompt_tokens=48, completion_tokens=12, adapted=1.0)
        build_causal_space(source, out, name=name, recipe=recipe)
    elif name == "tiny-masked":
        masked = Recipe(rank=4, max_tokens=64, pooling="mask", template="{text} It was <mask>.")
        build_space(source, out, name=name, recipe=masked)
    else:
        build_space(source, out, name=name, recipe=Recipe(rank=4, max_tokens=64))


def source_of(name: str, folder: Path) -> Path:
    """Lay out the committed model of the space ``name`` in ``folder``, as transformers saves it; without torch."""
    shutil.copytree(TINY / "sources" / SOURCES[name], folder)
    for file in SHARED:
        shutil.copyfile(TINY / name / file, folder / file)
    return folder


def main() -> None:
    """Draw the models, trace the spaces and put both where the tests read them."""
    with tempfile.TemporaryDirectory(dir=TINY.parent) as work:
        fresh = Path(work) / "tiny"
        for name, kind in SOURCES.items():
            source = write_source(name, fresh / "sources" / kind)
            trace(name, source, fresh / name)
            for file in SHARED:
                if (source / file).read_bytes() != (fresh / name / file).read_bytes():
                    raise SystemExit(f"{name}: {file} differs between the model and its space; save both")
                (source / file).unlink()
            for path in fresh.rglob("*"):
                path.chmod(0o755 if path.is_dir() else 0o644)
        shutil.rmtree(TINY, ignore_errors=True)
        fresh.rename(TINY)


if __name__ == "__main__":
    main()
