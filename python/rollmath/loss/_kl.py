"""KL terms from log-probabilities of the sampled tokens: as a term of the loss, and as numbers for rewards and logs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch

from rollmath._arrays import Array, ArrayLike, choice, host
from rollmath._checks import real
from rollmath.loss._objectives import Objective, TokenLoss
from rollmath.loss._options import over
from rollmath.loss._tokens import Tokens, equal, finite

KINDS = ("k1", "k2", "k3", "abs")


@dataclass(frozen=True)
class KL(Objective):
    r"""KL penalty on the sampled tokens: ``L = coef K(theta - ref)``, an estimate of KL(theta || ref) at each of them.

    With ``delta = theta - ref``, the log-ratio of a token:

    ========= ============================== =================== ========================================
    kind      K(delta)                       dK / dtheta         elsewhere
    ========= ============================== =================== ========================================
    ``"k2"``  ``delta^2 / 2``                ``delta``           verl k2, mse; its gradient is that of KL
    ``"k3"``  ``exp(-delta) + delta - 1``    ``1 - exp(-delta)`` verl k3, low_var_kl; TRL; never negative
    ``"abs"`` ``|delta|``                    ``sign(delta)``     verl abs
    ``"k1"``  ``delta``                      ``1``               see below
    ========= ============================== =================== ========================================

    Only k2 has the gradient of the KL in expectation over tokens that theta sampled. That of k3 is the gradient of the
    other KL(ref || theta), and that of k1 is ``coef grad log p``: it does not depend on the reference at all, and is
    refused. ``gradient="k2"`` keeps the value of any kind and takes the gradient of k2 (straight through; the ``+`` of
    verl's names, such as ``k3+``). With ``importance="ratio"`` the term is ``rho K`` with ``rho = exp(theta - prox)``
    and rho is differentiated too, which gives ``rho (K + dK)``, for k3 ``rho delta``: an unbiased estimate of the KL of
    a token given what is before it, value and gradient, from tokens that prox sampled, for k1 and k3 alike.

    Attributes:
        coef: the coefficient, not negative.
        kind: the estimator K.
        gradient: ``"own"``, the derivative of K, or ``"k2"``, which is ``delta`` whatever the kind and the clamps.
        against: the policy in the place of ref: ``"ref"``, ``"prox"`` or ``"behaviour"``.
        importance: None; ``"detached"``: times rho as a constant; ``"ratio"``: times rho, differentiated (TRL's
            ``use_bias_correction_kl``, slime's ``use_unbiased_kl``).
        max_log_ratio: delta is clamped to plus or minus this, beyond which the own derivative is 0; verl has 20 for
            k3. None: as it is; K then stops at the largest finite number.
        max_value: K is clamped to plus or minus this, beyond which the own derivative is 0; verl has 10 for k3,
            OpenRLHF 10 for all kinds.

    Counts ``kl``, the total of K, times rho if there is ``importance``. Separable.

    Raises:
        ValueError: an unknown choice, a number out of range, k1 with a gradient that does not depend on the reference;
            and from the loss, log-probabilities that lack the policy of ``against``.
        TypeError: an option that is no number.

    Source: the estimators: Schulman, "Approximating KL divergence", 2020; k3 in the loss: GRPO, arXiv 2402.03300;
    k3 times the ratio: DeepSeek-V3.2, arXiv 2512.02556 (as TRL and slime have it).

    >>> KL(0.001, kind="k3", gradient="k2").token_loss(
    ...     Tokens.of(torch.tensor([-1.0, -2.0]), torch.zeros(2), ref=torch.tensor([-1.5, -2.0]))
    ... ).gradient
    tensor([0.0005, 0.0000])
    """

    coef: float
    kind: Literal["k1", "k2", "k3", "abs"] = "k3"
    gradient: Literal["own", "k2"] = "own"
    against: Literal["ref", "prox", "behaviour"] = "ref"
    importance: Literal["detached", "ratio"] | None = None
    max_log_ratio: float | None = None
    max_value: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "coef", real("KL", "coef", self.coef, 0.0))
        choice("KL", "kind", self.kind, KINDS)
        choice("KL", "gradient", self.gradient, ("own", "k2"))
        choice("KL", "against", self.against, ("ref", "prox", "behaviour"))
        if self.importance is not None:
            choice("KL", "importance", self.importance, ("detached", "ratio"))
        for name in ("max_log_ratio", "max_value"):
            object.__setattr__(self, name, over("KL", name, getattr(self, name), 0.0))
        if self.kind == "k1" and self.gradient == "own" and self.importance != "ratio":
            msg = (
                "KL(): 'kind' 'k1' has the gradient coef * grad log p, which does not depend on the reference; use "
                "kind='k2' or gradient='k2', or k1 as a reward (kl_estimate)"
            )
            raise ValueError(msg)

    def token_loss(self, tokens: Tokens) -> TokenLoss:
        """Loss and derivative of each token."""
        delta = in_reach(self.kind, self._log_ratio(tokens))
        bounded = delta if self.max_log_ratio is None else delta.clamp(-self.max_log_ratio, self.max_log_ratio)
        value, slope = _estimate(self.kind, bounded)
        # d(rho K) = rho (K + dK), of which K + dK = delta for k3, where the sum would cancel.
        both = bounded if self.kind == "k3" else finite(value + slope)
        if self.max_value is not None:
            capped = value.clamp(-self.max_value, self.max_value)
            inside = equal(capped, value)
            value, slope, both = capped, slope * inside, both * inside + capped * (1 - inside)
        if self.max_log_ratio is not None:
            inside = equal(bounded, delta)
            slope, both = slope * inside, both * inside + value * (1 - inside)
        if self.gradient == "k2":
            slope, both = delta, finite(value + delta)
        if self.importance is not None:
            slope = tokens.ratio * (both if self.importance == "ratio" else slope)
            value = tokens.ratio * value
        total = tokens.total(value)
        weight = tokens.weight * self.coef
        return TokenLoss(value * self.coef, slope * weight, {"kl": total}, total * self.coef)

    def _log_ratio(self, tokens: Tokens) -> torch.Tensor:
        if self.against == "prox":
            return tokens.log_ratio
        other = tokens.ref if self.against == "ref" else tokens.behaviour
        if other is None:
            msg = f"KL(): 'logprobs' must have {self.against!r}, give LogProbs(theta, {self.against}=...)"
            raise ValueError(msg)
        return tokens.theta - other


def kl_estimate(
    theta: ArrayLike,
    ref: ArrayLike,
    *,
    kind: Literal["k1", "k2", "k3", "abs"],
    max_log_ratio: float | None = None,
    max_value: float | None = None,
) -> Array:
    r"""The estimators of :class:`KL` as constants, for rewards and logs: ``k1 = delta = theta - ref``.

    ``k2 = delta^2 / 2``, ``k3 = exp(-delta) + delta - 1``, ``abs = |delta|``. A KL penalty in the reward is
    ``reward - beta k1``: k1 is unbiased, and its place is there, where no gradient flows through it.

    Args:
        theta: log-probabilities of the sampled tokens, any shape; a NumPy array, a torch tensor on any device, a list.
        ref: those under the reference policy, of the same shape, kind and device.
        kind: ``"k1"``, ``"k2"``, ``"k3"`` or ``"abs"``.
        max_log_ratio: delta is clamped to plus or minus this (verl has 20 for k3), or None.
        max_value: the result is clamped to plus or minus this (verl has 10 for k3, OpenRLHF 10 for all), or None.

    Returns:
        An array of the same shape and kind: float64 if either is, else float32; ints and lists give float64 (NumPy) or
        float32 (torch). Computed in float64.

    Edge cases:
        NaN stays NaN, so gaps and padding may hold anything. What would overflow is the largest finite number. For
        k2 and k3 of log-probabilities that are almost equal, no digits are lost.

    Raises:
        ValueError: another shape or device, a tensor that requires grad, an unknown kind, a bound that is not positive.
        TypeError: not real numbers, or a torch tensor beside something else.

    Source: Schulman, "Approximating KL divergence", 2020; k1 in the reward: arXiv 1909.08593.

    >>> kl_estimate([-1.0, -2.0], [-1.5, -2.0], kind="k2")
    array([0.125, 0.   ])
    """
    who = "kl_estimate"
    choice(who, "kind", kind, KINDS)
    log_bound, bound = over(who, "max_log_ratio", max_log_ratio, 0.0), over(who, "max_value", max_value, 0.0)
    if isinstance(theta, torch.Tensor) != isinstance(ref, torch.Tensor):
        msg = f"{who}(): 'theta' and 'ref' must both be torch tensors or neither, got {type(theta).__name__} and "
        raise TypeError(msg + type(ref).__name__)
    (x, x_type), (y, y_type) = _wide(who, "theta", theta), _wide(who, "ref", ref)
    if x.shape != y.shape:
        msg = f"{who}(): 'ref' must have shape {tuple(x.shape)} (= theta.shape), got {tuple(y.shape)}"
        raise ValueError(msg)
    if x.device != y.device:
        msg = f"{who}(): 'ref' must be on {x.device} (= theta.device), got {y.device}"
        raise ValueError(msg)
    delta = in_reach(kind, x - y)
    value, _ = _estimate(kind, delta if log_bound is None else delta.clamp(-log_bound, log_bound))
    if bound is not None:
        value = value.clamp(-bound, bound)
    dtype = torch.float64 if torch.float64 in {x_type, y_type} else torch.float32
    most = torch.finfo(dtype).max
    result = value.clamp(-most, most).to(dtype)
    return result if isinstance(theta, torch.Tensor) else result.numpy()


def _wide(who: str, name: str, x: ArrayLike) -> tuple[torch.Tensor, torch.dtype]:
    """Real numbers as a float64 tensor on their device, and the dtype that they stand for."""
    if isinstance(x, torch.Tensor):
        if x.requires_grad:
            msg = f"{who}(): {name!r} requires grad, but no gradient flows through this function; call .detach()"
            raise ValueError(msg)
        if x.layout != torch.strided or x.is_complex():
            msg = f"{who}(): {name!r} must be a dense tensor of real numbers, got {x.dtype}, {x.layout}"
            raise TypeError(msg)
        return x.double(), torch.float64 if x.dtype == torch.float64 else torch.float32
    array: Any = host(who, name, x)[0]
    if array.dtype.kind not in "fiub":
        msg = f"{who}(): {name!r} must hold floats, ints or bools, got {array.dtype}"
        raise TypeError(msg)
    narrow = array.dtype.name in {"float16", "float32"}
    return torch.from_numpy(array.astype("float64")), torch.float32 if narrow else torch.float64


def in_reach(kind: str, delta: torch.Tensor) -> torch.Tensor:
    """A log-ratio of which the estimate is finite. NaN stays."""
    if kind != "k3":
        return finite(delta)
    # exp() of more is infinite.
    largest = 88.0 if delta.dtype == torch.float32 else 709.0
    return delta.clamp(-largest, torch.finfo(delta.dtype).max)


def k3(delta: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """``exp(-d) - 1 + d`` without cancellation where d is small, and its derivative."""
    less = delta.neg().expm1_()
    # d^2 (1/2 - d/6 + d^2/24 - ...): what is left out is below the last digit within the bound.
    bound, terms = (0.125, 6) if delta.dtype == torch.float32 else (0.5, 18)
    near = delta.clamp(-bound, bound)
    series = near * ((-1) ** terms / math.factorial(terms))
    for n in range(terms - 1, 2, -1):
        series.add_((-1) ** n / math.factorial(n)).mul_(near)
    series.add_(0.5).mul_(near).mul_(near)
    value = torch.lerp(less + delta, series, near.eq_(delta))
    return value, less.neg_()


def _estimate(kind: str, delta: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """``K`` and ``dK / d delta`` of finite numbers or NaN."""
    if kind == "k2":
        return finite(delta.square().mul_(0.5)), delta
    if kind == "k3":
        return k3(delta)
    # sign() of NaN is 0.
    return (delta, delta * 0 + 1) if kind == "k1" else (delta.abs(), delta.sign() + delta * 0)
