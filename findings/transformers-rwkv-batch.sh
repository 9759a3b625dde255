#!/usr/bin/env bash
# transformers 5.23.0: RWKV answers a prompt otherwise when another prompt of the same length is beside it. With states
# kept, the shifted state of shape (batch, width) is added to hidden states of shape (batch, 1, width), so that every row
# gets the states of all rows. One prompt alone, or without states, is right. Exits non-zero if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "transformers==5.23.0" "torch==2.13.0" "numpy==2.4.6"
cd "$folder" && HF_HUB_OFFLINE=1 venv/bin/python - <<'PY'
import torch
from transformers import RwkvConfig, RwkvForCausalLM

torch.manual_seed(3)
model = RwkvForCausalLM(RwkvConfig(vocab_size=200, hidden_size=32, num_hidden_layers=2, attention_hidden_size=32)).eval()
with torch.no_grad():
    for values in model.parameters():
        if values.ndim == 2:
            values.normal_(0, 0.5)
both = torch.tensor([[5, 6, 7, 8], [90, 91, 92, 93]])


def write(ids, **options):
    found = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False, pad_token_id=0, **options)
    return found[0, ids.shape[1] :].tolist()


alone, beside, without = write(both[:1]), write(both), write(both, use_cache=False)
print("alone                ", alone)
print("beside another       ", beside)
print("the same, no states  ", without)
assert alone == without, "a prompt alone is wrong too"
assert alone != beside, "a batch gives the right answers now"
PY
