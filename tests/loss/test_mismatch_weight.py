"""ImportanceWeight: against the oracle, extremes, missing scores, the mean over a step, and constants in a loss."""

import math
import pickle

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from mismatch_units import flat, inputs, random_batch  # noqa: E402

from rollmath import LogProbs, Ragged, Rows  # noqa: E402
from rollmath.loss import (  # noqa: E402
    PPO,
    Correction,
    ImportanceWeight,
    Normalizer,
    Objective,
    TokenLoss,
    Tokens,
    correction_weights,
    mismatch,
    policy_loss,
)
from rollmath.loss._engine import at_once, in_pieces  # noqa: E402

FORMS = {"pieces": in_pieces, "at once": at_once}


options = st.fixed_dictionaries(
    {
        "bounds": st.sampled_from([(0.0, 2.0), (0.5, 2.0), (0.9, 1.1), (0.0, math.inf), (0.25, math.inf)]),
        "outside": st.sampled_from(["truncate", "zero"]),
        "level": st.sampled_from(["token", "turn", "row", "rollout"]),
        "reduce": st.sampled_from(["product", "geometric_mean"]),
        "ratio": st.sampled_from(["prox/behaviour", "theta/behaviour", "theta/prox"]),
        "missing": st.sampled_from(["nan", "one", "zero"]),
    }
)


