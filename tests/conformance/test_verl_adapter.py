"""The verl adapter inside verl's own ``compute_advantage``, on a real DataProto, against verl's own estimators."""

import importlib.util
import inspect
import warnings

import numpy as np
import pytest

import rollmath as rm

if importlib.util.find_spec("verl") is None:
    pytest.skip("verl is not installed; `make test-peers` has an environment for it", allow_module_level=True)

import torch
from verl_batches import Config, columns, proto

from rollmath.adapters import verl as adapter
from rollmath.adapters._seeds import seeded_by

# Importing the trainers takes most of a minute where the disk is slow.
pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("default"), pytest.mark.timeout(600)]

#: verl's estimators and ours under ``rollmath/``; those that need more than verl passes have None.
PAIRS = {
    "grpo": "grpo",
    "grpo_vectorized": "grpo",
    "grpo_passk": "passk",
    "rloo": "rloo",
    "opo": "opo",
    "gpg": "gpg",
    "remax": "remax",
    "reinforce_plus_plus": "reinforce_pp",
    "reinforce_plus_plus_baseline": "reinforce_pp_baseline",
    "rloo_vectorized": None,
    "gae": None,
    "gdpo": None,
    "optimal_token_baseline": None,
    "tir_optimal_token_baseline": None,
}
NEEDS_PATCH = {"gae": "gae", "gdpo": "gdpo"} | {
    name: name for name in ("optimal_token_baseline", "tir_optimal_token_baseline")
}
KINDS = [(gaps, per_token) for gaps in (False, True) for per_token in (False, True)]


@pytest.fixture
def trainer(peer):
    """verl's module that has compute_advantage; the registry as it was afterwards."""
    module = peer("verl.trainer.ppo.ray_trainer")
    yield module
    adapter.unpatch_compute_advantage()
    adapter.unregister()


@pytest.fixture(params=[(seed, *kind) for seed in (1, 2) for kind in KINDS], ids=str)
def batch(request):
    seed, gaps, per_token = request.param
    return columns(seed, gaps=gaps, per_token=per_token)


def config(**more):
    return Config(gamma=0.97, lam=0.9, gdpo_reward_keys=["accuracy", "format"], gdpo_reward_weights=[1.0, 0.5], **more)


def without_singletons(batch):
    """For pass@k, which refuses groups of one."""
    tensors, others = batch
    uids, counts = np.unique(others["uid"].astype(str), return_counts=True)
    keep = np.isin(others["uid"].astype(str), uids[counts > 1])
    return {k: x[torch.from_numpy(keep)] for k, x in tensors.items()}, {k: x[keep] for k, x in others.items()}


def run(trainer, batch, name, settings=None):
    """Advantages and returns of all rows, and whether they are one tensor."""
    settings = settings or config()
    out = trainer.compute_advantage(proto(*batch), name, gamma=settings.gamma, lam=settings.lam, config=settings)
    return out.batch["advantages"], out.batch["returns"]


def given(batch, name):
    if name != "remax":
        # verl's trainer has baselines for this name alone, and its grpo_vectorized takes no others.
        batch = {k: x for k, x in batch[0].items() if k != "reward_baselines"}, batch[1]
    if name == "grpo_passk":
        return without_singletons(batch)
    return batch


def compare(agree, label, batch, mine, theirs):
    """At trained tokens; at gaps and padding ours is 0."""
    trained = batch[0]["response_mask"] != 0
    for what, a, b in zip(("advantages", "returns"), mine, theirs, strict=True):
        assert a.dtype == torch.float32
        assert not a[~trained].any()
        # What verl whitens is a float32 sum over the row.
        atol = 5e-6 if label.startswith("reinforce_plus_plus ") else 1e-6
        agree(f"verl adapter {label}, {what} float32", a[trained], b[trained], atol=atol)


