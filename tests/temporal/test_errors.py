"""Wrong calls of the scans over tokens name the function, the argument, and where in it."""

from __future__ import annotations

import math

import numpy as np
import pytest

import rollmath as rm
from rollmath import temporal

RATIOS = np.zeros((2, 3))


def as_ratios(values):
    if isinstance(values, rm.Ragged):
        return values.with_values(np.zeros(len(values.values)))
    return np.zeros(np.shape(values))


def turns(rewards, values, **options):
    """Turns 0, 0, 0: one to a row."""
    zeros = as_ratios(values)
    zeros = zeros.with_values(zeros.values.astype(int)) if isinstance(zeros, rm.Ragged) else zeros.astype(int)
    return temporal.two_level_gae(rewards, values, zeros, **options)


#: Called with rewards and values; discounted_returns has no values.
SCANS = {
    "gae": temporal.gae,
    "td_lambda": temporal.td_lambda,
    "vtrace": lambda r, v, **k: temporal.vtrace(r, v, as_ratios(v), **k),
    "discounted_returns": lambda r, _, **k: temporal.discounted_returns(r, **k),
    "two_level_gae": turns,
    "turn_gae": temporal.turn_gae,
}
WITH_MASK = [name for name in SCANS if name != "turn_gae"]
WITH_VALUES = [name for name in SCANS if name != "discounted_returns"]
scans = pytest.mark.parametrize("who", SCANS)

R = np.array([[0.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
V = np.full((2, 3), 0.5)
MASK = np.array([[1, 1, 1], [1, 0, 1]])


def fails(who, error, message, r=R, v=V, **options):
    with pytest.raises(error, match=rf"^{who}\(\): {message}"):
        SCANS[who](r, v, **options)


@scans
@pytest.mark.parametrize("gamma", [1.5, -0.1, math.nan, math.inf])
def test_gamma_is_a_fraction(who, gamma):
    fails(who, ValueError, r"'gamma' must be in \[0, 1\], got", gamma=gamma)


@scans
@pytest.mark.parametrize("gamma", ["1", None, [0.5], 1j])
def test_gamma_is_a_number(who, gamma):
    fails(who, TypeError, "'gamma' must be a number, got", gamma=gamma)


@pytest.mark.parametrize("who", [n for n in WITH_VALUES if n != "two_level_gae"])
@pytest.mark.parametrize(
    ("lam", "error", "message"),
    [
        (1.5, ValueError, r"must be in \[0, 1\], got 1.5"),
        (-1, ValueError, r"must be in \[0, 1\], got -1"),
        (math.nan, ValueError, r"must be in \[0, 1\], got NaN"),
        ([0.5, 1.5], ValueError, r"must be in \[0, 1\], got 1.5 at row 1"),
        ([0.5, math.nan], ValueError, r"must be in \[0, 1\], got NaN at row 1"),
        ([0.5], ValueError, r"must have length 2 \(= the number of rows\), got 1"),
        ([[0.5, 0.5]], TypeError, "must be 1-D"),
        ("0.5", TypeError, "must "),
        (None, TypeError, "must "),
        (1j, TypeError, "must "),
    ],
)
def test_lambda_is_a_fraction_for_all_or_one_a_row(who, lam, error, message):
    fails(who, error, f"'lam' {message}", lam=lam)


def test_the_lambda_of_returns_likewise():
    fails("gae", ValueError, r"'lam_returns' must be in \[0, 1\], got 2", lam_returns=2)
    fails("gae", ValueError, r"'lam_returns' must have length 2", lam_returns=[1.0])


@pytest.mark.parametrize("clip", ["clip_rho", "clip_c", "clip_pg_rho"])
def test_clips_are_positive(clip):
    for bad in (0, -1.0, math.nan):
        fails("vtrace", ValueError, f"'{clip}' must be positive, got", **{clip: bad})
    fails("vtrace", TypeError, f"'{clip}' must be a number, got", **{clip: "1"})


@scans
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"bootstrap": [1.0]}, ValueError, r"'bootstrap' must have length 2 \(= the number of rows\), got 1"),
        ({"bootstrap": 1.0}, TypeError, "'bootstrap' must be 1-D"),
        ({"bootstrap": "mean"}, ValueError, "'bootstrap' must be 'zero'"),
        ({"bootstrap": None}, ValueError, "'bootstrap' must be 'zero'"),
        ({"bootstrap": [1.0, math.nan]}, ValueError, "'bootstrap' must be finite, got NaN at row 1"),
        ({"truncated": [True]}, ValueError, r"'truncated' must have length 2 \(= the number of rows\), got 1"),
        ({"truncated": [1.0, 0.0]}, TypeError, "'truncated' must be bool or integer"),
        ({"lengths": [3]}, ValueError, "'lengths' must have length 2"),
        ({"lengths": [3, 4]}, ValueError, "'lengths' "),
        ({"lengths": [3, -1]}, ValueError, "'lengths' "),
        ({"lengths": [3.0, 3.0]}, TypeError, "'lengths' must hold integers, got float64"),
    ],
)
def test_ends_of_rows(who, options, error, message):
    fails(who, error, message, **options)


