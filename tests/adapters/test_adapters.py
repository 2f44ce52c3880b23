"""The package of the adapters: an attribute a trainer, and nothing of any trainer until it is used."""

import pytest

import rollmath as rm


def test_adapters_are_attributes():
    assert dir(rm.adapters) == ["slime", "transformers", "trl", "verl"]
    for name in dir(rm.adapters):
        assert getattr(rm.adapters, name).__name__ == f"rollmath.adapters.{name}"
    with pytest.raises(AttributeError, match="has no attribute 'skyrl'"):
        rm.adapters.skyrl


def test_no_trainer_is_imported(script):
    out, _ = script(
        "import sys, rollmath as rm; [getattr(rm.adapters, name) for name in dir(rm.adapters)];"
        "print([m for m in ('slime', 'trl', 'verl', 'transformers', 'ray') if m in sys.modules])"
    )
    assert out.strip() == "[]"
