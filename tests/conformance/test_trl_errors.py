"""What the mixin of TRL's trainers refuses, and in which words."""

import importlib.util

import numpy as np
import pytest

import rollmath as rm

if importlib.util.find_spec("trl") is None:
    pytest.skip("trl is not installed; `make test-peers` has an environment for it", allow_module_level=True)

import trl_tiny as tiny

from rollmath.adapters.trl import RollmathMixin

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("default"), pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def trl(peer):
    return peer("trl")


@pytest.fixture
def trainers(trl):
    return tiny.trainers


@pytest.fixture
def ours(trainers, tmp_path):
    """``ours(given, ...)``: our GRPO trainer after its steps."""
    return lambda given, **options: tiny.train(trainers("GRPOTrainer")[1], tmp_path, given=given, **options)


GIVEN_BADLY = [
    ({"filter": 3}, {}, TypeError, "'filter' must be a function of rewards and groups"),
    ({"advantage": "grpo"}, {}, TypeError, "'advantage' must be a function of a TRLBatch"),
    ({"objective": "ppo"}, {}, TypeError, r"'objective' must be an Objective, such as PPO\(\)"),
    ({"aggregation": "mean"}, {}, ValueError, "'aggregation' must be one of 'token_mean'"),
    ({"columns": "uid"}, {}, TypeError, "'columns' must be names of columns, or a mapping to them, got 'uid'"),
    ({"columns": [3]}, {}, TypeError, "'columns' must hold strings, got 3"),
    *(
        ({"filter": chosen}, {}, ValueError, "'filter' must look at rewards alone")
        for chosen in (
            rm.recipes.Filter("nonzero_spread", on="x"),
            rm.recipes.Filter("bottom", {"keep": 2}, on="lengths"),
            rm.recipes.Filter("top", {"keep": 2, "ties": "lengths"}),
            rm.recipes.Filter("random", {"keep": 2}),
            rm.recipes.Filter("nonzero_spread", statistics="before"),
        )
    ),
    ({"recipe": "grpo"}, {}, ValueError, "beta=0.0 of the config must be 0.04, the coefficient of the KL"),
    ({"recipe": "dapo"}, {"beta": 0.01}, ValueError, "beta=0.01 of the config must be 0, the coefficient of the KL"),
    ({"recipe": "dapo"}, {"epsilon_high": 0.28}, ValueError, "epsilon_high=0.28 of the config would have no effect"),
    (
        {"recipe": "dapo"},
        {"loss_type": "dr_grpo"},
        ValueError,
        "loss_type='dr_grpo' of the config would have no effect",
    ),
    (
        {"objective": rm.loss.PPO(), "aggregation": "token_mean"},
        {"loss_type": "grpo"},
        ValueError,
        "loss_type='grpo' of the config would have no effect",
    ),
    (
        {"kl": rm.loss.KL(0.04, importance="ratio")},
        {"beta": 0.04, "use_bias_correction_kl": False},
        ValueError,
        "use_bias_correction_kl=False of the config would have no effect",
    ),
    ({"group_by": "uid"}, {}, ValueError, "'group_by' would have no effect here, for advantages are TRL's"),
    ({"columns": ["kind"]}, {}, ValueError, "'columns' would have no effect here; they are of 'advantage' or a recipe"),
    ({"recipe": "trl", "columns": ["kind"]}, {}, ValueError, "'columns' would have no effect here"),
    ({"recipe": {"recipe": "dapo", "entropy": 0.01}}, {"entropy_coef": 0.1}, ValueError, "entropy_coef=0.1 of the"),
    ({"recipe": "dapo", "objective": rm.loss.PPO()}, {}, ValueError, r"recipes.get\(...\).replace\(objective=...\)"),
    ({"recipe": "trl", "advantage": len}, {}, ValueError, "'recipe' and 'advantage' both say what to compute"),
    ({"advantage": len}, {"scale_rewards": "none"}, ValueError, "scale_rewards='none' of the config would have no"),
    ({"objective": rm.loss.PPO()}, {"epsilon": 0.1}, ValueError, "epsilon=0.1 of the config would have no effect"),
    ({"objective": rm.loss.PPO()}, {"delta": 2.0}, ValueError, "delta=2.0 of the config would have no effect"),
    ({"kl": rm.loss.KL(0.01)}, {}, ValueError, "beta=0.0 of the config must be 0.01, the coefficient of the KL"),
    (
        {"objective": rm.loss.ClipCov(clip=(0.2, 0.2))},
        {},
        ValueError,
        "must not need statistics of the whole step before its first loss",
    ),
    ({"recipe": "trl"}, {"use_adaptive_entropy": True}, ValueError, "use_adaptive_entropy has no counterpart here"),
    (
        {"recipe": "trl"},
        {"loss_type": "cispo", "importance_sampling_level": "sequence"},
        ValueError,
        "loss_type='cispo' with importance_sampling_level='sequence' has no counterpart here",
    ),
    (
        {"recipe": "trl"},
        {"loss_type": "grpo", "importance_sampling_level": "sequence", "delta": 2.0},
        ValueError,
        "importance_sampling_level='sequence', delta has no counterpart here",
    ),
    (
        {"aggregation": "token_mean"},
        {"gradient_accumulation_steps": 2, "steps_per_generation": 3, "num_generations": 2},
        ValueError,
        "steps_per_generation=3 must be a multiple of gradient_accumulation_steps=2",
    ),
]


