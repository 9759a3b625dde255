"""The same answers as the library that owns a format, number by number, over many architectures and settings.

Models are tiny and random. The library runs one input at a time, as its own documentation shows; learndock runs all at
once. Numbers agree within 1e-5 and labels are equal, or packing refuses and says why.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from learndock.data.images import Image, pillow_image
from learndock.data.schema import Schema
from learndock.errors import ModelError
from learndock.package.formats import remarks_of
from learndock.package.formats._image_settings import compare_pixels, read_pixels
from learndock.package.formats._quiet import quiet
from learndock.package.formats.transformers import TransformersFormat

SCHEMA = Schema("classification", ("no", "yes"), ("no", "yes"), "accuracy")
WORDS = [
    "good",
    "fine",
    "great",
    "bad",
    "awful",
    "poor",
    "the",
    "film",
    "food",
    "day",
    "was",
    "very",
    "a",
    "and",
    "Straße",
    "école",
]
TEXTS = [
    "good film", "The FOOD was very bad and the day was fine", "a day", "école Straße",
    "great great great great great great great great great great great great", "", "Good Film",
    "[SEP] the </s> <s> day [MASK] <|endoftext|> was", "  the   day ", "poor",
]  # fmt: skip
PAIRS = [("good film", "bad food"), ("the day was very fine and good", "a"), ("a", "the film")]
LONG = [" ".join(WORDS[(i * 7) % 14] for i in range(40)), " ".join(WORDS[(i * 5) % 14] for i in range(90))]


# --- tokenizers ----------------------------------------------------------------------------------------------


def word_pieces(folder: Path, *, lower: bool = True, name: str = "PreTrainedTokenizerFast", **said: Any) -> int:
    """A WordPiece tokenizer as BERT's; ``said`` goes into ``tokenizer_config.json``. Returns the number of words."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, "Good", "Film", *"abcdefghijklmnopqrstuvwxyz"]
    pieces += [f"##{c}" for c in "abcdefghijklmnopqrstuvwxyzßé"]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    made = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=lower)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokens = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]",
              "mask_token": "[MASK]"}  # fmt: skip
    write_tokenizer(folder, made, {"tokenizer_class": name, "model_max_length": 48, **tokens, **said})
    return len(vocabulary)


