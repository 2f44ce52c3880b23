"""Losses by kernels made for the rules, against the plain arithmetic in float64, in the interpreter without a GPU."""

import gc
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

from loss_objectives import ALL, made  # noqa: E402

from rollmath import LogProbs, Ragged, Rows  # noqa: E402
from rollmath.loss import (  # noqa: E402
    GMPO,
    GSPO,
    KL,
    NFT,
    PPO,
    ClipCov,
    EntropyBonus,
    Gate,
    ImportanceWeight,
    Normalizer,
    Objective,
    Reinforce,
    Staleness,
    TokenLoss,
    _engine,
    _fused,
    _generate,
    _policy_loss,
    _resident,
    policy_loss,
)
from rollmath.loss._call import Result  # noqa: E402

# The interpreter computes in NumPy, which warns of infinities that are meant.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

TOKEN_LEVEL = (ImportanceWeight((0.1, 2.0), outside="zero", missing="one"), Gate("k3", 5.0), Staleness(8, 6))


@pytest.fixture
def kernels(monkeypatch):
    """Small blocks; a call without kernels is an error; counts launches and texts."""
    counted = SimpleNamespace(launches=0, texts=set())
    real = _fused.kernels_of

    class Counted:
        def __init__(self, kernel):
            self.kernel = kernel

        def __getitem__(self, grid):
            counted.launches += 1
            return self.kernel[grid]

    def kernels_of(text):
        counted.texts.add(text)
        return _generate.Kernels(*map(Counted, real(text)))

    def evaluate(call):
        found = _fused.fused(call)
        assert isinstance(found, Result), found
        return found

    monkeypatch.setattr(_fused, "kernels_of", kernels_of)
    monkeypatch.setattr(_policy_loss, "evaluate", evaluate)
    for name, block in {"BLOCK": 32, "SEGMENT_BLOCK": 16, "TILE": 1024}.items():
        monkeypatch.setattr(_fused, name, block)
    return counted


def a_step(lengths=(5, 0, 7, 9, 18), rollouts=(0, 1, 0, 2, 2), *, masked=True, seed=0):
    """Rows of some lengths and all columns, packed, on the host in float64."""
    rng, total = np.random.default_rng(seed), sum(lengths)
    mask = rng.random(total) < 0.8 if masked else None
    rows = Rows(list(rollouts), list(lengths), mask=mask, version=rng.integers(-1, 4, total))
    # Numbers that float32 has, so that both sides begin with the same.
    columns = [torch.tensor(-2 * rng.random(total)).float().double() for _ in range(5)]
    return SimpleNamespace(rows=rows, columns=columns, advantages=rng.uniform(-1, 1, rows.n_rollouts), mask=mask)


def called(step, objective, device=None, *, form="packed", dtype=torch.float32, **options):
    """Loss, gradients and metrics with all terms; without a device by the plain arithmetic in float64."""
    dtype = torch.float64 if device is None else dtype
    if form == "padded":
        width = int(step.rows.lengths.max(initial=0)) + 2
        columns = [Ragged(x, step.rows.offsets).to_padded(width, fill=float("nan")) for x in step.columns]
    else:
        columns = step.columns
    columns = [x.to(device or "cpu", dtype, copy=True) for x in columns]
    if objective.coupling == "batch":
        plain = LogProbs(*step.columns[:4])
        objective = objective.with_parts([objective.prepare(plain, step.advantages, step.rows, level="rollout")])
    *policies, entropy = columns
    policies[0].requires_grad_(), entropy.requires_grad_()
    term = isinstance(objective, KL)
    defaults = {
        "advantages": step.advantages,
        "level": "rollout",
        "aggregation": "seq_mean_token_mean",
        "kl": objective if term else KL(0.1),
        "correction": None,
        "weight": np.linspace(0.5, 1, step.rows.n_rollouts),
        "entropy": EntropyBonus(entropy, 0.01, np.linspace(0, 1, step.rows.n_rows)),
        "normalizer": Normalizer.local(step.rows),
    } | options
    if "coef" in defaults:
        defaults["entropy"] = EntropyBonus(entropy, defaults.pop("coef"))
    with pytest.MonkeyPatch.context() as patch:
        if device is None:
            patch.setattr(_policy_loss, "evaluate", _engine.in_pieces)
        out = policy_loss(
            LogProbs(*policies), defaults.pop("advantages"), step.rows, PPO() if term else objective, **defaults
        )
    gradients = torch.autograd.grad(out.loss, [policies[0], entropy], allow_unused=True)
    packed = [None if x is None else pack(step, x, form) for x in gradients]
    return SimpleNamespace(loss=out.loss.detach(), theta=packed[0], entropy=packed[1], metrics=out.metrics)


def pack(step, x, form):
    if form == "packed":
        return x
    inside = (
        torch.arange(x.shape[1], device=x.device) < torch.tensor(step.rows.lengths.copy(), device=x.device)[:, None]
    )
    assert (x[~inside] == 0).all()
    return x[inside]


def assert_same(found, expected, atol=1e-6):
    assert found.loss.dtype == torch.float32
    assert list(found.metrics) == list(expected.metrics)
    for name in ("loss", "theta", "entropy"):
        x, y = getattr(found, name), getattr(expected, name)
        if y is not None:
            torch.testing.assert_close(x.double().cpu(), y, rtol=1e-6, atol=atol, equal_nan=True)
    x, y = found.metrics.values_tensor, expected.metrics.values_tensor
    torch.testing.assert_close(x.cpu(), y, rtol=1e-6, atol=atol, equal_nan=True)


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