@pytest.mark.parametrize("form", FORMS)
@given(padded=st.booleans(), seed=st.integers(0, 10**6), scale=st.sampled_from([0.1, 1.0, 1e4]), options=options)
def test_agrees_with_the_oracle(oracle, form, padded, seed, scale, options):
    batch = random_batch(seed, scale=scale, nan=0.1)
    logprobs, rows = inputs(batch, padded=padded)
    expected, counts = oracle("loss/mismatch_weight.py", "ImportanceWeight")(batch, **options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rollmath.loss._mismatch_report.evaluate", FORMS[form])
        weights = correction_weights(logprobs, rows, ImportanceWeight(**options))
        metrics = mismatch(logprobs, rows, correction=ImportanceWeight(**options)).to_dict()
    if padded:
        weights = Ragged.from_padded(weights, lengths=rows.lengths).values
    if options["bounds"][1] == math.inf:  # stops at the largest finite number
        expected = [[min(x, torch.finfo(torch.float64).max) if x == x else x for x in row] for row in expected]
    np.testing.assert_allclose(weights, flat(expected), rtol=1e-11, atol=1e-300)
    n = max(int(rows.trained.sum()), 1)
    for name, count in counts.items():
        assert metrics[name] == pytest.approx(count / n)


def test_levels_by_hand():
    rows = Rows(["a", "a", "b"], [4, 1, 2], mask=[1, 1, 0, 1, 1, 1, 1])
    r = torch.tensor([2.0, 3.0, 9.0, 0.5, 4.0, 1.0, 0.25], dtype=torch.float64)
    logprobs = LogProbs(r.log(), behaviour=torch.zeros_like(r))

    def weights(**options):
        return correction_weights(logprobs, rows, ImportanceWeight(100.0, **options)).tolist()

    assert weights() == pytest.approx([2, 3, 0, 0.5, 4, 1, 0.25])
    assert weights(level="turn") == pytest.approx([6, 6, 0, 0.5, 4, 0.25, 0.25])
    assert weights(level="row") == pytest.approx([3, 3, 0, 3, 4, 0.25, 0.25])
    assert weights(level="rollout") == pytest.approx([12, 12, 0, 12, 12, 0.25, 0.25])
    geometric = weights(level="rollout", reduce="geometric_mean")
    assert geometric == pytest.approx([12**0.25] * 2 + [0] + [12**0.25] * 2 + [0.5] * 2)


def weigh(correction, log_ratio, dtype=torch.float32):
    x = torch.tensor(log_ratio, dtype=dtype)
    return correction.weigh(Tokens.of(x, torch.ones_like(x), behaviour=torch.zeros_like(x)))[0].tolist()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("outside", ["truncate", "zero"])
@pytest.mark.parametrize("level", ["token", "row"])
def test_extreme_ratios_are_never_nan(dtype, outside, level):
    far = [1e4, -1e4, math.inf, -math.inf]
    for bounds in ((0.0, 2.0), (0.5, math.inf), (1e-300, 1e300)):
        correction = ImportanceWeight(bounds, outside=outside, level=level)
        for x in [*([one] for one in far), far, [-math.inf, -1.0], [math.inf, 1e4]]:
            assert all(math.isfinite(w) for w in weigh(correction, x, dtype))
    both = torch.tensor([-math.inf])
    tokens = Tokens.of(both, torch.ones(1), behaviour=both)
    assert ImportanceWeight(level=level).weigh(tokens)[0].item() == 1


def test_a_ratio_on_a_bound_is_inside():
    correction = ImportanceWeight((0.5, 2.0), outside="zero")
    on = [math.log(0.5), math.log(2.0)]
    assert weigh(correction, on, torch.float64) == pytest.approx([0.5, 2.0])
    beyond = [math.nextafter(on[0], -1), math.nextafter(on[1], 1)]
    assert weigh(correction, beyond, torch.float64) == [0, 0]
    assert weigh(ImportanceWeight(2.0), [50.0]) == [2.0]


def test_missing_scores():
    behaviour = torch.tensor([math.nan, -2.0])
    tokens = Tokens.of(torch.tensor([-1.0, -1.0]), torch.ones(2), behaviour=behaviour)
    e = pytest.approx(math.e)

    def weights(**options):
        return ImportanceWeight(9.0, **options).weigh(tokens)[0].tolist()

    assert math.isnan(weights()[0])
    assert weights()[1] == e
    assert weights(missing="one") == [1, e]
    assert weights(missing="zero") == [0, e]
    assert all(map(math.isnan, weights(level="row")))
    assert weights(missing="one", level="row") == [e, e]
    assert weights(missing="zero", level="row") == [0, e]
    # Another policy that is NaN is not a sampler that did not report.
    broken = Tokens.of(torch.tensor([math.nan]), torch.ones(1), behaviour=torch.zeros(1))
    assert math.isnan(ImportanceWeight(missing="one").weigh(broken)[0].item())


def test_a_missing_score_makes_the_loss_nan():
    rows = Rows([0], [3], mask=[1, 0, 1])
    logprobs = LogProbs(torch.zeros(3), behaviour=torch.tensor([-1.0, math.nan, -1.0]))
    norm = Normalizer.local(rows)
    assert policy_loss(logprobs, [0.0], rows, PPO(), normalizer=norm, correction=ImportanceWeight()).loss == 0
    logprobs = LogProbs(torch.zeros(3), behaviour=torch.tensor([-1.0, 0.0, math.nan]))
    for form in FORMS.values():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("rollmath.loss._policy_loss.evaluate", form)
            patch.setattr("rollmath.loss._mismatch_report.evaluate", form)
            theta = torch.zeros(3, requires_grad=True)
            out = policy_loss(
                LogProbs(theta, behaviour=logprobs.behaviour),
                [1.0],
                rows,
                PPO(),
                normalizer=norm,
                correction=ImportanceWeight(level="row"),
            )
            out.loss.backward()
            assert out.loss.isnan()
            assert theta.grad[1] == 0
            assert correction_weights(logprobs, rows, ImportanceWeight(level="row"))[1] == 0


# The mean over the step.


@given(
    seed=st.integers(0, 10**6),
    level=st.sampled_from(["token", "turn", "row", "rollout"]),
    outside=st.sampled_from(["truncate", "zero"]),
    padded=st.booleans(),
)
def test_the_mean_over_the_step(oracle, seed, level, outside, padded):
    batch = random_batch(seed, n_rows=6)
    logprobs, rows = inputs(batch, padded=padded)
    options = {"bounds": (0.4, 2.0), "level": level, "outside": outside}
    correction = ImportanceWeight(**options, normalize=True)
    prepared = correction.with_parts([correction.prepare(logprobs, rows)])
    if not rows.trained.sum():
        assert prepared.step_mean == 1
        return
    mean = oracle("loss/mismatch_weight.py", "step_mean")(batch, **options)
    assert prepared.step_mean == pytest.approx(mean or 1.0, rel=1e-12)
    expected = oracle("loss/mismatch_weight.py", "ImportanceWeight")(batch, mean=mean or 1.0, **options)[0]
    found = correction_weights(logprobs, rows, prepared)
    found = Ragged.from_padded(found, lengths=rows.lengths).values if padded else found
    np.testing.assert_allclose(found, flat(expected), rtol=1e-12)


@given(seed=st.integers(0, 10**6), level=st.sampled_from(["token", "row", "rollout"]), data=st.data())
def test_any_split_gives_the_same_mean(seed, level, data):
    batch = random_batch(seed, n_rows=6)
    logprobs, rows = inputs(batch, dtype=torch.float32)
    correction = ImportanceWeight(2.0, level=level, normalize=True)
    whole = correction.with_parts([correction.prepare(logprobs, rows)])
    parts = []
    split = data.draw(st.lists(st.integers(0, 2), min_size=3, max_size=3))  # rollouts stay whole
    for part in data.draw(st.permutations(range(3))):
        picked = np.array([i for i in range(6) if split[batch.rollout[i]] == part], np.int64)
        at = np.concatenate([np.arange(rows.offsets[i], rows.offsets[i + 1]) for i in picked] or [[]]).astype(np.int64)
        some = LogProbs(*(x[at] for x in (logprobs.theta, logprobs.prox, logprobs.behaviour)))
        parts.append(pickle.loads(pickle.dumps(correction.prepare(some, rows.take(picked)))))
    assert correction.with_parts(parts) == whole


def test_normalize_must_be_prepared():
    rows = Rows([0], [1])
    logprobs = LogProbs(torch.zeros(1), behaviour=torch.zeros(1))
    with pytest.raises(ValueError, match=r"ImportanceWeight\(\): 'normalize' needs the mean weight of the whole step"):
        correction_weights(logprobs, rows, ImportanceWeight(normalize=True))
    part = ImportanceWeight().prepare(LogProbs(torch.zeros(1), behaviour=torch.tensor([math.nan])), rows)
    with pytest.raises(ValueError, match="'parts' must have finite weights, got a mean of nan"):
        ImportanceWeight().with_parts([part])
    with pytest.raises(TypeError, match=r"'parts\[0\]' must be a WeightPart"):
        ImportanceWeight().with_parts([1.0])
    with pytest.raises(TypeError, match="'parts' must be an iterable of WeightParts"):
        ImportanceWeight().with_parts(3)
    assert ImportanceWeight().with_parts([]).step_mean == 1
    none = ImportanceWeight((3.0, 4.0), outside="zero")
    assert none.with_parts([none.prepare(logprobs, rows)]).step_mean == 1


# In a loss.


class Reinforce(Objective):
    """``-A theta``, a plain objective."""

    def token_loss(self, tokens):
        return TokenLoss(-tokens.advantages * tokens.theta, tokens.weighted(-tokens.advantages))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("level", ["token", "row", "rollout"])
def test_no_gradient_flows_through_the_weight(form, level, monkeypatch):
    monkeypatch.setattr("rollmath.loss._policy_loss.evaluate", FORMS[form])
    batch = random_batch(7, n_rows=6, scale=0.5)
    logprobs, rows = inputs(batch)
    theta = logprobs.theta.clone().requires_grad_()
    given = LogProbs(theta, logprobs.prox, logprobs.behaviour)
    correction = ImportanceWeight((0.5, 2.0), level=level, ratio="theta/behaviour")
    advantages = np.arange(rows.n_rollouts) - 0.7
    norm = Normalizer.local(rows)
    out = policy_loss(given, advantages, rows, Reinforce(), normalizer=norm, correction=correction, level="rollout")
    (gradient,) = torch.autograd.grad(out.loss, theta)
    weights = correction_weights(given, rows, correction)
    a = torch.tensor(rows.expand(advantages).values)
    torch.testing.assert_close(gradient, -weights * a / norm.tokens, rtol=1e-12, atol=1e-15)
    inside = weights != 0
    expected = -(weights * a * logprobs.theta)[inside].sum() / norm.tokens
    torch.testing.assert_close(out.loss.detach(), expected, rtol=1e-12, atol=1e-15)
    assert not weights.requires_grad


def test_no_behaviour():
    rows = Rows([0], [1])
    logprobs = LogProbs(torch.zeros(1))
    norm = Normalizer.local(rows)
    with pytest.raises(ValueError, match=r"ImportanceWeight\(\): 'logprobs' must have 'behaviour'"):
        policy_loss(logprobs, [1.0], rows, PPO(), normalizer=norm, correction=ImportanceWeight())
    # This one does not read it.
    out = policy_loss(logprobs, [1.0], rows, PPO(), normalizer=norm, correction=ImportanceWeight(ratio="theta/prox"))
    assert out.metrics["mismatch_weight"] == 1
    assert "mismatch_k1" not in out.metrics


def test_a_value():
    assert ImportanceWeight(2.0) == ImportanceWeight((0, 2)) == ImportanceWeight()
    assert hash(ImportanceWeight(2.0)) == hash(ImportanceWeight())
    assert isinstance(ImportanceWeight(), Correction)
    assert pickle.loads(pickle.dumps(ImportanceWeight(3.0, level="row"))) == ImportanceWeight(3.0, level="row")
    assert not ImportanceWeight().coupled
    assert ImportanceWeight(level="row").coupled


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"bounds": (0.1, 0.2, 0.3)}, ValueError, r"ImportanceWeight\(\): 'bounds' must be \(lo, hi\) or one number"),
        ({"bounds": (2.0, 0.5)}, ValueError, "'bounds' must be .* 0 <= lo <= hi and hi above 0, got"),
        ({"bounds": (-1.0, 2.0)}, ValueError, "0 <= lo <= hi"),
        ({"bounds": 0.0}, ValueError, "hi above 0, got 0.0"),
        ({"bounds": (math.nan, 1.0)}, ValueError, "'bounds' must be finite, got nan"),
        ({"bounds": "2"}, TypeError, "'bounds' must be a number"),
        ({"bounds": True}, TypeError, "'bounds' must be a number, got True"),
        ({"outside": "mask"}, ValueError, "'outside'"),
        ({"level": "sequence"}, ValueError, "'level'"),
        ({"reduce": "mean"}, ValueError, "'reduce'"),
        ({"ratio": "behaviour/prox"}, ValueError, "'ratio'"),
        ({"missing": "raise"}, ValueError, "'missing'"),
        ({"normalize": 1}, TypeError, "'normalize' must be True or False"),
        ({"step_mean": 1.0}, ValueError, "'step_mean' must be None without normalize=True, got 1.0"),
        ({"normalize": True, "step_mean": 0.0}, ValueError, "'step_mean' must be finite and positive"),
    ],
)
def test_options(arguments, error, match):
    with pytest.raises(error, match=match):
        ImportanceWeight(**arguments)


def test_the_mean_of_the_step_does_not_depend_on_padding():
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, 3000, (6,), generator=generator).tolist()
    rows = Rows(range(6), lengths)
    theta, behaviour = -torch.rand(2, 6, max(lengths), dtype=torch.float64, generator=generator)
    correction = ImportanceWeight(2.0, normalize=True)

    def mean(form):
        logprobs = LogProbs(form(theta), behaviour=form(behaviour))
        return correction.with_parts([correction.prepare(logprobs, rows)]).step_mean

    def wider(n):
        return lambda x: torch.nn.functional.pad(x, (0, n), value=math.nan)

    packed = mean(lambda x: torch.cat([row[:n] for row, n in zip(x, lengths, strict=True)]))
    assert {mean(wider(n)) for n in (0, 1, 7, 100, 1000)} == {packed}
