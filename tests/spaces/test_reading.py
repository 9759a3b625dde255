"""What a helper cannot read: languages, long texts and images far from its resolution, said in the spec."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from learndock.data import Examples, Image, Schema
from learndock.spaces import Space
from learndock.spaces.images import ImageEncoder
from learndock.spaces.languages import WORDS, language
from learndock.spaces.onnx_helper import load_helper
from learndock.spaces.reading import SAMPLE, Vocabulary, sample, unknown_token
from learndock.spec import make_spec, read_spec, write_spec

#: The first article of the Universal Declaration of Human Rights.
ARTICLE = {
    "English": "All human beings are born free and equal in dignity and rights. They are endowed with reason and "
    "conscience and should act towards one another in a spirit of brotherhood.",
    "German": "Alle Menschen sind frei und gleich an Würde und Rechten geboren. Sie sind mit Vernunft und Gewissen "
    "begabt und sollen einander im Geist der Brüderlichkeit begegnen.",
    "French": "Tous les êtres humains naissent libres et égaux en dignité et en droits. Ils sont doués de raison et de "
    "conscience et doivent agir les uns envers les autres dans un esprit de fraternité.",
    "Spanish": "Todos los seres humanos nacen libres e iguales en dignidad y derechos y, dotados como están de razón y "
    "conciencia, deben comportarse fraternalmente los unos con los otros.",
    "Polish": "Wszyscy ludzie rodzą się wolni i równi w swojej godności i prawach. Są oni obdarzeni rozumem i "
    "sumieniem i powinni postępować wobec innych w duchu braterstwa.",
    "Cyrillic letters": "Все люди рождаются свободными и равными в своем достоинстве и правах. Они наделены разумом и "
    "совестью и должны поступать в отношении друг друга в духе братства.",
    "Greek": "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια και τα δικαιώματα.",
    "Arabic letters": "يولد جميع الناس أحرارا متساوين في الكرامة والحقوق. وقد وهبوا عقلا وضميرا.",
    "Hebrew": "כל בני האדם נולדו בני חורין ושווים בערכם ובזכויותיהם.",
    "Devanagari letters": "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है।",
    "Thai": "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ",
    "Chinese": "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，并应以兄弟关系的精神相对待。",
    "Japanese": "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。",
    "Korean": "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다.",
}
MOOD = Schema("classification", ("bad", "good"), ("bad", "good"), "accuracy")


@pytest.mark.parametrize("name", ARTICLE)
def test_a_sentence_is_named_and_found_hard(name: str, minilm: Space) -> None:
    text = ARTICLE[name]
    assert language(text) == name
    found = load_helper(minilm).encoder.reading([text] * 20)  # type: ignore[attr-defined]
    if name == "English":
        assert found == {}
    else:
        assert (found["hard"], found["languages"]) == (1.0, [name])
        assert f"They seem to be: {name}." in found["remarks"][0]


@pytest.mark.parametrize(
    "text",
    [
        "ok",
        "12345 67890 3.14159 2.71828",
        "!!! ??? ... --- :-) :-( <3 <3 <3",
        "the acetylsalicylic acid reduced thromboembolic events in hypercholesterolaemic patients",
        "@someone i really can't believe this!!! #happy #blessed so excited for tomorrow",
        "The quick brown fox jumps over the lazy dog near Llanfair and Reykjavik",
    ],
)
def test_english_of_many_kinds_is_not_hard(text: str, minilm: Space) -> None:
    assert load_helper(minilm).encoder.reading([text] * 20) == {}  # type: ignore[attr-defined]


def test_a_spec_says_what_was_not_read(minilm: Space, tmp_path: Path) -> None:
    texts = [f"{ARTICLE['German']} {i}" for i in range(8)] + [f"{ARTICLE['English']} {i}" for i in range(8)]
    targets = np.array([0, 1] * 8)
    spec = make_spec(Examples(texts, targets, MOOD), space=minilm)
    assert spec.settings["reading"]["hard"] == 0.5
    write_spec(spec, tmp_path / "t.spec")
    again = read_spec(tmp_path / "t.spec").settings["reading"]
    assert again["languages"] == ["German"]
    assert again["remarks"][0].startswith("about 50% of the texts are in a language or notation")
    plain = make_spec(Examples(texts[8:], targets[8:], MOOD), space=minilm)
    assert "reading" not in plain.settings


def test_texts_that_are_cut_are_counted(minilm: Space) -> None:
    long, short = "the garden and the house " * 80, "the garden"
    encoder: Any = load_helper(minilm).encoder
    found = encoder.reading([long, short, (short, long), short])
    assert found["cut"] == 0.5
    assert found["remarks"] == [
        "about 50% of the texts are longer than 256 tokens; the helper read only their beginning"
    ]
    assert encoder.reading([short] * 19 + [long]) == {}


def test_a_template_counts_what_its_text_loses(tiny_masked_space: Space) -> None:
    encoder: Any = load_helper(tiny_masked_space).encoder
    assert encoder.reading(["the rain and the cold " * 40, "rain"])["cut"] == 0.5


def test_a_sample_stands_for_all() -> None:
    assert sample(list(range(10))) == list(range(10))
    chosen = sample(list(range(5_000)))
    assert len(chosen) <= SAMPLE
    assert chosen[0] == 0
    assert chosen[-1] > 4_980


@pytest.mark.parametrize(
    ("size", "share"),
    [((224, 300), {}), ((32, 32), {"small": 1.0}), ((2400, 2000), {"large": 1.0}), ((900, 300), {"long": 1.0})],
)
def test_images_far_from_the_resolution(size: tuple[int, int], share: dict[str, float]) -> None:
    pytest.importorskip("PIL")
    image = Image.from_pixels(np.zeros((size[1], size[0], 3), np.uint8))
    found = ImageEncoder(224).reading([image] * 3)
    assert {k: v for k, v in found.items() if k != "remarks"} == share
    assert len(found.get("remarks", [])) == len(share)


# --- a helper of many languages ----------------------------------------------------------------------------------


def many_languages() -> Any:
    """A tokenizer whose vocabulary is made of the sentences above, SentencePiece's way."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    known = ("English", "German", "French", "Spanish", "Polish")
    words = {w for a in ARTICLE.values() for w in a.split()} | {w for name in known for w in WORDS[name]}
    letters = sorted({c for word in words for c in word} | {"\u2581"})
    pieces = [*((f"\u2581{w}", -8.0) for w in sorted(words)), *((c, -12.0) for c in letters)]
    special = [(token, 0.0) for token in ("<s>", "<pad>", "</s>", "<unk>")]
    tokenizer = Tokenizer(models.Unigram([*special, *pieces], unk_id=3, byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.add_special_tokens([token for token, _ in special])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return tokenizer


def write_multilingual(folder: Path) -> Path:
    """A tiny random XLM-RoBERTa with that tokenizer."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    tokenizer = many_languages()
    folder.mkdir(parents=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    named = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>", "cls_token": "<s>"}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 64, **named}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    config = transformers.XLMRobertaConfig(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=66, type_vocab_size=1,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.XLMRobertaModel(config).save_pretrained(folder)
    return folder


def test_a_vocabulary_of_many_languages_reads_them() -> None:
    tokenizer = many_languages()
    vocabulary = Vocabulary(tokenizer, unknown_token(tokenizer))
    assert vocabulary.hard(list(ARTICLE.values())) == [False] * len(ARTICLE)
    assert vocabulary.knows("German")
    assert not vocabulary.knows("Finnish")
    assert vocabulary.hard(["ja on ei että se hän oli en mutta ovat kun niin myös jos tai minä mitä kuin vain"]) == [
        True
    ]


@pytest.mark.slow
def test_a_space_of_many_languages_is_built_and_used(tmp_path: Path) -> None:
    """What docs/spaces.md says of multilingual-e5-small, on a tiny relative of it."""
    from learndock.spaces import get_space
    from learndock.spaces.authoring.author import build_space, check_space, space_in_torch
    from learndock.spaces.authoring.torch_helper import Recipe

    source = write_multilingual(tmp_path / "xlmr")
    build_space(source, tmp_path / "space", name="many", recipe=Recipe(rank=4, max_tokens=64))
    space = get_space(tmp_path / "space")
    assert check_space(space, space_in_torch(space)) < 1e-5
    texts = [ARTICLE[name] for name in ("German", "Cyrillic letters", "Chinese", "French")] * 4
    spec = make_spec(Examples([f"{t} {i}" for i, t in enumerate(texts)], np.array([0, 1] * 8), MOOD), space=space)
    assert "hard" not in spec.settings.get("reading", {})
