"""Prompts drawn by weight, without replacement."""

from __future__ import annotations

from rollmath._arrays import ArrayLike
from rollmath._checks import whole
from rollmath.groups import Groups
from rollmath.select._candidates import Nan, Short
from rollmath.select._prompts import chosen, drawn, read_prompts, too_few
from rollmath.select._selection import Selection


def weighted_sample(
    weights: ArrayLike,
    prompts: Groups | ArrayLike,
    *,
    keep: int,
    seed: int,
    short: Short = "keep",
    nan: Nan = "raise",
    valid: ArrayLike | None = None,
) -> Selection:
    """Draws ``keep`` prompts without replacement: ``P(first = i) = w_i / sum(w)``, then the same among the rest.

    All draws at once, by Gumbel top-k: the ``keep`` largest of ``log(w_i) - log(-log(u_i))``, with ``u_i`` from a hash
    of the prompt's id and the seed. So a prompt's number does not depend on who else is there: shards may each draw
    ``keep``, and a draw among these is that among all; and a draw of fewer is part of a draw of more.

    Args:
        weights: one number a prompt, not negative, on any scale, ``[P]``.
        prompts: ids, one a prompt, all different, ``[P]``; ids that stay the same over training.
        keep: prompts to draw.
        seed: whole number of at least 0; another in every draw.
        short: if fewer than ``keep`` prompts have a weight above 0: ``"keep"`` takes these, ``"drop"`` none,
            ``"raise"`` is an error.
        nan: ``"raise"``, NaN is an error; ``"omit"``, a prompt without a weight is not drawn.
        valid: prompts that take part (bool or int, nonzero = True).

    Returns:
        A :class:`Selection` of prompts; its report tells those of weight 0 from those that were not drawn.

    Kimi k1.5 draws prompts by ``1 - success rate``, the share of failures.

    Edge cases: a weight of 0 is never drawn, however many are asked for. Weights may differ by any factor: logarithms
    neither overflow nor underflow.

    Raises:
        ValueError: weights that are negative, infinite, NaN unless omitted, or all 0; wrong lengths; a prompt twice;
            ``keep`` below 1; a negative seed.
        TypeError: wrong dtype or rank; no whole number.

    Source: Gumbel top-k, arXiv 1903.06059; exponential races, Efraimidis and Spirakis 2006: textbook. Kimi k1.5,
    arXiv 2501.12599, from a secondary description.

    >>> success_rates = [1.0, 0.5, 0.0, 0.25]
    >>> print(weighted_sample([1 - p for p in success_rates], ["p", "q", "r", "s"], keep=2, seed=0).report)
    weighted_sample kept 2 of 4 prompts
      weight of 0  1 prompt: 'p'
      not drawn    1 prompt: 's'
    """
    who = "weighted_sample"
    size, salt = whole(who, "keep", keep), whole(who, "seed", seed, 0)
    must = "finite and not negative"
    of, _ = read_prompts(who, "weights", weights, prompts, must=must, nan=nan, valid=valid, seed=salt)
    able = of.seen & (of.x > 0)
    if of.seen.any() and not able.any():
        msg = f"{who}(): 'weights' must not all be 0 where prompts are valid"
        raise ValueError(msg)
    few = too_few(of, int(able.sum()), size, short, "with a weight above 0")
    left = [("weight of 0", of.seen & ~able), ("fewer than keep", able & few), ("not drawn", ~drawn(of, able, size))]
    return chosen(of, [("missing weight", of.missing), *left])
