"""Losses by kernels made for the rules, against the plain arithmetic in float64, in the interpreter without a GPU."""

from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

from fused_losses import a_step, assert_same, called, reason  # noqa: E402
from loss_objectives import ALL, made  # noqa: E402

from rollmath import Ragged, Rows  # noqa: E402
from rollmath.loss import (  # noqa: E402
    GMPO,
    GSPO,
    KL,
    NFT,
    PPO,
    ClipCov,
    Gate,
    ImportanceWeight,
    Normalizer,
    Reinforce,
    Staleness,
    _engine,
    _fused,
    _policy_loss,
)

# The interpreter computes in NumPy, which warns of infinities that are meant.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

TOKEN_LEVEL = (ImportanceWeight((0.1, 2.0), outside="zero", missing="one"), Gate("k3", 5.0), Staleness(8, 6))


@pytest.mark.parametrize(("name", "way"), ALL)
def test_every_objective(kernels, device, name, way):
    objective, form = made(name, way), "padded" if way else "packed"
    step = a_step()
    assert_same(called(step, objective, device, form=form), called(step, objective, form=form))
    assert kernels.launches == 2


@pytest.mark.parametrize("objective", [Reinforce(), GSPO(clip=0.2)], ids=["tokens", "sequences"])
@pytest.mark.parametrize("form", ["packed", "padded"])
@pytest.mark.parametrize(
    ("lengths", "masked"), [((5, 0, 7, 31), True), ((5, 31), False), ((16, 32), False), ((0,), True)]
)
def test_forms(kernels, device, objective, form, masked, lengths):
    step = a_step(lengths, range(len(lengths)), masked=masked)
    options = {"kl": None, "weight": None}
    assert_same(called(step, objective, device, form=form, **options), called(step, objective, form=form, **options))
    assert kernels.launches == 2


def test_corrections_of_tokens(kernels, device):
    step = a_step()
    assert_same(called(step, PPO(), device, correction=TOKEN_LEVEL), called(step, PPO(), correction=TOKEN_LEVEL))
    assert kernels.launches == 2


@pytest.mark.parametrize("level", ["turn", "row", "rollout"])
def test_corrections_of_segments(kernels, device, level):
    step = a_step()
    correction = (
        ImportanceWeight((0.5, 2.0), level=level, reduce="geometric_mean"),
        Gate("k3", 1.0, level=level, reduce="every"),
        Staleness(8, 6, level=level),
    )
    assert_same(called(step, PPO(), device, correction=correction), called(step, PPO(), correction=correction))
    assert kernels.launches == 2


def test_rows_and_rollouts_are_one_where_each_rollout_is_a_row(kernels, device):
    step = a_step(rollouts=range(5))
    correction = Gate("k3", 1.0, level="row")
    objective = GSPO(clip=0.2, unit="rollout")
    assert_same(called(step, objective, device, correction=correction), called(step, objective, correction=correction))


def test_which_have_kernels(device):
    """All that look at one token at a time; those that look at several, if they look at the same."""
    step = a_step()
    found = {(name, way): reason(step, made(name, way), device, correction=TOKEN_LEVEL) for name, way in ALL}
    assert set(found.values()) == {""}
    with_rows = (Gate("k3", 5.0, level="row"),)
    found = {(name, way): reason(step, made(name, way), device, correction=with_rows) for name, way in ALL}
    unit = {key: getattr(made(*key), "unit", "row") for key in found}
    assert {key for key, why in found.items() if why} == {key for key, level in unit.items() if level == "rollout"}
    assert reason(step, PPO(), device, dtype=torch.float64) == "theta is float64"


