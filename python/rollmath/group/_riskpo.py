"""RiskPO: mixed value-at-risk advantages of bundles of prompts, with quantiles that may be tracked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, Unpack

import numpy as np

from rollmath._arrays import Array, ArrayLike, choice
from rollmath._checks import Back, finite, flag, mask, real, rows
from rollmath.conventions import DEFAULT, Convention, Framework, Override, resolve
from rollmath.group._tracker import QuantileTracker
from rollmath.groups import Groups, as_groups
from rollmath.ops import gather, segment_count, segment_max, segment_min, segment_quantile, segment_std, segment_sum

if TYPE_CHECKING:
    from numpy.typing import NDArray


class BundleScores(NamedTuple):
    """What :func:`bundle_scores` returns.

    Attributes:
        scores: one number a paper, in the order of bundles (first appearance) and, within one, of j.
        bundle: number of the bundle of each paper.
        paper: paper of each rollout, -1 for those that are in none.
    """

    scores: Array
    bundle: NDArray[np.int64]
    paper: NDArray[np.int64]


def bundle_scores(
    rewards: ArrayLike,
    groups: Groups | ArrayLike,
    bundles: Groups | ArrayLike,
    *,
    order: ArrayLike | None = None,
    valid: ArrayLike | None = None,
) -> BundleScores:
    """Scores of the papers of each bundle: ``x_j = sum_prompts r_{prompt, j}`` over the prompts of the bundle.

    Paper ``j`` has the j-th rollout of each prompt. A bundle has as many papers as its smallest prompt has rollouts;
    rollouts beyond that are in none.

    Args:
        rewards: one number a rollout, ``[N]``.
        groups: a :class:`~rollmath.Groups` or one prompt id a rollout, ``[N]``.
        bundles: a :class:`~rollmath.Groups` or one bundle id a rollout, ``[N]``; all rollouts of a prompt are in one
            bundle.
        order: one number a rollout that says which is the j-th of its prompt, all different within a prompt. Default:
            the order of the rows, the one thing here that depends on it.
        valid: rollouts that take part; a prompt without any has no say in the number of papers.

    Raises:
        ValueError: wrong lengths, NaN or infinite rewards, a prompt in two bundles, equal ``order`` in a prompt.
        TypeError: wrong dtype or rank.

    Source: Ren et al. 2025 (RiskPO), arXiv 2510.00911; official code read and executed.

    >>> bundle_scores([1.0, 0.0, 1.0, 1.0, 0.0], ["p", "p", "q", "q", "q"], [0] * 5)
    BundleScores(scores=array([2., 1.]), bundle=array([0, 0]), paper=array([ 0,  1,  0,  1, -1]))
    """
    made, packs, r, back, seen = _read("bundle_scores", rewards, groups, bundles, valid)
    papers = _papers("bundle_scores", r, made, packs, order, seen)
    return papers._replace(scores=back(papers.scores))


def riskpo(
    rewards: ArrayLike,
    groups: Groups | ArrayLike,
    bundles: Groups | ArrayLike,
    *,
    levels: tuple[float, float] = (0.2, 0.9),
    quantiles: QuantileTracker | tuple[float, float] | None = None,
    blend: float = 1.0,
    weight: float = 1.5,
    natural_baseline: bool = True,
    scale: Literal["none", "std"] = "none",
    credit: Literal["uniform", "score"] = "uniform",
    order: ArrayLike | None = None,
    valid: ArrayLike | None = None,
    convention: Convention | Framework = DEFAULT,
    **override: Unpack[Override],
) -> Array:
    """Mixed value-at-risk of paper scores: ``A = (weight CVaR + RVaR) / (weight + 1)``.

    With quantiles ``l``, ``h`` at the levels ``a < b``: ``CVaR = -max(l - x, 0) / (a + eps)`` and
    ``RVaR = (max(x - l, 0) - max(x - h, 0) + l - h) / (b - a + eps)``. Papers and their scores ``x`` are those of
    :func:`bundle_scores`; each rollout gets the advantage of its paper.

    Args:
        rewards: one number a rollout, ``[N]``.
        groups: a :class:`~rollmath.Groups` or one prompt id a rollout, ``[N]``.
        bundles: a :class:`~rollmath.Groups` or one bundle id a rollout, ``[N]``. The paper has five prompts a bundle.
        levels: of the two quantiles. Official scripts: (0.2, 0.9) and (0.2, 0.8).
        quantiles: the quantiles at these levels: a :class:`QuantileTracker` of the same levels or two numbers. Default:
            those of the scores of each bundle, interpolated. In the official code tracked values are stored after the
            advantage was computed and never reach it; here they are what the advantage uses.
        blend: share of ``quantiles`` against those of the bundle itself; 0.5 is the official "mix".
        weight: of the lower tail.
        natural_baseline: keep the term ``l - h``, with which no advantage is positive.
        scale: ``"std"`` divides by the standard deviation of the bundle's scores.
        credit: ``"uniform"``, or ``"score"``: half of the paper's advantage for a rollout with a positive reward, one
            and a half of it for the others. (The official code has two more.)
        order: which rollout is the j-th of its prompt; see :func:`bundle_scores`.
        valid: rollouts that take part (bool or int, nonzero = True); the others enter no paper and get 0.
        convention: ``eps`` as above, and with ``scale="std"`` ``ddof``, ``eps_place``, and what a bundle of one paper
            (``singleton``) and one without spread (``zero_spread``) get: ``"zero"`` 0; ``"raw"`` and ``"abs"`` a
            standard deviation of 1 (official code, for one paper); ``"unscaled"`` the advantage undivided; ``"nan"``;
            ``"raise"``. ``nan`` must be ``"raise"``.
        **override: fields of the convention.

    Returns:
        ``[N]``, in the kind and float type of ``rewards``; 0 for rollouts in no paper.

    Raises:
        ValueError: wrong lengths, NaN or infinite rewards, a prompt in two bundles, levels or quantiles out of order.
        TypeError: wrong dtype or rank.

    Source: Ren et al. 2025, arXiv 2510.00911; official code read and executed.

    >>> riskpo([0.0, 1.0, 1.0, 1.0, 0.0, 1.0], ["p"] * 3 + ["q"] * 3, [0] * 6, levels=(0.25, 0.75)).round(3).tolist()
    [-0.4, -0.4, 0.0, -0.4, -0.4, 0.0]
    """
    who = "riskpo"
    choice(who, "scale", scale, ("none", "std"))
    choice(who, "credit", credit, ("uniform", "score"))
    risk = _Risk.read(who, levels, quantiles, blend, weight, natural_baseline)
    rules = resolve(who, who, convention, override)
    if rules.nan != "raise":
        msg = f"{who}(): 'nan' must be 'raise', since a sum needs all its rewards, got {rules.nan!r}; use valid="
        raise ValueError(msg)
    made, packs, r, back, seen = _read(who, rewards, groups, bundles, valid)
    papers = _papers(who, r, made, packs, order, seen)
    a = risk(papers, rules.eps)
    if scale == "std":
        a = _scaled(who, a, papers, rules)
    share = np.where(r > 0, 0.5, 1.5) if credit == "score" else 1.0
    return back(np.where(papers.paper >= 0, share * np.append(a, 0.0)[papers.paper], 0.0))


def _read(
    who: str, rewards: ArrayLike, groups: Groups | ArrayLike, bundles: Groups | ArrayLike, valid: ArrayLike | None
) -> tuple[Groups, Groups, NDArray[np.float64], Back, NDArray[np.bool_]]:
    made = as_groups(who, groups)
    packs = as_groups(who, bundles, length=len(made), name="bundles")
    both = Groups.product(made, packs)
    if both.n_groups != made.n_groups:
        row = int(np.flatnonzero(packs.index != packs.index[made.first][made.index])[0])
        msg = f"{who}(): 'bundles' must be equal for all rollouts of a prompt, but that of row {row} is another"
        raise ValueError(msg)
    r, back = rows(who, "rewards", rewards, len(made))
    seen = mask(who, "valid", valid, len(made))
    finite(who, "rewards", r, seen)
    return made, packs, r, back, seen


def _papers(
    who: str, r: NDArray[np.float64], groups: Groups, bundles: Groups, order: ArrayLike | None, seen: NDArray[np.bool_]
) -> BundleScores:
    place = _places(who, groups, order, seen)
    # One number a prompt, then the smallest of each bundle.
    members = segment_count(groups, valid=seen).astype(np.float64)
    smallest = segment_min(members, bundles.index[groups.first], valid=members > 0) if len(members) else members
    # segment_min numbers bundles by first appearance among prompts, which is that among rows.
    count = np.nan_to_num(smallest).astype(np.int64)
    start = np.concatenate([[0], np.cumsum(count)])
    used = seen & (place < count[bundles.index])
    paper = np.where(used, start[bundles.index] + place, -1)
    # A 0 for each paper keeps their numbers: groups come in order of first appearance.
    ids = np.concatenate([np.arange(start[-1]), paper[used]])
    scores = segment_sum(np.concatenate([np.zeros(start[-1]), r[used]]), ids)
    return BundleScores(scores, np.repeat(np.arange(len(count)), count), paper)


def _places(who: str, groups: Groups, order: ArrayLike | None, seen: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Which rollout seen of its group each is, from 0."""
    key = np.arange(len(groups), dtype=np.float64) if order is None else rows(who, "order", order, len(groups))[0]
    finite(who, "order", key, seen)
    by = np.lexsort((key, groups.index))
    by = by[seen[by]]
    same = groups.index[by[1:]] == groups.index[by[:-1]]
    if (twice := same & (key[by[1:]] == key[by[:-1]])).any():
        msg = f"{who}(): 'order' must differ within a prompt, but that of row {by[1:][twice][0]} occurs twice"
        raise ValueError(msg)
    begin = np.concatenate([[True], ~same])[: len(by)]
    place = np.zeros(len(groups), dtype=np.int64)
    place[by] = np.arange(len(by)) - np.maximum.accumulate(np.where(begin, np.arange(len(by)), 0))
    return place


