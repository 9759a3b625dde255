#!/usr/bin/env bash
# transformers 5.23.0: token types of zero are not the same as none. GPT-2's classifier looks them up among the vectors of
# its words, so each token gets the vector of word 0 added. A tokenizer whose model_input_names list token_type_ids (a
# common leftover in tokenizer_config.json) therefore changes every answer, without a warning. BERT gives the same with
# and without. Exits non-zero if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "transformers==5.23.0" "torch==2.13.0" "numpy==2.4.6"
cd "$folder" && venv/bin/python - <<'PY'
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, logging

logging.set_verbosity_error()
away = {}
for kind, settings in {
    "gpt2": {"n_embd": 16, "n_layer": 1, "n_head": 2},
    "bert": {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16},
}.items():
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, vocab_size=40, pad_token_id=0, initializer_range=0.2, **settings)
    model = AutoModelForSequenceClassification.from_config(config).eval()
    text = torch.tensor([[5, 7, 9]])
    with torch.inference_mode():
        without = model(input_ids=text).logits.softmax(-1)
        zeros = model(input_ids=text, token_type_ids=torch.zeros_like(text)).logits.softmax(-1)
    away[kind] = float((without - zeros).abs().max())
    print(f"{kind:5} {away[kind]:.4f}")
assert away["bert"] < 1e-6, "BERT tells zeros from none now"
assert away["gpt2"] > 1e-3, "GPT-2 no longer tells zeros from none"
PY
