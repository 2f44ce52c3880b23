"""Scans over token tensors on a device: the public functions through the kernels, against CPU path and oracles."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

import rollmath as rm
from rollmath import temporal

torch = pytest.importorskip("torch")

NAN, INF = float("nan"), float("inf")


def along_axis(self, inputs):
    """What the interpreter does element by element, for all elements of the other axis at once."""
    first, *rest = zip(*(np.moveaxis(x.handle.data, self.axis, 0) for x in inputs), strict=True)
    types = [x.dtype for x in inputs]
    steps = [[self.to_tensor(x, t) for x, t in zip(first, types, strict=True)]]
    for each in rest:
        steps.append(self.combine_fn.fn(*steps[-1], *(self.to_tensor(x, t) for x, t in zip(each, types, strict=True))))
    columns = zip(*steps, strict=True)
    made = (np.stack([np.asarray(x.handle.data).reshape(np.shape(first[0])) for x in column]) for column in columns)
    return [self.to_tensor(np.moveaxis(x, 0, self.axis), t) for x, t in zip(made, types, strict=True)]


def reduced(self, inputs):
    """The same for reductions along one axis."""
    first, *rest = zip(*(np.moveaxis(x.handle.data, self.axis, 0) for x in inputs), strict=True)
    types = [x.dtype for x in inputs]
    total = [self.to_tensor(x, t) for x, t in zip(first, types, strict=True)]
    for each in rest:
        total = self.combine_fn.fn(*total, *(self.to_tensor(x, t) for x, t in zip(each, types, strict=True)))
    return list(total)


@pytest.fixture
def quick(device, monkeypatch):
    """Scans and reductions that the interpreter does fast."""
    if device == "cpu":
        from triton.runtime import interpreter

        monkeypatch.setattr(interpreter.ScanOps, "generic_scan", along_axis)
        monkeypatch.setattr(interpreter.ReduceOps, "generic_reduce", reduced)


@pytest.fixture
def on(device, monkeypatch, quick):
    """``on(function, *arrays, **options)`` on the device: tensors go there, results come back; small chunks."""
    from rollmath.kernels import scan, vtrace
    from rollmath.ops import _device_rows

    for module in (scan, vtrace):
        monkeypatch.setattr(module, "tile", lambda longest, most, *tokens, block=None: (4 * most, 4, 1))

    def there(x):
        if isinstance(x, rm.Ragged) and isinstance(x.values, torch.Tensor):
            return x.with_values(x.values.to(device))
        return x.to(device) if isinstance(x, torch.Tensor) else x

    def back(x):
        if isinstance(x, tuple):
            return type(x)(*map(back, x))
        if isinstance(x, rm.Ragged):
            assert x.values.device.type == device
            return x.with_values(x.values.cpu())
        assert x.device.type == device
        return x.cpu()

    def call(function, *arrays, **options):
        with monkeypatch.context() as patch:
            patch.setattr(_device_rows, "INTERPRET", device == "cpu")
            return back(function(*map(there, arrays), **{k: there(v) for k, v in options.items()}))

    return call


def flat(x):
    return (x.values if isinstance(x, rm.Ragged) else x).double().numpy()


def same(got, expected, rtol=3e-7, atol=1e-7):
    """The same form and type, and numbers that differ by a rounding at most."""
    pairs = zip(got, expected, strict=True) if isinstance(got, tuple) else [(got, expected)]
    for ours, theirs in pairs:
        assert type(ours) is type(theirs)
        a, b = ((x.values if isinstance(x, rm.Ragged) else x) for x in (ours, theirs))
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        assert_allclose(flat(ours), flat(theirs), rtol=rtol, atol=atol)


def batch(shape, seed=0, *, on_gaps=False, dtype=torch.float32, keep=0.7):
    """Rewards, values, log-ratios, mask."""
    rng = np.random.default_rng(seed)
    r, v, w = (torch.from_numpy(rng.normal(size=shape)).to(dtype) for _ in range(3))
    mask = torch.from_numpy(rng.random(shape) < keep)
    if not on_gaps:
        r = torch.where(mask, r, 0)
    return r, v, 0.3 * w, mask


def ragged(x, lengths):
    return rm.Ragged.from_lengths(x, lengths)


GAE = {"gamma": 0.97, "lam": 0.9}
LENGTHS = torch.tensor([40, 0, 33])


@pytest.mark.parametrize("gaps", ["carry", "state", "ignore"])
@pytest.mark.parametrize("bootstrap", ["zero", "last", "given"])
def test_gae_of_padded_rows(on, gaps, bootstrap):
    r, v, _, mask = batch((3, 40))
    options = {**GAE, "mask": mask, "lengths": LENGTHS, "gaps": gaps, "truncated": torch.tensor([1, 1, 0])}
    options["bootstrap"] = torch.tensor([0.5, 1.0, -2.0]) if bootstrap == "given" else bootstrap
    same(on(temporal.gae, r, v, **options), temporal.gae(r, v, **options))


@pytest.mark.parametrize("lengths", [[5, 0, 70, 1, 17], [0, 0], [31], [33, 64], []])
def test_gae_of_packed_rows(on, lengths):
    r, v, _, mask = batch(sum(lengths), seed=len(lengths))
    masks = [mask, ragged(mask.to(torch.int64) * 2, lengths), None]
    for given in masks if len(lengths) < 2 else masks[1:2]:
        rewards = ragged(r, lengths)
        same(
            on(temporal.gae, rewards, ragged(v, lengths), mask=given, **GAE),
            temporal.gae(rewards, ragged(v, lengths), mask=given, **GAE),
        )


@pytest.mark.parametrize("width", [0, 1, 8, 9, 32, 33, 64])
def test_rows_that_end_about_a_chunk(on, width):
    r, v, _, _ = batch((1, width), seed=width)
    same(on(temporal.gae, r, v, **GAE), temporal.gae(r, v, **GAE))


@pytest.mark.parametrize("on_gap", ["raise", "previous", "drop"])
@pytest.mark.parametrize("function", ["gae", "vtrace", "discounted_returns"])
def test_rewards_at_gaps_and_the_oracle(on, oracle, function, on_gap):
    r, v, w, mask = batch((2, 23), seed=3, on_gaps=on_gap != "raise")
    mask[:, 0] = True
    names = {"gae": [r, v], "vtrace": [r, v, w], "discounted_returns": [r]}[function]
    options = {"gamma": 0.9, "reward_on_gap": on_gap}
    got = on(getattr(temporal, function), *names, mask=mask, **options)
    module = {"discounted_returns": "returns"}.get(function, function)
    lists = [x.double().tolist() for x in names]
    expected = oracle(f"temporal/{module}.py", function)(*lists, mask=mask.tolist(), **options)
    pairs = zip(got, expected, strict=True) if function != "discounted_returns" else [(got, expected)]
    for ours, theirs in pairs:
        assert_allclose(flat(ours), theirs, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("gaps", ["carry", "state", "ignore", "cut"])
def test_discounted_returns(on, gaps):
    r, _, _, mask = batch((3, 35), seed=4)
    options = {"mask": mask, "gaps": gaps, "lengths": [35, 30, 2], "bootstrap": [1.0, 2.0, 3.0], "gamma": 0.9}
    same(on(temporal.discounted_returns, r, **options), temporal.discounted_returns(r, **options))


@pytest.mark.parametrize("gaps", ["carry", "state", "ignore"])
@pytest.mark.parametrize("clips", [{}, {"clip_rho": 1.5, "clip_c": 0.5, "clip_pg_rho": INF}])
def test_vtrace(on, gaps, clips):
    r, v, w, mask = batch((3, 21), seed=5)
    options = {"mask": mask, "gaps": gaps, "lam": [0.9, 1.0, 0.0], "gamma": 0.95, "bootstrap": "last", **clips}
    options["lengths"] = [21, 16, 3]
    same(on(temporal.vtrace, r, v, w, **options), temporal.vtrace(r, v, w, **options))


@pytest.mark.parametrize("gaps", ["carry", "state", "ignore"])
@pytest.mark.parametrize("function", ["gae", "vtrace"])
def test_one_reward_a_row_goes_to_its_last_trained_token(on, function, gaps):
    _, v, w, mask = batch((3, 20), seed=6)
    mask[:, 14:] = False
    mask[2] = False
    r = torch.tensor([1.0, -2.0, 0.0])
    arrays = [r, v, w] if function == "vtrace" else [r, v]
    options = {"mask": mask, "gaps": gaps, "gamma": 0.9, "lam": 0.8}
    call = getattr(temporal, function)
    same(on(call, *arrays, **options), call(*arrays, **options))
    short = {"lengths": LENGTHS.clamp(max=20), "gaps": gaps, "reward_on_gap": "drop"}
    same(on(call, *arrays, **short), call(*arrays, **short))


def test_one_reward_a_row_in_the_form_of_the_mask(on):
    mask = batch((3, 20))[3]
    r = torch.tensor([1.0, -2.0, 0.5])
    call = temporal.discounted_returns
    same(on(call, r, mask=mask, gamma=0.9), call(r, mask=mask, gamma=0.9))


def test_a_lambda_of_each_row_and_one_of_the_returns(on):
    r, v, _, mask = batch((3, 20), seed=7)
    for lam, lam_returns in [(0.5, 1.0), ([0.0, 0.5, 1.0], 0.3), (torch.tensor([0.0, 0.5, 1.0]), np.array(0.25))]:
        options = {"lam": lam, "lam_returns": lam_returns, "gamma": 0.9, "mask": mask}
        same(on(temporal.gae, r, v, **options), temporal.gae(r, v, **options))


def test_rows_that_take_no_part(on):
    r, v, w, mask = batch((3, 20), seed=8)
    r[1], v[1] = NAN, NAN
    valid = torch.tensor([True, False, True])
    same(on(temporal.gae, r, v, mask=mask, valid=valid), temporal.gae(r, v, mask=mask, valid=valid))
    same(on(temporal.vtrace, r, v, w, valid=valid), temporal.vtrace(r, v, w, valid=valid))


def test_what_describes_rows_may_be_on_the_host(on):
    r, v, _, mask = batch((2, 20), seed=19)
    options = {"mask": mask.numpy(), "lengths": [20, 9], "lam": np.array([0.5, 1.0]), "valid": [True, True]}
    same(on(temporal.gae, r, v, **options), temporal.gae(r, v, **options))
    packed = [ragged(x.reshape(-1), [20, 20]) for x in (r, v)]
    bits = rm.Ragged.from_lengths(mask.reshape(-1).numpy().astype(np.int32), [20, 20])
    same(on(temporal.gae, *packed, mask=bits), temporal.gae(*packed, mask=bits))


def test_turns_and_td_lambda(on):
    r, v, _, mask = batch((3, 20), seed=9)
    same(on(temporal.turn_gae, r, v), temporal.turn_gae(r, v))
    same(on(temporal.td_lambda, r, v, mask=mask), temporal.td_lambda(r, v, mask=mask))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64, torch.int64])
def test_other_types(on, dtype):
    r, v, w, mask = batch((2, 20), seed=10)
    r, v, w = ((4 * x).to(dtype) for x in (r, v, w / 4))
    rtol = 1e-13 if dtype == torch.float64 else 3e-7
    same(on(temporal.gae, r, v, mask=mask, **GAE), temporal.gae(r, v, mask=mask, **GAE), rtol, rtol)
    same(on(temporal.vtrace, r, v, w, mask=mask), temporal.vtrace(r, v, w, mask=mask), rtol, rtol)
    mixed = on(temporal.gae, r, v.double(), mask=mask.to(torch.int32))
    same(mixed, temporal.gae(r, v.double(), mask=mask.to(torch.int32)), 1e-13, 1e-13)


def test_any_strides(on):
    r, v, _, mask = batch((2, 50), seed=11)
    cut = slice(13, 48)
    views = [
        [x[:, cut] for x in (r, v, mask)],
        [r[:, cut].contiguous(), v[:, cut], mask[:, cut].clone()],
        [x[:, cut].t().contiguous().t() for x in (r, v, mask)],
        [r[:, cut], v[:1, cut].expand(2, -1), mask[:, cut]],
    ]
    for a, b, m in views:
        copies = [x.contiguous() for x in (a, b, m)]
        same(on(temporal.gae, a, b, mask=m), temporal.gae(copies[0], copies[1], mask=copies[2]))


def test_vectors_of_any_strides(on):
    x = torch.arange(46.0)
    r, v, w = (ragged(x[k : k + 40 : 2] / 9, [13, 0, 7]) for k in (0, 1, 2))
    same(on(temporal.gae, r, v, **GAE), temporal.gae(r, v, **GAE))
    same(
        on(temporal.vtrace, r, v, w.with_values(w.values.flip(0) / 9)),
        temporal.vtrace(r, v, w.with_values(w.values.flip(0) / 9)),
    )
    same(on(temporal.whiten, r), temporal.whiten(r))
    one = ragged(torch.tensor([0.5]).expand(20), [13, 0, 7])
    same(on(temporal.gae, one, one, **GAE), temporal.gae(one, one, **GAE))
    r, v, _, _ = batch((3, 9))
    every = torch.tensor([[9, 99], [0, 99], [4, 99]])
    options = {"lengths": every[:, 0], "bootstrap": x[:6:2], "truncated": every[:, 0], "valid": every[:, 0]}
    options["lam"] = (x / 99)[:6:2]
    same(on(temporal.gae, r, v, **options), temporal.gae(r, v, **options))


def test_decays_have_all_their_digits(on):
    r = torch.tensor([[0.0, 1.0]], dtype=torch.float64)
    for gamma in (0.1, 1 / 3, 1 - 2.0**-53, 5e-324, 0.0):
        assert on(temporal.discounted_returns, r, gamma=gamma)[0, 0] == gamma


def test_gaps_hold_garbage_and_change_no_other_number(on):
    r, v, w, mask = batch((2, 20), seed=12)
    r[~mask], v[~mask], w[~mask] = 0, NAN, INF
    lengths = mask.sum(1)
    short = [ragged(x[mask], lengths) for x in (r, v, w)]
    for call, n in ((temporal.gae, 2), (temporal.vtrace, 3)):
        for ours, theirs in zip(on(call, *(r, v, w)[:n], mask=mask), on(call, *short[:n]), strict=True):
            # On the CPU these are the same bits; here chunks cut the row elsewhere, and a last bit may differ.
            assert_allclose(ours[mask], theirs.values, rtol=1.2e-7, atol=1e-12)
            assert not ours[~mask].any()


def flawed(kind):
    """A batch of which row 1 is one that the CPU raises for."""
    r, v, w, mask = batch((2, 34), seed=13)
    mask[1, 3] = True
    options = {"mask": mask}
    if kind == "a reward at a gap":
        mask[1, 30], r[1, 30] = False, 1.0
    if kind == "a reward before the first token":
        mask[1, :2], r[1, 1], options["reward_on_gap"] = False, 1.0, "previous"
        mask[0, :2], r[0, :2] = False, 0.0
        mask[0, 2], mask[0, 5], r[0, 5] = True, False, 2.0
    if kind == "a reward of no token":
        mask[1] = False
        r = torch.ones(2)
    if kind == "NaN":
        mask[1, 32], v[1, 32] = True, NAN
    if kind == "infinity in the first token":
        mask[1, 0], v[1, 0] = True, INF
    if kind == "a value after the last":
        options["bootstrap"] = torch.tensor([1.0, INF])
    if kind == "a lambda":
        options["lam"] = torch.tensor([0.5, 1.25])
    if kind == "a length":
        options["lengths"] = torch.tensor([33, 35])
    return r, v, w, options


@pytest.mark.parametrize("call", ["gae", "vtrace"])
@pytest.mark.parametrize(
    "kind",
    [
        "a reward at a gap",
        "a reward before the first token",
        "a reward of no token",
        "NaN",
        "infinity in the first token",
        "a value after the last",
        "a lambda",
        "a length",
    ],
)
def test_a_row_that_the_cpu_raises_for_is_nan(on, monkeypatch, call, kind):
    r, v, w, options = flawed(kind)
    arrays = [r, v, w] if call == "vtrace" else [r, v]
    with pytest.raises(ValueError):  # noqa: PT011 - tests of the CPU path have the messages
        getattr(temporal, call)(*arrays, **options)
    if kind in {"a lambda", "a length"}:
        # On a device nobody has looked; in the interpreter these come from the device as well.
        options = {k: torch.as_tensor(x) for k, x in options.items() if k != "reward_on_gap"}
    got = on(getattr(temporal, call), *arrays, **options)
    others = [0]
    good = {k: x[others] if isinstance(x, torch.Tensor) else x for k, x in options.items()}
    expected = getattr(temporal, call)(*(x[others] for x in arrays), **good)
    for ours, theirs in zip(got, expected, strict=True):
        assert ours[1].isnan().all()
        assert_allclose(ours[others], theirs, rtol=3e-7, atol=1e-7)


def test_a_log_ratio_that_a_clip_would_swallow_is_seen(on):
    r, v, w, _ = batch((2, 9))
    w[0, 4] = INF
    got = on(temporal.vtrace, r, v, w)
    assert all(x[0].isnan().all() and not x[1].isnan().any() for x in got)


def test_a_length_below_0_and_a_reward_without_a_position(on):
    r, v, w, _ = batch((3, 9))
    lengths = torch.tensor([9, -1, 4])
    for got in (on(temporal.gae, r, v, lengths=lengths), on(temporal.vtrace, r, v, w, lengths=lengths)):
        assert all(x[1].isnan().all() and not x[[0, 2]].isnan().any() for x in got)
    for call, arrays in ((temporal.gae, (v,)), (temporal.vtrace, (v, w))):
        got = on(call, torch.ones(3), *arrays, lengths=torch.tensor([9, 0, 4]))
        assert all(x[1].isnan().all() and not x[[0, 2]].isnan().any() for x in got)


@pytest.mark.parametrize("lengths", [None, [9, 0]])
def test_whitening_does_not_hide_a_reward_of_no_token(on, lengths):
    v, mask = batch((2, 9))[1], torch.ones(2, 9, dtype=torch.bool)
    mask[1] = lengths is not None
    options = {"mask": mask, "lengths": None if lengths is None else torch.tensor(lengths)}
    got = on(temporal.gae, torch.ones(2), v, whiten=rm.conventions.Whiten(), **options)
    assert got.advantages.isnan().all()
    assert got.returns[1].isnan().all()
    assert on(rm.group.reinforce_pp, torch.tensor([1.0, 2.0]), **options).isnan().all()
    r = rm.Ragged.from_lengths(torch.ones(9), [9, 0])
    packed = on(temporal.gae, torch.ones(2), r, whiten=rm.conventions.Whiten())
    assert packed.advantages.values.isnan().all()


@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 1.0), (0.99, 0.95), (0.5, 0.1)])
@pytest.mark.parametrize("accumulate", [torch.float64, torch.float32])
@pytest.mark.usefixtures("quick")
def test_long_rows_do_not_lose_digits(device, gamma, lam, accumulate):
    """On a GPU the length of a long agent trajectory; values up to 1e4; decays whose products underflow."""
    from rollmath.kernels import scan

    n = 32768 if device == "cuda" else 1100
    rng = np.random.default_rng(14)
    r, v = (torch.from_numpy(1e4 * rng.uniform(-1, 1, (1, n))).float() for _ in range(2))
    a, g = torch.empty(1, n, device=device), torch.empty(1, n, device=device)
    options = {"gamma": gamma, "lam": lam, "advantages": a, "returns": g, "accumulate": accumulate}
    scan.gae(r.to(device), v.to(device), block=None if device == "cuda" else 512, **options)
    expected = temporal.gae(r.double(), v.double(), gamma=gamma, lam=lam)
    for ours, theirs in zip((a, g), expected, strict=True):
        # Sums of n terms: what float32 can keep is counted from the largest of them.
        scale = theirs.abs().max().item() if accumulate == torch.float32 else theirs.abs().numpy()
        wrong = np.abs(ours.cpu().double().numpy() - theirs.numpy()) / np.maximum(scale, 1e-3)
        assert wrong.max() < (2e-6 if accumulate == torch.float32 else 1e-7)


def test_ratios_far_from_1(on, oracle):
    r, v, _, _ = batch((1, 24), seed=15)
    w = torch.full((1, 24), 20.0)
    w[0, ::2] = -20.0
    options = {"clip_rho": 1.0, "clip_c": INF, "gamma": 0.9}
    got = on(temporal.vtrace, r, v, w, **options)
    expected = oracle("temporal/vtrace.py", "vtrace")(*(x.double().tolist() for x in (r, v, w)), **options)
    for ours, theirs in zip(got, expected, strict=True):
        assert_allclose(flat(ours), theirs, rtol=1e-6, atol=1e-9)


def test_the_same_call_gives_the_same_bits(on, same_bits):
    r, v, w, mask = batch((3, 20), seed=16)
    for call, arrays in ((temporal.gae, (r, v)), (temporal.vtrace, (r, v, w))):
        first, second = (on(call, *arrays, mask=mask) for _ in range(2))
        for a, b in zip(first, second, strict=True):
            same_bits(a.numpy(), b.numpy())


def test_whiten_inside_is_whiten_afterwards(on, same_bits):
    r, v, _, mask = batch((3, 20), seed=17)
    how = rm.conventions.Whiten(ddof=0, eps_place="add")
    inside = on(temporal.gae, r, v, mask=mask, whiten=how)
    after = on(temporal.whiten, on(temporal.gae, r, v, mask=mask).advantages, mask=mask, how=how)
    same_bits(inside.advantages.numpy(), after.numpy())
    same(inside, temporal.gae(r, v, mask=mask, whiten=how), rtol=1e-6, atol=1e-6)
    same(
        on(rm.group.reinforce_pp, r, mask=mask, gamma=0.9),
        rm.group.reinforce_pp(r, mask=mask, gamma=0.9), rtol=1e-6, atol=1e-6,
    )  # fmt: skip


def test_results_are_written_where_they_are_wanted(on, device):
    r, v, w, mask = batch((2, 20), seed=18)
    for call, arrays in ((temporal.gae, (r, v)), (temporal.vtrace, (r, v, w))):
        out = (torch.full((2, 20), 9.0, device=device), torch.full((2, 20), 9.0, device=device))
        got = on(call, *arrays, mask=mask, out=out)
        same(got, call(*arrays, mask=mask))
        assert torch.equal(out[0].cpu(), got[0])
    inputs = [x.clone() for x in (r, v, mask)]
    on(temporal.gae, r, v, mask=mask)
    assert all(torch.equal(a, b) for a, b in zip(inputs, (r, v, mask), strict=True))