@dataclass(frozen=True)
class _Risk:
    levels: tuple[float, float]
    given: tuple[float, float] | None
    blend: float
    weight: float
    shift: bool

    @classmethod
    def read(cls, who: str, levels: object, quantiles: object, blend: object, weight: object, shift: object) -> _Risk:
        a, b = _pair(who, "levels", levels)
        if not 0 < a < b < 1:
            msg = f"{who}(): 'levels' must be 0 < low < high < 1, got {levels}"
            raise ValueError(msg)
        given = None
        if isinstance(quantiles, QuantileTracker):
            if quantiles.levels != (a, b):
                msg = f"{who}(): 'quantiles' must be of the levels {(a, b)}, got a tracker of {quantiles.levels}"
                raise ValueError(msg)
            quantiles = quantiles.values
        if quantiles is not None:
            given = _pair(who, "quantiles", quantiles)
            if given[0] > given[1]:
                msg = f"{who}(): 'quantiles' must not decrease, got {quantiles}"
                raise ValueError(msg)
        share = real(who, "blend", blend, low=0.0, high=1.0)
        return cls((a, b), given, share, real(who, "weight", weight, low=0.0), flag(who, "natural_baseline", shift))

    def __call__(self, papers: BundleScores, eps: float) -> NDArray[np.float64]:
        x, (a, b) = papers.scores, self.levels
        low, high = self.quantile(papers, 0), self.quantile(papers, 1)
        inside = np.maximum(x - low, 0.0) - np.maximum(x - high, 0.0) + (low - high if self.shift else 0.0)
        tail = -np.maximum(low - x, 0.0)
        mixed: NDArray[np.float64] = (self.weight * (tail / (a + eps)) + inside / (b - a + eps)) / (self.weight + 1.0)
        return mixed

    def quantile(self, papers: BundleScores, i: int) -> NDArray[np.float64]:
        if self.given is not None and self.blend == 1:
            return np.full(len(papers.scores), self.given[i])
        own = gather(segment_quantile(papers.scores, papers.bundle, self.levels[i]), papers.bundle)
        out: NDArray[np.float64] = own if self.given is None else self.blend * self.given[i] + (1 - self.blend) * own
        return out