def reason(step, objective, device, **options):
    """Why a call has no kernels; those that it has are not launched."""
    reasons = []

    def evaluate(call):
        found = _fused.fused(call)
        reasons.append("" if isinstance(found, Result) else found)
        return _engine.in_pieces(call)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_policy_loss, "evaluate", evaluate)
        patch.setattr(_fused, "_launched", lambda *_: Result(None, None, {}))
        called(step, objective, device, **options)
    return reasons[0]


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


@dataclass(frozen=True)
class Own(Objective):
    """An objective of a user."""

    power: float = 0.5
    kind: str = ""

    def token_loss(self, tokens):
        a, theta = tokens.advantages, tokens.theta
        slope = -a * torch.sigmoid(theta).pow(2) / torch.sqrt(1 + theta * theta)
        if self.kind == "all":
            x = torch.where(a > 0, theta.tanh(), torch.log1p(-theta)) + torch.nan_to_num(theta.log(), nan=2.0).rsqrt()
            x = x + theta.isnan().float() + (~(a > 0) & (theta < -1)).float() + theta.masked_fill(a > 0, 0.25).relu()
            x += torch.addcdiv(a, theta, 3 - theta, value=self.power) * torch.full_like(a, self.power).isinf()
            x = x + torch.lerp(a, theta, a.abs()) + (2 + a).reciprocal()
            slope = slope + torch.log(1 + x.abs()) + torch.zeros_like(a).add_(x.clamp(-1, 1).exp(), alpha=0.125)
        if self.kind == "sorted":
            slope = slope.sort().values
        if self.kind == "read" and bool((slope > 0).any()):
            slope = -slope
        if self.kind == "mean":
            slope = slope - slope.sum() / tokens.trained
        if self.kind == "length":
            slope = slope / len(tokens)
        if self.kind == "random":
            slope = slope * torch.rand_like(slope)
        if self.kind == "double":
            slope = slope.double().exp().float()
        if self.kind == "shifted":
            slope = torch.cat([slope[1:], slope[:1]])
        spread = tokens.total(slope) / tokens.trained
        return TokenLoss(slope * theta, tokens.weighted(slope), {"spread": spread, "size": slope.abs().max()})


class Loose(Objective):
    def token_loss(self, tokens):
        return Own().token_loss(tokens)


def test_an_objective_of_your_own(kernels, device):
    step = a_step()
    for objective in (Own(), Own(kind="all")):
        assert_same(called(step, objective, device), called(step, objective), atol=2e-6)


@pytest.mark.parametrize(
    ("objective", "why"),
    [
        (Own(kind="sorted"), "aten.sort.default has no form in the kernel"),
        (Own(kind="read"), "no form in the kernel"),
        (Own(kind="mean"), "depends on sums over all"),
        (Own(kind="length"), "it depends on the number of positions"),
        (Own(kind="random"), "aten.rand_like.default has no form"),
        (Own(kind="double"), "float64 has no form in the kernel"),
        (Own(kind="shifted"), "has no form in the kernel"),
        (Loose(), "Loose is no frozen dataclass"),
        (Own(power=torch.ones(())), "Tensor is no frozen dataclass"),
    ],
    ids=str,
)
def test_what_has_no_kernel_has_the_plain_arithmetic(device, objective, why):
    assert why in reason(a_step(), objective, device)


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


def test_columns_of_rows_move_once_and_go_with_them(kernels, device, monkeypatch):
    step, moved = a_step(), []
    real = _resident.Resident._moved
    monkeypatch.setattr(_resident.Resident, "_moved", lambda self, x: (moved.append(len(x)), real(self, x))[1])
    for _ in range(3):
        called(step, PPO(), device)
    assert len(moved) == 3  # rows of positions, rollouts of rows, weights of rows
    before = len(_resident._ALL)
    del step
    gc.collect()
    assert len(_resident._ALL) < before


def test_versions_that_were_written_to_are_moved_again(kernels, device):
    step, versions = a_step(), np.zeros(39, np.int64)
    step.rows = Rows([0, 1, 0, 2, 2], [5, 0, 7, 9, 18], mask=step.mask, version=versions)
    options = {"correction": Staleness(8, 6)}
    for new in (0, 4, 7):
        versions[:] = new
        found = called(step, PPO(), device, **options)
        assert_same(found, called(step, PPO(), **options))


def test_columns_of_rows_on_another_stream(monkeypatch):
    """Its kernels wait for the copies of the first, whose memory is not used again before they are done."""
    step, events, capturing = a_step(), [], False
    here = _resident.resident(step.rows, (39,), torch.device("cpu"))
    here.row(step.rows), here.segments(step.rows, "rollout"), here.weights(np.arange(5.0)), here.weights(np.ones(5))

    class Stream(str):
        def wait_stream(self, other):
            events.append((self, other))

    now = here._stream = Stream("first")
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: now)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: capturing)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda _, stream: events.append(stream))
    here.meet()
    assert events == []
    now = Stream("second")
    for _ in range(2):
        here.meet()
    assert events == [("second", "first"), *["second"] * 6]  # rows, weights, four of segments
    # What a graph reads stays, however many other weights there are later.
    capturing, now, kept = True, Stream("graph"), here.weights(np.arange(5.0))
    here.meet()
    for i in range(9):
        here.weights(np.arange(5.0) + i + 1)
    assert len(events) == 7
    assert len(here._weights) == 4
    assert any(x is kept for x in here._captured.values())


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