@pytest.mark.parametrize("name", PAIRS)
def test_a_replaced_name_has_the_numbers_of_verl(trainer, batch, agree, name):
    data = given(batch, name)
    theirs = run(trainer, data, name)
    done = adapter.register(replace=name)
    assert done.replaced == (name,)
    mine = run(trainer, data, name)
    compare(agree, f"{name} replaced", data, mine, theirs)
    assert (mine[0] is mine[1]) == (theirs[0] is theirs[1])
    adapter.unregister()
    for a, b in zip(run(trainer, data, name), theirs, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(("name", "ours"), [(k, v) for k, v in PAIRS.items() if v])
def test_a_registered_name_has_the_numbers_of_verl(trainer, batch, agree, name, ours):
    data = given(batch, name)
    adapter.register()
    theirs = run(trainer, data, name)
    compare(agree, f"{name} registered", data, run(trainer, data, f"rollmath/{ours}"), theirs)


@pytest.mark.parametrize(("name", "ours"), NEEDS_PATCH.items())
def test_a_registered_name_that_needs_more_has_it_with_the_patch(trainer, batch, agree, name, ours):
    data = given(batch, name)
    adapter.register()
    theirs = run(trainer, data, name)
    with adapter.patch_compute_advantage():
        compare(agree, f"{name} patched", data, run(trainer, data, f"rollmath/{ours}"), theirs)


@pytest.mark.parametrize("name", ["opo", "rloo", "grpo", "optimal_token_baseline"])
def test_a_group_without_a_trained_token_is_no_error(trainer, agree, name):
    """As the rejection of rollouts by verl's rollout_correction leaves it; verl's opo has NaN there, and ours has 0."""
    tensors, others = columns(1, gaps=True)
    gone = torch.from_numpy(others["uid"] == others["uid"][0])
    tensors["response_mask"][gone] = 0
    theirs = run(trainer, (tensors, others), name)
    adapter.register(replace=name)
    mine = run(trainer, (tensors, others), name)
    assert not mine[0][gone].any()
    compare(agree, f"{name}, an empty group", (tensors, others), mine, theirs)


def test_the_zero_tail_of_verl_with_gaps(trainer, agree):
    """It begins at the column whose number is that of the trained tokens of the second longest row."""
    tensors, others = columns(1, gaps=True)
    adapter.register()
    theirs = run(trainer, (tensors, others), "optimal_token_baseline")
    with adapter.patch_compute_advantage():
        mine = run(trainer, (tensors, others), "rollmath/optimal_token_baseline")
        ours = run(trainer, (tensors, others), "rollmath/optimal_token_baseline", config(rollmath={"zero_tail": False}))
    compare(agree, "optimal_token_baseline with gaps", (tensors, others), mine, theirs)
    assert not torch.allclose(mine[0], ours[0])


def test_weights_of_importance_reach_the_optimal_token_baseline(trainer, agree):
    tensors, others = columns(1)
    tensors = tensors | {"rollout_is_weights": 0.5 + tensors["sum_pi_squared"]}
    theirs = run(trainer, (tensors, others), "optimal_token_baseline")
    adapter.register(replace="optimal_token_baseline")
    mine = run(trainer, (tensors, others), "optimal_token_baseline")
    compare(agree, "optimal_token_baseline, weighted", (tensors, others), mine, theirs)


def test_the_flag_of_the_standard_deviation(trainer, agree):
    """verl passes it to GRPO by name, and to pass@k in its configuration."""
    data = without_singletons(columns(1))
    settings = config(norm_adv_by_std_in_grpo=False)
    adapter.register()
    out = trainer.compute_advantage(proto(*data), "grpo", norm_adv_by_std_in_grpo=False, config=settings)
    mine = run(trainer, data, "rollmath/grpo", settings)[0]
    agree("verl adapter grpo registered, no std float32", mine, out.batch["advantages"], atol=1e-6)
    theirs, mine = (run(trainer, data, name, settings)[0] for name in ("grpo_passk", "rollmath/passk"))
    agree("verl adapter grpo_passk registered, no std float32", mine, theirs, atol=1e-6)
    adapter.register(replace=("grpo",))
    again = trainer.compute_advantage(proto(*data), "grpo", norm_adv_by_std_in_grpo=False, config=settings)
    assert torch.allclose(again.batch["advantages"], out.batch["advantages"], atol=1e-6)


def test_gdpo_of_verl_may_call_a_replaced_grpo(trainer, agree):
    """Its own gdpo takes grpo from its module, channel by channel."""
    data = columns(2)
    theirs = run(trainer, data, "gdpo")
    adapter.register(replace="grpo")
    compare(agree, "gdpo of verl over grpo of ours", data, run(trainer, data, "gdpo"), theirs)


def test_gae_with_pf_ppo_reads_what_is_written(trainer):
    adapter.register(replace="gae")
    settings = config(use_pf_ppo=True, pf_ppo=Config(reweight_method="max_min", weight_pow=2.0))
    tensors, others = columns(1)
    tensors = tensors | {"token_level_scores": tensors["token_level_rewards"]}
    out = trainer.compute_advantage(proto(tensors, others), "gae", config=settings)
    assert len(out) == len(others["uid"])


def test_register_twice_and_with_more(trainer, peer):
    algos = peer("verl.trainer.ppo.core_algos")
    own = dict(algos.ADV_ESTIMATOR_REGISTRY), algos.compute_gae_advantage_return
    first = adapter.register()
    registry = dict(algos.ADV_ESTIMATOR_REGISTRY)
    assert adapter.register() == first
    assert registry == algos.ADV_ESTIMATOR_REGISTRY
    assert first.version.startswith("0.9.")
    assert {"rollmath/grpo", "rollmath/dapo", "rollmath/stratified"} <= set(first.estimators)
    assert {"rollmath/vanilla", "rollmath/vespo", "rollmath/dapo"} <= set(first.objectives)
    assert adapter.register(replace=("gae",)).replaced == ("gae",)
    assert adapter.register(replace="all").replaced[0] == "gae"
    adapter.unregister()
    adapter.unregister()
    assert own == (algos.ADV_ESTIMATOR_REGISTRY, algos.compute_gae_advantage_return)


def test_every_estimator_of_verl_can_be_replaced(trainer, peer):
    """A new one fails here until it has an entry."""
    algos = peer("verl.trainer.ppo.core_algos")
    assert set(PAIRS) == set(algos.ADV_ESTIMATOR_REGISTRY)
    assert set(adapter.register(replace="all").replaced) == set(PAIRS)


def test_a_replaced_name_is_called_as_that_of_verl(trainer, peer):
    """By position, with the same arguments and no others; a gradient of the inputs ends there."""
    registry = peer("verl.trainer.ppo.core_algos").ADV_ESTIMATOR_REGISTRY
    own = dict(registry)
    adapter.register(replace="all")
    tensors, others = without_singletons(columns(1))
    known = tensors | {"index": others["uid"], "config": config(), "gamma": 0.97, "lam": 0.9}
    trained = tensors["response_mask"] != 0
    for name, theirs in own.items():
        parameters = inspect.signature(theirs).parameters
        assert inspect.signature(registry[name]).parameters == parameters
        required = [known[key] for key, p in parameters.items() if p.default is p.empty and key in known]
        keywords = {"config": known["config"]} if "config" in parameters else {}
        a, b = registry[name](*required, **keywords)[0], theirs(*required, **keywords)[0]
        torch.testing.assert_close(a[trained], b[trained], rtol=1e-5, atol=5e-6)
    with pytest.raises(TypeError, match="unexpected keyword argument 'other'"):
        registry["grpo"](*required, other=1)
    leaf = tensors["values"].clone().requires_grad_()
    assert not registry["gae"](tensors["token_level_rewards"], leaf, tensors["response_mask"], 1.0, 1.0)[
        0
    ].requires_grad


def test_what_others_registered_since_stays(trainer, peer):
    algos = peer("verl.trainer.ppo.core_algos")
    own = algos.ADV_ESTIMATOR_REGISTRY["rloo"]
    adapter.register(replace="rloo")
    algos.ADV_ESTIMATOR_REGISTRY["rloo"] = print
    adapter.unregister()
    assert algos.ADV_ESTIMATOR_REGISTRY["rloo"] is print
    algos.ADV_ESTIMATOR_REGISTRY["rloo"] = own


def test_verl_itself_does_not_mind_the_names(trainer, peer):
    adapter.register()
    algos = peer("verl.trainer.ppo.core_algos")
    assert algos.get_adv_estimator_fn("rollmath/grpo") is algos.ADV_ESTIMATOR_REGISTRY["rollmath/grpo"]
    # Its decorator raises where another function has the name.
    assert algos.register_adv_est("rollmath/grpo")(algos.ADV_ESTIMATOR_REGISTRY["rollmath/grpo"])


# Options.


def scalars(advantages, batch):
    """One number a row: at its first trained token."""
    return advantages.gather(1, batch[0]["response_mask"].argmax(1)[:, None])[:, 0].numpy()


@pytest.mark.parametrize(
    ("options", "keywords"),
    [
        ({"convention": "TRL"}, {"convention": rm.conventions.TRL}),
        ({"convention": "DEFAULT"}, {}),
        ({"eps": 1e-3, "singleton": "zero"}, {"convention": rm.conventions.VERL, "eps": 1e-3, "singleton": "zero"}),
        (
            {"leave_one_out": True, "convention": "NEMO_RL"},
            {"leave_one_out": True, "convention": rm.conventions.NEMO_RL},
        ),
    ],
)
def test_options_of_the_table(trainer, options, keywords):
    data = columns(3)
    adapter.register()
    from omegaconf import OmegaConf

    settings = OmegaConf.create({"gamma": 1.0, "lam": 1.0, "rollmath": options})
    mine = scalars(run(trainer, data, "rollmath/grpo", settings)[0], data)
    expected = rm.group.grpo(data[0]["token_level_rewards"].sum(1).numpy(), data[1]["uid"], **keywords)
    np.testing.assert_array_equal(mine, expected)


def test_options_are_those_of_the_method(trainer):
    data = columns(3)
    adapter.register()
    rewards = data[0]["token_level_rewards"].sum(1).numpy()
    settings = config(rollmath={"quantile": 0.25})
    mine = scalars(run(trainer, data, "rollmath/quantile_baseline", settings)[0], data)
    np.testing.assert_array_equal(mine, rm.group.quantile_baseline(rewards, data[1]["uid"], quantile=0.25))
    settings = config(rollmath={"whiten": False})
    plain, returns = run(trainer, data, "rollmath/reinforce_pp", settings)
    assert plain is returns


def test_strata_come_from_a_column(trainer):
    data = columns(3)
    adapter.register()
    settings = config(rollmath={"blend": 0.5, "columns": {"strata": "n_tool_calls"}})
    with adapter.patch_compute_advantage():
        mine = scalars(run(trainer, data, "rollmath/stratified", settings)[0], data)
    rewards = data[0]["token_level_rewards"].sum(1).numpy()
    expected = rm.group.stratified(rewards, data[1]["uid"], strata=data[1]["n_tool_calls"], blend=0.5)
    np.testing.assert_array_equal(mine, expected)


def test_a_recipe(trainer):
    data = columns(3, gaps=True)
    adapter.register()
    rewards, lengths = data[0]["token_level_rewards"].sum(1).numpy(), data[0]["response_mask"].sum(1).numpy()
    rows = rm.Rows(np.arange(len(rewards)), lengths)
    for name, table in (
        ("rollmath/dapo", {}),
        ("rollmath/recipe", {"recipe": "dapo", "convention": "VERL"}),
        (
            "rollmath/recipe",
            {"recipe": "grpo", "filter": {"method": "mean_band", "options": {"low": 0.2, "high": 0.8}}},
        ),
    ):
        mine = scalars(run(trainer, data, name, config(rollmath=table))[0], data)
        expected = rm.recipes.get({"recipe": "dapo", **table}).prepare(rewards, data[1]["uid"], rows=rows)
        np.testing.assert_array_equal(mine, expected.advantages)


def test_selections_of_recipes(trainer):
    data = columns(3, gaps=True)
    adapter.register()
    rewards, lengths = data[0]["token_level_rewards"].sum(1).numpy(), data[0]["response_mask"].sum(1).numpy()
    rows = rm.Rows(np.arange(len(rewards)), lengths)
    for table in (
        {"method": "max_variance", "options": {"keep": 6, "per": "batch"}, "on": "advantages"},
        {"method": "bottom", "options": {"keep": 2}, "on": "lengths"},
        {"method": "random", "options": {"keep": 2, "seed": 3}, "statistics": "before"},
        {"method": "quota", "options": {"keep": 2, "strata": "n_tool_calls"}},
    ):
        options = {"recipe": "grpo", "kl": False, "filter": table}
        recipe = rm.recipes.get(options)
        more = {name: data[1][name] for name in recipe.needs}
        with adapter.patch_compute_advantage():
            mine = scalars(run(trainer, data, "rollmath/recipe", config(rollmath=options))[0], data)
        recipe = seeded_by("test", recipe, data[1]["uid"])
        expected = recipe.prepare(rewards, data[1]["uid"], rows=rows, **more)
        np.testing.assert_array_equal(mine, expected.advantages)
        assert 0 < expected.selection.report.kept_rollouts < len(rewards)
    table = {"recipe": "grpo", "kl": False, "filter": {"method": "random", "options": {"keep": 2}}}
    with pytest.raises(
        ValueError,
        match=r"rollmath/recipe\(\): the filter 'random' of recipe 'grpo' draws by a seed, and verl tells an estimator "
        r"none; set algorithm.rollmath.filter.options.seed",
    ):
        run(trainer, data, "rollmath/recipe", config(rollmath=table))
    # The prompts of a step have ids of their own, and so it draws other rollouts.
    table["filter"]["options"]["seed"] = 3
    found = set()
    for step in ("", "a", "b", "c"):
        data[1]["uid"] = np.array([step + x for x in columns(3, gaps=True)[1]["uid"]], object)
        mine = scalars(run(trainer, data, "rollmath/recipe", config(rollmath=table))[0], data)
        found.add(tuple(mine != 0))
    assert len(found) > 1


# What is missing.


@pytest.mark.parametrize(
    ("name", "column", "how"),
    [
        ("gae", "values", "register(replace=('gae',))"),
        ("optimal_token_baseline", "sum_pi_squared", "actor.calculate_sum_pi_squared=True"),
        ("gdpo", "gdpo_reward_keys", "register(replace=('gdpo',))"),
        ("stratified", "strata", "algorithm.rollmath.columns.strata"),
    ],
)
def test_a_field_that_verl_does_not_pass_is_named(trainer, name, column, how):
    adapter.register()
    with pytest.raises(ValueError, match=rf"^rollmath/{name}\(\): needs '{column}'.*") as caught:
        run(trainer, columns(1), f"rollmath/{name}")
    assert how in str(caught.value)
    assert "patch_compute_advantage()" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "column"), [("remax", "reward_baselines"), ("grpo", "uid"), ("optimal_token_baseline", "old_log_probs")]
)
@pytest.mark.parametrize("patched", [False, True])
def test_a_field_that_the_batch_lacks_is_named(trainer, name, column, patched):
    tensors, others = columns(1)
    tensors, others = ({k: x for k, x in part.items() if k != column} for part in (tensors, others))
    adapter.register()
    if patched:
        adapter.patch_compute_advantage()
    elif name == "optimal_token_baseline":
        column = "sum_pi_squared"
    with pytest.raises(ValueError, match=rf"^rollmath/{name}\(\): needs '{column}', which the batch does not have"):
        run(trainer, (tensors, others), f"rollmath/{name}")


