"""GGUF models for ollama and llama.cpp: the part of the registry protocol (``/v2/``) that their downloads ask for.

    GET  /v2/{owner}/{name}/manifests/{tag}        a manifest: one layer with the model, and a small configuration
    HEAD /v2/{owner}/{name}/blobs/sha256:{digest}  its size
    GET  /v2/{owner}/{name}/blobs/sha256:{digest}  its bytes, with Range

Read from ollama's ``server/images.go`` and ``server/download.go`` (v0.9.7-rc1 and main of 2026-08-21). ollama takes the
address of a blob from the answer's ``Location`` even where the status is 200, and then asks for parts without any
header of its own; so private models, which need a token, cannot be pulled by it. ``latest`` is the current version;
other tags are versions, or the quantisation in a file's name (``:Q4_K_M``) where a repository has several files.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from fastapi.concurrency import run_in_threadpool

from learndock.dock.storage.blobs import BlobStore
from learndock.errors import NotFound, UsageError
from learndock.files import sha256_bytes
from learndock.http.files import blob_response
from learndock.http.hub.addresses import base
from learndock.http.hub.download import Name, Owner
from learndock.http.hub.failures import HubRoute, Missing
from learndock.http.hub.snapshot import Snapshot, find
from learndock.http.principal import Anyone, ServiceOf
from learndock.service.principal import Principal
from learndock.service.repositories import MAIN
from learndock.service.service import Service

router = APIRouter(route_class=HubRoute, include_in_schema=False)
Tag = Annotated[str, Path(max_length=80, pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*$")]
Digest = Annotated[str, Path(pattern=r"^sha256[:-][0-9a-f]{64}$")]
MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
_SPLIT = re.compile(r"-\d{5}-of-\d{5}\.gguf$")
#: Quantisations that are taken first where a repository has several files and the tag names none.
_FIRST = ("Q4_K_M", "Q4_0", "Q8_0")
#: Bytes of a GGUF file in which its first setting, the architecture, is.
_HEAD = 4096
#: SHA-256 -> architecture, of the files that were asked for last.
_KNOWN: dict[str, str] = {}
_REMEMBERED = 1024


class _File:
    """A GGUF file: what a manifest says of it."""

    def __init__(self, path: str, sha256: str, size: int) -> None:
        self.path, self.sha256, self.size = path, sha256, size


@router.api_route("/v2/", methods=["GET", "HEAD"])
@router.api_route("/v2", methods=["GET", "HEAD"])
def greet() -> Response:
    """Say that the protocol is spoken here."""
    return Response("{}", media_type="application/json", headers={"Docker-Distribution-Api-Version": "registry/2.0"})


@router.api_route("/v2/{owner}/{name}/manifests/{tag}", methods=["GET", "HEAD"])
def get_manifest(owner: Owner, name: Name, tag: Tag, request: Request, who: Anyone, service: ServiceOf) -> Response:
    """Return the manifest of one GGUF file; llama.cpp is told its name too."""
    chosen = _chosen(service, who, f"{owner}/{name}", tag)
    settings = _configuration(service.storage.blobs, chosen)
    manifest: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": {
            "mediaType": "application/vnd.docker.container.image.v1+json",
            "digest": f"sha256:{sha256_bytes(settings)}",
            "size": len(settings),
        },
        "layers": [
            {
                "mediaType": "application/vnd.ollama.image.model",
                "digest": f"sha256:{chosen.sha256}",
                "size": chosen.size,
            }
        ],
    }
    if request.headers.get("user-agent", "").startswith("llama-cpp"):
        manifest["ggufFile"] = {"rfilename": chosen.path, "size": chosen.size, "blobId": chosen.sha256}
    source = json.dumps(manifest).encode()
    return Response(
        source, media_type=MANIFEST_TYPE, headers={"Docker-Content-Digest": f"sha256:{sha256_bytes(source)}"}
    )


@router.api_route("/v2/{owner}/{name}/blobs/{digest}", methods=["GET", "HEAD"])
async def get_blob(
    owner: Owner, name: Name, digest: Digest, request: Request, who: Anyone, service: ServiceOf
) -> Response:
    """Send a layer or the configuration that a manifest names."""
    sha256, which = digest[7:], f"{owner}/{name}"
    found = await run_in_threadpool(_blob, service, who, which, sha256)
    headers = {
        "Docker-Content-Digest": f"sha256:{sha256}",
        "Location": f"{base(request, service.settings)}/v2/{which}/blobs/sha256:{sha256}",
    }
    if isinstance(found, bytes):
        return Response(found, media_type="application/octet-stream", headers=headers)
    return await blob_response(request, service.storage.blobs, sha256, found.size, etag=sha256, headers=headers)


@router.get("/{owner}/{name}/info/refs")
@router.get("/{owner}/{name}.git/info/refs")
def refuse_git(owner: Owner, name: Name, request: Request, service: ServiceOf) -> Response:
    """Tell git, which shows plain text of an error, how to get the files instead."""
    which, here = f"{owner}/{name.removesuffix('.git')}", base(request, service.settings)
    text = (
        "This dock keeps models, but it is not a git server.\n"
        f"Get the files with:   HF_ENDPOINT={here} hf download {which}\n"
        f"or, as a learnware:   learndock get {which} --dock {here}\n"
    )
    return Response(text, 404, media_type="text/plain; charset=utf-8")


# -- inside -----------------------------------------------------------------------------------------------


def _chosen(service: Service, who: Principal, name: str, tag: str) -> _File:
    """The GGUF file that a tag means.

    Raises:
        Missing: there is no such model, or no such tag.
        UsageError: it is not a GGUF model, or one in several parts.
    """
    try:
        files = _ggufs(find(service, who, name, MAIN if tag == "latest" else tag))
    except Missing as error:
        if error.code != "RevisionNotFound":
            raise
        try:
            record = service.catalogue.current(who, f"{name}@{tag}")
        except (NotFound, UsageError):
            main = find(service, who, name)
            return _named(_ggufs(main), main, tag)
        files = [_File(f.path, f.sha256, f.size) for f in record.manifest.files if f.path.endswith(".gguf")]
    whole = [f for f in files if not _SPLIT.search(f.path)]
    if not whole:
        raise _not_gguf(name, bool(files))
    return min(whole, key=lambda f: (next((i for i, q in enumerate(_FIRST) if q in f.path.upper()), 99), f.path))


def _named(files: list[_File], snapshot: Snapshot, tag: str) -> _File:
    """The file whose name has the quantisation ``tag``.

    Raises:
        Missing: there is none.
    """
    for file in files:
        if tag.upper() in re.split(r"[-.]", file.path.rpartition("/")[2].upper()) and not _SPLIT.search(file.path):
            return file
    raise Missing(
        f"no version and no GGUF file {tag!r}",
        "RevisionNotFound",
        remedy="there is `latest`; `learndock show` lists versions",
        about=snapshot.name,
    )


def _ggufs(snapshot: Snapshot) -> list[_File]:
    return [_File(e.path, e.sha256, e.size) for e in snapshot.entries.values() if e.path.endswith(".gguf")]


def _not_gguf(name: str, in_parts: bool) -> UsageError:
    if in_parts:
        return UsageError(
            "this GGUF model is in several parts, and ollama reads one file",
            remedy="join them with `llama-gguf-split --merge` after `hf download`, then `ollama create`",
            about=name,
        )
    return UsageError(
        "this model is not GGUF, the only format that ollama and llama.cpp pull",
        remedy="get it with `hf download`, or convert it with llama.cpp's convert_hf_to_gguf.py and publish that",
        about=name,
    )


def _blob(service: Service, who: Principal, name: str, sha256: str) -> _File | bytes:
    """A GGUF file of any version of a model that ``who`` may see, or the configuration of one.

    Raises:
        Missing: there is none of that hash.
    """
    snapshot = find(service, who, name)
    for file in _all_files(service, snapshot):
        if file.sha256 == sha256:
            return file
        settings = _configuration(service.storage.blobs, file)
        if sha256_bytes(settings) == sha256:
            return settings
    raise Missing(
        f"no file sha256:{sha256[:12]}", "EntryNotFound", remedy="its manifest lists what there is", about=name
    )


def _all_files(service: Service, snapshot: Snapshot) -> Iterable[_File]:
    yield from _ggufs(snapshot)
    if snapshot.record is None:
        return
    try:
        versions = service.dock.versions(snapshot.name)
    except NotFound:
        return
    for record in versions:
        yield from (_File(f.path, f.sha256, f.size) for f in record.manifest.files if f.path.endswith(".gguf"))


def _configuration(blobs: BlobStore, file: _File) -> bytes:
    """What ollama keeps beside a model, as canonical JSON: always the same for the same file."""
    family = _architecture(blobs, file.sha256)
    quantised = next((p for p in re.split(r"[-.]", file.path.upper()) if re.fullmatch(r"I?Q\d\w*|B?F16|F32", p)), "")
    settings = {
        "model_format": "gguf",
        "model_family": family,
        "model_families": [family],
        "model_type": "",
        "file_type": quantised,
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{file.sha256}"]},
    }
    return json.dumps(settings, sort_keys=True, separators=(",", ":")).encode()


def _architecture(blobs: BlobStore, sha256: str) -> str:
    """The architecture that a GGUF file names in its first setting; ``unknown`` where it is elsewhere."""
    if sha256 in _KNOWN:
        return _KNOWN[sha256]
    with blobs.open(sha256) as stream:
        head = stream.read(_HEAD)
    found = re.match(
        rb"GGUF.{20}\x14\x00{7}general\.architecture\x08\x00{3}(.)\x00{7}([A-Za-z0-9_.-]+)", head, re.DOTALL
    )
    if len(_KNOWN) >= _REMEMBERED:
        _KNOWN.clear()
    _KNOWN[sha256] = "unknown" if found is None else found[2][: found[1][0]].decode()
    return _KNOWN[sha256]