def test_nan_where_it_counts_and_only_there(kernels, device):
    step = a_step()
    live, gap = int(np.flatnonzero(step.mask)[3]), np.flatnonzero(~step.mask)
    for column in step.columns:
        column[gap[::2]], column[gap[1::2]] = float("nan"), float("inf")
    for objective in (NFT(), GSPO(clip=0.2)):
        found = called(step, objective, device)
        assert_same(found, called(step, objective))
        assert (found.theta[gap] == 0).all()
        assert (found.entropy[gap] == 0).all()
        assert found.metrics.values_tensor.isfinite().all()
    for number in range(3):
        broken = SimpleNamespace(**vars(step) | {"columns": [x.clone() for x in step.columns]})
        broken.columns[number][live] = float("nan")
        for objective in (PPO(), GSPO(clip=0.2)):
            options = {"correction": ImportanceWeight(2.0), "kl": None, "weight": None}
            found, expected = called(broken, objective, device, **options), called(broken, objective, **options)
            assert found.loss.isnan()
            assert (found.metrics.values_tensor.isnan().cpu() == expected.metrics.values_tensor.isnan()).all()
            assert (found.theta.isnan().cpu() == expected.theta.isnan()).all()


def test_infinite_numbers_as_in_the_plain_arithmetic(kernels, device):
    """What float32 cannot hold stops at its largest number there too."""
    step = a_step(masked=False)
    step.columns[1][2] -= 200.0
    step.columns[2][4], step.columns[3][6] = float("-inf"), float("-inf")
    found = called(step, PPO(dual_clip=3.0), device)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_policy_loss, "evaluate", _engine.at_once)
        plain = called(step, PPO(dual_clip=3.0), "cpu")
    torch.testing.assert_close(found.metrics.values_tensor.cpu(), plain.metrics.values_tensor, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found.theta.cpu(), plain.theta, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("objective", [PPO(), GMPO()], ids=str)
def test_the_same_bits_again(kernels, device, same_bits, objective):
    step = a_step()
    first, second = (called(step, objective, device) for _ in range(2))
    for name in ("loss", "theta", "entropy"):
        same_bits(getattr(first, name).cpu(), getattr(second, name).cpu())
    same_bits(first.metrics.values_tensor.cpu(), second.metrics.values_tensor.cpu())


def test_numbers_and_lengths_compile_nothing(kernels, device):
    for seed, lengths in enumerate([(5, 4, 7), (16, 0, 3, 9), (32, 32)]):
        step = a_step(lengths, range(len(lengths)), seed=seed)
        assert len(set(step.rows.trained)) > 1
        clip, coef = 0.1 + 0.03 * seed, 0.01 * (seed + 1)
        objective, options = PPO(clip=clip), {"kl": KL(coef), "coef": 0.02 * seed - 0.03}
        options["correction"] = (ImportanceWeight(3.0 + seed), Staleness(8 + seed, 6))
        assert_same(called(step, objective, device, **options), called(step, objective, **options))
    assert len(kernels.texts) == 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_log_probabilities_are_read_as_they_are(kernels, device, dtype):
    step = a_step()
    step.columns = [x.to(dtype).double() for x in step.columns]
    found, expected = called(step, PPO(), device, dtype=dtype), called(step, PPO())
    torch.testing.assert_close(found.loss.double().cpu(), expected.loss, rtol=1e-6, atol=1e-6)
    assert found.theta.dtype == dtype
    assert (found.theta.cpu() == expected.theta.float().to(dtype)).float().mean() > 0.9
    torch.testing.assert_close(found.theta.cpu(), expected.theta.to(dtype), rtol=1e-2, atol=1e-6)


def values_at(step, level, form):
    """Advantages of each level, for packed or padded tokens."""
    rows, rng = step.rows, np.random.default_rng(5)
    turns = sum(len(x) for x in runs(rows))
    sizes = {"rollout": rows.n_rollouts, "row": rows.n_rows, "turn": turns, "token": int(rows.offsets[-1])}
    values = rng.uniform(-1, 1, sizes[level])
    return Ragged(values, rows.offsets).to_padded(20) if form == "padded" and level == "token" else values


def runs(rows):
    for start, end in zip(rows.offsets, rows.offsets[1:], strict=False):
        inside = np.concatenate([[0], rows.mask[start:end], [0]])
        yield np.flatnonzero(np.diff(inside.astype(int)) > 0)


@pytest.mark.parametrize("form", ["packed", "padded"])
@pytest.mark.parametrize(
    ("level", "kind"),
    [
        ("rollout", "float64"),
        ("row", "float32"),
        ("row", "int64"),
        ("turn", "numpy"),
        ("token", "float32"),
        ("token", "bool"),
    ],
)
def test_levels_and_kinds_of_advantages(kernels, device, level, form, kind):
    step = a_step()
    given = values_at(step, level, form)
    if kind in {"int64", "bool"}:
        given = (given * 4).round() if kind == "int64" else given > 0
    moved = given if kind == "numpy" else torch.tensor(given).to(device, getattr(torch, kind))
    options = {"level": level, "weight": None, "coef": 0.1, "kl": None}
    found = called(step, Reinforce(), device, form=form, advantages=moved, **options)
    assert_same(found, called(step, Reinforce(), form=form, advantages=given, **options))


def test_constants_of_tokens_in_another_form(kernels, device):
    """Packed advantages beside padded log-probabilities."""
    step = a_step()
    given = values_at(step, "token", "packed")
    options = {"level": "token", "advantages": given, "kl": None, "weight": None}
    assert_same(called(step, PPO(), device, form="padded", **options), called(step, PPO(), **options))


def test_scale_and_the_step(kernels, device):
    """A normalizer of more than these rows, for a trainer that averages over ranks."""
    step = a_step()
    other = Rows([f"other {i}" for i in range(3)], [7, 8, 9])
    normalizer = Normalizer.sum([Normalizer.local(x) for x in (step.rows, other)]).under(grad_reduce="mean", ranks=3)
    assert normalizer.scale == 3
    assert_same(called(step, PPO(), device, normalizer=normalizer), called(step, PPO(), normalizer=normalizer))


def test_no_rows(kernels, device):
    step = a_step((), (), masked=False)
    for objective in (PPO(), GSPO(clip=0.2)):
        found = called(step, objective, device, weight=None)
        assert_same(found, called(step, objective, weight=None))


def test_batches_are_chosen_anew_without_a_new_kernel(kernels, device):
    for seed in range(2):
        step = a_step(seed=seed)
        objective = ClipCov(share=0.3, bounds=(-5.0, 5.0), least=3)
        found = called(step, objective, device)
        assert found.metrics["clip_cov"] > 0
        assert_same(found, called(step, objective))
    assert len(kernels.texts) == 1


def test_triton_is_imported_by_the_first_launch_alone(script):
    code = """
import sys, torch
from rollmath import LogProbs, Rows
from rollmath.loss import PPO, Normalizer, policy_loss
rows = Rows(["a"], [2])
policy_loss(LogProbs(torch.zeros(2)), [1.0], rows, PPO(), normalizer=Normalizer.local(rows))
print("triton" in sys.modules)
"""
    assert script(code)[0].strip() == "False"


def test_what_triton_does_not_compile_has_the_plain_arithmetic(monkeypatch, device):
    import triton

    def refused(_):
        raise triton.CompilationError("f(x)", None, "no such thing")

    monkeypatch.setattr(_fused, "kernels_of", refused)
    monkeypatch.setattr(_fused, "_REFUSED", {})
    step, reasons = a_step(), []

    def evaluate(call):
        reasons.append(_fused.fused(call))
        return _engine.at_once(call)

    monkeypatch.setattr(_policy_loss, "evaluate", evaluate)
    for _ in range(2):
        called(step, PPO(), device)
    assert all("Triton does not compile it" in why and "no such thing" in why for why in reasons)
    assert len(_fused._REFUSED) == 1


def test_without_triton(monkeypatch, device):
    monkeypatch.setattr(_fused, "_has_triton", lambda: False)
    assert reason(a_step(), PPO(), device).startswith("there are no kernels for")
