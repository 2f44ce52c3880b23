"""Functions of verl and TRL as the checks take them: name, style, options."""

import logging
from types import SimpleNamespace

import torch
from bare_trl import advantages
from loss_peers import TRL, VERL, Batch, run_trl

from rollmath.testing import check_advantage, check_loss

#: What verl's registry has under these names; the others need more than rewards, masks, ids and values.
VERL_ESTIMATORS = (
    "gae",
    "gdpo",
    "gpg",
    "grpo",
    "grpo_passk",
    "grpo_vectorized",
    "opo",
    "reinforce_plus_plus",
    "reinforce_plus_plus_baseline",
    "rloo",
    "rloo_vectorized",
)
VERL_MODES = ("token-mean", "seq-mean-token-sum", "seq-mean-token-mean", "seq-mean-token-sum-norm")
TRL_LOSSES = ("grpo", "bnpo", "dr_grpo", "dapo", "cispo", "sapo", "vespo", "dapo, sequence", "luspo")
#: TRL's losses that divide by the trained tokens of the step.
_COUNTED = {"dapo", "cispo", "vespo", "dapo, sequence"}


def verl_advantages(peer):
    """``(name, report)`` of verl's estimators."""
    algos = peer("verl.trainer.ppo.core_algos")
    config = {
        "reinforce_plus_plus": SimpleNamespace(gamma=1.0),
        "grpo_passk": {"norm_adv_by_std_in_grpo": True},
    }
    for name in VERL_ESTIMATORS:
        options = {"config": config[name]} if name in config else {}
        yield name, check_advantage(algos.get_adv_estimator_fn(name), style="verl", options=options)


def verl_losses(peer):
    """``(name, report)`` of verl's policy losses; of ``vanilla`` with each aggregation."""
    algos, actor = peer("verl.trainer.ppo.core_algos"), peer("verl.workers.config")
    logging.getLogger("verl").setLevel(logging.ERROR)
    names = [(name, "token-mean") for name in sorted(VERL)] + [("vanilla", mode) for mode in VERL_MODES[1:]]
    for name, mode in names:
        policy = {"dro_beta": 0.5} if name == "dro" else {}
        config = actor.ActorConfig(
            strategy="fsdp",
            rollout_n=1,
            use_dynamic_bsz=True,
            clip_ratio=0.2,
            clip_ratio_low=0.2,
            clip_ratio_high=0.28,
            clip_ratio_c=3.0,
            policy_loss=actor.PolicyLossConfig(loss_mode=name, rollout_correction={"loss_type": "ppo_clip"}, **policy),
        )
        options = {"config": config, "loss_agg_mode": mode}
        report = check_loss(algos.get_policy_loss_fn(name), style="verl", options=options)
        yield name if mode == "token-mean" else f"{name}, {mode}", report


class _Theirs(torch.autograd.Function):
    """A loss and its gradient that were computed elsewhere."""

    @staticmethod
    def forward(ctx, logp, loss, gradient):
        ctx.save_for_backward(gradient)
        return loss.clone()

    @staticmethod
    def backward(ctx, upstream):
        return upstream * ctx.saved_tensors[0], None, None


def trl_losses(peer):
    """``(name, report)`` of TRL's loss types: ``GRPOTrainer._compute_loss``."""
    run = run_trl(peer)
    assert set(TRL_LOSSES) <= set(TRL)

    def function(name):
        def loss(logp, old_logp, advantages, mask, *, num_tokens=None):
            nothing = torch.zeros_like(logp)
            batch = Batch(logp.detach(), old_logp, nothing, nothing, nothing, advantages, mask.to(logp.dtype), None)
            value, gradient, *_ = run(name, batch, items=None if num_tokens is None else torch.tensor(num_tokens))
            return _Theirs.apply(logp, value, gradient)

        return loss

    for name in TRL_LOSSES:
        counts = {"num_tokens": "tokens"} if name in _COUNTED else None
        # The gradients are computed apart from the inputs, so that none could flow through them.
        yield name, check_loss(function(name), style="rows", counts=counts, exclude=["detached_inputs"])


def trl_advantages(peer):
    """``(name, report)`` of TRL's trainers: ``_generate_and_score_completions`` between rewards and advantages."""
    for name, module, kind, options in (
        ("GRPOTrainer", "trl.trainer.grpo_trainer", "GRPOTrainer", {}),
        ("GRPOTrainer, scale_rewards=none", "trl.trainer.grpo_trainer", "GRPOTrainer", {"scale_rewards": "none"}),
        ("GRPOTrainer, scale_rewards=batch", "trl.trainer.grpo_trainer", "GRPOTrainer", {"scale_rewards": "batch"}),
        ("RLOOTrainer", "trl.trainer.rloo_trainer", "RLOOTrainer", {}),
    ):
        made = _trl_advantage(peer(module), kind, options)
        yield name, check_advantage(made, style="consecutive", arrays="torch")


def _trl_advantage(module, kind, options):
    return lambda rewards, num_generations: advantages(module, kind, rewards, num_generations, **options)
