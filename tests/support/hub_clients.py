"""What people do with hub clients, run by ``test_hub`` in processes of their own: HF_ENDPOINT is read once, on import.

Needs nothing but the client, so that any version can be tried: PYTHON hub_clients.py PROGRAM JSON. What a program
found is printed as one line of JSON.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
from pathlib import Path
from typing import Any


def hashes(folder: str | Path) -> dict[str, str]:
    """Path -> SHA-256 of what lies in a folder, without what the client keeps there for itself."""
    found = (p for p in Path(folder).rglob("*") if p.is_file())
    named = {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in found}
    return {name: digest for name, digest in named.items() if not name.startswith(".cache/")}


def journey(repo: str, folder: str, work: str) -> dict[str, Any]:
    """Push a folder, change it, pull it: what every version must do."""
    import huggingface_hub
    from huggingface_hub import HfApi, hf_hub_download, snapshot_download

    api = HfApi()
    found: dict[str, Any] = {"version": huggingface_hub.__version__}
    found["name"] = api.whoami()["name"]
    for _ in range(2):
        found["url"] = str(api.create_repo(repo, exist_ok=True))
    first = api.upload_folder(repo_id=repo, folder_path=folder, commit_message="All of it")
    found["first"] = first.oid
    again = api.upload_folder(repo_id=repo, folder_path=folder, commit_message="Again")
    found["again"] = again.oid
    # A plain model takes any file; a learnware takes those that its manifest lists.
    (Path(work) / "notes.md").write_text("# what I found\n")
    plain = f"{repo}-plain"
    api.create_repo(plain)
    api.upload_folder(repo_id=plain, folder_path=folder, commit_message="All of it", ignore_patterns=["learnware.json"])
    added = api.upload_file(path_or_fileobj=f"{work}/notes.md", path_in_repo="docs/notes.md", repo_id=plain)
    found["files"] = sorted(api.list_repo_files(plain))
    found["tree"] = sorted(e.path for e in api.list_repo_tree(plain))
    found["info"] = api.model_info(plain, files_metadata=True).sha
    found["paths"] = [e.path for e in api.get_paths_info(plain, ["docs", "config.json", "absent"])]
    found["commits"] = [c.title for c in api.list_repo_commits(plain)]
    found["branches"] = [b.target_commit for b in api.list_repo_refs(plain).branches]
    found["added"] = added.oid
    found["snapshot"] = hashes(snapshot_download(repo, revision=first.oid, local_dir=f"{work}/pulled"))
    found["absent"] = _error(hf_hub_download, repo, "absent.json")
    found["absent revision"] = _error(hf_hub_download, repo, "config.json", revision="refs/pr/1")
    found["absent repository"] = _error(hf_hub_download, f"{repo}-not", "config.json")
    found["without an owner"] = _error(hf_hub_download, "bert", "config.json")
    api.delete_file("docs/notes.md", plain)
    api.upload_file(path_or_fileobj=b"x", path_in_repo="old/a.txt", repo_id=plain)
    api.delete_folder("old", plain)
    found["left"] = sorted(api.list_repo_files(plain))
    return found


def large(repo: str, file: str) -> dict[str, Any]:
    """Send a file that is too large for a commit: from its path, then as an open file."""
    from huggingface_hub import HfApi, hf_hub_download

    api, found = HfApi(), {}
    api.create_repo(repo, exist_ok=True)
    found["commit"] = api.upload_file(path_or_fileobj=file, path_in_repo="model.safetensors", repo_id=repo).oid
    with Path(file).open("rb") as stream:
        again = api.upload_file(path_or_fileobj=stream, path_in_repo="again.safetensors", repo_id=repo)
    found["again"] = again.oid
    entry: Any = next(e for e in api.list_repo_tree(repo) if e.path == "model.safetensors")
    found["sha256"] = entry.lfs.sha256
    found["pulled"] = hashlib.sha256(Path(hf_hub_download(repo, "model.safetensors")).read_bytes()).hexdigest()
    return found


def pulled(repo: str, file: str) -> dict[str, Any]:
    """Pull one file."""
    from huggingface_hub import hf_hub_download

    return {"sha256": hashlib.sha256(Path(hf_hub_download(repo, file)).read_bytes()).hexdigest()}


def models(owner: str, work: str) -> dict[str, Any]:
    """Push a tiny model and an adapter, and load both, and a tokenizer, by their names."""
    import torch
    from huggingface_hub import HfApi
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from tests.support.models import write_adapter, write_bert

    api, bert = HfApi(), write_bert(Path(work) / "bert")
    adapter = write_adapter(Path(work) / "adapter", bert)
    config = json.loads((adapter / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = f"{owner}/bert"
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    for folder in (bert, adapter):
        api.create_repo(f"{owner}/{folder.name}")
        api.upload_folder(repo_id=f"{owner}/{folder.name}", folder_path=folder)
    found: dict[str, Any] = {}
    for kind, places in (("here", (bert, adapter)), ("dock", (f"{owner}/bert", f"{owner}/adapter"))):
        inputs = AutoTokenizer.from_pretrained(places[0])("the film was good", return_tensors="pt")
        plain = AutoModelForSequenceClassification.from_pretrained(places[0]).eval()
        with torch.no_grad():
            found[f"plain {kind}"] = plain(**inputs).logits.tolist()
            found[f"adapted {kind}"] = PeftModel.from_pretrained(plain, places[1]).eval()(**inputs).logits.tolist()
    return found


def resolve_lora(asked: list[list[str]]) -> dict[str, Any]:
    """What vLLM's resolver for the hub asks for each ``(adapter, base)``; an adapter is ``owner/name[/folder]``.

    The calls of ``vllm/plugins/lora_resolvers/hf_hub_resolver.py`` (0.33.0), in their order; an adapter for another
    base is not taken.
    """
    from huggingface_hub import HfApi

    api = HfApi(library_name="vllm", library_version="0.33.0")
    found: list[Any] = []
    for adapter, base in asked:
        owner, name, *rest = adapter.split("/")
        repo, folder = f"{owner}/{name}", "/".join(rest) or "."
        files = api.list_repo_files(repo_id=repo)
        if folder not in {f.rpartition("/")[0] or "." for f in files if f.endswith("adapter_config.json")}:
            found.append(None)
            continue
        path = api.snapshot_download(repo_id=repo, allow_patterns="*" if folder == "." else f"{folder}/*")
        config = json.loads((Path(path) / folder / "adapter_config.json").read_text())
        fits = config["peft_type"] == "LORA" and config["base_model_name_or_path"] == base
        found.append(hashes(Path(path) / folder) if fits else None)
    return {"found": found}


def _error(call: Any, *arguments: Any, **options: Any) -> str:
    with contextlib.suppress(SystemExit):
        try:
            call(*arguments, **options)
        except Exception as error:
            return type(error).__name__
    return "none"


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](**json.loads(sys.argv[2]))))  # noqa: T201 - it is what the test reads
