#!/usr/bin/env bash
# transformers 5.23.0: some classifiers read the padding although it is masked, so the probabilities of a text depend on
# the longest text of its batch. FNet mixes all positions, ConvBERT and MobileBERT look at neighbours, Nystromformer takes
# means of segments. BERT does not. Run texts of one length together to get the same answer every time. Exits non-zero if
# the behaviour changes.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "transformers==5.23.0" "torch==2.13.0" "numpy==2.4.6"
cd "$folder" && venv/bin/python - <<'PY'
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, logging

logging.set_verbosity_error()
size = {"vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
        "max_position_embeddings": 64, "pad_token_id": 0}
more = {"bert": {}, "fnet": {}, "convbert": {"embedding_size": 16, "conv_kernel_size": 3},
        "mobilebert": {"embedding_size": 16, "intra_bottleneck_size": 16},
        "nystromformer": {"num_landmarks": 8, "segment_means_seq_len": 8}}
away = {}
for kind, settings in more.items():
    torch.manual_seed(1)
    model = AutoModelForSequenceClassification.from_config(AutoConfig.for_model(kind, **size, **settings)).eval()
    for weight in model.parameters():
        if weight.ndim >= 2:
            torch.nn.init.normal_(weight, 0, 0.25)
    text = torch.tensor([[2, 7, 9, 11, 3]])
    padded = torch.cat([text, torch.zeros(1, 11, dtype=torch.long)], dim=1)
    with torch.inference_mode():
        known = {} if kind == "fnet" else {"attention_mask": (padded != 0).long()}
        alone = model(input_ids=text).logits.softmax(-1)
        beside = model(input_ids=padded, **known).logits.softmax(-1)
    away[kind] = float((alone - beside).abs().max())
    print(f"{kind:14} {away[kind]:.4f}")
assert away.pop("bert") < 1e-5, "BERT depends on its padding now"
assert all(value > 1e-3 for value in away.values()), "some of them no longer depend on their padding"
PY
