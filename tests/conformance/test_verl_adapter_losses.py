"""The policy losses of the verl adapter against verl's own: loss, gradient, metrics, alone and inside ``ppo_loss``."""

import importlib.util

import numpy as np
import pytest

import rollmath as rm

if importlib.util.find_spec("verl") is None:
    pytest.skip("verl is not installed; `make test-peers` has an environment for it", allow_module_level=True)

import torch
from loss_peers import LONGEST, MODES, VERL, make_batch

from rollmath.adapters import verl as adapter

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("default"), pytest.mark.timeout(600)]

#: bypass_mode rejects and weighs by itself, and then is one of the others.
NAMES = [name for name in VERL if name != "bypass_mode"]
#: Where verl's number of that name is another: see docs/trainers/verl.md.
OTHER_METRICS = {
    "kl_cov": {"actor/ppo_kl"},
    "geo_mean": {"actor/pg_clipfrac", "actor/pg_clipfrac_lower"},
    "dppo_tv": {"actor/pg_clipfrac"},
    "dppo_kl": {"actor/pg_clipfrac"},
}
OURS_ALONE = ["gmpo", "opmd", "simple_po", "topr", "vespo", "dapo"]


@pytest.fixture
def algos(peer):
    peer("verl.workers.config")
    adapter.register()
    yield peer("verl.trainer.ppo.core_algos")
    adapter.unregister()


@pytest.fixture
def config(peer):
    actor = peer("verl.workers.config")

    def make(name, mode="token-mean", **info):
        policy = VERL[name.removeprefix("rollmath/")].policy if name.removeprefix("rollmath/") in VERL else {}
        made = actor.ActorConfig(
            strategy="fsdp",
            rollout_n=1,
            use_dynamic_bsz=True,
            clip_ratio=0.2,
            clip_ratio_low=0.2,
            clip_ratio_high=0.28,
            clip_ratio_c=3.0,
            loss_agg_mode=mode,
            loss_scale_factor=info.get("loss_scale_factor"),
            policy_loss=actor.PolicyLossConfig(loss_mode=name, **policy),
        )
        made.global_batch_info.update(info)
        return made

    return make


@pytest.fixture(params=[1, 2])
def batch(request):
    return make_batch(request.param, torch.float32)


def run(algos, config, name, batch, mode="token-mean", weight=None, **info):
    theta = batch.theta.clone().requires_grad_()
    loss, metrics = algos.get_policy_loss_fn(name)(
        old_log_prob=batch.prox,
        log_prob=theta,
        advantages=batch.advantages[:, None].expand_as(theta).contiguous(),
        response_mask=batch.mask.bool(),
        loss_agg_mode=mode,
        config=config(name, mode, **info),
        rollout_is_weights=weight,
    )
    loss.backward()
    return loss.detach(), theta.grad, metrics


def whole(batch):
    return {
        "dp_size": 2,
        "batch_num_tokens": int(batch.mask.sum()) + 40,
        "global_batch_size": len(batch.mask) + 7,
        "loss_scale_factor": LONGEST,
    }


