"""ARPO and AEPO: what shared steps get, and where to branch."""

from __future__ import annotations

import math
from typing import NamedTuple, Unpack

import numpy as np

from rollmath._arrays import Array, ArrayLike, floats, host
from rollmath._checks import Back, column, real, whole
from rollmath.conventions import DEFAULT, Convention, Framework, Override, resolve
from rollmath.forest import Forest, as_forest
from rollmath.ops import normalize, up
from rollmath.tree._common import leaf_rewards


class Branching(NamedTuple):
    """Where to branch: the ``scores`` that were drawn, and ``branch``, which of them are low enough."""

    scores: Array
    branch: Array


def arpo_hard(
    forest: Forest,
    rewards: ArrayLike,
    *,
    convention: Convention | Framework = DEFAULT,
    **override: Unpack[Override],
) -> Array:
    """ARPO with hard attribution: ``A(v) = mean_l (r_l - mean(r)) / (std(r) + eps)`` over the leaves ``l`` below ``v``.

    Mean and standard deviation are the prompt's: a step of one rollout has its GRPO advantage, a shared step the mean
    of those that share it. The soft attribution, which ARPO trains with, needs no function:
    ``group.grpo(rewards, forest.rollout_groups)``, one number a rollout; a shared prefix that is trained once in each
    rollout gets the same mean by adding up.

    Args:
        forest: a :class:`~rollmath.Forest`.
        rewards: one number a rollout, ``[n_leaves]``, in the order of ``forest.leaves``.
        convention: ddof, eps and what groups of one or without spread get, as in ``group.grpo``, whose conventions
            these are (``conventions.VERL`` for the framework that ARPO's code is a copy of).
        **override: fields of the convention.

    Returns:
        ``[n_nodes]`` by node id, in the kind and float type of ``rewards``. Roots get 0.

    Raises:
        ValueError: wrong length; NaN or infinite rewards unless ``nan="propagate"``; rewards that require grad; groups
            of one or without spread where a policy says raise.

    Source: ARPO, arXiv 2507.19849, from a secondary description, unverified: the official code, RUC-NLPIR/ARPO, has the
    soft form alone.

    >>> forest = Forest.from_parents([-1, 0, 0, 1, 1])
    >>> arpo_hard(forest, [0.0, 1.0, 1.0]).round(4).tolist()
    [0.0, 0.5773, -1.1547, 0.5773, 0.5773]
    """
    made = as_forest("arpo_hard", forest)
    rules = resolve("arpo_hard", "grpo", convention, override)
    x, kind = leaf_rewards("arpo_hard", made, rewards, propagate=rules.nan == "propagate")
    r = x.astype(np.float64, copy=False)
    z = normalize(r, made.rollout_groups, convention=rules, name="rewards", who="arpo_hard")
    out = up(made, z, how="leaf_mean")
    out[made.roots] = 0.0
    return kind.wrap(out.astype(x.dtype, copy=False))


def arpo_entropy(logprobs: ArrayLike, *, vocab_size: int) -> Array:
    """ARPO's entropy of what a rollout says first after a tool result: ``H = -sum p log(p) / log(vocab_size)``.

    The sum runs over all given log-probabilities of the rollout, tokens and candidates alike. It is not a mean over
    tokens, so rollouts with more tokens have more; the code takes the 10 most likely candidates of the first 20.

    Args:
        logprobs: natural logarithms, rollouts first: ``[N, tokens, candidates]`` or ``[N, any]``; ``-inf`` where there
            are fewer, which adds nothing.
        vocab_size: size of the vocabulary.

    Returns:
        ``[N]``, in the kind and float type of ``logprobs``.

    Raises:
        ValueError: NaN, or log-probabilities above 0 by more than rounding; a vocabulary of one.
        TypeError: fewer than two dimensions, or no numbers.

    Source: ARPO, arXiv 2507.19849; the official code, RUC-NLPIR/ARPO, read.

    >>> arpo_entropy([[math.log(0.5), math.log(0.5)], [0.0, -math.inf]], vocab_size=4).tolist()
    [0.5, 0.0]
    """
    words = whole("arpo_entropy", "vocab_size", vocab_size, 2)
    array, kind = host("arpo_entropy", "logprobs", logprobs)
    if array.ndim < 2:
        msg = f"arpo_entropy(): 'logprobs' must have rollouts first and at least 2 dimensions, got shape {array.shape}"
        raise TypeError(msg)
    flat = floats("arpo_entropy", "logprobs", array.reshape(-1))[0]
    back = Back(kind, np.float32 if kind.is_torch and array.dtype.kind != "f" else flat.dtype)
    logp = flat.reshape(len(array), math.prod(array.shape[1:])).astype(np.float64, copy=False)
    if (bad := ~(logp <= 1e-3)).any():
        row, place = np.argwhere(bad)[0]
        msg = f"arpo_entropy(): 'logprobs' must be at most 0, got {logp[row, place]} in row {row}"
        raise ValueError(msg)
    p = np.exp(logp)
    return back(-(p * np.where(p > 0, logp, 0.0)).sum(axis=1) / math.log(words) + 0.0)


