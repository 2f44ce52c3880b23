"""Recipes as tables: there and back, laid over one another, in files, and every message."""
# ruff: noqa: E501 - a message in a line

import importlib
import json
import pickle
import sys
import tomllib
from pathlib import Path
from types import MappingProxyType, SimpleNamespace

import pytest

torch = pytest.importorskip("torch")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from recipe_steps import ALL, Step, recipe_of  # noqa: E402

import rollmath as rm  # noqa: E402
from rollmath import loss  # noqa: E402
from rollmath.recipes import Advantage, Filter, Overlong, Recipe, get, load, names  # noqa: E402


@pytest.fixture
def mine(monkeypatch):
    """A module of one's own that can be imported."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    yield importlib.import_module("module_of_ones_own")
    sys.modules.pop("module_of_ones_own", None)


UNIT = st.floats(0, 1, allow_nan=False)
OBJECTIVES = st.one_of(
    st.builds(loss.PPO, clip=st.tuples(UNIT, UNIT), dual_clip=st.sampled_from([None, 3.0])),
    st.builds(loss.GSPO, unit=st.sampled_from(["row", "rollout"]), max_log_ratio=st.sampled_from([None, 10.0])),
    st.builds(loss.CISPO, cap=st.floats(0.5, 9)),
    st.builds(loss.DPPO, divergence=st.sampled_from(["tv", "kl"])),
    st.builds(loss.ClipCov, seed=st.integers(0, 9)),
    st.just(loss.Reinforce()),
)
CORRECTIONS = st.one_of(
    st.builds(loss.ImportanceWeight, st.sampled_from([2.0, (0.5, 2.0), (0.0, float("inf"))]), normalize=st.booleans()),
    st.builds(loss.Gate, st.sampled_from(["k1", "k3"]), st.just(0.1), level=st.sampled_from(["token", "row"])),
)
ADVANTAGES = st.one_of(
    st.builds(Advantage, st.just("group.grpo"), convention=st.sampled_from(["VERL", "TRL", "paper"])),
    st.builds(
        Advantage,
        st.just("group.grpo"),
        options=st.fixed_dictionaries({"eps": UNIT}),
        convention=st.just(rm.Convention(ddof=0)),
    ),
    st.builds(
        Advantage,
        st.just("group.reinforce_pp"),
        options=st.fixed_dictionaries({"whiten": st.sampled_from([None, rm.ops.Whiten(ddof=0)])}),
    ),
    st.builds(Advantage, st.just("group.gdpo"), options=st.fixed_dictionaries({"weights": st.lists(UNIT, max_size=3)})),
)
CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "advantage": ADVANTAGES,
        "objective": OBJECTIVES,
        "aggregation": st.sampled_from(["token_mean", loss.Aggregation(unit="row", divisor=3.0, empty="include")]),
        "filter": st.sampled_from(
            [None, Filter("mean_band", {"low": 0.1, "high": 0.9}), Filter("nonzero_spread", on="x")]
        ),
        "kl": st.sampled_from([None, loss.KL(0.1, kind="k2", max_value=10.0)]),
        "reward_kl": UNIT,
        "entropy": UNIT,
        "correction": st.one_of(st.none(), CORRECTIONS, st.tuples(CORRECTIONS, CORRECTIONS)),
        "truncated": st.sampled_from(["keep", "mask", "exclude"]),
        "overlong": st.sampled_from([None, Overlong(max_length=9, buffer=3, truncated=True)]),
        "name": st.text(max_size=5),
    },
)


def is_plain(value):
    if isinstance(value, dict):
        return all(type(name) is str and is_plain(item) for name, item in value.items())
    return all(map(is_plain, value)) if type(value) is list else type(value) in {str, int, float, bool}


@given(st.sampled_from(ALL), CHANGES)
def test_there_and_back(recipe, changes):
    # What is shared trains once by methods of nodes alone.
    made = recipe.replace(**({"shared": "per_rollout"} if "advantage" in changes else {}) | changes)
    table = made.to_dict()
    assert is_plain(table)
    assert Recipe.from_dict(table) == made
    assert get(table) == made
    assert Recipe.from_dict(json.loads(json.dumps(table))) == made
    again = pickle.loads(pickle.dumps(made))
    assert again == made
    assert hash(again) == hash(made) == hash(Recipe.from_dict(table))
    assert again.to_dict() == table
    assert made.diff(again) == "same"
    assert made.explain().startswith(made.name)


@pytest.mark.parametrize("recipe", ALL, ids=lambda r: r.name)
def test_the_recipes(recipe):
    assert recipe.source.endswith(tuple("0123456789")), "an arXiv id"
    assert "arXiv" in recipe.source
    assert len(recipe.explain().splitlines()) < 30
    assert max(map(len, recipe.explain().splitlines())) <= 100
    assert recipe.name in names()
    assert recipe == recipe_of(recipe.name)
    assert {recipe: 1}[recipe_of(recipe.name)] == 1
    assert len(repr(recipe)) < 120


def test_a_table_laid_over_a_recipe():
    assert get({"recipe": "dapo", "objective": {"clip": [0.2, 0.3]}}).objective == loss.PPO(clip=(0.2, 0.3))
    both = get("dapo", objective={"dual_clip": 3.0})
    assert both.objective == loss.PPO(clip=(0.2, 0.28), dual_clip=3.0)
    # Another type replaces, and so does another method.
    assert get("dapo", objective={"type": "GSPO"}).objective == loss.GSPO()
    assert get("dapo", objective="SAPO").objective == loss.SAPO()
    other = get("grpo", advantage={"options": {"eps": 0.1}}, convention="VERL")
    assert other.advantage == Advantage("group.grpo", options={"eps": 0.1}, convention="VERL")
    assert get(other, advantage={"method": "group.rloo"}).advantage == Advantage("group.rloo")
    assert get("grpo", advantage="group.rloo", convention="VERL").advantage.rules == rm.conventions.VERL["rloo"]
    # Off.
    assert get({"recipe": "dapo", "filter": False}).filter is None
    assert get("grpo", kl=None).kl is None
    assert get("grpo", kl={"coef": 0.1}).kl == loss.KL(0.1)
    assert get("dapo", filter={"options": {"tol": 0.5}}).filter == Filter("nonzero_spread", {"tol": 0.5})
    assert get("dapo", filter={"method": "mean_band", "options": {"low": 0, "high": 1}}).filter.method == "mean_band"
    assert get("dapo", aggregation={"empty": "include", "unit": "row"}).aggregation == loss.Aggregation(
        unit="row", empty="include"
    )
    assert get("dapo", aggregation={"divisor": 2.0}).aggregation == loss.Aggregation(unit="token", divisor=2.0)
    assert get("dapo", correction={"type": "ImportanceWeight", "bounds": [0.5, 2.0]}).correction == (
        loss.ImportanceWeight((0.5, 2.0)),
    )
    assert get("dapo", max_length=100).overlong == Overlong(max_length=100, buffer=20)
    assert get("dapo", max_length=100, overlong={"buffer": 50}).overlong == Overlong(max_length=100, buffer=50)
    assert get("dapo", overlong={"max_length": 100, "buffer": 50}).overlong == Overlong(max_length=100, buffer=50)
    assert get({"recipe": "dr_grpo", "max_length": 7}).aggregation == loss.Aggregation(
        unit="row", within="sum", divisor=7
    )
    assert get(MappingProxyType({"recipe": "grpo", "kl": MappingProxyType({"coef": 1})})).kl == loss.KL(1.0)
    assert get("dapo") is rm.recipes.DAPO
    assert get({"advantage": "group.grpo", "objective": "PPO"}).name == "custom"


TOML = """
[trainer.recipe]
recipe = "dapo"
convention = "VERL"
filter = false
[trainer.recipe.objective]
clip = [0.2, 0.3]
[trainer.recipe.kl]
type = "KL"
coef = 0.001
"""


def test_files(tmp_path, monkeypatch):
    expected = get(
        "dapo",
        convention="VERL",
        filter=False,
        objective={"clip": (0.2, 0.3)},
        kl=loss.KL(0.001).__dict__ | {"type": "KL"},
    )
    toml = tmp_path / "a.toml"
    toml.write_text(TOML)
    assert load(toml, table="trainer.recipe") == expected
    (tmp_path / "a.json").write_text(json.dumps(expected.to_dict()))
    assert load(str(tmp_path / "a.json")) == expected
    table = tomllib.loads(TOML)["trainer"]["recipe"]
    with pytest.raises(
        ValueError, match=r"load\(\): 'table' 'trainer.recip' is not in 'a.toml': no 'recip' among 'recipe'"
    ):
        load(toml, table="trainer.recip")
    with pytest.raises(ValueError, match=r"load\(\): 'path' must end in .toml, .json, .yaml or .yml, got 'a.txt'"):
        load("a.txt")
    (tmp_path / "a.yaml").write_text(json.dumps(table))  # which YAML can read
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(ModuleNotFoundError, match=r"load\(\): 'a.yaml' needs PyYAML to be read: pip install pyyaml"):
        load(tmp_path / "a.yaml")
    # Whether PyYAML is there or not.
    monkeypatch.setitem(sys.modules, "yaml", SimpleNamespace(safe_load=json.loads))
    assert load(tmp_path / "a.yaml") == expected


def test_parts_of_ones_own(mine):
    recipe = get("module_of_ones_own:MINE")
    assert recipe is mine.MINE
    assert recipe.to_dict()["objective"] == {"type": "module_of_ones_own:Scaled", "factor": 3.0}
    assert Recipe.from_dict(recipe.to_dict()) == recipe
    nested = recipe.replace(objective=mine.Scaled(None, inner=loss.PPO()))
    assert nested.to_dict()["objective"]["factor"] == {"type": "none"}
    assert Recipe.from_dict(nested.to_dict()) == nested
    given = get(
        "dapo",
        advantage={"method": "module_of_ones_own:half", "options": {"by": 0.25}},
        filter="module_of_ones_own:strict",
    )
    step = Step(31)
    chosen = rm.select.nonzero_spread(step.rewards, step.groups, tol=0.5)
    batch = given.prepare(step.rewards, step.groups, rows=step.rows, anything=1)
    assert batch.advantages.tolist() == ((step.rewards - 0.25) * chosen.mask).tolist()
    assert pickle.loads(pickle.dumps(given)) == given
    assert "module_of_ones_own:half. Rewards minus a half" in given.explain()
    function = given.replace(advantage=Advantage(mine.half))
    assert function.advantage.name == "module_of_ones_own:half"
    assert "advantage.options.by  0.25" in given.diff(function)
    with pytest.raises(
        TypeError, match=r"Recipe.to_dict\(\): 'advantage.method' is a function \(module_of_ones_own:half\); give"
    ):
        function.to_dict()
    with pytest.raises(TypeError, match=r"Filter\(\): 'method' 'module_of_ones_own:no_filter' must return a Selection"):
        get("dapo", filter="module_of_ones_own:no_filter").prepare(step.rewards, step.groups, rows=step.rows)
    with pytest.raises(TypeError, match=r"get\(\): 'recipe' must lead to a Recipe, got an object of type function"):
        get("module_of_ones_own:half")
    with pytest.raises(TypeError, match=r"get\(\): 'objective.type' must lead to a dataclass, got"):
        get("grpo", objective={"type": "module_of_ones_own:half"})
    with pytest.raises(
        ValueError, match=r"get\(\): 'objective.type' must be an import path .* exists, got 'module_of_ones_own:Gone'"
    ):
        get("grpo", objective={"type": "module_of_ones_own:Gone"})


def test_what_has_no_form_in_a_table():
    from dataclasses import dataclass

    @dataclass(frozen=True)
    class Local(loss.Reinforce):
        pass

    with pytest.raises(
        TypeError, match=r"Recipe.to_dict\(\): 'objective' is of type Local, which has no import path; define"
    ):
        get("grpo").replace(objective=Local()).to_dict()
    odd = get("grpo").replace(advantage=Advantage("group.stratified", options={"strata": {1, 2}}))
    with pytest.raises(
        TypeError, match=r"'advantage.options.strata' has no form in a table, got an object of type set"
    ):
        odd.to_dict()


MESSAGES = [
    (lambda: get("dappo"), ValueError, r"get\(\): 'recipe' must be one of 'dapo', .*'rloo', .* got 'dappo'"),
    (lambda: get({"recipe": 3}), ValueError, r"get\(\): 'recipe' must be one of .* got 3"),
    (lambda: get(3), TypeError, r"get\(\): 'recipe' must be a name, a table or a Recipe, got an object of type int"),
    (lambda: get("dr_grpo"), ValueError, r"get\(\): recipe 'dr_grpo' needs 'max_length', .*: get\('dr_grpo', max_length=4096\)"),
    (lambda: get("dr_grpo", max_length=0), ValueError, r"dr_grpo\(\): 'max_length' must be finite and positive, got 0"),
    (lambda: get("dapo", objectiv={}), ValueError, r"get\(\): recipe 'dapo' has no 'objectiv'; it has: 'objective', "),
    (lambda: get("grpo", max_length=1), ValueError, r"get\(\): recipe 'grpo' has no 'max_length'; it has: "),
    (lambda: get({"objectiv": {}}), ValueError, r"get\(\): a recipe has no 'objectiv'; it has: 'objective', "),
    (lambda: get({"objective": "PPO"}), ValueError, r"get\(\): the table needs 'advantage', or a recipe of the library"),
    (lambda: Recipe.from_dict([]), TypeError, r"Recipe.from_dict\(\): 'table' must be a table from names to values"),
    (lambda: get("dapo", objective={"clp": 1}), TypeError, r"get\(\): 'objective' of type 'PPO' has no option 'clp'; it has: 'clip', "),
    (lambda: get("dapo", objective="PPOO"), ValueError, r"'objective.type' must be one of 'PPO', .* or an import path .* got 'PPOO'"),
    (lambda: get("dapo", kl="KL"), TypeError, r"get\(\): 'kl' of type 'KL' needs the option 'coef'"),
    (lambda: get("dapo", correction={"type": "Gat"}), ValueError, r"'correction\[0\].type' must be one of 'Gate', .*'ImportanceWeight', "),
    (lambda: get("dapo", objective={"clip": [0.2, 0.3, 0.4]}), ValueError, r"PPO\(\): 'clip' must be one number or \(lo, hi\)"),
    (lambda: get("dapo", objective=False), ValueError, r"get\(\): the table needs 'objective'"),
    (lambda: get("dapo", convention="VERLL"), ValueError, r"Advantage\(\): 'convention' must be one of 'VERL', .* got 'VERLL'"),
    (lambda: get("rloo", convention="PODS"), ValueError, r"Advantage\(\): 'convention': PODS has no convention for 'rloo'; it has: grpo"),
    (lambda: get("reinforce_pp", convention=rm.Convention(ddof=0)), ValueError, r"Advantage\(\): 'group.reinforce_pp' takes no convention"),
    (lambda: Advantage("group.grpo", convention=3), TypeError, r"Advantage\(\): 'convention' must be a name such as 'VERL' or a Conv"),
    (lambda: Advantage("group.grop"), ValueError, r"Advantage\(\): 'method' must be .* one of 'group.grpo', .* more, or an import path"),
    (lambda: Advantage("nowhere:f"), ValueError, r"Advantage\(\): 'method' must be an import path .* got 'nowhere:f' \(No module"),
    (lambda: Advantage(3), TypeError, r"Advantage\(\): 'method' must be a name such as 'group.grpo' or a function, got 3"),
    (lambda: Advantage("group.grpo", {"scal": 1}), TypeError, r"Advantage\(\): 'group.grpo' has no option 'scal'; it has: 'scale', "),
    (lambda: Advantage("group.grpo", 1), TypeError, r"Advantage\(\): 'options' must be a table from names to values, got"),
    (lambda: Filter("nonzero"), ValueError, r"Filter\(\): 'method' must be one of 'nonzero_spread', 'balanced', .*, or an import path"),
    (lambda: Filter("nonzero_spread", {"tl": 1}), TypeError, r"Filter\(\): 'nonzero_spread' has no option 'tl'; it has: 'tol', 'nan'"),
    (lambda: Filter("mean_band", {"low": 1}), TypeError, r"Filter\(\): 'mean_band' needs the option 'high'"),
    (lambda: Filter(3), TypeError, r"Filter\(\): 'method' must be a name, got an object of type int"),
    (lambda: Overlong(max_length=1, buffer=2), ValueError, r"Overlong\(\): 'buffer' must be at most 1 \(= max_length\), got 2.0"),
    (lambda: Overlong(max_length=1, buffer=1, capped=1), TypeError, r"Overlong\(\): 'capped' must be True or False, got 1"),
    (lambda: get("grpo").replace(truncated="drop"), ValueError, r"Recipe\(\): 'truncated' must be one of 'keep', 'mask', 'exclude'"),
    (lambda: get("grpo").replace(kl=0.1), TypeError, r"Recipe\(\): 'kl' must be a KL term or None, got an object of type float"),
    (lambda: get("grpo").replace(objective=loss.PPO), TypeError, r"Recipe\(\): 'objective' must be an Objective, .* got the class PPO"),
    (lambda: get("grpo").replace(reward_kl=-1), ValueError, r"Recipe\(\): 'reward_kl' must be finite and not negative, got -1"),
    (lambda: get("grpo").replace(correction=(1,)), TypeError, r"Recipe\(\): 'correction\[0\]' must be a Correction, got"),
    (lambda: get("grpo").replace(aggregation="mean"), ValueError, r"Recipe\(\): 'aggregation' must be one of 'token_mean', "),
    (lambda: get("grpo").replace(filtr=None), TypeError, r"Recipe.replace\(\) has no field 'filtr'; it has: 'filter', "),
    (lambda: get("grpo").diff("dapo"), TypeError, r"Recipe.diff\(\): 'other' must be a Recipe, got an object of type str"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "message"), MESSAGES, ids=range(len(MESSAGES)))
def test_messages(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_frozen():
    with pytest.raises(AttributeError):
        get("dapo").name = "x"
    with pytest.raises(AttributeError, match="immutable"):
        get("dapo").advantage.options.x = 1
    options = {"levels": [1, 2]}
    advantage = Advantage("group.riskpo", {"levels": options["levels"]})
    options["levels"].append(3)
    assert advantage.options["levels"] == (1, 2)
