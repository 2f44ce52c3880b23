"""HPT: supervised or policy loss, decided prompt by prompt; and the shaping of LUFFY for demonstrations."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from rollmath._arrays import Array, ArrayLike, host
from rollmath._checks import Back, mask, real, required_mask
from rollmath.groups import Groups, as_groups
from rollmath.loss._elementwise import read
from rollmath.ragged import Ragged


class HPTGate(NamedTuple):
    """Weights of a prompt's two losses, ``alpha L_RL + beta L_SFT``, in the order of ``groups.ids``.

    Attributes:
        alpha: of the policy loss on the prompt's own rollouts.
        beta: of the supervised loss on its demonstration.
    """

    alpha: Array
    beta: Array


class OffPolicyShaping(NamedTuple):
    """Values and derivatives of shaped probabilities, one a token, constants.

    Attributes:
        value: ``f(p)``, which takes the place of the ratio.
        derivative: of ``value`` with respect to log p.
    """

    value: Array
    derivative: Array


def hpt_gate(
    correct: ArrayLike,
    groups: Groups | ArrayLike,
    *,
    gamma: float = 0.0,
    rl: float = 1.0,
    sft: float = 1.0,
    valid: ArrayLike | None = None,
) -> HPTGate:
    """Which loss each prompt gets: ``(alpha, beta) = (rl, 0)`` if ``P > gamma``, else ``(0, sft)``; P = share correct.

    A prompt that the policy cannot solve has no signal in its rollouts: learn its demonstration instead. Bring the
    weights to rollouts with ``ops.gather(gate.alpha, groups)``.

    Args:
        correct: which rollouts are correct (bool or int, nonzero = True), ``[N]``.
        groups: a :class:`~rollmath.Groups` or one prompt id a rollout, ``[N]``.
        gamma: share of correct rollouts up to which, included, a prompt is learnt from its demonstration, in [0, 1].
            The official code counts instead: its gate of k correct of n is ``k / n`` here. 0: only if none is.
        rl: the weight ``alpha`` of prompts above the gate, at least 0.
        sft: the weight ``beta`` of the others, at least 0: 1.0 in the official script, whose comment has 0.3 for the
            1.5B model.
        valid: rollouts that take part (bool or int, nonzero = True).

    Returns:
        A :class:`HPTGate` of ``[n_groups]`` each, in the kind of ``correct``: float64 for NumPy, float32 for torch.

    Edge cases:
        A prompt without a valid rollout gets neither loss, (0, 0): nothing is known of it.

    Raises:
        ValueError: wrong lengths, options out of range.
        TypeError: wrong dtype or rank: rewards that are floats, for one; pass ``rewards > 0``.

    Source: HPT, arXiv 2509.04419; official code read.

    >>> gate = hpt_gate([0, 0, 1, 0], ["p", "p", "q", "q"], sft=0.3)
    >>> gate.alpha.tolist(), gate.beta.tolist()
    ([0.0, 1.0], [0.3, 0.0])
    """
    who = "hpt_gate"
    least = real(who, "gamma", gamma, 0.0, 1.0)
    alpha, beta = real(who, "rl", rl, 0.0), real(who, "sft", sft, 0.0)
    made = as_groups(who, groups)
    good = required_mask(who, "correct", correct, len(made))
    seen = mask(who, "valid", valid, len(made))
    n = np.bincount(made.index[seen], minlength=made.n_groups)
    hits = np.bincount(made.index[seen & good], minlength=made.n_groups)
    solved = hits / np.maximum(n, 1) > least
    kind = host(who, "correct", correct)[1]
    back = Back(kind, np.float32 if kind.is_torch else np.float64)
    return HPTGate(back(np.where(solved, alpha, 0.0)), back(np.where(solved | (n == 0), 0.0, beta)))


def off_policy_shaping(logprobs: ArrayLike | Ragged, *, gamma: float = 0.1) -> OffPolicyShaping:
    """Shaped probabilities of demonstrated tokens: ``f(p) = p / (p + gamma)``, in place of the ratio p in ``-A p``.

    The derivative ``df / dlog p = gamma p / (p + gamma)^2`` is largest at ``p = gamma``, where that of the ratio is
    small: unlikely tokens of a demonstration are learnt too. Both columns are constants: with
    ``weight = advantages * derivative``, the loss ``-weight log p`` has the gradient of ``-A f(p)``.

    Args:
        logprobs: of the demonstrated tokens under the policy in training, ``[tokens]`` or ``[B, T]``: NumPy, torch on
            any device, a list or a :class:`~rollmath.Ragged`. A tensor may require grad.
        gamma: greater than 0; 0.1 in the official scripts, whose code knows 0.3 and 0.5 too.

    Returns:
        An :class:`OffPolicyShaping`, each in the shape, kind and float type of ``logprobs``.

    Edge cases:
        Minus infinity gives 0 and 0. Nothing overflows. NaN gives NaN: values are not checked, because padding may
        hold anything.

    Raises:
        TypeError: wrong dtype or rank.
        ValueError: ``gamma`` out of range; a tensor that holds no numbers.

    Source: LUFFY, arXiv 2504.14945; the code of HPT (arXiv 2509.04419), which has it as ``p_div_p_0.1``, read.

    >>> shaped = off_policy_shaping(np.log([0.1, 0.9]))
    >>> shaped.value.round(4).tolist(), shaped.derivative.round(4).tolist()
    ([0.5, 0.9], [0.25, 0.09])
    """
    who = "off_policy_shaping"
    shift = math.log(real(who, "gamma", gamma, above=0.0))
    column = read(who, "logprobs", logprobs)
    # p / (p + gamma) is the logistic function of log p - log gamma.
    x = column.exact - shift
    value = x.sigmoid()
    return OffPolicyShaping(column.back(value), column.back(value * (-x).sigmoid()))
