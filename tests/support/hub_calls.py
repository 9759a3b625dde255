"""Every call that people make of a hub's client, tried by any version of it: PYTHON hub_calls.py JSON.

Needs nothing but the client. Prints one line of JSON: call -> [outcome, detail]. An outcome is one of

    works         it did what it is for
    clear error   it raised one of the client's own errors, and its text has the words of the service
    no such call  this version has none
    fails         anything else: what a run of the soak looks for
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

warnings.simplefilter("ignore")
Call = Callable[["Around"], Any]
#: Call -> what runs it; and call -> the words that its error must have.
WORKS: dict[str, Call] = {}
REFUSED: dict[str, tuple[Call, str]] = {}


class NoSuchCall(Exception):
    """This version of the client does not have the call."""


class Around:
    """What calls share: the client, a repository of this version, and folders to work in."""

    def __init__(self, owner: str, repo: str, work: str) -> None:
        import huggingface_hub
        from huggingface_hub import HfApi

        self.hub, self.api = huggingface_hub, HfApi()
        self.owner, self.repo, self.work = owner, repo, Path(work)
        self.other = f"{repo}-other"
        #: A learnware of two versions, which whoever runs this has published.
        self.learnware = f"{repo}-words"

    def call(self, name: str, *arguments: Any, **options: Any) -> Any:
        """Call a method of the API."""
        if not hasattr(self.api, name):
            raise NoSuchCall
        return getattr(self.api, name)(*arguments, **options)

    def hf(self, *arguments: str, words: str = "") -> str:
        """Run `hf` of this version; with ``words`` it must fail and say them."""
        command = Path(sys.executable).with_name("hf")
        if arguments[0] == "repo" and int(self.hub.__version__.partition(".")[0]) >= 2:
            arguments = ("repos", *arguments[1:])
        done = subprocess.run([str(command), *arguments], capture_output=True, text=True, check=False, timeout=120)
        said = " ".join((done.stdout + done.stderr).split())
        if "invalid choice" in said or "No such command" in said or "No such option" in said:
            raise NoSuchCall
        if words and words in said and done.returncode:
            raise _Shown(said)
        if done.returncode:
            raise AssertionError(said[-400:])
        return said


class _Shown(Exception):
    """An error that the command line showed."""


def works(name: str) -> Callable[[Call], Call]:
    """Register a call that must work."""

    def register(call: Call) -> Call:
        WORKS[name] = call
        return call

    return register


def check(condition: bool, what: object = "") -> None:
    """Fail unless ``condition``."""
    if not condition:
        raise AssertionError(f"another answer than expected: {what}"[:300])


# -- what must work -----------------------------------------------------------------------------------------

CARD = "---\nlicense: mit\ntags: [{tag}]\npipeline_tag: text-classification\n---\n# A card\n"


@works("whoami")
def _whoami(a: Around) -> None:
    check(a.api.whoami()["name"] == a.owner)


@works("create_repo, exist_ok")
def _create(a: Around) -> None:
    for _ in range(2):
        check(str(a.api.create_repo(a.repo, exist_ok=True)).endswith(a.repo))


@works("file_exists, model_info, list_repo_refs of an empty repository")
def _empty(a: Around) -> None:
    check(not a.api.file_exists(a.repo, "README.md"))
    check(a.api.model_info(a.repo).sha == "0" * 40)
    check([b.name for b in a.api.list_repo_refs(a.repo).branches] == ["main"])


@works("upload_file of a card")
def _card_file(a: Around) -> None:
    content = CARD.format(tag=a.repo.partition("/")[2]).encode()
    a.api.upload_file(path_or_fileobj=content, path_in_repo="README.md", repo_id=a.repo)


@works("upload_folder, upload_file, nested")
def _upload(a: Around) -> None:
    folder = a.work / "folder"
    (folder / "docs").mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text('{"model_type": "bert", "architectures": ["BertForSequenceClassification"]}')
    (folder / "docs" / "notes.md").write_text("# notes\n")
    done = a.api.upload_folder(repo_id=a.repo, folder_path=folder, commit_message="All of it")
    check(len(done.oid) == 40, done)
    a.api.upload_file(path_or_fileobj=io.BytesIO(b"x"), path_in_repo="a/b/c.txt", repo_id=a.repo)


@works("the state of a training run is left out")
def _left_out(a: Around) -> None:
    folder = a.work / "run"
    folder.mkdir(exist_ok=True)
    for name in ("training_args.bin", "optimizer.pt", "trainer_state.json"):
        (folder / name).write_bytes(b"{}")
    a.api.upload_folder(repo_id=a.repo, folder_path=folder, path_in_repo="run")
    check([f for f in a.api.list_repo_files(a.repo) if f.startswith("run/")] == ["run/trainer_state.json"])


@works("list_repo_files, list_repo_tree, get_paths_info, list_repo_commits")
def _look(a: Around) -> None:
    files = a.api.list_repo_files(a.repo)
    check({"README.md", "a/b/c.txt", "docs/notes.md"} <= set(files), files)
    check("docs" in {e.path for e in a.api.list_repo_tree(a.repo)})
    check([p.path for p in a.api.get_paths_info(a.repo, ["docs", "absent"])] == ["docs"])
    check("All of it" in [c.title for c in a.api.list_repo_commits(a.repo)])


@works("repo_exists, revision_exists, file_exists")
def _exists(a: Around) -> None:
    check(a.api.repo_exists(a.repo) and not a.api.repo_exists(f"{a.repo}-not"))
    check(a.api.revision_exists(a.repo, "main") and not a.api.revision_exists(a.repo, "dev"))
    check(a.api.file_exists(a.repo, "config.json") and not a.api.file_exists(a.repo, "absent"))


@works("model_info: tags, library, task, files_metadata, expand")
def _info(a: Around) -> None:
    info = a.api.model_info(a.repo, files_metadata=True)
    check(info.pipeline_tag == "text-classification" and info.library_name == "transformers", info)
    check("license:mit" in (info.tags or []) and (info.siblings or [])[0].size is not None, info)
    check(a.api.model_info(a.repo, expand=["tags"]).tags == info.tags)


@works("hf_hub_download, snapshot_download with patterns")
def _download(a: Around) -> None:
    check(Path(a.hub.hf_hub_download(a.repo, "a/b/c.txt")).read_bytes() == b"x")
    got = Path(a.hub.snapshot_download(a.repo, allow_patterns=["*.md"], local_dir=a.work / "pulled"))
    check((got / "docs" / "notes.md").exists() and not (got / "config.json").exists())


@works("HfFileSystem: ls, read")
def _files(a: Around) -> None:
    system = a.hub.HfFileSystem()
    check(f"{a.repo}/config.json" in system.ls(a.repo, detail=False))
    check(system.read_bytes(f"{a.repo}/a/b/c.txt") == b"x")


@works("list_models: filter, pipeline_tag, author, search, sort, limit")
def _list(a: Around) -> None:
    tag = a.repo.partition("/")[2]
    for asked in ({"filter": tag}, {"filter": [tag, "license:mit"]}, {"search": tag, "limit": 1, "filter": tag}):
        check([m.id for m in a.api.list_models(**asked)] == [a.repo], asked)
    found = [m.id for m in a.api.list_models(author=a.owner, pipeline_tag="text-classification", sort="created_at")]
    check(a.repo in found, found)
    check(list(a.api.list_models(filter="no-such-tag")) == [])
    cards: list[Any] = [m.card_data for m in a.api.list_models(filter=tag, cardData=True)]
    check([c.license for c in cards] == ["mit"])


@works("auth_check")
def _auth(a: Around) -> None:
    a.call("auth_check", a.repo)


@works("ModelCard.load")
def _load(a: Around) -> None:
    check(a.hub.ModelCard.load(a.repo).data.license == "mit")


@works("create_commit: copy, delete; delete_file, delete_folder, delete_patterns")
def _change(a: Around) -> None:
    from huggingface_hub import CommitOperationCopy, CommitOperationDelete

    a.api.create_commit(
        a.repo, [CommitOperationCopy("config.json", "copy.json"), CommitOperationDelete("a/b/c.txt")],
        commit_message="both",
    )  # fmt: skip
    a.api.upload_folder(
        repo_id=a.repo, folder_path=a.work / "folder" / "docs", path_in_repo="docs", delete_patterns="*"
    )
    a.api.delete_folder("docs", a.repo)
    a.api.delete_file("copy.json", a.repo)
    check(not {"copy.json", "a/b/c.txt", "docs/notes.md"} & set(a.api.list_repo_files(a.repo)))


@works("private: seen by the owner, not without a token")
def _private(a: Around) -> None:
    a.api.create_repo(a.other, private=True)
    check(a.api.model_info(a.other).private is True)
    try:
        a.api.model_info(a.other, token=False)
    except a.hub.errors.RepositoryNotFoundError:
        return
    raise AssertionError("seen without a token")


@works("create_tag, delete_tag, list_repo_refs of a learnware; download of v1 and of a tag")
def _tags(a: Around) -> None:
    def tags() -> dict[str, str]:
        return {t.name: t.target_commit for t in a.api.list_repo_refs(a.learnware).tags}

    def weights(revision: str) -> bytes:
        return Path(a.hub.hf_hub_download(a.learnware, "model.safetensors", revision=revision)).read_bytes()

    check({"v1", "v2"} <= set(tags()), tags())
    check(weights("v1") != weights("v2") == weights("main"))
    a.api.create_tag(a.learnware, tag="good", revision="v1")
    a.api.create_tag(a.learnware, tag="good", exist_ok=True)
    check(tags()["good"] == tags()["v1"] and weights("good") == weights("v1"), tags())
    check(a.api.model_info(a.learnware, revision="good").sha == tags()["v1"])
    a.api.delete_tag(a.learnware, tag="good")
    check("good" not in tags(), tags())


@works("hf repo tag create, list, delete")
def _hf_tag(a: Around) -> None:
    a.hf("repo", "tag", "create", a.learnware, "better", "--revision", "v2")
    check("better" in a.hf("repo", "tag", "list", a.learnware))
    a.hf(
        "repo",
        "tag",
        "delete",
        a.learnware,
        "better",
        "--yes" if "--yes" in a.hf("repo", "tag", "delete", "--help") else "-y",
    )
    check("better" not in a.hf("repo", "tag", "list", a.learnware))


@works("update_repo_settings or update_repo_visibility")
def _settings(a: Around) -> None:
    name = "update_repo_settings" if hasattr(a.api, "update_repo_settings") else "update_repo_visibility"
    a.call(name, a.other, private=False)
    check(a.api.model_info(a.other).private is False)


@works("upload_large_folder")
def _large_folder(a: Around) -> None:
    folder = a.work / "many"
    folder.mkdir(exist_ok=True)
    for i in range(30):
        (folder / f"{i}.txt").write_text(str(i))
    a.call("upload_large_folder", repo_id=a.other, repo_type="model", folder_path=folder, print_report=False)
    check(len(a.api.list_repo_files(a.other)) >= 30)


def _large(a: Around, path: str) -> None:
    content = bytes(os.urandom(1 << 20)) * 3
    header = json.dumps({"x": {"dtype": "U8", "shape": [len(content)], "data_offsets": [0, len(content)]}}).encode()
    file = a.work / "model.safetensors"
    file.write_bytes(len(header).to_bytes(8, "little") + header + content)
    a.api.upload_file(path_or_fileobj=str(file), path_in_repo=path, repo_id=a.other)
    got = Path(a.hub.hf_hub_download(a.other, path)).read_bytes()
    check(hashlib.sha256(got).digest() == hashlib.sha256(file.read_bytes()).digest())


@works("a large file, nothing set")
def _large_file(a: Around) -> None:
    _large(a, "model.safetensors")


@works("hf upload, hf download (include)")
def _hf(a: Around) -> None:
    a.hf("upload", a.other, str(a.work / "folder"))
    a.hf("download", a.other, "--include", "config.json", "--local-dir", str(a.work / "hf"))
    check((a.work / "hf" / "config.json").exists())


@works("hf repo create, delete")
def _hf_repo(a: Around) -> None:
    a.hf("repo", "create", f"{a.repo}-cli")
    check(a.api.repo_exists(f"{a.repo}-cli"))
    a.hf("repo", "delete", f"{a.repo}-cli", *(["--yes"] if "--yes" in a.hf("repo", "delete", "--help") else []))
    check(not a.api.repo_exists(f"{a.repo}-cli"))


@works("hf models ls, with filters")
def _hf_models(a: Around) -> None:
    tag = a.repo.partition("/")[2]
    check(a.repo in a.hf("models", "ls", "--filter", tag, "--format", "json"))
    check(a.repo not in a.hf("models", "ls", "--filter", "no-such-tag", "--format", "json"))


@works("move_repo, and the old name")
def _move(a: Around) -> None:
    a.api.create_repo(f"{a.repo}-before")
    a.api.move_repo(f"{a.repo}-before", f"{a.repo}-after")
    check(a.api.model_info(f"{a.repo}-before").id == f"{a.repo}-after")
    a.api.delete_repo(f"{a.repo}-after")


@works("delete_repo")
def _delete(a: Around) -> None:
    a.api.delete_repo(a.other)
    check(not a.api.repo_exists(a.other))


# -- what must be refused, and with which words ---------------------------------------------------------------


def refused(name: str, words: str, call: Call) -> None:
    """Register a call that must be refused with ``words``."""
    REFUSED[name] = (call, words)


_BRANCH = "there is one branch here"
refused("create_branch", _BRANCH, lambda a: a.api.create_branch(a.repo, branch="dev"))
refused("create_tag of a plain model", "plain model", lambda a: a.api.create_tag(a.repo, tag="good"))
refused("delete_tag that is not there", "Revision Not Found", lambda a: a.api.delete_tag(a.learnware, tag="absent"))
refused("delete_branch", _BRANCH, lambda a: a.api.delete_branch(a.repo, branch="dev"))
refused("upload_file to another branch", "Revision Not Found", lambda a: a.api.upload_file(
    path_or_fileobj=b"x", path_in_repo="x.txt", repo_id=a.repo, revision="dev"))  # fmt: skip
refused("create_pr=True", "no pull requests", lambda a: a.api.upload_file(
    path_or_fileobj=b"x", path_in_repo="x.txt", repo_id=a.repo, create_pr=True))  # fmt: skip
refused("download of a revision that is not there", "Revision Not Found", lambda a: a.hub.hf_hub_download(
    a.repo, "config.json", revision="dev"))  # fmt: skip
refused("get_repo_discussions", "no discussions", lambda a: list(a.api.get_repo_discussions(a.repo)))
refused("create_discussion, create_pull_request", "no discussions", lambda a: a.api.create_discussion(a.repo, "x"))
refused("unlike", "no likes", lambda a: a.call("unlike", a.repo))
refused("list_repo_likers", "no likes", lambda a: list(a.call("list_repo_likers", a.repo)))
refused("list_liked_repos", "no profiles", lambda a: a.call("list_liked_repos", a.owner))
refused("super_squash_history", "history is kept", lambda a: a.call("super_squash_history", a.repo))
refused("list_datasets", "no data sets", lambda a: list(a.api.list_datasets()))
refused("list_spaces", "no apps", lambda a: list(a.api.list_spaces()))
refused("dataset_info", "Repository Not Found", lambda a: a.api.dataset_info(a.repo))
refused("create_repo of a data set", "models only", lambda a: a.api.create_repo(f"{a.repo}-d", repo_type="dataset"))
refused("create_repo of an app", "models only", lambda a: a.api.create_repo(
    f"{a.repo}-s", repo_type="space", space_sdk="static"))  # fmt: skip
refused("list_collections", "no collections", lambda a: list(a.call("list_collections")))
refused("get_user_overview", "no profiles", lambda a: a.call("get_user_overview", a.owner))
refused("move_repo to another's name", "Repository Not Found", lambda a: a.api.move_repo(a.repo, "ada/moved"))
refused("duplicate_repo", "no copies", lambda a: a.call("duplicate_repo", a.repo, f"{a.repo}-copy"))
refused("list_models(sort='downloads')", "cannot be sorted", lambda a: list(a.api.list_models(sort="downloads")))
refused("list_models(inference_provider=...)", "nothing is run here", lambda a: list(
    a.api.list_models(inference_provider="all")))  # fmt: skip
refused("another's repository", "403", lambda a: a.api.upload_file(
    path_or_fileobj=b"x", path_in_repo="x.txt", repo_id="ada/open"))  # fmt: skip
refused("a pickle", "pickle", lambda a: a.api.upload_file(
    path_or_fileobj=b"\x80\x04.", path_in_repo="pytorch_model.bin", repo_id=a.repo))  # fmt: skip
refused("hf upload --revision dev", "one branch here", lambda a: a.hf(
    "upload", a.repo, str(a.work / "folder"), "--revision", "dev", words="one branch here"))  # fmt: skip


def outcome(around: Around, call: Call, words: str | None) -> tuple[str, str]:
    """Run one call; returns what came of it, and why where that is not what was expected."""
    try:
        call(around)
    except NoSuchCall:
        return "no such call", ""
    except _Shown:
        return "clear error", ""
    except Exception as error:
        text = " ".join(str(error).split())
        kind = type(error).__name__
        of_client = type(error).__module__.startswith("huggingface_hub")
        if words is not None and words in text and of_client:
            return "clear error", kind
        return "fails", f"{kind}: {text[:300]}"
    return ("works", "") if words is None else ("fails", "it was not refused")


def main() -> None:
    """Run all calls, or those that are named."""
    asked = json.loads(sys.argv[1])
    only = set(asked.pop("only", []))
    around = Around(**asked)
    found: dict[str, Any] = {"version": around.hub.__version__}
    every = {**{n: (c, None) for n, c in WORKS.items()}, **REFUSED}
    last = "delete_repo"
    for name in [*(n for n in every if n != last), last]:
        if not only or name in only:
            found[name] = outcome(around, *every[name])
    print(json.dumps(found))  # noqa: T201 - it is what the test reads


if __name__ == "__main__":
    main()
