"""``compiled=True`` gives what the plain arithmetic gives, for all lengths by few compilations."""

import shutil
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from loss_objectives import exported, made  # noqa: E402
from torch._dynamo.testing import CompileCounter  # noqa: E402

from rollmath import LogProbs, Rows  # noqa: E402
from rollmath.loss import (  # noqa: E402
    GSPO,
    KL,
    PPO,
    EntropyBonus,
    Gate,
    ImportanceWeight,
    KLCov,
    Normalizer,
    policy_loss,
)
from rollmath.loss import _compiled as module  # noqa: E402

ALL = sorted(exported("separable", "batch"))


@pytest.fixture
def compilations(monkeypatch):
    """Counts how often something is compiled; the graphs run as they were traced, without a C++ compiler."""
    counter, real = CompileCounter(), torch.compile
    monkeypatch.setattr(module.torch, "compile", lambda f, **options: real(f, backend=counter, **options))
    module._function.cache_clear()
    torch._dynamo.reset()
    yield counter
    module._function.cache_clear()
    torch._dynamo.reset()


def a_step(lengths, seed=0, *, masked=True, dtype=torch.float32):
    """Rows of some lengths, two a rollout, all columns, and advantages that every objective takes."""
    rng, total = np.random.default_rng(seed), sum(lengths)
    mask = rng.random(total) < 0.8 if masked else None
    rows = Rows([i // 2 for i in range(len(lengths))], lengths, mask=mask, version=rng.integers(0, 3, total))
    columns = [torch.tensor(-2 * rng.random(total), dtype=dtype) for _ in range(5)]
    columns[0].requires_grad_(), columns[4].requires_grad_()
    return SimpleNamespace(rows=rows, columns=columns, advantages=rng.uniform(-1, 1, rows.n_rollouts))


def called(step, objective, compiled, **options):
    """Loss, gradients and metrics of a call with all terms."""
    *policies, entropy = step.columns
    if objective.coupling == "batch":
        detached = LogProbs(*(x.detach() for x in policies))
        objective = objective.with_parts([objective.prepare(detached, step.advantages, step.rows, level="rollout")])
    term = isinstance(objective, KL)
    defaults = {
        "kl": objective if term else KL(0.1),
        "correction": (ImportanceWeight(2.0), Gate("k1", 3.0)),
        "weight": step.rows.expand(np.linspace(0.5, 1, step.rows.n_rows), per="row"),
        "entropy": EntropyBonus(entropy, coef=0.01, weight=np.linspace(0, 1, step.rows.n_rows)),
    }
    out = policy_loss(
        LogProbs(*policies),
        step.advantages,
        step.rows,
        PPO() if term else objective,
        normalizer=Normalizer.local(step.rows),
        aggregation="seq_mean_token_mean",
        level="rollout",
        compiled=compiled,
        **defaults | options,
    )
    return out.loss.detach(), *torch.autograd.grad(out.loss, [policies[0], entropy]), out.metrics.values_tensor


@pytest.mark.parametrize("name", ALL)
def test_every_objective_compiles_once_for_all_lengths(compilations, name):
    objective = made(name)
    for seed, lengths in enumerate([[3, 4, 5, 2], [7, 0, 9, 2, 8, 4], [400] * 16]):
        step = a_step(lengths, seed)
        for a, b in zip(called(step, objective, True), called(step, objective, False), strict=True):
            torch.testing.assert_close(a, b, rtol=2e-6, atol=1e-6)
    assert compilations.frame_count == 1


def test_options_are_compiled_apart_and_without_a_limit(compilations):
    """torch keeps eight versions of a function, and then gives up."""
    step, n = a_step([3, 4, 5, 2]), 10
    for clip in np.linspace(0.1, 0.5, n).tolist():
        a, b = (called(step, PPO(clip=clip), how) for how in (True, False))
        torch.testing.assert_close(a, b, rtol=2e-6, atol=1e-6)
    assert compilations.frame_count == n
    called(step, PPO(clip=0.1), True)
    assert compilations.frame_count == n


def test_numbers_that_change_from_step_to_step_compile_nothing(compilations):
    """Coefficients of the entropy bonus, counts, what a batch-coupled objective chose."""
    for seed in range(4):
        step = a_step([5, 6, 7, 8], seed)
        bonus = EntropyBonus(step.columns[4], coef=0.1 * seed)
        a, b = (called(step, KLCov(share=0.3), how, entropy=bonus) for how in (True, False))
        torch.testing.assert_close(a, b, rtol=2e-6, atol=1e-6)
    assert compilations.frame_count == 1


@pytest.mark.parametrize(("lengths", "masked"), [([1], False), ([1, 2], True), ([0, 3], False), ([2, 2], False)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_small_steps_and_dtypes(compilations, lengths, masked, dtype):
    step = a_step(lengths, 1, masked=masked, dtype=dtype)
    for a, b in zip(called(step, PPO(), True), called(step, PPO(), False), strict=True):
        assert a.dtype == b.dtype
        torch.testing.assert_close(a, b, rtol=1e-2 if dtype == torch.bfloat16 else 2e-6, atol=1e-6)


def test_errors(compilations):
    step = a_step([3, 2])
    match = r"policy_loss\(\): 'compiled' takes objectives, KL terms and corrections that look at one token at a time"
    with pytest.raises(ValueError, match=match):
        called(step, GSPO(clip=0.2), True)
    with pytest.raises(ValueError, match=match):
        called(step, PPO(), True, correction=ImportanceWeight(2.0, level="row"))
    with pytest.raises(ValueError, match=match):
        called(step, PPO(), True, kl=GSPO(clip=0.2))
    with pytest.raises(TypeError, match=r"policy_loss\(\): 'compiled' must be True or False, got 1"):
        called(step, PPO(), 1)
    for name, level in {"advantages": None, "weight": "row"}.items():
        bad = {} if level is None else {name: [float("nan")] * step.rows.n_rows}
        step.advantages = np.array([np.nan] if level is None else [1.0])
        with pytest.raises(ValueError, match=rf"policy_loss\(\): '{name}' must be finite in float32 .*, got nan"):
            called(step, PPO(), True, **bad)
    assert compilations.frame_count == 0


@pytest.mark.skipif(shutil.which("g++") is None and shutil.which("clang++") is None, reason="no C++ compiler")
def test_with_the_compiler_itself():
    step, objective = a_step([3, 4, 5, 2]), PPO(dual_clip=3.0)
    torch.testing.assert_close(called(step, objective, True), called(step, objective, False), rtol=2e-6, atol=1e-6)
