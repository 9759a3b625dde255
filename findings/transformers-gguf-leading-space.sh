#!/usr/bin/env bash
# transformers 5.23.0 loses a space at the beginning of a text with a SentencePiece vocabulary that it reads from GGUF
# (AutoTokenizer with gguf_file): sentencepiece 0.2.3, which trained the vocabulary, and llama.cpp keep it. Token ids
# differ from those of training for every text that begins with a space. Exits non-zero if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    "transformers==5.23.0" "torch==2.13.0" "gguf==0.19.0" "sentencepiece==0.2.3" "numpy==2.4.6"
cd "$folder" && HF_HUB_OFFLINE=1 venv/bin/python - 2>errors.txt <<'PY' || { tail -5 errors.txt; exit 1; }
import io

import gguf
import numpy as np
import sentencepiece
from transformers import AutoTokenizer

trained = io.BytesIO()
texts = ["the rain in the garden was warm", "a cold day after long rain", "the nurse wrote it down twice"] * 20
sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(texts), model_writer=trained, vocab_size=330, model_type="bpe", byte_fallback=True,
    normalization_rule_name="identity", remove_extra_whitespaces=False,
)
own = sentencepiece.SentencePieceProcessor(model_proto=trained.getvalue())
pieces = range(own.get_piece_size())
kinds = [2 if own.is_unknown(i) else 3 if own.is_control(i) else 6 if own.is_byte(i) else 1 for i in pieces]
writer = gguf.GGUFWriter("m.gguf", "llama")
for key, value in {"block_count": 1, "context_length": 64, "embedding_length": 8, "feed_forward_length": 8}.items():
    writer.add_uint32(f"llama.{key}", value)
writer.add_head_count(1)
writer.add_layer_norm_rms_eps(1e-5)
writer.add_tokenizer_model("llama")
writer.add_token_list([own.id_to_piece(i) for i in pieces])
writer.add_token_scores([own.get_score(i) for i in pieces])
writer.add_token_types(kinds)
writer.add_bos_token_id(1)
writer.add_eos_token_id(2)
writer.add_unk_token_id(0)
writer.add_tensor("token_embd.weight", np.zeros((len(pieces), 8), np.float32))
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
read = AutoTokenizer.from_pretrained(".", gguf_file="m.gguf")
for text in ("the rain", " the rain"):
    print(f"{text!r:12} sentencepiece {own.encode(text)} transformers {read.encode(text, add_special_tokens=False)}")
assert own.encode("the rain") == read.encode("the rain", add_special_tokens=False), "plain texts differ too"
assert own.encode(" the rain") != read.encode(" the rain", add_special_tokens=False), "the space is kept now"
PY