def byte_pairs(folder: Path, *, name: str = "PreTrainedTokenizerFast", roberta: bool = True, **said: Any) -> int:
    """A byte-level BPE tokenizer, framed as RoBERTa's or bare as GPT-2's."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("g", "o"), ("o", "d"), ("go", "od"), ("t", "h"), ("th", "e"), ("\u0120", "the"), ("\u0120", "d"),
              ("f", "i"), ("\u0120", "f")]  # fmt: skip
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"] if roberta else ["<|endoftext|>"]
    vocabulary = {piece: i for i, piece in enumerate([*special, *alphabet, *("".join(m) for m in merges)])}
    made = Tokenizer(models.BPE(vocabulary, merges))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokens: dict[str, Any] = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    if roberta:
        made.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
        tokens = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>",
                  "cls_token": "<s>", "sep_token": "</s>", "mask_token": "<mask>"}  # fmt: skip
    write_tokenizer(folder, made, {"tokenizer_class": name, "model_max_length": 48, **tokens, **said})
    return len(vocabulary)


def write_tokenizer(folder: Path, made: Any, said: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    made.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({k: v for k, v in said.items() if v is not None}))


# --- classifiers of texts ------------------------------------------------------------------------------------

SMALL = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16,
    "max_position_embeddings": 64, "id2label": {0: "no", 1: "yes"}, "label2id": {"no": 0, "yes": 1},
}  # fmt: skip
Tokens = Callable[[Path], int]


def classifier(folder: Path, kind: str, tokens: Tokens, **settings: Any) -> Path:
    """A random classifier of transformers, of the model type ``kind``."""
    words = tokens(folder)
    given = {k: v for k, v in SMALL.items() if kind not in ("funnel", "xlnet") or "label" in k}
    config = transformers.AutoConfig.for_model(kind, **{**given, "vocab_size": words, **settings})
    with torch.random.fork_rng(), quiet():
        torch.manual_seed(3)
        network = transformers.AutoModelForSequenceClassification.from_config(config)
        for parameter in network.parameters():
            if parameter.ndim >= 2:
                torch.nn.init.normal_(parameter, 0.0, 0.25)
        network.save_pretrained(folder)
    return folder


def answers_of_the_library(folder: Path, inputs: Sequence[Any]) -> np.ndarray:
    """Softmax of what AutoModel says, one input at a time, tokens by AutoTokenizer."""
    with quiet():
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        network = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    known = inspect.signature(network.forward).parameters
    found = []
    for value in inputs:
        texts = value if isinstance(value, tuple) else (value,)
        limit = min(tokenizer.model_max_length, SMALL["max_position_embeddings"])
        given = tokenizer(*texts, return_tensors="pt", truncation=True, max_length=limit)
        with torch.inference_mode():
            logits = network(**{k: v for k, v in given.items() if k in known}).logits
        found.append(torch.softmax(logits.double(), -1)[0].numpy())
    return np.stack(found)


def packed_answers(folder: Path, inputs: Sequence[Any], schema: Schema = SCHEMA) -> np.ndarray:
    """What learndock says, after the checks of packing."""
    format_ = TransformersFormat()
    settings = format_.settle(folder, schema, format_.check(folder, schema), inputs)
    return np.asarray(format_.load(folder, schema, settings).predict(inputs))


def bert(**said: Any) -> Tokens:
    return lambda folder: word_pieces(folder, **said)


def bytes_(**said: Any) -> Tokens:
    return lambda folder: byte_pairs(folder, **said)


MODELS: dict[str, tuple[str, Tokens, dict[str, Any]]] = {
    "bert": ("bert", bert(), {}),
    "bert, its own class": ("bert", bert(name="BertTokenizer"), {}),
    "bert, no class": ("bert", bert(name=None), {}),
    "bert, cased by its class": ("bert", bert(name="BertTokenizer", do_lower_case=False), {}),
    "bert, lowered by its class": ("bert", bert(name="BertTokenizerFast", lower=False, do_lower_case=True), {}),
    "bert, accents kept": ("bert", bert(name="BertTokenizer", strip_accents=False), {}),
    "bert, cut on the left": ("bert", bert(truncation_side="left", model_max_length=12), {}),
    "bert, short limit": ("bert", bert(model_max_length=9), {}),
    "bert, no limit": ("bert", bert(model_max_length=10**30), {}),
    "bert, types by name": ("bert", bert(model_input_names=["input_ids", "token_type_ids", "attention_mask"]), {}),
    "bert, no types by name": ("bert", bert(name="BertTokenizer", model_input_names=["input_ids", "attention_mask"]),
                               {}),
    "bert, a first token said": ("bert", bert(add_bos_token=True, bos_token="[MASK]"), {}),
    "bert, special tokens split": ("bert", bert(split_special_tokens=True), {}),
    "distilbert": ("distilbert", bert(name="DistilBertTokenizer"), {"dim": 16, "n_layers": 2, "n_heads": 2,
                                                                     "hidden_dim": 16}),
    "electra": ("electra", bert(name="ElectraTokenizer"), {"embedding_size": 8}),
    "mobilebert": ("mobilebert", bert(name="MobileBertTokenizer"), {"embedding_size": 8,
                                                                    "intra_bottleneck_size": 16}),
    "convbert": ("convbert", bert(name="ConvBertTokenizer"), {"embedding_size": 8, "conv_kernel_size": 3}),
    "squeezebert": ("squeezebert", bert(name="SqueezeBertTokenizer"), {"embedding_size": 16, "q_groups": 1,
                    "k_groups": 1, "v_groups": 1, "post_attention_groups": 1, "intermediate_groups": 1,
                    "output_groups": 1}),
    "nystromformer": ("nystromformer", bert(), {"num_landmarks": 4, "segment_means_seq_len": 4}),
    "fnet": ("fnet", bert(), {}),
    "albert": ("albert", bert(), {"embedding_size": 8}),
    "rembert": ("rembert", bert(), {"input_embedding_size": 8, "output_embedding_size": 8}),
    "modernbert": ("modernbert", bert(), {"global_attn_every_n_layers": 2, "local_attention": 8, "pad_token_id": 0}),
    "deberta-v2": ("deberta-v2", bert(), {"relative_attention": True, "pos_att_type": ["p2c", "c2p"],
                                          "position_biased_input": False}),
    "deberta": ("deberta", bert(), {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]}),
    "roberta": ("roberta", bytes_(name="RobertaTokenizer"), {"pad_token_id": 1}),
    "roberta, space before": ("roberta", bytes_(name="RobertaTokenizer", add_prefix_space=True), {"pad_token_id": 1}),
    "roberta, no class": ("roberta", bytes_(name=None), {"pad_token_id": 1}),
    "longformer": ("longformer", bytes_(name="LongformerTokenizer"), {"pad_token_id": 1, "attention_window": 8,
                                                                      "max_position_embeddings": 80}),
    "mpnet": ("mpnet", bert(), {"pad_token_id": 1}),
    "big_bird": ("big_bird", bert(), {"block_size": 4, "num_random_blocks": 1}),
    "bart": ("bart", bytes_(name="BartTokenizer"), {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1,
             "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 16,
             "decoder_ffn_dim": 16, "pad_token_id": 1, "eos_token_id": 2, "bos_token_id": 0,
             "decoder_start_token_id": 2}),
    "xlnet": ("xlnet", bert(), {"d_model": 16, "n_layer": 2, "n_head": 2, "d_inner": 16}),
    "funnel": ("funnel", bert(), {"block_sizes": [1, 1], "d_model": 16, "n_head": 2, "d_head": 8, "d_inner": 16}),
    "gpt2, padding named": ("gpt2", bytes_(name="GPT2Tokenizer", roberta=False), {"n_embd": 16, "n_layer": 1,
                            "n_head": 2, "pad_token_id": 0, "eos_token_id": 0, "bos_token_id": 0}),
    "gpt2, no padding": ("gpt2", bytes_(name="GPT2Tokenizer", roberta=False), {"n_embd": 16, "n_layer": 1,
                         "n_head": 2, "pad_token_id": None, "eos_token_id": 0, "bos_token_id": 0}),
    "gpt2, types by name": (
        "gpt2",
        bytes_(name="GPT2Tokenizer", roberta=False, model_input_names=["input_ids", "token_type_ids"]),
        {"n_embd": 16, "n_layer": 1, "n_head": 2, "pad_token_id": 0, "eos_token_id": 0, "bos_token_id": 0},
    ),
    "gpt2, space before": ("gpt2", bytes_(name="GPT2Tokenizer", roberta=False, add_prefix_space=True), {"n_embd": 16,
                           "n_layer": 1, "n_head": 2, "pad_token_id": None, "eos_token_id": 0, "bos_token_id": 0}),
    "bloom, padded on the left": (
        "bloom",
        bert(padding_side="left"),
        {"n_layer": 2, "n_head": 2, "pad_token_id": 0},
    ),
    "t5": (
        "t5",
        bert(),
        {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2, "eos_token_id": 3, "pad_token_id": 0,
         "decoder_start_token_id": 0},
    ),
    "opt": ("opt", bert(), {"ffn_dim": 16, "word_embed_proj_dim": 16, "pad_token_id": 1}),
    "gpt_neox": ("gpt_neox", bert(), {}),
    "mistral": ("mistral", bert(), {"num_key_value_heads": 2}),
    "gemma": ("gemma", bert(), {"num_key_value_heads": 2, "head_dim": 8}),
    "xlm-roberta": ("xlm-roberta", bert(), {"pad_token_id": 1}),
    "luke": ("luke", bert(), {"entity_vocab_size": 5, "entity_emb_size": 8, "pad_token_id": 1}),
    "yoso": ("yoso", bert(), {"use_expectation": True}),
    "xlm": ("xlm", bert(), {"emb_dim": 16, "n_layers": 1, "n_heads": 2}),
    "llama": ("llama", bert(), {"num_key_value_heads": 2, "pad_token_id": None, "eos_token_id": 3, "bos_token_id": 2}),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_classifiers_of_texts(name: str, tmp_path: Path) -> None:
    kind, tokens, settings = MODELS[name]
    folder = classifier(tmp_path / "m", kind, tokens, **settings)
    inputs = [t for t in (*TEXTS, *PAIRS, *LONG) if t or kind not in ("gpt2", "funnel")]  # too few tokens
    found, expected = packed_answers(folder, inputs), answers_of_the_library(folder, inputs)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert (found.argmax(axis=1) == expected.argmax(axis=1)).all()


REFUSED: dict[str, tuple[str, Tokens, dict[str, Any], str]] = {
    "another class's tokens": ("qwen2", bert(), {"num_key_value_heads": 2, "pad_token_id": 0},
                               "Qwen2Tokenizer of transformers makes other tokens than tokenizer.json says"),
    "an odd side": ("bert", bert(truncation_side="middle"), {}, "truncation_side is 'middle'"),
    "a flag that is a word": ("bert", bert(name="BertTokenizer", do_lower_case="yes"), {}, "do_lower_case is 'yes'"),
    "several labels at once": ("bert", bert(), {"problem_type": "multi_label_classification"}, "several labels"),
    "an unknown activation": ("bert", bert(), {"sentence_transformers": {"activation_fn": "torch.nn.Tanh"}}, "Tanh"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str, tmp_path: Path) -> None:
    kind, tokens, settings, words = REFUSED[name]
    folder = classifier(tmp_path / "m", kind, tokens, **settings)
    with pytest.raises(ModelError, match=words):
        packed_answers(folder, TEXTS)


# --- one output ----------------------------------------------------------------------------------------------

SCALE = Schema("regression", (), (), "pearson")
SIGMOID = "torch.nn.modules.activation.Sigmoid"


@pytest.mark.parametrize(
    ("said", "activation"),
    [
        ({}, "none"),
        ({"problem_type": "regression"}, "none"),
        ({"sentence_transformers": {"activation_fn": SIGMOID, "version": "5.1.0"}}, "sigmoid"),
        ({"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}}, "none"),
        ({"sbert_ce_default_activation_function": SIGMOID}, "sigmoid"),
        # Since sentence-transformers 6 in a file of its own
        ({"file": {"model_type": "CrossEncoder", "activation_fn": SIGMOID, "prompts": {}}}, "sigmoid"),
        ({"file": {"model_type": "CrossEncoder"}}, "sigmoid"),
        ({"file": {"model_type": "CrossEncoder", "activation_fn": "torch.nn.modules.linear.Identity"}}, "none"),
        ({"file": {"model_type": "SentenceTransformer"}}, "none"),
    ],
)
def test_values_of_a_cross_encoder(said: dict[str, Any], activation: str, tmp_path: Path) -> None:
    """As ``CrossEncoder.predict`` applies what the configuration names."""
    beside = said.pop("file", None) if (said := dict(said)) else None
    folder = classifier(tmp_path / "m", "bert", bert(), id2label={0: "LABEL_0"}, label2id={"LABEL_0": 0}, **said)
    if beside is not None:
        (folder / "config_sentence_transformers.json").write_text(json.dumps(beside))
    with quiet():
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        network = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.inference_mode():
        raw = torch.cat([network(**tokenizer(*p, return_tensors="pt")).logits[:, 0] for p in PAIRS])
    expected = (raw.sigmoid() if activation == "sigmoid" else raw).numpy()
    np.testing.assert_allclose(packed_answers(folder, PAIRS, SCALE), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("modules.json", [{"idx": 0}, {"idx": 1}], "has layers behind the transformer"),
        ("config_sentence_transformers.json", {"model_type": "CrossEncoder", "default_prompt_name": "q"}, "a prompt"),
        ("config_sentence_transformers.json", {"model_type": "CrossEncoder", "activation_fn": "a.Tanh"}, "Tanh"),
    ],
)
def test_cross_encoders_that_do_more(name: str, content: Any, words: str, tmp_path: Path) -> None:
    folder = classifier(tmp_path / "m", "bert", bert(), id2label={0: "LABEL_0"}, label2id={"LABEL_0": 0})
    (folder / "config_sentence_transformers.json").write_text(json.dumps({"model_type": "CrossEncoder"}))
    (folder / name).write_text(json.dumps(content))
    with pytest.raises(ModelError, match=words):
        packed_answers(folder, PAIRS, SCALE)


def test_one_output_for_two_classes(tmp_path: Path) -> None:
    """transformers' pipeline takes the sigmoid of a single output, which is the second class's."""
    names = {"id2label": {0: "yes"}, "label2id": {"yes": 0}}
    folder = classifier(tmp_path / "m", "bert", bert(), **names)
    with quiet():
        pipeline = transformers.pipeline("text-classification", model=str(folder), device="cpu")
    expected = np.array([pipeline(t)[0]["score"] for t in TEXTS])
    format_ = TransformersFormat()
    settings = {**format_.check(folder, SCHEMA), "columns": [0, 1]}
    assert format_.label_names(folder, SCHEMA, settings) == ["LABEL_0", "yes"]
    found = format_.load(folder, SCHEMA, settings).predict(TEXTS)
    np.testing.assert_allclose(found[:, 1], expected, atol=1e-5)


def test_texts_that_are_cut_are_counted(tmp_path: Path) -> None:
    folder = classifier(tmp_path / "m", "bert", bert(model_max_length=40))
    format_ = TransformersFormat()
    model = format_.load(folder, SCHEMA, format_.check(folder, SCHEMA))
    model.predict(LONG + TEXTS)
    (remark,) = remarks_of(model)
    assert remark.startswith("2 of 12 texts are longer than the 40 tokens that are read (the model could read 64")
    model.predict(TEXTS)
    assert remarks_of(model) == ()


# --- preparation of images -----------------------------------------------------------------------------------

#: Model type, and ``preprocessor_config.json`` as files of several ages say it; what is left out, the class decides.
PREPARED: dict[str, tuple[str, dict[str, Any]]] = {
    "one number, both sides": ("vit", {"feature_extractor_type": "ViTFeatureExtractor", "size": 18, "resample": 2,
                                       "do_normalize": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}),
    "one number, shorter side": ("clip", {"feature_extractor_type": "CLIPFeatureExtractor", "size": 20,
                                          "crop_size": 16}),
    "two numbers": ("vit", {"image_processor_type": "ViTImageProcessor", "size": {"height": 12, "width": 20}}),
    "a fast class": ("vit", {"image_processor_type": "ViTImageProcessorFast", "size": {"height": 16, "width": 16}}),
    "nothing but the class": ("vit", {"image_processor_type": "ViTImageProcessor"}),
    "no class": ("swin", {"size": {"height": 16, "width": 16}, "image_mean": [0.485, 0.456, 0.406],
                          "image_std": [0.229, 0.224, 0.225]}),
    "no class, ResNet": ("resnet", {"size": {"shortest_edge": 28}, "crop_pct": 0.875}),
    "a crop that is not said": ("clip", {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 24},
                                         "crop_size": {"height": 16, "width": 16}}),
    "no crop": ("clip", {"image_processor_type": "CLIPImageProcessor", "do_center_crop": False,
                         "size": {"height": 16, "width": 16}}),
    "resized and cut": ("deit", {"image_processor_type": "DeiTImageProcessor", "size": {"height": 24, "width": 24},
                                 "crop_size": {"height": 16, "width": 16}}),
    "a fraction, left out": ("convnext", {"image_processor_type": "ConvNextImageProcessor",
                                          "size": {"shortest_edge": 28}}),
    "a fraction, no effect": ("vit", {"image_processor_type": "ViTImageProcessor", "crop_pct": 0.9,
                                      "size": {"height": 16, "width": 16}}),
    "large, so not cut": ("convnext", {"image_processor_type": "ConvNextImageProcessor",
                                       "size": {"shortest_edge": 384}, "crop_pct": 0.95}),
    "blue first": ("mobilevit", {"image_processor_type": "MobileViTImageProcessor", "size": {"shortest_edge": 20},
                                 "crop_size": {"height": 16, "width": 16}}),
    "blue first, switched off": ("mobilevit", {"image_processor_type": "MobileViTImageProcessor",
                                               "do_flip_channel_order": False, "size": {"shortest_edge": 20},
                                               "crop_size": {"height": 16, "width": 16}}),
    "bicubic": ("beit", {"image_processor_type": "BeitImageProcessor", "size": {"height": 16, "width": 16}}),
    "DINOv2": ("dinov2", {"image_processor_type": "BitImageProcessor", "size": {"shortest_edge": 20},
                          "crop_size": {"height": 14, "width": 14}, "image_mean": [0.485, 0.456, 0.406],
                          "image_std": [0.229, 0.224, 0.225]}),
    "MobileNet": ("mobilenet_v2", {"image_processor_type": "MobileNetV2ImageProcessor", "size": {"shortest_edge": 20},
                                   "crop_size": {"height": 16, "width": 16}}),
    "SigLIP": ("siglip", {"image_processor_type": "SiglipImageProcessor", "size": {"height": 16, "width": 16}}),
    "PVT": ("pvt", {"image_processor_type": "PvtImageProcessor", "size": {"height": 16, "width": 16}}),
    "no numbers": ("vit", {"image_processor_type": "ViTImageProcessor", "size": {"height": 16, "width": 16},
                           "do_normalize": False, "do_rescale": False}),
    "of training": ("segformer", {"image_processor_type": "SegformerImageProcessor", "do_reduce_labels": True,
                                  "size": {"height": 16, "width": 16}}),
}  # fmt: skip


@pytest.mark.parametrize("name", PREPARED)
def test_preparation_of_images(name: str, tmp_path: Path) -> None:
    kind, said = PREPARED[name]
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said))
    random = np.random.default_rng(0)
    images = [
        Image.from_pixels(random.integers(0, 256, (*shape, 3), dtype=np.uint8))
        for shape in ((40, 61), (33, 20), (9, 7))
    ]
    with quiet():
        theirs = transformers.AutoImageProcessor.from_pretrained(tmp_path, backend="pil")
    pixels = read_pixels(tmp_path)
    compare_pixels(tmp_path, pixels, images)
    with pytest.raises(ModelError, match="makes other pixels of an image"):
        compare_pixels(tmp_path, dataclasses.replace(pixels, factor=pixels.factor * 1.01), images)
    found = pixels.batch(pixels.encode(images), range(len(images))).pixels
    expected = np.stack([theirs(images=pillow_image(image))["pixel_values"][0] for image in images])
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=1e-5 * max(1.0, float(np.abs(expected).max())))


@pytest.mark.parametrize(
    ("kind", "said", "words"),
    [
        ("levit", {"image_processor_type": "LevitImageProcessor"}, "LevitImageProcessor, whose work is not known"),
        ("efficientnet", {"image_processor_type": "EfficientNetImageProcessor"}, "EfficientNetImageProcessor, whose"),
        ("imagegpt", {"feature_extractor_type": "ImageGPTFeatureExtractor"}, "ImageGPTFeatureExtractor, whose"),
        ("convnext", {"image_processor_type": "ConvNextImageProcessor", "size": {"height": 8, "width": 8}},
         "size must be the shorter side"),
        ("vit", {"image_processor_type": "ViTImageProcessor", "do_pad": True, "pad_size": {"height": 9, "width": 9}},
         "do_pad, pad_size: not supported"),
    ],
)  # fmt: skip
def test_preparation_that_is_refused(kind: str, said: dict[str, Any], words: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said))
    with pytest.raises(ModelError, match=words):
        read_pixels(tmp_path)


def test_a_processor_of_another_size_than_the_models(tmp_path: Path) -> None:
    """An error of the model, with the image's number; it was a bug of ours before."""
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=16, patch_size=8,
        id2label={0: "no", 1: "yes"}, label2id={"no": 0, "yes": 1},
    )  # fmt: skip
    with quiet():
        transformers.ViTForImageClassification(config).save_pretrained(tmp_path)
    said = {"image_processor_type": "ViTImageProcessor", "size": {"height": 24, "width": 24}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said))
    model = TransformersFormat().load(tmp_path, SCHEMA, {})
    image = Image.from_pixels(np.zeros((30, 30, 3), np.uint8))
    with pytest.raises(ModelError, match=r"input 1: the model does not run on it.*24.*preparation of images"):
        model.predict([image])
