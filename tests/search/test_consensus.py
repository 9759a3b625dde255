"""Where examples say nothing: the domain and what its learnwares agree on decide, and nobody has two voices."""

from __future__ import annotations

import numpy as np
import pytest

from learndock.search import consensus
from learndock.search.score import rank
from learndock.spec import Spec


def unit(rows: np.ndarray) -> np.ndarray:
    found: np.ndarray = (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)
    return found


def crowd(good: int = 5, noise: int = 3, width: int = 512) -> np.ndarray:
    """``good`` models that share a behaviour, then ``noise`` that share nothing."""
    draw = np.random.default_rng(3)
    shared = draw.normal(size=width)
    return unit(np.array([shared + draw.normal(size=width) for _ in range(good)]
                         + [draw.normal(size=width) for _ in range(noise)]))  # fmt: skip


def test_trained_models_agree_and_noise_does_not() -> None:
    rows = crowd()
    found = consensus.listen(np.ones(8), rows, np.ones(8), [f"owner{i}" for i in range(8)]).agreement
    assert found[:5].min() > 0.4
    assert np.abs(found[5:]).max() < 0.2


def test_agreement_is_the_cosine_with_the_others() -> None:
    rows, trust = crowd(), np.linspace(0.2, 1, 8)
    domain = np.linspace(1, 0.7, 8)
    found = consensus.listen(domain, rows, trust, [str(i) for i in range(8)]).agreement
    weights = np.exp(-(1 - domain) / consensus.NEAR) * trust
    for i in range(8):
        others = sum(weights[j] * rows[j].astype(float) for j in range(8) if j != i)
        assert found[i] == pytest.approx(rows[i] @ others / np.linalg.norm(others), abs=1e-5)


def test_a_hundred_copies_have_one_voice() -> None:
    rows = crowd(good=5, noise=1)
    owners = [f"owner{i}" for i in range(6)]
    alone = consensus.listen(np.ones(6), rows, np.ones(6), owners).agreement
    copied = np.concatenate([rows, np.repeat(rows[5:], 100, 0)])
    many = consensus.listen(np.ones(106), copied, np.ones(106), owners + ["owner5"] * 100).agreement
    # What the honest ones are said to agree on hardly moves
    assert many[:5] == pytest.approx(alone[:5], abs=0.02)
    # The copies agree with each other by one voice, no more
    assert many[5] < many[:5].min()


def test_far_domains_are_not_asked() -> None:
    rows = crowd(good=4, noise=4)
    domain = np.array([0.1] * 4 + [1.0] * 4)
    near = consensus.listen(domain, rows, np.ones(8), [str(i) for i in range(8)]).agreement
    assert np.abs(near[4:]).max() < 0.2


def questions(*good: int) -> np.ndarray:
    """Models of several questions over the same inputs, so many of each."""
    return np.concatenate([np.roll(crowd(good=n, noise=0), 7 * i, axis=1) for i, n in enumerate(good)])


def test_one_question_or_several_shows_in_what_its_learnwares_share() -> None:
    def one(rows: np.ndarray, owners: list[int] | None = None) -> float:
        return consensus.one_question(rows, np.ones(len(rows)), np.array(owners or range(len(rows))))

    assert one(questions(12)) == 1
    assert one(crowd(good=12, noise=6)) == 1
    assert one(questions(7, 7, 7)) == 0
    assert one(questions(4, 4, 4, 4)) == 0
    # Hardly anything in common: no other question to be drowned
    assert one(crowd(good=0, noise=20, width=4096)) == 1
    # What an owner's learnwares share with each other makes no question
    assert one(np.concatenate([questions(12), questions(1, 40)[1:]]), [*range(12), *[12] * 40]) == 1
    assert one(questions(1)) == 1
    assert one(np.repeat(questions(1), 3, 0), [0, 0, 0]) == 1


def test_of_several_questions_those_the_examples_lean_to_speak_louder_but_not_without_bound() -> None:
    rows, ones = questions(6, 6, 6), np.ones(18)
    owners = [f"owner{i}" for i in range(18)]
    leaning = np.array([-2.0] * 12 + [2.0] * 6)
    plain = consensus.listen(ones, rows, ones, owners)
    leant = consensus.listen(ones, rows, ones, owners, leaning)
    assert plain.share == leant.share == pytest.approx(consensus.SHARES[0])
    assert (leant.agreement[12:] > plain.agreement[12:] + 0.05).all()
    assert (leant.agreement[:12] < plain.agreement[:12] - 0.05).all()
    bound = consensus.listen(ones, rows, ones, owners, np.sign(leaning) * consensus.CERTAIN).agreement
    assert consensus.listen(ones, rows, ones, owners, 1e6 * leaning).agreement == pytest.approx(bound)
    assert consensus.listen(ones, rows, ones, owners, 0 * leaning).agreement == pytest.approx(plain.agreement)


