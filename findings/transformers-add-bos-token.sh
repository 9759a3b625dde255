#!/usr/bin/env bash
# transformers 5.23.0 does not read add_bos_token from tokenizer_config.json where a tokenizer.json is beside it; 4.57.1
# did, for Llama's tokenizer. A folder that says "add_bos_token": true, and leaves the rest to the library, begins its
# texts with another token after an upgrade. Exits non-zero if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
cat > "$folder/show.py" <<'PY'
import json
import pathlib

import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors

words = {word: i for i, word in enumerate(dict.fromkeys(["<unk>", "<s>", "</s>", "\u2581", *"therain"]))}
tokenizer = Tokenizer(models.BPE(words, [], unk_token="<unk>"))
tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
tokenizer.post_processor = processors.TemplateProcessing("$A", special_tokens=[])
place = pathlib.Path("model")
place.mkdir(exist_ok=True)
tokenizer.save(str(place / "tokenizer.json"))
said = {"tokenizer_class": "LlamaTokenizerFast", "add_bos_token": True, "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
(place / "tokenizer_config.json").write_text(json.dumps(said))
found = transformers.AutoTokenizer.from_pretrained("model")("the rain")["input_ids"]
assert len(found) > 5, found
print(f"transformers {transformers.__version__}: the text begins with {'<s>' if found[0] == 1 else 'no begin token'}")
pathlib.Path("found.txt").write_text(str(found[0] == 1))
PY
for version in 4.57.1 5.23.0; do
    python3 -m venv "$folder/$version"
    "$folder/$version/bin/pip" install --quiet --disable-pip-version-check "transformers==$version"
    (cd "$folder" && HF_HUB_OFFLINE=1 "$version/bin/python" show.py 2>/dev/null)
    expected=$([ "$version" = 4.57.1 ] && echo True || echo False)
    [ "$(cat "$folder/found.txt")" = "$expected" ] || { echo "the behaviour of $version has changed"; exit 1; }
done
