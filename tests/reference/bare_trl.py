"""TRL's advantages: its trainers' own method, run on bare trainer objects that know their rewards beforehand.

TRL has no advantage function; the arithmetic is in the middle of ``_generate_and_score_completions``. A trainer is made
without its constructor and gets the attributes that this method reads; generation, scoring and the model's forward pass
are replaced. Everything between the rewards and the advantages is TRL's code.
"""

from collections import defaultdict
from contextlib import ExitStack
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np


def bare_trainer(kind, rewards, size, **options):
    """A trainer of class `kind` whose batch has these rewards, [N, functions], in groups of `size` consecutive rows."""
    import torch

    columns = rewards.shape[1]
    trainer = object.__new__(kind)
    one = torch.zeros(len(rewards), 1)
    # RLOO's `_generate` returns three things, GRPO's eight.
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
        "reward_weights": torch.ones(columns, dtype=torch.from_numpy(rewards).dtype),
        "reward_funcs": [None] * columns,
        "reward_func_names": [f"reward_{i}" for i in range(columns)],
        "log_multimodal": False,
        "_is_vlm": False,
        "_tokenizer": SimpleNamespace(pad_token_id=0),
        "_metrics": {"train": defaultdict(list)},
        "_logs": {
            "prompt": [],
            "completion": [],
            "rewards": defaultdict(list),
            "advantages": [],
            "extra": defaultdict(list),
        },
        "_pending_extra_logs": defaultdict(list),
        "_pending_metrics": defaultdict(list),
        "_generate": lambda _: generated,
        "_calculate_rewards": lambda *_: torch.from_numpy(rewards.copy()),
        "_get_per_token_logps_and_entropies": lambda *_, **__: (one, one, None),
    }
    for name, value in (attributes | options).items():
        setattr(trainer, name, value)
    return trainer


def advantages(module, kind, rewards, size, **options):
    """Of one process, as a tensor; ``rewards`` are [N] or [N, functions], NumPy or torch."""
    rewards = np.asarray(rewards)
    trainer = bare_trainer(getattr(module, kind), rewards if rewards.ndim == 2 else rewards[:, None], size, **options)
    with ExitStack() as stack:
        # One process, so there is nothing to gather.
        for name in ("gather", "gather_object"):
            stack.enter_context(patch.object(module, name, lambda x: x))
        return trainer._generate_and_score_completions([{"prompt": "p"}] * len(rewards))["advantages"]
