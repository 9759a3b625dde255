"""``learndock spaces`` and ``learndock space``: what specs are made in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from learndock.cli import options, show
from learndock.cli.help import group

app = group("Author and install spaces.")


def spaces(json: options.Json = False) -> None:
    """List installed spaces: size, where the weights come from, whether they are here."""
    from learndock.spaces import DEFAULT, list_spaces

    rows = []
    for space in list_spaces():
        missing = sorted(f for f in space.files if space.find(f) is None)
        rows.append(
            {
                "default": space.name == DEFAULT,
                "input": space.description["input"],
                "helper": space.about.get("helper", ""),
                "license": space.about.get("license", ""),
                "sketch": space.description["sketch"]["size"],
                "present": not missing,
                "missing": missing,
                "remedy": [s.remedy for f in missing[:1] for s in space.sources.get(f, ())],
                **_made(space),
            }
        )
    if json:
        show.print_json({"spaces": rows})
        return
    show.table(
        ["space", "reads", "helper", "numbers", "sketch", "weights", "id (one-pass)"],
        [
            [
                r["name"] + (" *" if r["default"] else ""),
                r["input"],
                f"{r['helper']} ({r['license']})" if r["helper"] else "",
                f"{r['numbers']:,}",
                r["sketch"],
                "present" if r["present"] else "missing: " + " or ".join(r["remedy"]),
                r["id"]["one-pass"][:12],
            ]
            for r in rows
        ],
        right=["numbers", "sketch"],
        wrap=["helper", "weights"],
    )
    show.say("* default")


def _made(space: Any) -> dict[str, Any]:
    ids = {r: _space_id(space.describe(r)) for r in ("one-pass", "paper")}
    return {"name": space.name, "folder": str(space.folder), "numbers": space.size, "id": ids}


def _space_id(description: dict[str, object]) -> str:
    from learndock.spec.spec import identity

    return identity(description)


@app.command("build")
def build(
    source: Annotated[str, typer.Argument(help="Encoder or causal model: a folder, or a name on a model hub.")],
    out: options.Out,
    reads: Annotated[
        str | None,
        typer.Option("--input", help="text, or generation for a causal model. Default: what the model says it is."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the space (default: the folder's).")] = None,
    rank: Annotated[int, typer.Option(min=1, max=256, help="Rank of the adapters.")] = 16,
    pooling: Annotated[
        str, typer.Option(help="mean, cls, or mask: a masked LM read at its mask, with a verbalizer head.")
    ] = "mean",
    template: Annotated[
        str | None, typer.Option(help='Prompt for pooling mask (default "{text} It was <mask>.").')
    ] = None,
    max_tokens: Annotated[int, typer.Option(min=8, max=8192, help="Longest input in tokens.")] = 256,
    prompt_format: Annotated[
        str | None, typer.Option(help="Of a causal model: chatml or plain. Default: by its vocabulary.")
    ] = None,
    adapted: Annotated[
        float, typer.Option(min=0.01, max=1.0, help="Share of a causal model's layers, the last ones, with adapters.")
    ] = 0.5,
    seed: options.Seed = 0,
    license_: Annotated[str, typer.Option("--license", help="License of the helper, for people.")] = "",
    json: options.Json = False,
) -> None:
    """Author a space from an encoder of texts or images, or a causal LM (needs torch); others can then install it."""
    from learndock.errors import UsageError
    from learndock.spaces.authoring.author import build_causal_space, build_space
    from learndock.spaces.authoring.causal_helper import CausalRecipe, is_causal
    from learndock.spaces.authoring.torch_helper import Recipe

    about = {"helper": source if not Path(source).is_dir() else Path(source).name, "license": license_}
    say = show.note if json else show.say
    if reads not in (None, "text", "generation"):
        raise UsageError(f'--input "{reads}" is unknown', remedy="use text or generation")
    if reads == "generation" or (reads is None and pooling == "mean" and is_causal(source)):
        if pooling != "mean" or template is not None:
            raise UsageError("--pooling and --template are of encoders", remedy="a causal model needs neither")
        # A quarter for the completion, the rest for the prompt
        causal = CausalRecipe(
            rank=rank, seed=seed, prompt_tokens=max_tokens - max_tokens // 4, completion_tokens=max_tokens // 4,
            adapted=adapted, format=prompt_format,
        )  # fmt: skip
        space = build_causal_space(source, out, name=name or out.name, recipe=causal, about=about, say=say)
        _built(space, out, json)
        return

    if prompt_format is not None or adapted != 0.5:
        raise UsageError("--prompt-format and --adapted are for causal models", remedy="leave them out")
    if pooling not in ("mean", "cls", "mask"):
        raise UsageError(f'pooling "{pooling}" is unknown', remedy="use mean, cls or mask")
    if pooling == "mask" and template is None:
        template = "{text} It was <mask>."
    if template is not None and not ("{text}" in template and "<mask>" in template and pooling == "mask"):
        raise UsageError('a template needs "{text}", "<mask>" and --pooling mask')
    space = build_space(
        source,
        out,
        name=name or out.name,
        recipe=Recipe(rank=rank, seed=seed, max_tokens=max_tokens, pooling=pooling, template=template),
        about=about,
        say=say,
    )
    _built(space, out, json)


def _built(space: Any, out: Path, json: bool) -> None:
    if json:
        show.print_json(_made(space))
        return
    show.say(f"{out}: {space.size:,} numbers. Install it with `learndock space install {out}`")


@app.command("install")
def install(
    folder: Annotated[Path, typer.Argument(help="Folder of a space, made by `learndock space build`.")],
    json: options.Json = False,
) -> None:
    """Install a space for this user, after every file's hash was checked."""
    from learndock.spaces.install import install_space

    space = install_space(folder)
    if json:
        show.print_json(_made(space))
        return
    show.say(f"{space.name}: installed in {space.folder}")
