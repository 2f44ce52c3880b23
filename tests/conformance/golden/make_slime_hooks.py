"""slime's hooks at one commit: their call sites and what they are given. Usage: make_slime_hooks.py CLONE.

Signatures are read from the source: which arguments the call site passes, the fields of `Sample` and of
`DynamicFilterOutput`, and the names in a micro-batch. The numbers are those of its loss and of its estimators on a
small batch.
"""

import ast
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import torch
from _source import Source

COMMIT = "624b824a898ab0ec1fcb4d373004c7f3852bf515"
source = Source(sys.argv[1], COMMIT)

# The argument of the path, and the file whose code calls the function.
CALLS = {
    "custom_reward_post_process_path": "slime/ray/rollout.py",
    "dynamic_sampling_filter_path": "slime/rollout/sglang_rollout.py",
    "custom_advantage_function_path": "slime/backends/megatron_utils/loss.py",
    "custom_tis_function_path": "slime/backends/megatron_utils/loss.py",
    "custom_pg_loss_reducer_function_path": "slime/backends/megatron_utils/loss.py",
    "custom_loss_function_path": "slime/backends/megatron_utils/loss.py",
}


def call_site(argument, path):
    """What the function at `args.<argument>` is called with: positional expressions, and the names of keywords."""
    tree = ast.parse(source.text(path))
    assigned = [n for n in ast.walk(tree) if isinstance(n, ast.Assign) and f"args.{argument})" in ast.unparse(n.value)]
    (name,) = {ast.unparse(n.targets[0]) for n in assigned}
    for call in (n for n in ast.walk(tree) if isinstance(n, ast.Call)):
        words = [ast.unparse(x) for x in call.args]
        if ast.unparse(call.func) == name:
            keywords = [k.arg or ast.unparse(k.value) for k in call.keywords]
        elif words and words[0] == name:  # call_dynamic_filter(fn, ...), which hands the rest on
            words, keywords = words[1:], []
        else:
            continue
        if keywords == ["tis_kwargs"]:
            (given,) = [
                n.value
                for n in ast.walk(tree)
                if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "tis_kwargs"
            ]
            keywords = [key.value for key in given.keys]
        return {"file": path, "positional": words, "keywords": keywords}
    raise LookupError(argument)


def fields(path, name):
    """Fields of a dataclass and the source of their defaults (None: no default)."""
    (node,) = [n for n in ast.parse(source.text(path)).body if getattr(n, "name", "") == name]
    return {
        n.target.id: None if n.value is None else ast.unparse(n.value)
        for n in node.body
        if isinstance(n, ast.AnnAssign)
    }


def micro_batch():
    """Names of what a loss function finds in its batch."""
    tree = ast.parse(source.text("slime/backends/megatron_utils/model.py"))
    lists = [
        [x.value for x in n.elts if isinstance(x, ast.Constant)] for n in ast.walk(tree) if isinstance(n, ast.List)
    ]
    return next(names for names in lists if "rollout_mask_sums" in names)


# --- slime's own losses, on one rank of context parallelism --------------------------------------------------------
core = ModuleType("megatron.core")
core.mpu = SimpleNamespace(
    get_context_parallel_world_size=lambda: 1, get_context_parallel_rank=lambda: 0, is_pipeline_last_stage=lambda: True
)
sys.modules |= {"megatron": ModuleType("megatron"), "megatron.core": core}
ppo = source.load(
    "slime/utils/ppo_utils.py",
    *("compute_policy_loss", "compute_cispo_loss", "compute_gspo_kl", "compute_approx_kl", "compute_opsm_mask"),
    *("get_grpo_returns", "get_reinforce_plus_plus_returns", "get_reinforce_plus_plus_baseline_advantages"),
    *("get_advantages_and_returns_batch", "vanilla_gae", "chunked_gae", "chunked_discounted_returns"),
)
cp = source.load("slime/backends/megatron_utils/cp_utils.py", "get_sum_of_sample_mean", mpu=core.mpu)
given_log_probs = {}
loss = source.load(
    "slime/backends/megatron_utils/loss.py",
    *("policy_loss_function", "vanilla_tis_function", "icepop_function", "get_rollout_top_p_logprob_kwargs"),
    "compute_advantages_and_returns",
    mpu=core.mpu,
    get_log_probs_and_entropy=lambda *_, **__: (None, given_log_probs),
    _maybe_capture_log_probs=lambda *_: None,
    all_gather_with_cp=lambda x, *_: x,
    get_sum_of_sample_mean=cp.get_sum_of_sample_mean,
    load_function=lambda name: getattr(loss, name),
    **vars(ppo),
)