def test_an_unknown_option_name_or_convention_lists_the_known_ones(trainer):
    adapter.register()
    for table, message in (
        ({"epz": 1e-3}, r"rollmath/grpo\(\): unknown option 'algorithm.rollmath' 'epz'; known are 'eps', "),
        ({"convention": "TLR"}, r"rollmath/grpo\(\): 'algorithm.rollmath.convention' must be one of 'TRL', "),
        ({"columns": {"stratum": "x"}}, r"unknown array in 'algorithm.rollmath.columns' 'stratum'"),
    ):
        with pytest.raises(ValueError, match=message):
            run(trainer, columns(1), "rollmath/grpo", config(rollmath=table))
    with pytest.raises(TypeError, match=r"rollmath/grpo\(\): 'algorithm.rollmath' must be a table of options, got 3"):
        run(trainer, columns(1), "rollmath/grpo", config(rollmath=3))
    with pytest.raises(ValueError, match=r"register\(\): unknown name in 'replace' 'gea'; known are 'gae', "):
        adapter.register(replace="gea")
    with pytest.raises(ValueError, match=r"needs the option 'algorithm.rollmath.k', see rollmath.group.passk_training"):
        run(trainer, columns(1), "rollmath/passk_training")
    with pytest.raises(ValueError, match=r"rollmath/recipe\(\): needs the table 'algorithm.rollmath'"):
        run(trainer, columns(1), "rollmath/recipe")
    adapter.patch_compute_advantage()
    with pytest.raises(ValueError, match=r"rollmath\(\): unknown estimator 'grqo'; known are 'grpo', "):
        run(trainer, columns(1), "rollmath/grqo")


