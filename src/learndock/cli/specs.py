"""``learndock spec``: make, and look at, specifications."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from learndock.cli import options, show
from learndock.cli.common import file_to_write, learnware, read_data, read_schema, warn_cut
from learndock.cli.help import group

app = group("Make, show and compare specifications.")


@app.command("task")
@options.reads_data()
def task(
    data: Annotated[Path, typer.Argument(help="A few labelled examples of each class.")],
    out: options.Out,
    schema: options.Schema = None,
    space: options.AnySpace = None,
    recipe: options.Recipe = "one-pass",
    full: options.Full = False,
    seed: options.Seed = 0,
    json: options.Json = False,
    *,
    reading: options.Reading,
) -> None:
    """Make the specification of your task from labelled examples, on your machine."""
    from learndock.spec import make_spec, write_spec

    file_to_write(out)
    examples = read_data(data, read_schema(schema), reading)
    with show.progress("making the spec") as bar:
        spec = make_spec(examples, space=space, recipe=recipe, full=full, seed=seed, progress=bar)
    write_spec(spec, out)
    _report(out, json)


@app.command("model")
@options.reads_data(labels=False)
def model(
    which: Annotated[str, typer.Argument(metavar="LEARNWARE", help="Folder of a learnware, or its id in the dock.")],
    data: options.Data,
    out: options.Out,
    space: options.AnySpace = None,
    recipe: options.Recipe = "one-pass",
    full: options.Full = False,
    seed: options.Seed = 0,
    dock: options.Dock = None,
    json: options.Json = False,
    *,
    reading: options.Reading,
) -> None:
    """Make the specification of a model from its predictions on your data. Labels are not read."""
    from learndock.reuse import predict
    from learndock.spec import make_spec, write_spec

    file_to_write(out)
    with learnware(which, dock) as opened:
        examples = read_data(data, None, reading, labels=False)
        with show.progress("running the model") as bar:
            predictions = predict(opened, examples.inputs, progress=bar)
        with show.progress("making the spec") as bar:
            spec = make_spec(
                examples,
                opened.schema,
                space=space,
                predictions=predictions,
                recipe=recipe,
                full=full,
                seed=seed,
                progress=bar,
            )
    write_spec(spec, out)
    _report(out, json)


@app.command("show")
def show_spec(
    file: Annotated[Path, typer.Argument(help="A spec file.")],
    json: options.Json = False,
) -> None:
    """Show what a spec says, and what it does not promise."""
    _report(file, json)


@app.command("compare")
def compare(
    one: Annotated[Path, typer.Argument(help="A spec file.")],
    other: Annotated[Path, typer.Argument(help="Another spec file of the same space.")],
    json: options.Json = False,
) -> None:
    """Compare two specs: the cosines of their two parts."""
    from learndock.spec import read_spec, similarity

    domain, behaviour = similarity(read_spec(one), read_spec(other))
    if json:
        show.print_json({"domain": domain, "behaviour": behaviour})
    else:
        show.say(f"domain {domain:+.3f} (what the inputs are about), behaviour {behaviour:+.3f} (how outputs depend)")


def _report(file: Path, json: bool) -> None:
    from learndock.spec import read_spec
    from learndock.spec.spec import Spec

    spec: Spec = read_spec(file)
    size = file.stat().st_size
    found: dict[str, Any] = {
        "file": str(file),
        "kind": spec.kind,
        "space": spec.space.get("name"),
        "space_id": spec.space_id,
        "recipe": spec.space.get("recipe"),
        "task": dict(spec.schema),
        "n": spec.n,
        "settings": dict(spec.settings),
        "p_value": spec.p_value,
        "reliability": spec.reliability,
        "privacy": spec.privacy,
        "parts": {
            name: list(part.shape)
            for name in ("domain", "behaviour", "contrasts", "vector")
            if (part := getattr(spec, name)) is not None
        },
        "bytes": size,
        "version": spec.version,
    }
    warn_cut(spec.settings)
    if json:
        show.print_json(found)
        return
    free = "free text" if spec.schema.get("type") == "generation" else "a number"
    labels = ", ".join(spec.schema.get("labels", [])) or free
    show.say(f"{file}: specification of a {spec.kind}, {show.megabytes(size)}")
    show.say(f"  space     {found['space']}, recipe {found['recipe']}, id {spec.space_id[:12]}")
    show.say(f"  task      {spec.schema.get('type')}: {labels}")
    show.say(f"  examples  about {spec.n}")
    show.say(f"  p-value   {_p_value(spec)}")
    if spec.p_value is not None:  # the recipe paper has neither
        show.say(
            f"  reliable  {spec.reliability:.2f}: the share of the behaviour that resampling the examples reproduces"
        )
    show.say(f"  privacy   {_privacy(spec)}")
    show.say("  contains  " + ", ".join(f"{k} {'x'.join(map(str, v))}" for k, v in found["parts"].items()))


def _p_value(spec: Any) -> str:
    if spec.p_value is None:
        return "not tested"
    if spec.p_value <= 0.05:
        return f"p = {spec.p_value:.3f}: the outputs depend on the inputs, as far as the helper can see"
    return (
        f"p = {spec.p_value:.3f}: no better than with permuted labels; more examples, or clearer descriptions of the "
        "labels, may help"
    )


def _privacy(spec: Any) -> str:
    if spec.privacy is None:
        return "none: it contains no examples, but gives no guarantee against reconstruction"
    return f"differential privacy, epsilon {spec.privacy['epsilon']}, delta {spec.privacy['delta']}"
