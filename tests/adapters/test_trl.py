"""What the TRL adapter does without TRL; tests/conformance has the rest."""

import sys

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

import rollmath as rm
from rollmath.adapters import trl as adapter


def test_the_package_imports_neither_trl_nor_transformers(script):
    out, _ = script(
        "import sys; from rollmath.adapters.trl import RollmathMixin, TRLBatch;"
        "print([name for name in ('trl', 'transformers', 'accelerate', 'datasets') if name in sys.modules])"
    )
    assert out.strip() == "[]"


def test_without_trl_its_trainers_say_what_to_install(monkeypatch):
    from rollmath.adapters.trl import _trainers

    for name in ("GRPOTrainer", "RLOOTrainer"):
        for module in (adapter, _trainers):
            monkeypatch.delitem(module.__dict__, name, raising=False)
    monkeypatch.setitem(sys.modules, "trl", None)
    for name in ("GRPOTrainer", "RLOOTrainer"):
        with pytest.raises(ModuleNotFoundError, match=rf"trl\.{name} needs TRL: pip install trl==1\.16\.0"):
            getattr(adapter, name)
    with pytest.raises(AttributeError, match="has no attribute 'DPOTrainer'"):
        adapter.DPOTrainer


@pytest.fixture
def batch():
    rows = rm.Rows([0, 1], [2, 1], tokens=[5, 6, 7])
    rewards = np.float32([1, 0])
    return adapter.TRLBatch(
        rewards=rewards,
        reward_table=rewards[:, None],
        reward_names=("r",),
        reward_weights=np.ones(1, np.float32),
        groups=rm.Groups(["a", "a"]),
        rows=rows,
        valid=np.ones(2, bool),
        columns={"kind": [1, 2]},
        num_generations=2,
        training=True,
    )


def test_the_batch_of_an_advantage_function(batch):
    assert batch.column("kind") == [1, 2]
    assert repr(batch) == "TRLBatch(2 rollouts in 1 groups, Rows(2 rows of 2 rollouts, 3 of 3 positions trained))"
    with pytest.raises(ValueError, match=r"TRLBatch.column\(\): 'name' must be one of columns= \('kind'\), got 'x'"):
        batch.column("x")


def test_forms_of_advantages(batch):
    """One a rollout; one a token: a Ragged, packed, or padded, whose padding is not read."""
    from rollmath.adapters.trl._values import _flat

    tokens = [1.0, 2.0, 3.0]
    for found, wanted in (
        ([1, 2], [1.0, 2.0]),
        (torch.tensor([1.0, 2.0], dtype=torch.bfloat16, requires_grad=True), [1.0, 2.0]),
        (batch.rows.expand([1.0, 3.0]), [1.0, 1.0, 3.0]),
        (tokens, tokens),
        (torch.tensor(tokens, dtype=torch.float64), tokens),
        ([[1.0, 2.0], [3.0, np.nan]], tokens),
        ([[1.0, 2.0, np.nan], [3.0, np.nan, np.nan]], tokens),
    ):
        flat = _flat("Trainer", found, batch)
        assert flat.dtype == np.float32
        assert flat.tolist() == wanted
    for bad in ([1.0], [[1.0], [2.0]], [[1.0, 2.0]] * 3, 1.0):
        with pytest.raises(ValueError, match=r"'advantage' must return shape \(2,\) \(= rollouts\), \(3,\) \(= pos"):
            _flat("Trainer", bad, batch)
