"""KL divergence between two distributions over the vocabulary, exact or over some tokens of it."""

from __future__ import annotations

from typing import Literal

import torch

from rollmath._arrays import ArrayLike, choice
from rollmath._checks import flag, whole
from rollmath.vocab._args import check_floats, check_ids, check_logits, check_temperature
from rollmath.vocab._backend import check_backend
from rollmath.vocab._dtensor import refuse_dtensors
from rollmath.vocab._kl_kernels import exact
from rollmath.vocab._kl_reference import Some, top_of

DIRECTIONS = ("reverse", "forward")


def kl(
    logits: torch.Tensor,
    ref_logits: torch.Tensor,
    *,
    direction: Literal["reverse", "forward"] = "reverse",
    temperature: ArrayLike = 1.0,
    top_k: int | None = None,
    tail: bool = True,
    backend: Literal["auto", "torch", "triton"] = "auto",
) -> torch.Tensor:
    r"""KL divergence of each row, differentiable in ``logits``: ``KL(p || q) = sum p_j log(p_j / q_j)``.

    With ``p = softmax(logits / T)`` in training and ``q = softmax(ref_logits / T)`` constant::

        reverse  KL(p || q)   d/dlogits_j = p_j (log p_j - log q_j - KL) / T     the penalty of RL; seeks a mode of q
        forward  KL(q || p)   d/dlogits_j = (p_j - q_j) / T                      distillation; covers all of q

    Computed in float32 (float64 for float64 logits) without a float32 copy of either: on a GPU one kernel reads both
    once, and one more for the gradient; elsewhere torch takes a few rows at a time. The gradient comes in the dtype of
    the logits.

    With ``top_k=k`` it is that of :func:`top_k_kl` over the k tokens that are most likely under ``p``.

    Args:
        logits: float tensor ``[..., V]``, any strides.
        ref_logits: float tensor of the same shape, on the same device, of any float dtype that logits may have.
        direction: which of the two.
        temperature: ``T``, a positive number or a tensor ``[...]`` with one a row; it divides both.
        top_k: from 1 to V, or None for the exact KL.
        tail: under ``top_k``, whether the other tokens count as one more token.
        backend: ``"torch"``, ``"triton"`` (the exact KL only), or ``"auto"``: Triton for the exact KL of 16 and 32-bit
            logits on a GPU if it is installed and nothing is being compiled.

    Returns:
        Tensor ``[...]``: float32, or float64 for float64 logits. Under float32 the error is about 1e-6, absolute.

    Edge cases:
        A token with logit -inf in both adds 0. One that is possible only in the first distribution of the KL makes it
        infinite; there is then no gradient (NaN) in the reverse direction, and ``p_j - q_j`` in the forward one, where
        logits of -inf get 0. A row of nothing but -inf, or with NaN or +inf in it, has no distribution: NaN. A row into
        which the gradient 0 flows gets exactly 0, whatever its logits. There is no second derivative.

    Raises:
        TypeError: no float tensors, an option of the wrong type.
        ValueError: another shape or device, ``ref_logits`` that require grad, an unknown direction, a temperature that
            is not positive and finite, ``top_k`` out of range, a backend that cannot take these logits.

    Source: Kullback and Leibler 1951; as a loss on policies: arXiv 2306.08543 (reverse), arXiv 1503.02531 (forward).

    >>> x, ref = torch.tensor([[1.0, 0.0, -torch.inf]]), torch.tensor([[0.0, 0.0, -torch.inf]])
    >>> kl(x, ref), kl(x, ref, direction="forward")
    (tensor([0.1109]), tensor([0.1201]))
    """
    who = "kl"
    refuse_dtensors(who, "", ".full_tensor()", logits=logits, ref_logits=ref_logits)
    check_logits(who, logits)
    _check_constant(who, "ref_logits", ref_logits, tuple(logits.shape), "logits.shape", logits)
    choice(who, "direction", direction, DIRECTIONS)
    flag(who, "tail", tail)
    scale = check_temperature(who, temperature, logits)
    if top_k is None:
        function = exact(who, backend, logits, ref_logits)
        return function.apply(logits, ref_logits, scale, direction == "reverse").view(logits.shape[:-1])  # type: ignore[no-any-return]
    check_backend(who, backend, logits)
    if backend == "triton":
        msg = f"{who}(): backend 'triton' computes the exact KL only, got top_k={top_k!r}; say backend='torch'"
        raise ValueError(msg)
    k = whole(who, "top_k", top_k)
    if k > logits.shape[-1]:
        msg = f"{who}(): 'top_k' must be at most {logits.shape[-1]} (= V), got {k}"
        raise ValueError(msg)
    ids, ref, ref_tail = top_of(logits, ref_logits, scale, k)
    flat = Some.apply(logits, ids, ref, ref_tail if tail else None, scale, direction == "reverse")
    return flat.view(logits.shape[:-1])  # type: ignore[no-any-return]


