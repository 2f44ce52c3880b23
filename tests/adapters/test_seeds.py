"""Seeds of steps, where a trainer knows rollouts by their places in the batch."""

import re

import numpy as np
import pytest

pytest.importorskip("torch")

import rollmath as rm
from rollmath.adapters._seeds import seeded_by
from rollmath.recipes import Filter, get


def by(method, **options):
    return get("grpo", kl=False).replace(filter=Filter(method, options))


def kept(recipe, prompts):
    """The rollouts, four a prompt, by their places."""
    groups = np.repeat(np.arange(16), 4)
    rows = rm.Rows(np.arange(64), np.ones(64, int))
    recipe = seeded_by("test", recipe, prompts)
    return tuple(recipe.prepare(np.arange(64.0) % 3, groups, rows=rows).selection.indices.tolist())


def test_each_step_draws_anew():
    steps = [[f"prompt {i} of step {step}" for i in range(16)] for step in range(6)]
    recipe = by("random", keep=1, seed=3)
    assert len({kept(recipe, prompts) for prompts in steps}) == 6
    assert kept(recipe, steps[0]) == kept(recipe, steps[0])
    assert kept(recipe, steps[0]) != kept(by("random", keep=1, seed=4), steps[0])


def test_the_rows_of_the_prompts_do_not_matter():
    recipe, ids = by("top", keep=1, seed=0), [f"p{i}" for i in range(16)]
    assert kept(recipe, ids) == kept(recipe, [*ids[::-1], *ids]) == kept(recipe, np.array(ids, object))


def test_every_place_is_drawn_as_often():
    recipe = by("random", keep=1, seed=5)
    places = np.array([kept(recipe, [step]) for step in range(200)]).ravel() % 4
    # Of 3200 draws, 800 each; the standard deviation is 24.5.
    assert np.abs(np.bincount(places, minlength=4) - 800).max() < 110


RECIPES = {
    "dapo": get("dapo"),
    "none": get("grpo"),
    "top": by("top", keep=1),
    "seed None": by("top", keep=1, seed=None),
}


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_without_a_seed_nothing_is_changed(recipe):
    assert seeded_by("test", recipe, ["a"]) is recipe


def test_a_seed_is_asked_for():
    text = "test(): the filter 'random' of recipe 'grpo' draws by a seed, and it rains; set x"
    with pytest.raises(ValueError, match=re.escape(text)):
        seeded_by("test", by("random", keep=1), ["a"], says="it rains", where="x")
