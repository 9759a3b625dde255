"""Read what ``tokenizer_config.json`` changes about the tokenizer in ``tokenizer.json``, as transformers does.

``tokenizer.json`` describes a tokenizer completely, but transformers does not always take it as it is: classes such as
``BertTokenizer`` keep its vocabulary and build the rest from their own settings (``do_lower_case``,
``add_prefix_space``). The settings that are known here are applied; ``compare_with_library`` finds the others when a
model is packed on a machine with transformers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from learndock.data.examples import Input
from learndock.errors import ModelError
from learndock.package.formats._cross_encoder import length_of
from learndock.package.json_file import read_object

CONFIG, SPECIAL = "tokenizer_config.json", "special_tokens_map.json"
#: More tokens than this are never read of one text, whatever the model says: attention takes the square of them.
MAX_TOKENS = 8_192
#: A limit above this counts as none: some tokenizers say 1e30.
_NO_LIMIT = 1_000_000

#: Classes that lower, strip and split as BERT does, by their own settings.
_BERT = frozenset(
    {
        "BertTokenizer", "ConvBertTokenizer", "DistilBertTokenizer", "ElectraTokenizer", "LayoutLMTokenizer",
        "LxmertTokenizer", "MobileBertTokenizer", "SqueezeBertTokenizer",
    }
)  # fmt: skip
#: Classes that split into bytes as GPT-2 does, with or without a space before the first word.
_BYTES = frozenset(
    {"BartTokenizer", "DebertaTokenizer", "GPT2Tokenizer", "LEDTokenizer", "LongformerTokenizer", "RobertaTokenizer"}
)
#: Those among them with RoBERTa's special tokens.
_ROBERTA = frozenset({"BartTokenizer", "LEDTokenizer", "LongformerTokenizer", "RobertaTokenizer"})
_HOW = ("lstrip", "normalized", "rstrip", "single_word")
#: The class where no file names one.
_BY_MODEL = {
    **dict.fromkeys(("bert", "convbert", "electra", "ernie", "layoutlm", "megatron-bert", "mobilebert", "nomic_bert",
                     "squeezebert", "distilbert"), "BertTokenizer"),
    **dict.fromkeys(("bart", "data2vec-text", "ibert", "longformer", "roberta", "roberta-prelayernorm"),
                    "RobertaTokenizer"),
    "gpt2": "GPT2Tokenizer",
    "deberta": "DebertaTokenizer",
}  # fmt: skip
#: Model types whose tokenizer transformers takes from ``tokenizer.json`` whatever class is named.
_AS_IS = frozenset(
    {"jamba", "minicpm3", "modernbert", "modernbert-decoder", "nemotron", "nystromformer", "phi3", "phimoe"}
)
#: Classes that give the second text of a pair the type 1 although no file says so.
_TYPED = (_BERT - {"DistilBertTokenizer"}) | {
    "CanineTokenizer", "DebertaTokenizer", "DebertaV2Tokenizer", "FNetTokenizer", "MarkupLMTokenizer", "TapasTokenizer",
}  # fmt: skip
#: Special tokens that are kept in one piece in a text, in the order in which transformers adds them.
_SPECIAL = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_BERT_TOKENS = {"unk_token": "[UNK]", "sep_token": "[SEP]", "pad_token": "[PAD]", "cls_token": "[CLS]",
                "mask_token": "[MASK]"}  # fmt: skip
_ROBERTA_TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "sep_token": "</s>",
                   "pad_token": "<pad>", "cls_token": "<s>", "mask_token": "<mask>"}  # fmt: skip
#: Model types whose position numbers start after the padding token's id.
_OFFSET_POSITIONS = frozenset(
    {
        "camembert", "data2vec-text", "esm", "ibert", "longformer", "luke", "mpnet", "roberta",
        "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod",
    }
)  # fmt: skip


@dataclass(frozen=True)
class TokenizerSettings:
    """What the files beside ``tokenizer.json`` say.

    ``name`` is the class without ``Fast`` (None where no file names one), ``limit`` the longest text in tokens (None
    without one), ``side`` the end at which longer texts are cut, ``types`` whether the model is given token types.
    """

    name: str | None
    limit: int | None
    side: Literal["left", "right"] | None
    types: bool
    said: Mapping[str, Any]

    @property
    def bert(self) -> bool:
        """Whether the class builds BERT's normaliser and splitting."""
        return self.name in _BERT

    @property
    def bytes(self) -> bool:
        """Whether the class builds GPT-2's splitting into bytes."""
        return self.name in _BYTES


