"""``--custom-advantage-function-path``: advantages and returns of one rank, from the rewards that slime gave it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from rollmath import group, temporal
from rollmath.adapters.slime._settings import GROUPED, recipe_of, whole_rows
from rollmath.adapters.slime._whiten import Values, whitened
from rollmath.conventions import Whiten
from rollmath.ragged import Ragged

#: Methods with one number a token, and what is called for them.
TOKEN_METHODS = ("group.reinforce_pp", "temporal.gae")


def advantages(args: Any, rollout_data: dict[str, Any]) -> None:
    r"""Sets ``rollout_data["advantages"]`` and ``["returns"]``: lists with one tensor a sample, of its positions.

    ``--custom-advantage-function-path rollmath.adapters.slime.advantages``

    What is computed follows ``args.advantage_estimator``, or the advantage of the recipe:

    ============================== ===================================================================================
    grpo, gspo, cispo              ``A_t = r``, the reward that :func:`post_process_rewards` made of the group
    reinforce_plus_plus_baseline   ``A_t = r - kl_coef kl_t``
    ppo, ``temporal.gae``          ``A_t = delta_t + gamma lam A_{t+1}``, ``delta_t = r_t + gamma V_{t+1} - V_t`` over
                                   the trained tokens: tool output is passed over, where slime takes it for actions
    reinforce_plus_plus,           ``G_t = r_t + gamma G_{t+1}`` over the trained tokens
    ``group.reinforce_pp``
    ============================== ===================================================================================

    The reward of a sample is given at its last trained token (slime's ``ppo``: at the last position, trained or not,
    where the loss mask loses it). ``r_t`` has ``-kl_coef kl_t`` besides. Positions that are not trained get 0 in the
    last two, as do samples without a trained token, which slime's ``reinforce_plus_plus`` refuses.

    slime calls this on each rank with that rank's samples, and whitens the result itself under
    ``--normalize-advantages``, in float32 from sums of squares. A recipe that whitens does so here, with the statistics
    of all data-parallel ranks, in the numbers that one process would get; both at once is an error.

    Args:
        args: slime's arguments.
        rollout_data: what slime has of this rank: ``rewards``, ``kl``, ``response_lengths``, ``loss_masks``, and
            ``values`` for GAE. Values, KL and masks are copied to the host once and the result back.

    Raises:
        ValueError: context parallelism with a method that looks at whole samples; GAE without values; an estimator or
            method that this function does not know; whitening twice; numbers that are not finite.

    Source: slime 0.3.1, ``compute_advantages_and_returns``, whose code was executed; Schulman et al. 2016, arXiv
    1506.02438; Hu 2025, arXiv 2501.03262.

    >>> from types import SimpleNamespace as Stub
    >>> args = Stub(advantage_estimator="reinforce_plus_plus", kl_coef=0.0, gamma=0.5, normalize_advantages=False)
    >>> data = {"rewards": [1.0], "kl": [torch.zeros(4)], "response_lengths": [4],
    ...         "loss_masks": [torch.tensor([1, 0, 1, 1])]}
    >>> advantages(args, data)
    >>> data["advantages"]
    [tensor([0.2500, 0.0000, 0.5000, 1.0000])]
    """
    who = "advantages"
    recipe = recipe_of(args)
    if recipe is None:
        estimator = args.advantage_estimator
        if estimator in GROUPED:
            kl_coef = args.kl_coef if estimator == "reinforce_plus_plus_baseline" else 0.0
            return _fill(who, rollout_data, kl_coef)
        methods = {"ppo": "temporal.gae", "reinforce_plus_plus": "group.reinforce_pp"}
        if estimator not in methods:
            known = ", ".join((*GROUPED, *methods))
            msg = f"{who}(): 'args.advantage_estimator' must be one of {known}, got {estimator!r}"
            raise ValueError(msg)
        return _tokens(who, args, rollout_data, methods[estimator], {}, None)
    from rollmath.adapters.slime._recipe import token_method  # noqa: PLC0415 - see _settings

    found = token_method(who, recipe, args)
    if found is None:
        return _fill(who, rollout_data, 0.0)
    return _tokens(who, args, rollout_data, *found)


def _fill(who: str, data: dict[str, Any], kl_coef: float) -> None:
    """One number a sample on all its positions here, be they slices of it."""
    rewards, kl = data["rewards"], data["kl"]
    if len(rewards) != len(kl):
        msg = f"{who}(): 'rewards' must have length {len(kl)} (= the samples of this rank), got {len(rewards)}"
        raise ValueError(msg)
    values = [torch.full_like(x, float(r)) - kl_coef * x for r, x in zip(rewards, kl, strict=True)]
    data["advantages"], data["returns"] = values, list(values)


def _tokens(
    who: str, args: Any, data: dict[str, Any], method: str, options: Mapping[str, Any], how: Whiten | None
) -> None:
    """A method with one number a token, on whole samples."""
    instead = f"use --context-parallel-size 1, or an estimator with one number a sample ({', '.join(GROUPED)})"
    whole_rows(who, args, method, instead)
    if how is not None and args.normalize_advantages:
        msg = (
            f"{who}(): the recipe whitens, and 'args.normalize_advantages' would whiten again; leave "
            "--normalize-advantages away, or set whiten to nothing in the recipe"
        )
        raise ValueError(msg)
    values = (
        _values(who, args, data, method, options)
        if how is None
        else whitened(who, lambda: _values(who, args, data, method, options), how)
    )
    lengths = np.diff(values.advantages.offsets).tolist()
    for name, x in (("advantages", values.advantages), ("returns", values.returns)):
        parts = torch.split(torch.as_tensor(x.values, dtype=torch.float32), lengths)
        data[name] = [part.to(like.device) for part, like in zip(parts, data["kl"], strict=True)]


def _values(who: str, args: Any, data: dict[str, Any], method: str, options: Mapping[str, Any]) -> Values:
    lengths = [int(n) for n in data["response_lengths"]]
    for name in ("rewards", "kl", "loss_masks", "values"):
        given: Any = data.get(name)
        if name == "values" and not given:
            continue
        if len(given) != len(lengths):
            msg = f"{who}(): {name!r} must have length {len(lengths)} (= the samples of this rank), got {len(given)}"
            raise ValueError(msg)
        for at, (n, x) in enumerate(zip(lengths, given, strict=True)):
            if name != "rewards" and len(x) != n:
                msg = f"{who}(): '{name}[{at}]' must have length {n} (= response_lengths[{at}]), got {len(x)}"
                raise ValueError(msg)
    mask = _packed(data["loss_masks"], torch.uint8)
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    kl = _packed(data["kl"])
    rewards = _rewards(args.kl_coef, np.array(data["rewards"], np.float64), kl, mask.numpy(), offsets)
    given = {"gamma": args.gamma, "reward_on_gap": "drop"} | dict(options)
    if method == "temporal.gae":
        if not data.get("values"):
            msg = f"{who}(): 'rollout_data' must have 'values' for GAE, which slime has with --use-critic"
            raise ValueError(msg)
        critic = Ragged(_packed(data["values"]), offsets)
        gae = temporal.gae(rewards, critic, mask=mask, **{"lam": args.lambd} | given)
        return Values(gae.advantages, gae.returns, mask)
    returns = group.reinforce_pp(rewards, mask=mask, whiten=None, **given)
    return Values(returns, returns, mask)


def _packed(tensors: list[torch.Tensor], dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """On the host, in one copy."""
    return torch.cat(tensors).to(dtype).cpu() if tensors else torch.zeros(0, dtype=dtype)


def _rewards(kl_coef: float, scores: Any, kl: torch.Tensor, mask: Any, offsets: Any) -> Ragged:
    """``-kl_coef kl_t`` at each trained token, and the score at the last one of its row; none in a row without any."""
    values = np.where(mask != 0, -kl_coef * kl.numpy().astype(np.float64), 0.0) if kl_coef else np.zeros(len(mask))
    trained = np.flatnonzero(mask)
    if len(trained):
        # The number of trained tokens up to the end of each row says where its last one is, if it has any.
        last = np.searchsorted(trained, offsets[1:]) - 1
        rows = np.flatnonzero((last >= 0) & (trained[np.maximum(last, 0)] >= offsets[:-1]))
        values[trained[last[rows]]] += scores[rows]
    return Ragged(torch.from_numpy(values.astype(np.float32)), offsets)