def arpo_branch(
    entropy_change: ArrayLike, *, seed: int, branch_probability: float = 0.5, entropy_weight: float = 0.5
) -> Branching:
    """ARPO's decision to branch after a tool result: ``clip(u - entropy_weight dH, 0, 1) <= branch_probability``.

    The left side is the score, ``u`` is uniform in [0, 1). So a rollout branches with probability
    ``clip(branch_probability + entropy_weight dH, 0, 1)`` for a ``branch_probability`` in [0, 1).

    Args:
        entropy_change: ``dH``, :func:`arpo_entropy` now minus that after the first step of the rollout, one number a
            candidate branch, ``[N]``.
        seed: of NumPy's PCG64; the i-th draw is that of the i-th branch.
        branch_probability: the threshold.
        entropy_weight: how much a rise of the entropy helps.

    Returns:
        :class:`Branching`, ``[N]`` each: scores in the kind and float type of ``entropy_change``, and bools.

    Raises:
        ValueError: NaN or infinite changes; a ``branch_probability`` outside [0, 1].

    The code asks once for each of ``beam_size - 1`` further branches of a rollout while its prompt has rollouts left to
    spend, and fills what remains with fresh ones.

    Source: ARPO, arXiv 2507.19849; the official code, RUC-NLPIR/ARPO, read. Its configuration has 0.5 for both, its
    scripts and readme an ``entropy_weight`` of 0.2.

    >>> scores, branch = arpo_branch([0.2, 0.2, -2.0], seed=1)
    >>> scores.round(3).tolist(), branch.tolist()
    ([0.412, 0.85, 1.0], [True, False, False])
    """
    who = "arpo_branch"
    change, back = column(who, "entropy_change", entropy_change)
    limit = real(who, "branch_probability", branch_probability, 0, 1)
    weight = real(who, "entropy_weight", entropy_weight)
    draws = np.random.Generator(np.random.PCG64(whole(who, "seed", seed, 0))).random(len(change))
    scores = np.clip(draws - weight * change, 0.0, 1.0)
    return Branching(back(scores), back.kind.wrap(scores <= limit))


def aepo_branch_probability(
    entropy_change: ArrayLike, penalty: ArrayLike, *, alpha: float = 0.5, gamma: float = 0.5
) -> Array:
    """AEPO's probability to branch: ``(alpha + gamma dH) (1 - q)``, less where a path has just branched.

    Clipped to [0, 1], which is ours.

    Args:
        entropy_change: ``dH``, the entropy after the tool result minus that of the prompt, ``[N]``.
        penalty: ``q`` in [0, 1], for branches in a row, ``[N]``. How it grows with their number is not known to us, so
            that it is for the caller to say.
        alpha: the probability at no change; the value is ours, ARPO's threshold.
        gamma: the weight of the change; likewise.

    Returns:
        ``[N]``, in the kind and float type of ``entropy_change``.

    Raises:
        ValueError: lengths that differ, NaN or infinite numbers, a penalty outside [0, 1].

    Source: AEPO (agentic entropy-balanced policy optimisation), arXiv 2510.14545, from secondary descriptions,
    unverified; no code was found. Other papers share the acronym.

    >>> aepo_branch_probability([0.4, 0.4], [0.0, 0.5]).round(4).tolist()
    [0.7, 0.35]
    """
    who = "aepo_branch_probability"
    change, back = column(who, "entropy_change", entropy_change)
    seen = np.ones(len(change), dtype=bool)
    q, _ = column(who, "penalty", penalty, seen, must="in [0, 1]", why="len(entropy_change)")
    base = real(who, "alpha", alpha) + real(who, "gamma", gamma) * change
    return back(np.clip(base * (1.0 - q), 0.0, 1.0))


def aepo_budget(root_entropy: ArrayLike, tool_entropy: ArrayLike, *, k: int, beta: float = 1.0) -> Array:
    """AEPO's split of ``k`` rollouts of a prompt: ``m = k sigmoid(beta (H_root - H_tool))`` fresh ones, else branches.

    Args:
        root_entropy: entropy of the answer to the prompt, one a prompt, ``[N]``.
        tool_entropy: mean entropy after tool results of the same prompt, ``[N]``.
        k: rollouts a prompt.
        beta: how sharply the gap decides; the value is ours.

    Returns:
        ``m``, ``[N]``, in the kind and float type of ``root_entropy``. Not rounded: how the paper rounds is not known
        to us.

    Raises:
        ValueError: lengths that differ, NaN or infinite numbers, ``k`` below 1.

    Source: AEPO, arXiv 2510.14545, from secondary descriptions, unverified; no code was found.

    >>> aepo_budget([1.0, 2.0], [1.0, 0.0], k=16).round(2).tolist()
    [8.0, 14.09]
    """
    who = "aepo_budget"
    first, back = column(who, "root_entropy", root_entropy)
    seen = np.ones(len(first), dtype=bool)
    later, _ = column(who, "tool_entropy", tool_entropy, seen, why="len(root_entropy)")
    # tanh, since exp would overflow for large gaps.
    share = 0.5 + 0.5 * np.tanh(0.5 * real(who, "beta", beta) * (first - later))
    return back(whole(who, "k", k) * share)