def test_of_one_question_the_crowd_is_heard_whatever_the_examples_lean_to() -> None:
    rows, ones = questions(16), np.ones(16)
    owners = [f"owner{i}" for i in range(16)]
    leant = consensus.listen(ones, rows, ones, owners, np.array([-2.0] * 8 + [2.0] * 8))
    assert leant.share == pytest.approx(consensus.SHARES[1])
    assert leant.agreement == pytest.approx(consensus.listen(ones, rows, ones, owners).agreement)


@pytest.mark.parametrize(("count", "heard"), [(1, 0), (4, 0), (6, 0.5), (8, 1), (30, 1)])
def test_few_voices_are_no_crowd(count: int, heard: float) -> None:
    def share(owners: list[str]) -> float:
        rows = questions(len(owners))
        return consensus.listen(np.ones(len(rows)), rows, np.ones(len(rows)), owners).share

    alone = [f"owner{i}" for i in range(count)]
    assert share(alone) == pytest.approx(heard * consensus.SHARES[1], abs=1e-6)
    # Whoever has many learnwares is one voice more
    assert share([*alone, *["copies"] * 50]) == pytest.approx(
        min(max(count + 1 - 4, 0) / 4, 1) * consensus.SHARES[1], abs=0.02
    )


def test_one_alone_and_none() -> None:
    assert consensus.listen(np.ones(1), crowd(1, 0), np.ones(1), ["a"]).agreement == pytest.approx([0])
    assert len(consensus.listen(np.zeros(0), crowd()[:0], np.zeros(0), []).agreement) == 0


def test_scores_stay_between_minus_one_and_one() -> None:
    ones = np.ones(1)
    for share in consensus.SHARES:
        assert consensus.score(ones, ones, consensus.Heard(ones, share)) == pytest.approx([1])
        assert consensus.score(-ones, -ones, consensus.Heard(-ones, share)) == pytest.approx([-1])


# -- owners who agree on something made up ---------------------------------------------------------------------


def colluders(count: int, width: int) -> np.ndarray:
    """Nearly the same behaviour (cosine .95) under as many names; no copies, so that a dock takes them."""
    draw = np.random.default_rng(4)
    common = draw.normal(size=width)
    return unit(np.array([common + 0.23 * draw.normal(size=width) for _ in range(count)]))


def asked(evidence: float, honest: np.ndarray) -> Spec:
    """A user's spec, near to what the honest ones do."""
    draw = np.random.default_rng(5)
    behaviour = (honest.mean(0) + 0.05 * draw.normal(size=honest.shape[1])).astype(np.float32)
    space = {"helper": {"width": 8}, "sketch": {"size": honest.shape[1]}}
    domain = np.ones(8, np.float32)
    return Spec("task", space, {}, 32, domain, behaviour, p_value=evidence)


@pytest.mark.parametrize("count", [1, 10, 300])
def test_a_conspiracy_does_not_reach_users_with_evidence(count: int) -> None:
    honest = crowd(good=5, noise=0)
    rows = np.concatenate([honest, colluders(count, honest.shape[1])])
    domains = unit(np.ones((len(rows), 8)))
    owners = [f"owner{i}" for i in range(len(rows))]
    found = rank(asked(0.01, honest), domains, rows, np.ones(len(rows)), owners)
    assert found.consensus is None
    assert set(np.argsort(-found.key)[:5]) == set(range(5))


def test_a_conspiracy_of_few_does_not_outvote_many() -> None:
    """Without evidence the larger crowd is believed: that is the limit, and docs/security.md says so."""
    honest = crowd(good=12, noise=0)
    for count, believed in ((1, "honest"), (2, "honest"), (60, "colluders")):
        rows = np.concatenate([honest, colluders(count, honest.shape[1])])
        owners = [f"owner{i}" for i in range(len(rows))]
        found = rank(asked(0.5, honest), unit(np.ones((len(rows), 8))), rows, np.ones(len(rows)), owners)
        first = "honest" if int(found.key.argmax()) < 12 else "colluders"
        assert first == believed, count