@pytest.mark.parametrize(("given", "options", "error", "match"), GIVEN_BADLY)
def test_bad_arguments(trainers, tmp_path, given, options, error, match):
    with pytest.raises(error, match=f"GRPOTrainer.*{match}"):
        tiny.make(trainers("GRPOTrainer")[1], tmp_path, given=given, **options)


def test_bad_arguments_of_rloo(trainers, tmp_path):
    mine = trainers("RLOOTrainer")[1]
    for given, match in (
        ({"objective": rm.loss.PPO(), "kl": rm.loss.KL(0.01)}, "'kl' must be None: RLOOTrainer puts beta times the KL"),
        ({"aggregation": "token_mean"}, "'objective' must be given with aggregation, kl or correction"),
        ({"advantage": len}, "normalize_advantages=True of the config would have no effect here"),
    ):
        with pytest.raises(ValueError, match=match):
            tiny.make(mine, tmp_path, given=given, beta=0.0, normalize_advantages="advantage" in given)
    given = {"advantage": lambda batch: batch.rows.expand(batch.rewards)}
    with pytest.raises(ValueError, match="one number a rollout for RLOO's own loss"):
        tiny.train(mine, tmp_path, given=given, beta=0.0)


@pytest.mark.parametrize(
    ("given", "error", "match"),
    [
        ({"advantage": lambda batch: batch.rewards[:3]}, ValueError, r"'advantage' must return shape \(8,\)"),
        ({"advantage": lambda batch: batch.rewards * np.inf}, ValueError, "'advantage' must return finite numbers"),
        ({"advantage": lambda batch: ["a"] * 8}, TypeError, "'advantage' must return numbers"),
        (
            {"advantage": lambda batch: rm.Ragged.from_lists([[0.0]] * 8)},
            ValueError,
            "'advantage' must return a Ragged with the offsets of batch.rows",
        ),
        ({"filter": lambda rewards, groups: [1] * 8}, TypeError, "'filter' must return a Selection or a bool array"),
        (
            {"recipe": "trl", "group_by": "prompt_id"},
            ValueError,
            "column .prompt_id. must have a value.*there are",
        ),
        ({"advantage": lambda b: b.rewards, "columns": ["turns"]}, ValueError, "column 'turns' must have a value"),
    ],
)
def test_bad_results(ours, given, error, match):
    with pytest.raises(error, match=match):
        ours(given)


def test_a_trl_of_another_version(trl, trainers, tmp_path, monkeypatch):
    monkeypatch.setattr(trl, "__version__", "1.17.2")
    mine = trainers("GRPOTrainer")[1]
    with pytest.raises(RuntimeError, match=r"TRL 1\.16\.x is what this is tested with \(1\.16\.0\), got 1\.17\.2"):
        tiny.make(mine, tmp_path)
    tiny.make(mine, tmp_path, given={"any_version": True})
    monkeypatch.setattr(trl.GRPOTrainer, "_compute_loss", None)
    monkeypatch.setattr(mine, "_compute_loss", None)
    with pytest.raises(RuntimeError, match=r"TRL 1\.17\.2 has no _compute_loss, which this needs"):
        tiny.make(mine, tmp_path, given={"any_version": True})


def test_a_class_that_is_no_trainer():
    with pytest.raises(TypeError, match=r"must stand behind the mixin, got Alone; write class Alone\(RollmathMixin"):
        type("Alone", (RollmathMixin,), {})()


def test_an_unknown_recipe(trainers, tmp_path):
    for name, first in (("grop", "'grpo'"), ("TRL", "'trl'")):
        with pytest.raises(ValueError, match=rf"GRPOTrainer\(\): 'recipe' must be one of {first}, .*, got '{name}'"):
            tiny.make(trainers("GRPOTrainer")[1], tmp_path, given={"recipe": name})
