"""Recipes from the configuration objects that trainers have."""

import pytest

pytestmark = pytest.mark.peers

omegaconf = pytest.importorskip("omegaconf")
pytest.importorskip("torch")

from rollmath.recipes import get  # noqa: E402


def test_a_config_of_omegaconf():
    text = {"high": 0.3, "recipe": {"recipe": "dapo", "objective": {"clip": [0.2, "${high}"]}, "filter": None}}
    config = omegaconf.OmegaConf.create(text).recipe
    recipe = get(config)
    assert recipe == get("dapo", objective={"clip": (0.2, 0.3)}, filter=False)
    assert get(omegaconf.OmegaConf.create(recipe.to_dict())) == recipe
