"""Functions of verl and TRL as the checks take them: name, style, options."""

import logging
from collections import defaultdict
from contextlib import ExitStack
from types import SimpleNamespace
from unittest.mock import patch

import torch
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
    def advantages(rewards, num_generations):
        trainer = _bare(getattr(module, kind), rewards, num_generations, options)
        with ExitStack() as stack:
            for name in ("gather", "gather_object"):  # one process: nothing to gather
                stack.enter_context(patch.object(module, name, lambda x: x))
            return trainer._generate_and_score_completions([{"prompt": "p"}] * len(rewards))["advantages"]

    return advantages


def _bare(kind, rewards, size, options):
    """A trainer that was never constructed, with these rewards."""
    trainer = object.__new__(kind)
    one = torch.zeros(len(rewards), 1)
    tokens = [[1]] * len(rewards)
    generated = (tokens, tokens, ["x"] * len(rewards))
    if "GRPO" in kind.__name__:
        generated = (tokens, tokens, None, ["x"] * len(rewards), None, {}, None, None)
    attributes = {
        "accelerator": SimpleNamespace(
            device=torch.device("cpu"), process_index=0, gather=lambda x: x, reduce=lambda x, **_: x
        ),
        "model": SimpleNamespace(training=True, is_gradient_checkpointing=False),
        "args": SimpleNamespace(
            per_device_train_batch_size=len(rewards),
            steps_per_generation=1,
            gradient_accumulation_steps=1,
            gradient_checkpointing_kwargs=None,
        ),
        "num_generations": size,
        "num_iterations": 1,
        "environment_factories": None,
        "environments": None,
        "tools": None,
        "use_vllm": False,
        "beta": 0.0,
        "pad_to_multiple_of": None,
        "mask_truncated_completions": False,
        "multi_objective_aggregation": "sum_then_normalize",
        "scale_rewards": "group",
        "reward_clip_range": None,
        "normalize_advantages": False,
        "reward_weights": torch.ones(1, dtype=rewards.dtype),
        "reward_funcs": [None],
        "reward_func_names": ["reward"],
        "log_multimodal": False,
        "_is_vlm": False,
        "_tokenizer": SimpleNamespace(pad_token_id=0),
        "_metrics": {"train": defaultdict(list)},
        "_logs": {k: [] for k in ("prompt", "completion", "advantages")}
        | {k: defaultdict(list) for k in ("rewards", "extra")},
        "_pending_extra_logs": defaultdict(list),
        "_pending_metrics": defaultdict(list),
        "_generate": lambda _: generated,
        "_calculate_rewards": lambda *_: rewards[:, None],
        "_get_per_token_logps_and_entropies": lambda *_, **__: (one, one, None),
    }
    for name, value in (attributes | options).items():
        setattr(trainer, name, value)
    return trainer
