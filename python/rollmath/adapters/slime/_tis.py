"""``--custom-tis-function-path``: corrections of the mismatch between the engines that sampled and train."""

from __future__ import annotations

from typing import Any

import torch

from rollmath._logprobs import LogProbs
from rollmath.adapters.slime._settings import check_sizes, recipe_of, whole_rows
from rollmath.loss import Corrections, ImportanceWeight, Tokens, correction_weights
from rollmath.rows import Rows


def tis(
    args: Any,
    *,
    pg_loss: torch.Tensor,
    train_log_probs: list[torch.Tensor],
    rollout_log_probs: list[torch.Tensor],
    loss_masks: list[torch.Tensor],
    total_lengths: list[int],  # noqa: ARG001 - slime passes it
    response_lengths: list[int],
    **_: Any,
) -> tuple[torch.Tensor, list[torch.Tensor], dict[str, torch.Tensor]]:
    r"""``w_t L_t`` with the weight ``w_t`` of the recipe's correction; by default ``w = min(max(r, lo), hi)``.

    ``--use-tis --custom-tis-function-path rollmath.adapters.slime.tis``

    ``r = exp(train_log_probs - rollout_log_probs)``. Without a recipe, or with one that has no correction, it is
    ``ImportanceWeight((args.tis_clip_low, args.tis_clip))``, as in slime's own. A correction that looks at one token
    at a time needs no other and works under context parallelism; one on turns or rows needs whole samples, and copies
    the masks to the host.

    What a correction rejects gets the weight 0 and stays in the denominator, as in :func:`rollmath.loss.policy_loss`:
    the masks come back as they were, so that slime's KL and entropy terms keep these tokens. Under
    ``--get-mismatch-metrics`` without ``--use-tis`` the loss comes back as it was, too.

    Args:
        args: slime's arguments.
        pg_loss: the policy loss of each position here, ``[positions]``.
        train_log_probs: a tensor a sample, without gradient.
        rollout_log_probs: a tensor a sample, as the engine reported them.
        loss_masks: a tensor a sample, of the whole sample.
        total_lengths: not used.
        response_lengths: positions of each whole sample.
        **_: what later versions of slime may pass.

    Returns:
        The loss, the masks, and metrics with one number a position, which slime averages as it does its loss:
        ``tis`` (the ratio), ``tis_abs``, ``tis_clipfrac`` (where weight and ratio differ), ``tis_weight`` and
        ``tis_kept`` (weight not 0).

    Raises:
        ValueError: context parallelism with a correction on whole samples; one on rollouts, which slime does not name
            here; one that reads theta or advantages, which it does not pass; wrong lengths.

    Source: slime 0.3.1, ``vanilla_tis_function`` and ``icepop_function``, whose code was executed; see
    :class:`rollmath.loss.ImportanceWeight` and :class:`rollmath.loss.Gate`.

    >>> from types import SimpleNamespace as Stub
    >>> tis(Stub(use_tis=True, tis_clip_low=0.0, tis_clip=2.0), pg_loss=torch.ones(2),
    ...     train_log_probs=[torch.tensor([-1.0, -1.0])], rollout_log_probs=[torch.tensor([-1.1, -3.0])],
    ...     loss_masks=[torch.tensor([1, 1])], total_lengths=[3], response_lengths=[2])[0]
    tensor([1.1052, 2.0000])
    """
    who = "tis"
    recipe = recipe_of(args)
    chosen = None if recipe is None else recipe.correction
    if chosen is None:
        chosen = ImportanceWeight((args.tis_clip_low, args.tis_clip))
    correction = chosen if isinstance(chosen, Corrections) else Corrections(_several(chosen))
    _check(who, correction)
    train, rollout = torch.cat(train_log_probs).detach(), torch.cat(rollout_log_probs).detach()
    for name, x in (("train_log_probs", train), ("rollout_log_probs", rollout)):
        if x.shape != pg_loss.shape:
            msg = f"{who}(): {name!r} must have {len(pg_loss)} positions in all (= len(pg_loss)), got {len(x)}"
            raise ValueError(msg)
    split = getattr(args, "context_parallel_size", 1) > 1
    mask = None if split else torch.cat(loss_masks) != 0
    if mask is not None:
        check_sizes(who, "pg_loss", len(pg_loss), response_lengths)
        train, rollout = torch.where(mask, train, 0), torch.where(mask, rollout, 0)
    if correction.coupled:
        whole_rows(who, args, "a correction on turns or rows", "use one with level='token'")
        marks = [x.cpu().numpy() for x in loss_masks]
        rows = Rows(range(len(marks)), [len(x) for x in marks], mask=marks)
        weight = correction_weights(LogProbs(train, prox=train, behaviour=rollout), rows, correction)
    else:
        weight = correction.weigh(Tokens.of(train, torch.zeros_like(train), prox=train, behaviour=rollout))[0]
        weight = weight if mask is None else torch.where(mask, weight, 0)
    ratio = (train - rollout).exp()
    metrics = {
        "tis": ratio,
        "tis_abs": (ratio - 1).abs(),
        "tis_clipfrac": (weight != ratio).float(),
        "tis_weight": weight,
        "tis_kept": (weight != 0).float(),
    }
    return (pg_loss * weight if args.use_tis else pg_loss), loss_masks, metrics


def _several(correction: Any) -> tuple[Any, ...]:
    return tuple(correction) if isinstance(correction, (tuple, list)) else (correction,)


def _check(who: str, correction: Corrections) -> None:
    part: Any
    for part in correction.parts:
        name = type(part).__name__
        if "theta" in getattr(part, "ratio", ""):
            msg = (
                f"{who}(): the correction {name} must have ratio='prox/behaviour' here, got {part.ratio!r}; slime "
                "passes no other policy to this function: use rollmath.adapters.slime.policy_loss"
            )
            raise ValueError(msg)
        if getattr(part, "level", None) == "rollout":
            msg = (
                f"{who}(): the correction {name} must have level 'token', 'turn' or 'row' here, got 'rollout'; slime "
                "does not say which samples are one rollout"
            )
            raise ValueError(msg)
        if getattr(part, "reads_advantages", False):
            msg = (
                f"{who}(): the correction {name} must not read advantages here, which slime does not pass; use "
                "rollmath.adapters.slime.policy_loss"
            )
            raise ValueError(msg)