def test_another_version_is_refused(trainer, monkeypatch):
    import verl

    monkeypatch.setattr(verl, "__version__", "0.12.0")
    for call in (adapter.register, adapter.patch_compute_advantage):
        with pytest.raises(RuntimeError, match=r"verl 0.12.0 is not supported: supported are 0.9.x, tested with 0.9.1"):
            call()
    assert adapter.register(any_version=True).version == "0.12.0"


# The patch.


def test_the_patch_says_what_it_patches_and_is_undone(trainer, peer):
    own = trainer.compute_advantage
    separation = peer("verl.experimental.separation.ray_trainer")
    adapter.register()
    with adapter.patch_compute_advantage() as done:
        assert "verl.trainer.ppo.ray_trainer.compute_advantage" in done.places
        assert "verl.experimental.separation.ray_trainer.compute_advantage" in done.places
        assert not done.missing
        assert "rollmath replaced in verl 0.9." in str(done)
        assert trainer.compute_advantage is separation.compute_advantage is not own
        with pytest.raises(RuntimeError, match=r"patch_compute_advantage\(\): verl is patched already"):
            adapter.patch_compute_advantage()
    assert trainer.compute_advantage is separation.compute_advantage is own
    adapter.unpatch_compute_advantage()


def test_a_module_that_imports_the_patched_function_gets_its_own_back(trainer, monkeypatch):
    import sys
    import types

    own = trainer.compute_advantage
    later = types.ModuleType("imported_later")
    monkeypatch.setitem(sys.modules, "imported_later", later)
    with adapter.patch_compute_advantage():
        later.compute_advantage = later.other_name = trainer.compute_advantage
    assert later.compute_advantage is later.other_name is own