def _pair(who: str, name: str, value: object) -> tuple[float, float]:
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        msg = f"{who}(): {name!r} must be two numbers, got {value!r}"
        raise TypeError(msg)
    return real(who, name, value[0]), real(who, name, value[1])


def _scaled(who: str, a: NDArray[np.float64], papers: BundleScores, rules: Convention) -> NDArray[np.float64]:
    """Divided by the spread of the bundle's scores, or what the convention says where there is none."""
    x, bundle = papers.scores, papers.bundle
    n = gather(segment_count(bundle), bundle)
    flat = gather(segment_max(x, bundle) == segment_min(x, bundle), bundle)
    spread = np.where(flat, 1.0, gather(segment_std(x, bundle, ddof=rules.ddof), bundle))
    match rules.eps_place:
        case "add" | "where_positive":
            spread = spread + rules.eps
        case "max":
            spread = np.maximum(spread, rules.eps)
        case "sqrt":
            spread = np.sqrt(spread * spread + rules.eps)
    # Where there is no spread, that of 1 was taken: "raw".
    out = a / spread
    for where, policy in ((n == 1, rules.singleton), (flat & (n > 1), rules.zero_spread)):
        if policy == "raise" and where.any():
            msg = f"{who}(): 'bundles' has a bundle of one paper or without spread; choose singleton= and zero_spread="
            raise ValueError(msg)
        out[where] = {"zero": 0.0, "nan": np.nan, "unscaled": a[where]}.get(policy, out[where])
    return out
