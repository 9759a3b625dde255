"""The papers' tests on what a comparison found: a mixed linear model, an exact multinomial test, an interval."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import comb, lgamma, log
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from learndock.errors import DataError

#: The exact test counts all outcomes up to this many, and draws ``DRAWS`` where there are more.
MOST_OUTCOMES = 200_000
DRAWS = 100_000
#: Outcomes whose probabilities differ by rounding only are equally likely.
ALIKE = 1e-7


def mixed_model(scores: ArrayLike, similarities: ArrayLike, groups: Sequence[str]) -> dict[str, float]:
    """Mixed linear model score = intercept + slope * similarity + group's own intercept + noise.

    Fitted by restricted maximum likelihood (Laird and Ware 1982; statsmodels' ``MixedLM``). Returns ``slope``,
    ``intercept``, ``standard_error`` of the slope, ``z`` and the two-sided normal ``p`` (Wald test),
    ``group_variance``, ``residual_variance`` and ``converged`` (1 or 0).

    Raises:
        DataError: lengths that differ, fewer than two groups, numbers that are not finite, or similarities that are
            all equal.
    """
    from statsmodels.regression.mixed_linear_model import MixedLM

    y, x = np.asarray(scores, np.float64), np.asarray(similarities, np.float64)
    if not len(y) == len(x) == len(groups):
        raise DataError(f"{len(y)} scores, {len(x)} similarities and {len(groups)} groups", remedy="give one of each")
    if len(set(groups)) < 2:
        raise DataError("a mixed model compares within groups", remedy="give scores of two tasks at least")
    if not (np.isfinite(y).all() and np.isfinite(x).all()) or np.ptp(x) == 0:
        raise DataError("similarities are all equal, or something is NaN or infinite; no slope can be fitted")
    fitted = _quietly(MixedLM(y, np.stack([np.ones_like(x), x], 1), np.asarray(groups)))
    names = ("slope", "standard_error", "z", "p")
    values = (fitted.fe_params[1], fitted.bse_fe[1], fitted.tvalues[1], fitted.pvalues[1])
    return {
        **{name: float(value) for name, value in zip(names, values, strict=True)},
        "intercept": float(fitted.fe_params[0]),
        "group_variance": float(np.asarray(fitted.cov_re)[0, 0]),
        "residual_variance": float(fitted.scale),
        "converged": float(fitted.converged),
    }


def _quietly(model: Any) -> Any:
    """Fit; a variance of zero makes statsmodels warn, and ``converged`` says what matters."""
    import warnings

    from statsmodels.tools.sm_exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(reml=True)


def exact_multinomial(counts: Sequence[int], probabilities: Sequence[float], seed: int = 0) -> float:
    """p-value of the exact multinomial test: the probability of all outcomes at most as likely as ``counts``.

    All outcomes are counted where there are at most ``MOST_OUTCOMES``; otherwise ``DRAWS`` of them are drawn, and the
    p-value is (1 + how many were at most as likely) / (1 + DRAWS), which is never too small (Phipson and Smyth 2010).

    Raises:
        DataError: lengths that differ, negative counts, or probabilities that do not sum to one.
    """
    n = int(sum(counts))
    p = np.asarray(probabilities, np.float64)
    if len(counts) != len(p) or min(counts, default=-1) < 0:
        raise DataError(
            f"{len(counts)} counts for {len(p)} probabilities", remedy="give one count, 0 or more, for each"
        )
    if (p < 0).any() or abs(p.sum() - 1) > 1e-6:
        raise DataError(f"probabilities must be 0 or more and sum to 1, found the sum {p.sum():g}")
    given = np.asarray(counts, np.int64)
    if given[p == 0].any():
        return 0.0
    given, p = given[p > 0], p[p > 0] / p.sum()
    seen = _log_likely(given[None], p)[0] + ALIKE
    if comb(n + len(p) - 1, len(p) - 1) <= MOST_OUTCOMES:
        likely = _log_likely(np.array(list(_outcomes(n, len(p)))), p)
        return float(min(np.exp(likely[likely <= seen]).sum(), 1.0))
    drawn = np.random.Generator(np.random.Philox(key=[seed, 77])).multinomial(n, p, DRAWS)
    return float((1 + (_log_likely(drawn, p) <= seen).sum()) / (1 + DRAWS))


def _outcomes(n: int, cells: int) -> Iterator[tuple[int, ...]]:
    """Every way to put ``n`` into ``cells``."""
    if cells == 1:
        yield (n,)
        return
    for first in range(n + 1):
        for rest in _outcomes(n - first, cells - 1):
            yield (first, *rest)


def _log_likely(outcomes: NDArray[np.int64], p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log-probability of each row of ``outcomes``."""
    n = int(outcomes[0].sum())
    log_factorials = np.array([lgamma(i + 1) for i in range(n + 1)])
    logs = np.array([log(x) for x in p])
    found: NDArray[np.float64] = log_factorials[n] - log_factorials[outcomes].sum(1) + outcomes @ logs
    return found


def bootstrap_interval(
    values: ArrayLike, seed: int = 0, level: float = 0.95, draws: int = 10_000
) -> tuple[float, float]:
    """Percentile interval of the mean, tasks drawn with replacement (Efron 1979); ``values`` one a task.

    Raises:
        DataError: no values.
    """
    x = np.asarray(values, np.float64)
    if len(x) == 0:
        raise DataError("no values", remedy="a mean needs one at least")
    rows = np.random.Generator(np.random.Philox(key=[seed, 78])).integers(len(x), size=(draws, len(x)))
    low, high = np.quantile(x[rows].mean(1), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