LENGTHS, PROMPTS = [5, 3, 4, 6, 2], [2, 3, 2, 1, 4]
ROLLOUTS = [0, 0, 1, 2, 3]  # the first two samples are one rollout, and a part of rollout 2 is in another micro-batch
ELSEWHERE = [0, 0, 0, 7, 0]


def batch_of(generator):
    def columns(scale, offset=0.0):
        return [scale * torch.randn(n, generator=generator, dtype=torch.float64) + offset for n in LENGTHS]

    old = columns(0.5, -1.5)
    masks = [torch.ones(n, dtype=torch.int) for n in LENGTHS]
    masks[0][1:3] = 0
    masks[3][4] = 0
    of_rollout = [0] * 4
    for rollout, mask, more in zip(ROLLOUTS, masks, ELSEWHERE, strict=True):
        of_rollout[rollout] += int(mask.sum()) + more
    return {
        "theta": [x + y for x, y in zip(old, columns(0.3), strict=True)],
        "entropy": columns(0.1, 1.0),
        "log_probs": old,
        "rollout_log_probs": [x + y for x, y in zip(old, columns(0.4), strict=True)],
        "ref_log_probs": [x + y for x, y in zip(old, columns(0.2), strict=True)],
        "advantages": [
            torch.full((n,), a, dtype=torch.float64) for n, a in zip(LENGTHS, [0.8, 0.8, -1.2, 0.5, -0.4], strict=True)
        ],
        "loss_masks": masks,
        "rollout_mask_sums": torch.tensor([float(of_rollout[r]) for r in ROLLOUTS]),
        "response_lengths": LENGTHS,
        "total_lengths": [n + p for n, p in zip(LENGTHS, PROMPTS, strict=True)],
        "unconcat_tokens": None,
    }


ARGS = {
    "advantage_estimator": "grpo", "use_rollout_logprobs": False, "use_opsm": False, "eps_clip": 0.2,
    "eps_clip_high": 0.28, "eps_clip_c": None, "get_mismatch_metrics": False, "use_tis": False, "tis_clip": 1.5,
    "tis_clip_low": 0.5, "custom_tis_function_path": None, "custom_pg_loss_reducer_function_path": None,
    "calculate_per_token_loss": False, "entropy_coef": 0.0, "use_kl_loss": False, "use_unbiased_kl": False,
    "kl_loss_type": "k3", "kl_loss_coef": 0.1, "rollout_top_p": 1.0,
}  # fmt: skip
CASES = {
    "grpo": {},
    "grpo, per token": {"calculate_per_token_loss": True},
    "grpo, dual clip": {"eps_clip_c": 1.3},
    "gspo": {"advantage_estimator": "gspo"},
    "gspo, narrow": {"advantage_estimator": "gspo", "eps_clip": 0.02, "eps_clip_high": 0.03},
    "cispo": {"advantage_estimator": "cispo"},
    "grpo, k3": {"use_kl_loss": True},
    "grpo, k2, per token": {"use_kl_loss": True, "kl_loss_type": "k2", "calculate_per_token_loss": True},
    "grpo, low_var_kl": {"use_kl_loss": True, "kl_loss_type": "low_var_kl"},
    "grpo, unbiased k3": {"use_kl_loss": True, "use_unbiased_kl": True},
    "grpo, unbiased k1": {"use_kl_loss": True, "use_unbiased_kl": True, "kl_loss_type": "k1"},
    "grpo, entropy": {"entropy_coef": 0.01},
    "grpo, tis": {"use_tis": True},
    "grpo, opsm": {"use_opsm": True, "opsm_delta": 0.05},
    "grpo, icepop": {"use_tis": True, "custom_tis_function_path": "icepop_function"},
    "grpo, rollout log-probabilities": {"use_rollout_logprobs": True},
    "grpo, first step": {"log_probs": None},
}