def top_k_kl(
    logits: torch.Tensor,
    ids: torch.Tensor,
    ref_logprobs: torch.Tensor,
    *,
    direction: Literal["reverse", "forward"] = "reverse",
    temperature: ArrayLike = 1.0,
    tail: bool = True,
) -> torch.Tensor:
    r"""KL divergence over k tokens a row whose reference is known: ``sum_S p_j log(p_j / q_j) + P log(P / Q)``.

    For a reference that reports its k most likely tokens and their log-probabilities, as inference servers do. ``S`` is
    the set of ``ids``, ``P`` and ``Q`` what p and q have left for the other tokens. These count as one more token: the
    result is the KL of two distributions over k + 1 outcomes, never negative and at most the exact one. The forward
    direction swaps p and q. With ``tail=False`` the last summand is left out, as verl does: that is no divergence, and
    can be negative. Gradients, with the KL and ``r_j = log(p_j / q_j)`` over the k + 1 outcomes, that of ``P`` for
    tokens outside S::

        reverse  p_j (r_j - KL) / T         without tail: p_j ([j in S] (r_j + 1) - KL - sum_S p) / T
        forward  (p_j - q_j) / T in S, p_j (1 - Q / P) / T outside     without: (p_j sum_S q - [j in S] q_j) / T

    Args:
        logits: float tensor ``[..., V]``.
        ids: integer tensor ``[..., k]`` on the same device, distinct in each row, each in ``[0, V)``.
        ref_logprobs: float tensor of the shape of ``ids``: log q of these tokens.
        direction: ``"reverse"``, KL(p || q), or ``"forward"``, KL(q || p).
        temperature: divides the logits; ``ref_logprobs`` are taken as they are.
        tail: whether the other tokens count, as one.

    Returns:
        Tensor ``[...]``: float32, or float64 for float64 logits.

    Edge cases:
        As :func:`kl`. ``Q`` is 1 - sum_S q and at least 0: if the reference puts everything on S, the reverse KL is
        infinite and without a gradient (NaN), unless ``P`` is 0 too. On other devices than the CPU the values of ids
        and log-probabilities are not checked: a row with an id out of range gets NaN, one with an id that comes twice a
        wrong number.

    Raises:
        TypeError: no float or integer tensors, an option of the wrong type.
        ValueError: another shape or device, ids out of range or not distinct, ``ref_logprobs`` that require grad or
            whose exponentials add up to more than 1, an unknown direction, a temperature that is not positive.

    Source: verl's ``forward_kl_topk`` (``direction="forward", tail=False``, with the ids of the reference); the tail as
    one outcome is the usual coarsening, whose KL is a lower bound (data processing).

    >>> x = torch.tensor([[1.0, 0.0, 0.0]])
    >>> top_k_kl(x, torch.tensor([[0]]), torch.tensor([[0.5]]).log())
    tensor([0.0116])
    """
    who = "top_k_kl"
    refuse_dtensors(who, "", ".full_tensor()", logits=logits, ids=ids, ref_logprobs=ref_logprobs)
    check_logits(who, logits)
    flat = check_ids(who, ids, logits)
    _check_constant(who, "ref_logprobs", ref_logprobs, tuple(ids.shape), "ids.shape", logits)
    choice(who, "direction", direction, DIRECTIONS)
    flag(who, "tail", tail)
    scale = check_temperature(who, temperature, logits)
    ref = ref_logprobs.reshape(flat.shape).to(torch.float64)
    mass = ref.exp().sum(1)
    # bfloat16 rounds log-probabilities by up to a percent or two.
    if mass.device.type == "cpu" and (mass > 1.05).any():
        at = int((mass > 1.05).nonzero()[0, 0])
        msg = f"{who}(): 'ref_logprobs' must be log-probabilities, which add up to at most 1 in a row, got {mass[at]:g}"
        raise ValueError(f"{msg} at flat index {at}")
    ref_tail = torch.log1p(-mass.clamp(max=1)) if tail else None
    made = Some.apply(logits, flat, ref, ref_tail, scale, direction == "reverse")
    return made.view(logits.shape[:-1])  # type: ignore[no-any-return]


def _check_constant(
    who: str, name: str, x: torch.Tensor, shape: tuple[int, ...], source: str, logits: torch.Tensor
) -> None:
    check_floats(who, name, x)
    if tuple(x.shape) != shape:
        msg = f"{who}(): {name!r} must have shape {shape} (= {source}), got {tuple(x.shape)}"
        raise ValueError(msg)
    if x.device != logits.device:
        msg = f"{who}(): {name!r} must be on {logits.device} (= logits.device), got {x.device}"
        raise ValueError(msg)
    if x.requires_grad:
        msg = f"{who}(): {name!r} requires grad, but only 'logits' is differentiated; call .detach()"
        raise ValueError(msg)