@pytest.mark.parametrize("who", SCANS)
def test_a_bootstrap_that_is_not_used_need_not_be_finite(who):
    SCANS[who](R, V, bootstrap=[1.0, math.nan], truncated=[True, False])


def test_returns_have_no_last_value():
    fails(
        "discounted_returns",
        ValueError,
        "'bootstrap' must be 'zero', or an array with one number a row, got 'last'",
        bootstrap="last",
    )


@pytest.mark.parametrize("who", WITH_MASK)
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"mask": MASK[:1]},
            ValueError,
            r"'mask' must have shape \(2, 3\) \(= that of '(values|rewards)'\), got \(1, 3\)",
        ),
        ({"mask": [1, 1, 1]}, TypeError, r"'mask' must have shape \(2, 3\)"),
        ({"mask": MASK * 1.0}, TypeError, r"'mask' must be bool or integer \(nonzero = True\), got float64"),
        (
            {"reward_on_gap": "keep"},
            ValueError,
            "'reward_on_gap' must be one of 'raise', 'previous', 'drop', got 'keep'",
        ),
    ],
)
def test_masks(who, options, error, message):
    fails(who, error, message, **options)


@pytest.mark.parametrize("who", ["gae", "td_lambda", "vtrace", "discounted_returns"])
def test_gaps_have_a_name(who):
    fails(who, ValueError, "'gaps' must be one of 'carry', 'state', 'ignore'", gaps="skip")
    if who != "discounted_returns":
        fails(who, ValueError, "'gaps' must be one of 'carry', 'state', 'ignore', got 'cut'", gaps="cut")


@pytest.mark.parametrize("who", WITH_MASK)
def test_a_reward_on_a_gap_is_an_error(who):
    r = np.array([[0.0, 0.0, 1.0], [0.0, 2.0, 0.0]])
    mend = r", where the mask is 0; say where it goes with reward_on_gap='previous' or 'drop'"
    fails(who, ValueError, rf"'rewards' has 2 at row 1, position 1{mend}", r=r, mask=MASK)
    SCANS[who](r, V, mask=MASK, reward_on_gap="previous")
    SCANS[who](r, V, mask=MASK, reward_on_gap="drop")
    first = np.array([[1, 1, 1], [0, 0, 1]])
    nothing = "'rewards' has 2 at row 1, position 1, .*no trained token before it"
    fails(who, ValueError, nothing, r=r, mask=first, reward_on_gap="previous")
    nan = np.array([[0.0, 0.0, 1.0], [0.0, math.nan, 0.0]])
    fails(who, ValueError, "'rewards' has NaN at row 1, position 1", r=nan, mask=MASK)
    fails(who, ValueError, "'rewards' .*row 1", r=nan, mask=MASK, reward_on_gap="previous")


@pytest.mark.parametrize("who", WITH_MASK)
def test_a_reward_for_a_row_without_a_trained_token_is_an_error(who):
    empty = np.array([[1, 1, 1], [0, 0, 0]])
    message = r"'rewards' has 1 for row 1, which has no trained token; reward_on_gap='drop' leaves it out"
    fails(who, ValueError, message, r=np.array([0.0, 1.0]), mask=empty)
    fails(who, ValueError, message, r=np.array([0.0, 1.0]), mask=empty, reward_on_gap="previous")
    SCANS[who](np.array([0.0, 1.0]), V, mask=empty, reward_on_gap="drop")
    SCANS[who](np.array([1.0, 0.0]), V, mask=empty)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("who", SCANS)
def test_numbers_that_are_not_finite_are_named(who, bad):
    for name in ("rewards", "values"):
        if who == "discounted_returns" and name == "values":
            continue
        r, v = R.copy(), V.copy()
        {"rewards": r, "values": v}[name][1, 1] = bad
        message = rf"'{name}' must be finite at trained tokens, got (NaN|-?inf) at row 1, position 1"
        for gamma in (0.0, 1.0):
            fails(who, ValueError, message, r=r, v=v, gamma=gamma)
        lengths = [3, 3]
        packed = [rm.Ragged.from_padded(x, lengths=lengths) for x in (r, v)]
        fails(who, ValueError, message, r=packed[0], v=packed[1])
    fails(
        who,
        ValueError,
        "'rewards' must be finite, got (NaN|-?inf) at row 1",
        r=np.array([0.0, bad]),
        **one_a_row(who),
    )


def one_a_row(who):
    return {"lengths": [3, 3]} if who == "discounted_returns" else {}


def test_log_ratios_are_numbers():
    w = np.zeros((2, 3))
    w[0, 2] = math.nan
    with pytest.raises(
        ValueError, match=r"vtrace\(\): 'log_ratios' must be finite at trained tokens, got NaN at row 0, p"
    ):
        temporal.vtrace(R, V, w)
    with pytest.raises(ValueError, match=r"vtrace\(\): 'log_ratios' must have shape \(2, 3\)"):
        temporal.vtrace(R, V, w[:, :2])