@pytest.mark.parametrize("counted", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_loss_and_gradient_are_those_of_verl(algos, config, batch, agree, name, weighted, counted):
    info = whole(batch) if counted else {}
    weight = batch.weight if weighted else None
    loss, gradient, metrics = run(algos, config, name, batch, weight=weight, **info)
    mine, mine_gradient, mine_metrics = run(algos, config, f"rollmath/{name}", batch, weight=weight, **info)
    agree(f"verl adapter loss {name} float32", mine, loss, atol=2e-6)
    agree(f"verl adapter loss {name}, gradient float32", mine_gradient, gradient, atol=2e-6)
    assert all(isinstance(x, float) for x in mine_metrics.values())
    for key, value in metrics.items():
        if key not in OTHER_METRICS.get(name, ()):
            agree(f"verl adapter loss {name}, {key} float32", mine_metrics[key], float(value), atol=1e-5)
    if name == "vanilla":
        assert min(metrics.values()) > 0


@pytest.mark.parametrize("counted", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_every_mode_of_aggregation(algos, config, batch, agree, mode, counted):
    info = whole(batch) if counted else {}
    loss, gradient, _ = run(algos, config, "vanilla", batch, mode, **info)
    mine, mine_gradient, _ = run(algos, config, "rollmath/vanilla", batch, mode, **info)
    agree(f"verl adapter loss, {mode} float32", mine, loss, atol=2e-5)
    agree(f"verl adapter loss, {mode}, gradient float32", mine_gradient, gradient, atol=2e-6)


def test_some_counts_without_the_others(algos, config, batch, agree):
    for mode, info in (
        ("token-mean", {"batch_num_tokens": 500}),
        ("seq-mean-token-sum", {"global_batch_size": 2000}),
        ("seq-mean-token-mean", {"batch_num_tokens": 500}),
        ("token-sum", {"dp_size": 4}),
    ):
        loss, gradient, _ = run(algos, config, "vanilla", batch, mode, **info)
        mine, mine_gradient, _ = run(algos, config, "rollmath/vanilla", batch, mode, **info)
        agree("verl adapter loss, some counts float32", mine, loss, atol=1e-5)
        agree("verl adapter loss, some counts, gradient float32", mine_gradient, gradient, atol=2e-6)


def test_what_is_missing_or_unknown(algos, config, batch):
    for mode, field in (("token-mean", "batch_num_tokens"), ("seq-mean-token-sum", "global_batch_size")):
        with pytest.raises(ValueError, match="required when dp_size > 1"):
            run(algos, config, "vanilla", batch, mode, dp_size=2)
        with pytest.raises(ValueError, match=rf"rollmath/vanilla\(\): needs '{field}' in config.global_batch_info"):
            run(algos, config, "rollmath/vanilla", batch, mode, dp_size=2)
    with pytest.raises(
        ValueError, match=r"rollmath/vanilla\(\): unknown 'loss_agg_mode' 'token_mean'; known are 'token-mean'"
    ):
        algos.get_policy_loss_fn("rollmath/vanilla")(
            batch.prox, batch.theta, batch.advantages, batch.mask, "token_mean", config("rollmath/vanilla")
        )
    made = config("rollmath/x")
    with pytest.raises(ValueError, match=r"needs 'actor.policy_loss.dro_beta'"):
        algos.get_policy_loss_fn("rollmath/dro")(batch.prox, batch.theta, batch.advantages, batch.mask, config=made)


@pytest.mark.parametrize("name", OURS_ALONE)
def test_objectives_that_verl_has_not(algos, config, batch, name):
    """Micro-batches that are told the counts of the batch add up to its loss."""
    info = {"batch_num_tokens": int(batch.mask.sum()), "global_batch_size": len(batch.mask)}
    loss, gradient, _ = run(algos, config, f"rollmath/{name}", batch, **info)
    assert gradient.isfinite().all()
    assert gradient.any()
    parts = [
        run(algos, config, f"rollmath/{name}", batch.take(np.array(p)), **info)[0]
        for p in ([0, 3, 5], [1, 2, 4, *range(6, 12)])
    ]
    torch.testing.assert_close(sum(parts), loss, rtol=1e-5, atol=1e-6)


def test_a_micro_batch_without_a_trained_token(algos, config, batch):
    empty = batch.take(np.array([3]))
    assert not empty.mask.any()
    loss, gradient, metrics = run(algos, config, "rollmath/vanilla", empty, batch_num_tokens=100, global_batch_size=12)
    assert loss == 0
    assert not gradient.any()
    assert metrics["actor/ppo_kl"] == 0


@pytest.mark.parametrize("name", ["vanilla", "gspo", "cispo"])
def test_inside_the_loss_of_verls_workers(peer, algos, config, agree, monkeypatch, name):
    """With its entropy bonus and KL term, over nested tensors, as the engine calls it."""
    losses = peer("verl.workers.utils.losses")
    from tensordict import TensorDict

    batch = make_batch(1, torch.float32)
    width = batch.mask.shape[1]

    def nested(x):
        return torch.nested.as_nested_tensor(list(x), layout=torch.jagged)

    def call(mode):
        theta = batch.theta.clone().requires_grad_()
        columns = {
            "response_mask": nested(batch.mask),
            "old_log_probs": nested(batch.prox),
            "advantages": nested(batch.advantages[:, None].expand(-1, width).contiguous()),
            "ref_log_prob": nested(batch.ref),
        }
        data = TensorDict(columns, batch_size=len(batch.mask))
        for key, value in {"dp_size": 1, "batch_num_tokens": 300, "global_batch_size": 12}.items():
            data.set_non_tensor(key, value)
        made = config(mode)
        for key, value in {"use_kl_loss": True, "entropy_coeff": 0.01, "kl_loss_coef": 0.1}.items():
            object.__setattr__(made, key, value)
        output = {"log_probs": theta, "entropy": batch.entropy}
        loss, metrics = losses.ppo_loss(made, output, data)
        loss.backward()
        return loss.detach(), theta.grad, {k: getattr(v, "values", v) for k, v in metrics.items()}

    # The model's output is made padded here, and not in the layout of verl's engine.
    monkeypatch.setattr(losses, "no_padding_2_padding", lambda x, data: x)
    loss, gradient, metrics = call(name)
    mine, mine_gradient, mine_metrics = call(f"rollmath/{name}")
    agree(f"verl adapter, ppo_loss {name} float32", mine, loss, atol=2e-6)
    agree(f"verl adapter, ppo_loss {name}, gradient float32", mine_gradient, gradient, atol=2e-6)
    assert set(metrics) <= set(mine_metrics)
    np.testing.assert_allclose(mine_metrics["actor/pg_loss"], metrics["actor/pg_loss"], atol=2e-6)


def test_an_objective_of_your_own(algos, config, batch):
    """Also after register() was called, in the mode that verl is told."""
    mine = rm.loss.PPO(clip=(0.1, 0.4))
    name = "rollmath/mine"
    for _ in range(2):
        assert name in adapter.register(objectives={"mine": mine}).objectives
    assert name in adapter.register().objectives
    loss, _, _ = run(algos, config, name, batch, "token-sum")
    out = rm.loss.policy_loss(
        rm.LogProbs(batch.theta, prox=batch.prox), batch.advantages, batch.rows, mine,
        normalizer=rm.loss.Normalizer.local(batch.rows), aggregation="token_sum",
    )  # fmt: skip
    torch.testing.assert_close(loss, out.loss)
    with pytest.raises(ValueError, match=r"register\(\): 'objectives' has 'gspo', which is a name of ours"):
        adapter.register(objectives={"gspo": mine})
    with pytest.raises(TypeError, match=r"register\(\): 'objectives\['other'\]' must be an Objective, .* type str"):
        adapter.register(objectives={"other": "ppo"})
    adapter.unregister()
    assert not [key for key in algos.POLICY_LOSS_REGISTRY if key.startswith("rollmath/")]
    assert name not in adapter.register().objectives


@pytest.mark.parametrize(
    ("name", "mode"),
    [("grpo", "seq-mean-token-mean"), ("dr_grpo", "seq-mean-token-sum-norm"), ("dapo", "token-mean")],
)
def test_a_recipe_brings_its_aggregation(algos, config, batch, agree, name, mode):
    """Whatever verl is told; Dr. GRPO's constant is verl's loss_scale_factor."""
    info = whole(batch)
    loss, gradient, _ = run(algos, config, f"rollmath/{name}", batch, "token-sum", **info)
    clip = (0.2, 0.28) if name == "dapo" else (0.2, 0.2)
    adapter.register(objectives={"plain": rm.loss.PPO(clip=clip)})
    expected, expected_gradient, _ = run(algos, config, "rollmath/plain", batch, mode, **info)
    agree("verl adapter loss of a recipe float32", loss, expected, atol=1e-7)
    agree("verl adapter loss of a recipe, gradient float32", gradient, expected_gradient, atol=1e-7)


@pytest.mark.parametrize("mode", MODES)
def test_counts_that_are_smaller_than_the_micro_batch_are_taken_as_they_are(algos, config, batch, agree, mode):
    """In v1 a session of several outputs has more rows than verl's global_batch_size counts."""
    info = {"dp_size": 2, "batch_num_tokens": int(batch.mask.sum()) // 3, "global_batch_size": 2}
    loss, gradient, _ = run(algos, config, "vanilla", batch, mode, **info)
    mine, mine_gradient, _ = run(algos, config, "rollmath/vanilla", batch, mode, **info)
    np.testing.assert_allclose(mine, loss, rtol=1e-5)
    agree("verl adapter loss, small counts, gradient float32", mine_gradient, gradient, atol=2e-5)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["vanilla", "gspo", "sapo", "dppo_tv"])
def test_ranks_and_micro_batches_add_up_to_the_batch(algos, config, batch, name, mode):
    """Two ranks whose gradients are averaged, of two micro-batches each, one of them without a trained token."""
    n = len(batch.mask)
    info = {"batch_num_tokens": int(batch.mask.sum()), "global_batch_size": n, "loss_scale_factor": 100}
    loss, _, _ = run(algos, config, f"rollmath/{name}", batch, mode, **info)
    parts = [[3], [0, 1, 2, 4], [5], [*range(6, n)]]
    assert not batch.take(np.array([3])).mask.any()
    of_parts = [
        run(algos, config, f"rollmath/{name}", batch.take(np.array(p)), mode, **info, dp_size=2)[0] for p in parts
    ]
    torch.testing.assert_close(sum(of_parts) / 2, loss, rtol=1e-5, atol=1e-6)