def read_settings(folder: Path) -> TokenizerSettings:
    """The settings in ``folder``; defaults where a file is missing.

    Raises:
        ModelError: a value is not what it must be.
    """
    said = read_object(folder / CONFIG) if (folder / CONFIG).is_file() else {}
    model = read_object(folder / "config.json") if (folder / "config.json").is_file() else {}
    kind = model.get("model_type")
    name = said.get("tokenizer_class") or model.get("tokenizer_class")
    if name is None and isinstance(kind, str):
        name = _BY_MODEL.get(kind)
    if name is not None and not isinstance(name, str):
        raise ModelError(f"tokenizer_class is {str(name)[:80]!r}, expected a name", about=CONFIG)
    if kind in _AS_IS:
        name = None
    name = name.removesuffix("Fast") if name else None
    if (folder / SPECIAL).is_file() and "added_tokens_decoder" not in said:
        said = {**said, **read_object(folder / SPECIAL)}
    names = said.get("model_input_names")
    types = name in _TYPED if names is None else isinstance(names, list) and "token_type_ids" in names
    side = said.get("truncation_side")
    if side not in (None, "left", "right"):
        raise ModelError(f"truncation_side is {str(side)[:80]!r}, expected left or right", about=CONFIG)
    limit = length_of(folder) or said.get("model_max_length") or said.get("max_len")
    if not isinstance(limit, int | float) or isinstance(limit, bool) or not 0 < limit < _NO_LIMIT:
        limit = None
    return TokenizerSettings(name, None if limit is None else int(limit), side, types, said)


def positions_of(config: Mapping[str, Any]) -> int | None:
    """How many tokens a transformers model has positions for, by its ``config.json``; None without a limit."""
    kind = config.get("model_type")
    if kind in ("deberta", "deberta-v2") and config.get("position_biased_input") is False:
        return None  # relative positions alone
    found = config.get("max_position_embeddings", config.get("n_positions"))
    if type(found) is not int or found < 1 or kind in ("t5", "mt5", "umt5", "xlnet"):
        return None
    return max(1, found - first_position(config))


def first_position(config: Mapping[str, Any]) -> int:
    """The number of a text's first position: after the padding token's id in RoBERTa's family, else 0."""
    if config.get("model_type") not in _OFFSET_POSITIONS:
        return 0
    padding = config.get("pad_token_id", 1)
    return (padding if type(padding) is int else 0) + 1


def apply_settings(tokenizer: Any, settings: TokenizerSettings) -> None:
    """Change a ``tokenizers.Tokenizer`` as the class of ``settings`` does in transformers."""
    from tokenizers import normalizers, pre_tokenizers

    said = settings.said
    if settings.bert:
        tokenizer.normalizer = normalizers.BertNormalizer(
            clean_text=True,
            handle_chinese_chars=_flag(said, "tokenize_chinese_chars", True),
            strip_accents=_flag(said, "strip_accents", None),
            lowercase=_flag(said, "do_lower_case", True),
        )
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    elif settings.bytes:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=_flag(said, "add_prefix_space", False))
    _add_special(tokenizer, settings)
    if said.get("split_special_tokens"):
        tokenizer.encode_special_tokens = True


def _add_special(tokenizer: Any, settings: TokenizerSettings) -> None:
    """Keep the special tokens that the settings name in one piece in texts, as transformers does."""
    from tokenizers import AddedToken

    defaults = _BERT_TOKENS if settings.bert else _ROBERTA_TOKENS if settings.name in _ROBERTA else {}
    there = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    for key in _SPECIAL:
        value = settings.said.get(key, defaults.get(key))
        how = {k: v for k, v in value.items() if k in _HOW and isinstance(v, bool)} if isinstance(value, dict) else {}
        content = value.get("content") if isinstance(value, dict) else value
        if isinstance(content, str) and content and content not in there:
            tokenizer.add_special_tokens([AddedToken(content, special=True, **how)])
            there.add(content)


