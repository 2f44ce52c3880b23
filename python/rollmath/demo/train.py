"""One training step by GRPO on flat groups, or by SPO on trees; all between rewards and gradient is `rollmath`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import rollmath as rm

from .clock import Clock
from .model import CharTransformer
from .sample import Rollouts, prompt_tensor

FloatArray = NDArray[np.float64]
OBJECTIVE_CLIP = (0.2, 0.2)


@dataclass(frozen=True)
class Credit:
    """Who gets what.

    Attributes:
        natural: the advantages where they arise: one a rollout (GRPO) or one a tree node (SPO).
        advantages: the same as the loss takes them: one a rollout ``[R]``, or one a token, padded ``[R, T]``.
        trained: which tokens are trained, padded ``[R, T]``; None if all are. A token that several rollouts share is
            trained in one of them.
        active: rollouts with something to learn from, bool ``[R]``.
        value: the estimated accuracy of each prompt.
        nonzero_tokens: sampled tokens whose advantage is not zero.
    """

    natural: FloatArray
    advantages: FloatArray
    trained: NDArray[np.bool_] | None
    active: NDArray[np.bool_]
    value: FloatArray
    nonzero_tokens: int


def credit_flat(rollouts: Rollouts, rewards: FloatArray, clock: Clock) -> Credit:
    """Give every token of a rollout its GRPO advantage."""
    with clock("rollmath"):
        groups = rm.Groups(rollouts.group)
        advantages = np.asarray(rm.group.grpo(rewards, groups))
        value = np.asarray(rm.group.stats(rewards, groups).mean)
    active = advantages != 0
    return Credit(advantages, advantages, None, active, value, int(rollouts.lengths[active].sum()))


def credit_tree(rollouts: Rollouts, rewards: FloatArray, clock: Clock) -> Credit:
    """Give every token of a segment the SPO advantage of its node, once, and train where it is not zero."""
    tree = rollouts.tree
    if tree is None:
        msg = "credit_tree(): 'rollouts' must come from sample_tree(), which notes the tree"
        raise ValueError(msg)
    count, width = rollouts.tokens.shape
    advantages, trained = np.zeros((count, width)), np.zeros((count, width), bool)
    with clock("rollmath"):
        forest = rm.Forest.from_parents(
            tree.parents,
            groups=np.arange(len(rollouts.items)),
            spans=(tree.row, tree.start, tree.length),
            offsets=width * np.arange(count + 1),
        )
        natural = np.asarray(rm.tree.spo(forest, rewards))
        advantages.ravel()[forest.token_index] = forest.expand(natural, per="node").values
        trained.ravel()[forest.token_index] = forest.expand(rm.tree.nonzero_edges(forest, natural), per="node").values
        value = np.asarray(rm.ops.up(forest, rewards, how="mean_of_children"))[forest.roots]
    return Credit(natural, advantages, trained, np.any(trained, 1), value, int(trained.sum()))


def update(
    model: CharTransformer,
    optimizer: torch.optim.Optimizer,
    rollouts: Rollouts,
    credit: Credit,
    minibatches: int,
    clock: Clock,
) -> float:
    """Take one PPO step for each part of the prompts; return the mean entropy of the policy on the trained rows.

    A rollout without anything to learn from would not move the model, so it is not run; the normalizer still counts its
    tokens, and the loss is what it would be with it.
    """
    entropies = []
    for part in np.array_split(np.arange(len(rollouts.items)), minibatches):
        members = np.flatnonzero(np.isin(rollouts.group, part))
        active = members[credit.active[members]]
        if len(active) == 0:
            continue
        with clock("rollmath"):
            mask = None if credit.trained is None else credit.trained[members]
            everyone = rm.Rows(members, rollouts.lengths[members], mask=mask)
            normalizer = rm.loss.Normalizer.local(everyone)
            rows = everyone.take(credit.active[members])
        with clock("model"):
            width = int(rollouts.lengths[active].max())
            logits, labels = _run(model, rollouts, active, width)
        advantages = credit.advantages[active]
        with clock("rollmath"):
            out = rm.loss.policy_loss(
                rm.LogProbs(theta=rm.vocab.logprobs(logits, labels), prox=rollouts.logprobs[active, :width]),
                advantages if advantages.ndim == 1 else advantages[:, :width],
                rows,
                rm.loss.PPO(clip=OBJECTIVE_CLIP),
                aggregation="token_mean",
                normalizer=normalizer,
                level="rollout" if advantages.ndim == 1 else "token",
            )
            entropy = rm.vocab.row_stats(logits.detach(), outputs=("entropy",)).entropy
        with clock("model"):
            optimizer.zero_grad()
            out.loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        if entropy is not None:
            inside = torch.arange(width) < torch.from_numpy(rollouts.lengths[active])[:, None]
            entropies.append(float(entropy[inside].mean()))
    return float(np.mean(entropies)) if entropies else 0.0


def _run(model: CharTransformer, rollouts: Rollouts, active: NDArray[np.int64], width: int) -> tuple[Tensor, Tensor]:
    """Logits ``[n, width, V]`` and labels ``[n, width]`` of the response positions of some rollouts."""
    responses = rollouts.tokens[active, :width]
    prompts = prompt_tensor(rollouts.items)[rollouts.group[active]]
    logits = model(torch.cat([prompts, responses[:, :-1]], 1))[:, prompts.shape[1] - 1 :]
    return logits, responses