def test_a_patch_that_fails_leaves_verl_as_it_was(trainer, peer, monkeypatch):
    v1 = peer("verl.trainer.ppo.v1.trainer_base")
    own = trainer.compute_advantage
    with monkeypatch.context() as changed:
        changed.delattr(v1.PPOTrainer, "_compute_advantage")
        with pytest.raises(AttributeError, match="_compute_advantage"):
            adapter.patch_compute_advantage()
    assert trainer.compute_advantage is own
    with adapter.patch_compute_advantage() as done:
        assert len(done.places) >= 5


def test_names_of_verl_go_to_verl_under_the_patch(trainer):
    data = columns(1)
    theirs = run(trainer, data, "rloo")[0]
    with adapter.patch_compute_advantage():
        assert torch.equal(run(trainer, data, "rloo")[0], theirs)
        mask = data[0]["response_mask"]
        bare = proto({k: x for k, x in data[0].items() if k != "response_mask"} | {"responses": mask}, data[1])
        adapter.register()
        out = trainer.compute_advantage(bare, "rollmath/rloo", config=config()).batch
    assert torch.allclose(out["advantages"], theirs, atol=1e-6)


def test_nothing_of_the_batch_is_changed(trainer):
    data = columns(1, gaps=True, per_token=True)
    adapter.register(replace="all")
    for name in PAIRS:
        if name == "grpo_passk":
            continue
        given_to = proto(*data if name == "remax" else given(data, name))
        trainer.compute_advantage(given_to, name, config=config())
        for key, x in given(data, name)[0].items():
            assert torch.equal(given_to.batch[key], x), (name, key)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        adapter.register(replace="all")