def _flag(said: Mapping[str, Any], key: str, default: bool | None) -> Any:
    value = said.get(key, default)
    if value is not None and not isinstance(value, bool):
        raise ModelError(f"{key} is {str(value)[:80]!r}, expected true or false", about=CONFIG)
    return value


# --- beside the library, when a model is packed ----------------------------------------------------------------------

#: Texts in which tokenizers differ: case, accents, scripts, spaces, signs, words that are tokens.
PROBES: tuple[Input, ...] = (
    "Hello World, HELLO world",
    "École naïve Ångström éà İstanbul",
    "中文字符 and 日本語テキスト 한국어",
    "  two  spaces\tand a tab\nand a line ",
    "don't (stop)! 1,234.5 - e-mail@x.org",
    "[MASK] <mask> [SEP] </s> <s> [CLS] <pad> [PAD] <|endoftext|>",
    "\N{GRINNING FACE} \N{LATIN SMALL LIGATURE FI} \N{VULGAR FRACTION ONE HALF} Привет \N{ZERO WIDTH SPACE}x",
    "",
    ("A first Text", "and a second One"),
)
#: So many of the owner's inputs are compared beside the probes.
_COMPARED = 200


def compare_with_library(
    folder: Path, tokens: Any, inputs: Sequence[Input], *, model: Path | None = None, takes_types: bool = True
) -> None:
    """Compare our token ids with those of ``AutoTokenizer`` for ``folder``, on probes and on some of ``inputs``.

    ``model`` is the folder with ``config.json`` where that is another. ``takes_types`` says whether the model has an
    input for token types; where it has none, they make no difference. Where transformers is not installed, or cannot
    tell what the tokenizer is, nothing is compared.

    Raises:
        ModelError: they differ; names the class and what to do.
    """
    try:
        import transformers
    except ImportError:
        return
    theirs = _auto(transformers, folder, model or folder)
    if theirs is None:
        return
    tokens.encode(inputs[:_COMPARED])  # names an input that is not a text by its own number
    chosen = [*PROBES, *inputs[:_COMPARED]]
    for value, own in zip(chosen, tokens.encode(chosen), strict=True):
        texts = value if isinstance(value, tuple | list) else (value,)
        given = theirs(*texts, truncation=True, max_length=tokens.limit)
        types = given.get("token_type_ids")
        if list(given["input_ids"]) != list(own.ids):
            raise _differs(theirs, value, given["input_ids"], own.ids)
        if takes_types and (types is not None and any(types)) != (tokens.types and any(own.type_ids)):
            gives = "token types" if types is not None else "no token types"
            raise ModelError(
                f"{type(theirs).__name__} of transformers {transformers.__version__} gives the model {gives} of a "
                "pair, and the file does not say so",
                remedy='say it as "model_input_names" there',
                about=CONFIG,
            )


def _auto(transformers: Any, folder: Path, model: Path) -> Any:
    from learndock.package.formats._quiet import quiet

    pinned = {"local_files_only": True, "trust_remote_code": False}
    try:
        with quiet():
            config = None
            if (model / "config.json").is_file() and "model_type" in read_object(model / "config.json"):
                config = transformers.AutoConfig.from_pretrained(model, **pinned)
            elif not (folder / CONFIG).is_file():
                return None
            if config is None:
                return transformers.PreTrainedTokenizerFast.from_pretrained(folder, **pinned)
            return transformers.AutoTokenizer.from_pretrained(folder, config=config, **pinned)
    except Exception as error:  # the libraries raise plain Exceptions over files that do not fit
        text = " ".join(str(error).split())[:200]
        raise ModelError(
            f"transformers cannot load the tokenizer ({text})",
            remedy="save it again with AutoTokenizer(...).save_pretrained",
            about="tokenizer.json",
        ) from None


def _differs(theirs: Any, value: Input, expected: Sequence[int], found: Sequence[int]) -> ModelError:
    shown = str(value if isinstance(value, str) else value[0])[:60]
    return ModelError(
        f"{type(theirs).__name__} of transformers makes other tokens than tokenizer.json says (of {shown!r}: "
        f"{list(expected)[:8]}, not {list(found)[:8]})",
        remedy="save both again with AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)",
        about=CONFIG,
    )