def run(changed):
    batch = batch_of(torch.Generator().manual_seed(7))
    args = SimpleNamespace(**{**ARGS, **changed})
    if "log_probs" in changed:
        del batch["log_probs"]
    theta, entropy = ([x.requires_grad_() for x in batch.pop(name)] for name in ("theta", "entropy"))
    given_log_probs.update(log_probs=theta, entropy=entropy)
    reduce = cp.get_sum_of_sample_mean(
        batch["total_lengths"],
        batch["response_lengths"],
        batch["loss_masks"],
        batch["rollout_mask_sums"],
        args.calculate_per_token_loss,
    )
    value, log = loss.policy_loss_function(args, batch, torch.zeros(()), reduce)
    value.backward()
    return {
        "args": changed,
        "loss": value.item(),
        "log": {name: x.item() for name, x in log.items()},
        "gradient": [x.grad.tolist() for x in theta],
        "entropy_gradient": [[] if x.grad is None else x.grad.tolist() for x in entropy],
    }


ESTIMATORS = {
    "grpo": {},
    "reinforce_plus_plus_baseline": {"kl_coef": 0.1},
    "reinforce_plus_plus": {"kl_coef": 0.1, "gamma": 0.9},
    "ppo": {"kl_coef": 0.1, "gamma": 0.97, "lambd": 0.9},
    "ppo, no KL": {"gamma": 1.0, "lambd": 0.95},
}


def estimate(name, changed):
    """Advantages and returns of samples without tool output, which slime's estimators take for actions."""
    given = {name: x for name, x in batch_of(torch.Generator().manual_seed(7)).items() if x is not None}
    args = {
        "advantage_estimator": name.split(",")[0], "use_rollout_logprobs": False, "kl_coef": 0.0, "kl_loss_type": "k1",
        "gamma": 1.0, "lambd": 1.0, "custom_advantage_function_path": None, "use_opd": False,
        "normalize_advantages": False, **changed,
    }  # fmt: skip
    data = {name: [x.float() for x in given[name]] for name in ("log_probs", "ref_log_probs")}
    data |= {"rewards": [1.0, 0.0, 0.5, -1.0, 2.0], "values": [x.float() for x in given["entropy"]]}
    data |= {"loss_masks": [torch.ones(n, dtype=torch.int) for n in LENGTHS]}
    data |= {name: given[name] for name in ("response_lengths", "total_lengths")}
    loss.compute_advantages_and_returns(SimpleNamespace(**args), data)
    return {"args": args} | {
        key: [x.tolist() for x in data[key]] if isinstance(data[key][0], torch.Tensor) else data[key]
        for key in ("rewards", "kl", "values", "advantages", "returns")
    }


batch = {name: x for name, x in batch_of(torch.Generator().manual_seed(7)).items() if x is not None}
written = {
    "package": "slime",
    "version": "0.3.1",
    "commit": COMMIT,
    "calls": {name: call_site(name, path) for name, path in CALLS.items()},
    "sample": fields("slime/utils/types.py", "Sample"),
    "dynamic_filter_output": fields("slime/rollout/filter_hub/base_types.py", "DynamicFilterOutput"),
    "micro_batch": micro_batch(),
    "args": ARGS,
    "batch": {
        name: x.tolist()
        if isinstance(x, torch.Tensor)
        else [v.tolist() if isinstance(v, torch.Tensor) else v for v in x]
        for name, x in batch.items()
    },
    "losses": {name: run(changed) for name, changed in CASES.items()},
    "estimates": {name: estimate(name, changed) for name, changed in ESTIMATORS.items()},
}


def text(x, depth):
    """JSON with one entry a line down to this depth."""
    if not depth or not isinstance(x, dict):
        return json.dumps(x)
    return "{\n" + ",\n".join(f"{json.dumps(key)}: {text(value, depth - 1)}" for key, value in x.items()) + "\n}"


path = Path(__file__).parents[2] / "vectors" / "slime-hooks.json"
path.write_text(text(written, 2) + "\n")
