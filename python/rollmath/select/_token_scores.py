"""Tokens by entropy, by advantage times entropy, and by low probability."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from rollmath._arrays import ArrayLike, choice
from rollmath.ragged import Ragged
from rollmath.select._token_inputs import TokenBatch, wanted
from rollmath.select._token_search import Ties
from rollmath.select._token_top import Scope, TokenSelection, chosen


def high_entropy_tokens(
    entropy: ArrayLike | Ragged,
    *,
    share: float = 0.2,
    mask: ArrayLike | Ragged | None = None,
    lengths: ArrayLike | None = None,
    scope: Scope = "all",
    ties: Ties = "all",
    uid: Any = None,
    seed: int = 0,
) -> TokenSelection:
    """The tokens of the highest entropy: ``H_t >= H_(k)``, ``k = floor(share n)``; by default 80/20.

    The k-th highest of the n trained tokens is the threshold. TRL interpolates a quantile instead, in which a token
    more or less may be kept: :func:`rollmath.loss.entropy_threshold`, with the threshold as a float for the loss.
    What to do with the mask is said at :func:`top_tokens`.

    Args:
        entropy: one a token, forms and kinds as in :func:`top_tokens`.
        share: of the trained tokens, in [0, 1].
        mask: trained tokens.
        lengths: used columns of padded rows.
        scope: ``"all"`` or ``"row"``, what it is a share of. Take all tokens of a step (:class:`TokenSearch` for
            micro-batches and ranks): a share of each micro-batch would train a fifth of a dull one too.
        ties: as in :func:`top_tokens`, as are ``uid`` and ``seed``.
        uid: ids of rows.
        seed: of the choice among ties.

    Edge cases and errors: as in :func:`top_tokens`.

    Raises:
        ValueError: NaN at a trained token; an option out of range; shapes that do not fit.
        TypeError: wrong dtype, rank or form.

    Source: Wang et al. 2025, arXiv 2506.01939, by secondary description; TRL's variant was executed.

    >>> high_entropy_tokens([0.1, 2.0, 0.2, 0.3, 0.4]).mask.tolist()
    [False, True, False, False, False]
    """
    who = "high_entropy_tokens"
    want = wanted(who, share, None, 0)
    batch = TokenBatch.of(who, "entropy", entropy, mask=mask, lengths=lengths, uid=uid)
    return chosen(batch, want, scope=scope, ties=ties, seed=seed)


def d3s_tokens(
    advantages: ArrayLike | Ragged,
    entropy: ArrayLike | Ragged,
    *,
    share: float,
    scope: Scope,
    mask: ArrayLike | Ragged | None = None,
    lengths: ArrayLike | None = None,
    ties: Ties = "all",
    uid: Any = None,
    seed: int = 0,
) -> TokenSelection:
    """D3S, token level: the tokens of the highest ``|A_t| H_t``; ``|A_t| H_t >= s_(k)``, ``k = floor(share n)``.

    A product is rounded once, to float32 if both are of at most 32 bits, so a GPU and any split have the same ones.
    What to do with the mask is said at :func:`top_tokens`.

    Args:
        advantages: one a token in the form of ``entropy``, or one a row, ``[rows]``; of those of rollouts
            ``advantages[rows.rollouts.index]``. Their mean and spread were taken before, of all rollouts, and are not
            taken again.
        entropy: one a token, forms and kinds as in :func:`top_tokens`.
        share: of the trained tokens, in [0, 1]. The method relaxes it in training, from few tokens to all.
        scope: ``"all"``, of all tokens of the call, or ``"row"``, of each row. What we have read does not say which,
            so there is no default.
        mask: trained tokens.
        lengths: used columns of padded rows.
        ties: as in :func:`top_tokens`, as are ``uid`` and ``seed``.
        uid: ids of rows.
        seed: of the choice among ties.

    Edge cases:
        Tokens with advantage 0 tie at 0, the lowest score there is: where the threshold gets there, ``ties="all"``
        keeps all of them. In parts: :class:`TokenSearch` of ``abs(advantages) * entropy``.

    Raises:
        ValueError: NaN at a trained token, or an advantage of 0 times an infinite entropy; an option out of range;
            shapes that do not fit.
        TypeError: wrong dtype, rank or form.

    Source: D3S, arXiv 2509.22115, by secondary description; its schedule of shares is unverified.

    >>> A, H = [1.0, 1.0, -2.0, 0.3, -1.0, 3.0], [0.1, 2.0, 0.5, 1.0, 0.2, 0.05]
    >>> d3s_tokens(A, H, share=0.5, scope="all").mask.tolist()
    [False, True, True, True, False, False]
    """
    who = "d3s_tokens"
    want = wanted(who, share, None, 0)
    batch = TokenBatch.of(who, "entropy", entropy, mask=mask, lengths=lengths, uid=uid)
    return chosen(batch, want, scope=scope, ties=ties, seed=seed, weights=advantages)


def low_probability_tokens(
    logprobs: ArrayLike | Ragged,
    *,
    share: float | None = None,
    count: int | None = None,
    advantages: ArrayLike | Ragged | None = None,
    of: Literal["negative", "all"] = "negative",
    mask: ArrayLike | Ragged | None = None,
    lengths: ArrayLike | None = None,
    scope: Scope = "all",
    ties: Ties = "all",
    uid: Any = None,
    seed: int = 0,
) -> TokenSelection:
    """The most surprising tokens, of lowest log-probability: ``log p_t <= l_(k)``, ``k = floor(share n)``.

    Without advantages these are the k tokens of highest surprisal, ``-log p_t``. With them, the tokens with A < 0 of
    which Lp-Reg keeps near a proxy those that the proxy finds more likely. :class:`rollmath.loss.LpReg` does all of
    this, and chooses exactly k in every split.

    Args:
        logprobs: one a token, forms and kinds as in :func:`top_tokens`; minus infinity is the lowest.
        share: in [0, 1]. The authors of Lp-Reg take 0.01 and 0.005.
        count: instead of a share: how many tokens.
        advantages: one a token in the form of ``logprobs``, or one a row, ``[rows]``: only tokens with A < 0 are
            chosen.
        of: what n is, with advantages. ``"negative"``: the tokens with A < 0 (the authors' code), among which k are
            taken; ``"all"``: all trained tokens, whose lowest k are then left if A < 0 (as others describe it;
            unverified).
        mask: trained tokens.
        lengths: used columns of padded rows.
        scope: ``"all"`` or ``"row"``, what it is a share of.
        ties: as in :func:`top_tokens`, as are ``uid`` and ``seed``.
        uid: ids of rows.
        seed: of the choice among ties.

    Returns:
        A :class:`TokenSelection`; ``kept`` are those left, ``total`` is n.

    Edge cases and errors: as in :func:`top_tokens`. An advantage that is NaN is not below 0.

    Raises:
        ValueError: NaN at a trained token; an option out of range; shapes that do not fit.
        TypeError: wrong dtype, rank or form.

    Source: Lp-Reg, Huang et al. 2025, arXiv 2510.03222; the authors' code was read.

    >>> low_probability_tokens([-0.1, -3.0, -0.2, -4.0], share=0.5, advantages=[1.0, 1.0, -1.0, -1.0]).mask.tolist()
    [False, False, False, True]
    """
    who = "low_probability_tokens"
    want = wanted(who, share, count, 0)
    choice(who, "of", of, ("negative", "all"))
    batch = TokenBatch.of(who, "logprobs", logprobs, mask=mask, lengths=lengths, uid=uid)
    if advantages is None:
        return chosen(batch, want, largest=False, scope=scope, ties=ties, seed=seed)
    negative = batch.negative(advantages, "advantages")
    if of == "negative":
        return chosen(batch.only(negative), want, largest=False, scope=scope, ties=ties, seed=seed)
    found = chosen(batch, want, largest=False, scope=scope, ties=ties, seed=seed)
    return found._replace(**_left(batch, found, negative, scope))


def _left(batch: TokenBatch, found: TokenSelection, negative: Any, scope: Scope) -> dict[str, Any]:
    """Of those chosen the ones with A < 0, and how many they are."""
    values = found.mask.values if isinstance(found.mask, Ragged) else found.mask
    flat = values.reshape(-1)
    if batch.on_device:
        left = flat & negative
        rows = left.new_zeros(batch.rows.rows, dtype=batch.device.torch.int64)
        kept = left.sum() if scope == "all" else rows.scatter_add(0, batch.row_of, left.to(rows.dtype))
        return {"mask": batch.result(left), "kept": kept}
    left = np.asarray(flat) & negative
    if scope == "all":
        return {"mask": batch.result(left), "kept": batch.number(np.int64(left.sum()))}
    of = batch.spread(np.arange(batch.rows.rows))
    return {"mask": batch.result(left), "kept": batch.number(np.bincount(of[left], minlength=batch.rows.rows))}
