#!/usr/bin/env bash
# Argilla 2.8.0: a record's JSON form (Record.to_dict, which records.to_json and to_list write) leaves out the status of
# each response. A draft or a discarded response is then indistinguishable from a submitted one, so a reader of the export
# takes labels that their annotator withdrew. The flattened form (GenericIO.to_list(flatten=True)) keeps the status.
# Found while reading exports of annotation tools. Exits non-zero if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "argilla==2.8.0" "requests==2.34.2"
"$folder/venv/bin/python" - <<'PY'
import json, uuid, warnings
warnings.simplefilter("ignore")
import argilla
from argilla.records._io import GenericIO

def record(status):
    return argilla.Record(
        id="1", fields={"text": "a fine film"}, responses=[argilla.Response("mood", "bad", uuid.UUID(int=0), status=status)]
    )

written = {s: json.dumps(record(s).to_dict(), default=str, sort_keys=True) for s in ("submitted", "draft", "discarded")}
print(written["discarded"])
assert len(set(written.values())) == 1, "the JSON form tells the statuses apart now"
flat = [str(GenericIO.to_list([record(s)], flatten=True)[0]["mood.responses.status"]) for s in written]
print("flattened:", flat)
assert len(set(flat)) == 3, "the flattened form does not tell them apart any more"
print("Argilla", argilla.__version__, "writes submitted, draft and discarded responses as one and the same JSON")
PY