@pytest.mark.parametrize("gaps", ["carry", "state"])
def test_what_lies_at_gaps_need_not_be_finite_but_where_gaps_are_ignored(gaps):
    v = V.copy()
    v[1, 1] = math.nan
    for who in ("gae", "td_lambda", "vtrace"):
        SCANS[who](R, v, mask=MASK, gaps=gaps)
        fails(who, ValueError, "'values' must be finite.*, got NaN at row 1, position 1", v=v, mask=MASK, gaps="ignore")


@pytest.mark.parametrize("who", WITH_VALUES)
def test_overflow_is_not_silent(who):
    huge = np.full((2, 3), 1.7e308)
    fails(who, ValueError, "'rewards' and values must be small enough for sums in float64", r=huge, v=-huge, gamma=1.0)


@pytest.mark.parametrize("who", WITH_VALUES)
def test_shapes_and_forms(who):
    packed = rm.Ragged.from_lists([[0.0], [0.0, 1.0]])
    other = rm.Ragged.from_lists([[0.0, 0.0], [1.0]])
    fails(who, ValueError, r"'rewards' must have shape \(2, 3\) \(= that of 'values'\), got \(2, 2\)", r=R[:, :2])
    fails(who, ValueError, r"'rewards' must have length 2 \(= the number of rows\), got 3", r=np.zeros(3))
    fails(who, ValueError, "'rewards' must have the offsets of 'values'", r=other, v=packed)
    fails(who, TypeError, "'rewards' must be a Ragged with the offsets of 'values'", r=R, v=packed)
    fails(who, TypeError, "'rewards' must be a padded array like 'values'", r=packed)
    fails(who, TypeError, r"'values' must be a Ragged or a padded 2-D array \[B, T\], got a 1-D float64 array", v=V[0])
    fails(who, TypeError, r"'values' must be a Ragged or a padded 2-D array \[B, T\], got a 3-D", v=V[None])
    fails(who, ValueError, "'lengths' goes with padded arrays", r=packed, v=packed, lengths=[1, 2])


def test_returns_of_one_reward_a_row_need_to_know_the_rows():
    fails("discounted_returns", ValueError, r"one number a row in 'rewards' needs 'mask' or 'lengths'", r=np.zeros(2))
    message = r"'rewards' must have length 3 \(= the number of rows\), got 2"
    fails("discounted_returns", ValueError, message, r=np.zeros(2), lengths=[1, 2, 3])
    fails("discounted_returns", TypeError, r"'rewards' must be a Ragged or a padded 2-D array", r=R[None])


@pytest.mark.parametrize("who", SCANS)
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.full((2, 3), 1j), "must hold floats, ints or bools, got complex128"),
        (np.full((2, 3), "a"), "must hold floats, ints or bools, got <U1"),
        (np.zeros((2, 3), "M8[s]"), r"must hold floats, ints or bools, got datetime64\[s\]"),
        (np.zeros((2, 3), object), "must hold floats, ints or bools, got object"),
        (np.ma.zeros((2, 3)), "is a masked array"),
    ],
)
def test_dtypes(who, bad, message):
    fails(who, TypeError, f"'rewards' {message}", r=bad)
    if who not in {"discounted_returns", "vtrace", "two_level_gae"}:
        fails(who, TypeError, f"'values' {message}", v=bad)


@pytest.mark.parametrize("who", SCANS)
def test_bools_and_ints_are_numbers(who):
    whole = SCANS[who](R.astype(bool), V)
    real = SCANS[who](R, V)
    pairs = zip(whole, real, strict=True) if isinstance(real, tuple) else [(whole, real)]
    for ours, theirs in pairs:
        assert ours.tolist() == theirs.tolist()


def test_whiten_is_a_whiten():
    fails("gae", TypeError, "'whiten' must be a Whiten or None, got True", whiten=True)


@pytest.mark.parametrize("who", SCANS)
def test_tensors_that_cannot_be_read(who):
    torch = pytest.importorskip("torch")
    r, v = torch.from_numpy(R), torch.from_numpy(V)
    fails(who, ValueError, "'rewards' requires grad", r=r.clone().requires_grad_(), v=v)
    fails(who, ValueError, "'rewards' .*meta", r=r.to("meta"), v=v)
    if who in WITH_VALUES and who not in {"vtrace", "two_level_gae"}:
        fails(who, ValueError, "'values' requires grad", r=r, v=v.clone().requires_grad_())
        fails(who, ValueError, "'values' .*meta", r=r, v=v.to("meta"))


@pytest.mark.gpu
@pytest.mark.parametrize("who", WITH_VALUES)
def test_token_tensors_on_another_device_than_the_values_are_refused(who):
    import torch

    fails(who, ValueError, "'rewards' .*cuda", r=torch.from_numpy(R).cuda(), v=torch.from_numpy(V))


@pytest.mark.gpu
def test_two_levels_have_no_kernel():
    import torch

    r, v = torch.from_numpy(R).cuda(), torch.from_numpy(V).cuda()
    with pytest.raises(ValueError, match=r"'values' has one number a token and is on cuda:0, .* call \.cpu"):
        temporal.two_level_gae(r, v, torch.zeros_like(v, dtype=torch.int64))
