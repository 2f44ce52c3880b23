"""Stand-ins for slime, of what ``make_slime_hooks.py`` recorded of it: its samples, modules and arguments."""

import enum
import json
import sys
from dataclasses import field, make_dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace

import torch

RECORDED = json.loads((Path(__file__).parents[1] / "vectors" / "slime-hooks.json").read_text())


class Status(enum.Enum):
    PENDING = "pending"
    COMPLETED = "completed"
    TRUNCATED = "truncated"


_NAMES = {"field": field, "list": list, "dict": dict, "Status": Status, "SpecInfo": dict, "PrefixCacheInfo": dict}


def _dataclass(name, recorded, **namespace):
    made = []
    for key, default in recorded.items():
        value = None if default is None else eval(default, dict(_NAMES))
        made.append((key, object) if default is None else (key, object, value))
    return make_dataclass(name, made, namespace=namespace)


Sample = _dataclass(
    "Sample",
    RECORDED["sample"],
    get_reward_value=lambda self, args: self.reward if not args.reward_key else self.reward[args.reward_key],
)
DynamicFilterOutput = _dataclass("DynamicFilterOutput", RECORDED["dynamic_filter_output"])


def sample(group, reward, *, rollout=None, length=3, mask=None, **more):
    return Sample(group_index=group, reward=reward, rollout_id=rollout, response_length=length, loss_mask=mask, **more)


def arguments(**changed):
    """slime's arguments, as far as hooks read them; those of the recorded losses among them."""
    own = {
        "rewards_normalization": True, "grpo_std_normalization": True, "reward_key": None, "n_samples_per_prompt": 4,
        "rollout_batch_size": 2, "normalize_advantages": False, "context_parallel_size": 1, "gamma": 1.0, "lambd": 1.0,
        "kl_coef": 0.0, "opsm_delta": 1e-4,
    }  # fmt: skip
    return SimpleNamespace(**{**RECORDED["args"], **own, **changed})


def install(monkeypatch, log_probs=None):
    """Puts modules of slime's names in place; its ``get_log_probs_and_entropy`` gives ``log_probs``."""
    names = ["", ".rollout", ".rollout.filter_hub", ".rollout.filter_hub.base_types"]
    names += [".backends", ".backends.megatron_utils", ".backends.megatron_utils.loss"]
    modules = {f"slime{name}": ModuleType(f"slime{name}") for name in names}
    modules["slime.rollout.filter_hub.base_types"].DynamicFilterOutput = DynamicFilterOutput
    loss = modules["slime.backends.megatron_utils.loss"]
    loss.get_log_probs_and_entropy = lambda logits, **_: (torch.empty(0), log_probs)
    loss.get_rollout_top_p_logprob_kwargs = lambda args, batch: {}
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)


def batch():
    """The micro-batch of the recorded losses, and what their model gave: ``(batch, log_probs)``."""
    given = RECORDED["batch"]
    made = {}
    for name, value in given.items():
        lists = isinstance(value[0], list)
        dtype = torch.int if name == "loss_masks" else torch.float64
        made[name] = [torch.tensor(x, dtype=dtype) for x in value] if lists else value
    made["rollout_mask_sums"] = torch.tensor(given["rollout_mask_sums"])
    found = {"log_probs": [x.requires_grad_() for x in made.pop("theta")]}
    found["entropy"] = [x.requires_grad_() for x in made.pop("entropy")]
    return made | {"unconcat_tokens": None}, found


def sum_of_sample_mean(batch, per_token):
    """slime's reduction in other words: each token by the trained tokens of its rollout, or as it is."""

    def reduce(x):
        rows = zip(x.split(batch["response_lengths"]), batch["loss_masks"], batch["rollout_mask_sums"], strict=True)
        return sum((row * mask).sum() / (1 if per_token else total) for row, mask, total in rows)

    return reduce
