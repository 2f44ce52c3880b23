"""The forward kernels against float64: values, shapes, strides, -inf, masks, sets, parts."""

from itertools import pairwise

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

from rollmath.kernels import row_stats  # noqa: E402
from rollmath.kernels._config import Config, config_of, parts_of  # noqa: E402

SMALL = Config(lanes=32, warps=1)
NAMES = row_stats.NAMES
DTYPES = [torch.bfloat16, torch.float16, torch.float32]


def data(device, rows, vocab, dtype=torch.float32, offset=0.0, seed=0):
    made = torch.Generator().manual_seed(seed)
    x = (torch.randn(rows, vocab, generator=made) * 3 + offset).to(dtype)
    labels = torch.randint(vocab, (rows,), generator=made)
    ids = torch.randint(vocab, (rows, 3), generator=made)
    return x.to(device), labels.to(device), ids.to(device)


def forward(x, labels, ids=None, outputs=NAMES, inv_temperature=1.0, **options):
    outputs = outputs if ids is not None else tuple(n for n in outputs if n != "gathered")
    outputs = outputs if labels is not None else tuple(n for n in outputs if n != "logprob")
    given = {"config": SMALL, **options}
    return row_stats.forward(x, labels, outputs=outputs, inv_temperature=inv_temperature, ids=ids, **given)


@pytest.mark.parametrize(
    ("dtype", "vocab"),
    [
        *((torch.bfloat16, vocab) for vocab in (1, 2, 5, 7, 8, 9, 16, 17, 128, 517, 3001)),
        *((torch.float32, vocab) for vocab in (1, 3, 4, 5, 16, 129, 517)),
        *((torch.float16, vocab) for vocab in (7, 17, 300)),
    ],
)
def test_every_output_for_any_length(device, stats_of_rows, near, vocab, dtype):
    x, labels, ids = data(device, 1, vocab, dtype)
    near(forward(x, labels, ids), stats_of_rows(x, labels, ids=ids))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("offset", [1000.0, -1000.0])
def test_an_offset_costs_no_digits(device, stats_of_rows, near, dtype, offset):
    x, labels, ids = data(device, 2, 517, dtype, offset)
    expected = stats_of_rows(x, labels, ids=ids)
    got = forward(x, labels, ids)
    near(got, expected, atol=1e-6, rtol=0, names=["logprob", "entropy", "sum_p_squared", "p_max", "argmax"])
    near(got, expected, names=["mean_logprob", "var_logprob", "gathered"])
    near(got, expected, rtol=1.2e-7, names=["lse"])


@pytest.mark.parametrize("name", NAMES)
def test_each_output_alone(device, stats_of_rows, near, name):
    x, labels, ids = data(device, 1, 300)
    got = forward(x, labels, ids, outputs=(name,))
    assert {name, "shift", "log2_l"} <= set(got) <= {name, "shift", "log2_l", "entropy", "argmax"}
    near(got, stats_of_rows(x, labels, ids=ids))


@pytest.mark.parametrize(
    "outputs",
    [("entropy", "mean_logprob"), ("var_logprob", "mean_logprob"), ("entropy", "sum_p_squared"), ("argmax", "entropy")],
)
@pytest.mark.parametrize("sets", [False, True])
def test_outputs_in_pairs(device, stats_of_rows, near, outputs, sets):
    x, labels, ids = data(device, 1, 300)
    allowed = random_sets(device, 1, 300, 200) if sets else None
    got = forward(x, labels, ids, outputs=outputs, allowed=allowed)
    near(got, stats_of_rows(x, labels, ids=ids, allowed=allowed))


def test_what_backward_needs(device):
    x, labels, ids = data(device, 2, 40)
    assert "entropy" in forward(x, labels, outputs=("var_logprob",))
    assert "argmax" in forward(x, labels, outputs=("p_max",))
    got = forward(x, labels, ids)
    k = torch.tensor(1.0).exp().log2().to(device)
    torch.testing.assert_close(got["shift"], x.amax(1) * k)
    lse = (got["shift"] + got["log2_l"]) / k
    torch.testing.assert_close(lse, got["lse"])
    assert all(got[n].dtype == (torch.int64 if n == "argmax" else torch.float32) for n in got)


@pytest.mark.parametrize("temperature", [1e-3, 0.3, 2.5, 1e3])
def test_temperatures(device, stats_of_rows, near, temperature):
    x, labels, ids = data(device, 3, 261, torch.bfloat16)
    expected = stats_of_rows(x, labels, ids=ids, inv_temperature=1 / temperature)
    near(forward(x, labels, ids, inv_temperature=1 / temperature), expected, rtol=5e-7)
    per_row = torch.tensor([1 / temperature, 1.0, 0.5], dtype=torch.float32, device=device)
    expected = stats_of_rows(x, labels, ids=ids, inv_temperature=per_row)
    near(forward(x, labels, ids, inv_temperature=per_row), expected, rtol=5e-7)


def test_a_bad_temperature_stays_in_its_row(device):
    x, labels, ids = data(device, 2, 40)
    got = forward(x, labels, ids, inv_temperature=torch.tensor([torch.nan, 1.0], device=device))
    assert all(got[n][0].isnan().all() for n in NAMES if n != "argmax")
    assert all(got[n][1].isfinite().all() for n in NAMES)


@pytest.mark.parametrize("softcap", [5.0, 30.0])
@pytest.mark.parametrize("scale", [0.01, 1.0, 20.0])
def test_softcap(device, stats_of_rows, near, softcap, scale):
    x, labels, ids = data(device, 2, 517)
    x *= scale
    x[0, ::5] = -torch.inf
    expected = stats_of_rows(x, labels, ids=ids, softcap=softcap, inv_temperature=0.7)
    # Three units in the last place of a number near the cap.
    got = forward(x, labels, ids, softcap=softcap, inv_temperature=0.7)
    largest = expected.pop("argmax").long()
    near(got, expected, atol=4e-7 * max(8, softcap))
    # Saturated logits tie.
    both = softcap * torch.tanh(x.cpu().double().gather(1, torch.stack([largest, got["argmax"].cpu()], 1)) / softcap)
    torch.testing.assert_close(both[:, 0], both[:, 1], atol=4e-7 * softcap, rtol=0)


@pytest.mark.parametrize("where", ["scattered", "first block", "all but one", "all"])
@pytest.mark.parametrize("split", [1, 2])
def test_minus_inf_is_probability_zero(device, stats_of_rows, near, where, split):
    x, labels, ids = data(device, 2, 517)
    ids[:, 0] = labels
    at = {
        "scattered": torch.arange(517) % 3 == 0,
        "first block": torch.arange(517) < 256,
        "all but one": torch.arange(517) != 401,
        "all": torch.ones(517, dtype=torch.bool),
    }[where]
    x[0, at.to(device)] = -torch.inf
    labels[0] = 401
    expected = stats_of_rows(x, labels, ids=ids)
    got = forward(x, labels, ids, split=split)
    near(got, expected)
    if where == "all":
        assert got["lse"][0] == -torch.inf
        assert got["argmax"][0] == 0
        assert got["entropy"][0].isnan()
    else:
        assert got["logprob"].isfinite().all()


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize(("at", "split"), [(0, 1), (300, 2), (516, 1)])
def test_nan_and_plus_inf_stay_in_their_row(device, bad, at, split):
    x, labels, ids = data(device, 2, 517)
    x[0, at] = bad
    labels[0] = 5
    got = forward(x, labels, ids, split=split)
    assert all(got[n][0].isnan().all() for n in NAMES if n != "argmax")
    assert 0 <= got["argmax"][0] < 517
    assert all(got[n][1].isfinite().all() for n in NAMES)


def test_the_lowest_number_is_as_good_as_minus_inf(device, stats_of_rows, near):
    # Masked logits are often the lowest number of the dtype.
    x, labels, _ = data(device, 2, 300, torch.bfloat16)
    x[:, 7:200] = torch.finfo(torch.bfloat16).min
    labels[:] = 3
    near(forward(x, labels), stats_of_rows(x, labels), names=["logprob", "entropy", "lse", "p_max", "var_logprob"])


def views(x):
    """Logits of 4 rows and 24 columns, of every kind of stride."""
    rows, vocab = 4, 24
    flat = torch.zeros(2000, dtype=x.dtype, device=x.device)

    def filled(view):
        view.copy_(x.reshape(view.shape))
        return view

    yield "contiguous", x
    yield "[:, :-1]", filled(flat[:120].view(1, 5, 24)[:, :-1])
    yield "[:, :-1] of two", filled(flat[:144].view(2, 3, 24)[:, :-1])
    yield "padded vocabulary", filled(flat[:160].view(rows, 40)[:, :vocab])
    yield "odd padding", filled(flat[: 4 * 37].view(rows, 37)[:, :vocab])
    yield "odd offset", filled(flat[3 : 3 + 96].view(rows, vocab))
    yield "odd rows and offset", filled(flat[5 : 5 + 4 * 29].view(rows, 29)[:, :vocab])
    yield "every second column", filled(flat[: 4 * 48].view(rows, 48)[:, ::2])
    yield "transposed", filled(flat[:96].view(vocab, rows).t())
    yield "transposed rows", filled(flat[:96].view(2, 2, vocab).transpose(0, 1))
    yield "three strides", filled(flat[: 3 * 3 * 2 * 24].view(3, 3, 2, 24)[:2, :2, :1])
    yield "four strides", filled(flat[: 3 * 2 * 3 * 24].view(3, 2, 3, 24)[:2, :, :1])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_any_strides(device, stats_of_rows, near, dtype):
    x, labels, ids = data(device, 4, 24, dtype)
    expected = stats_of_rows(x, labels, ids=ids)
    for name, view in views(x):
        before = view.clone()
        near(forward(view, labels, outputs=("logprob", "argmax", "mean_logprob")), expected)
        assert torch.equal(view, before), name


def test_repeated_rows(device, stats_of_rows, near):
    x, labels, ids = data(device, 1, 50)
    labels, ids = labels.expand(3).contiguous(), ids.expand(3, 3).contiguous()
    near(forward(x.expand(3, 50), labels, ids), stats_of_rows(x.expand(3, 50), labels, ids=ids))
    one = x[:, :1].expand(1, 50)
    near(forward(one, labels[:1], ids[:1]), stats_of_rows(one, labels[:1], ids=ids[:1]))


@pytest.mark.parametrize(("split", "vocab"), [(2, 5), (3, 517), (8, 1024)])
def test_parts_of_rows(device, stats_of_rows, near, split, vocab):
    x, labels, ids = data(device, 2, vocab, torch.bfloat16, offset=200.0)
    near(forward(x, labels, ids, split=split), stats_of_rows(x, labels, ids=ids))


@pytest.mark.parametrize(
    ("edges", "sets"), [((0, 100, 517), False), ((0, 7, 8, 300, 517), False), ((0, 517), True), ((0, 300, 517), True)]
)
def test_shards_merge(device, stats_of_rows, near, edges, sets):
    x, labels, ids = data(device, 3, 517, offset=-300.0)
    x[1, 100:] = -torch.inf
    labels[2] = -100
    allowed = None
    if sets:
        allowed = random_sets(device, 3, 517, 90)
    options = {"inv_temperature": 1.3, "allowed": allowed, "ids": ids, "total": 517}
    parts = [
        row_stats.partials(x[:, a:b], labels, outputs=NAMES, first=a, config=SMALL, **options)
        for a, b in pairwise(edges)
    ]
    assert parts[0].shape == (3, len(row_stats.PARTIALS) + 3)
    got = row_stats.merge(torch.stack(parts), labels, outputs=NAMES, total=517, ids=ids, ignore_index=-100)
    expected = stats_of_rows(x, labels, ids=ids, inv_temperature=1.3, allowed=allowed)
    expected["logprob"][2] = 0
    near(got, expected, atol=3e-6)


def test_a_split_shard_is_a_partial_too(device, near):
    x, labels, ids = data(device, 2, 700)
    options = {"outputs": NAMES, "inv_temperature": 1.0, "ids": ids, "config": SMALL, "first": 50, "total": 1000}
    whole = row_stats.partials(x, labels, **options)
    split = row_stats.partials(x, labels, split=2, **options)
    torch.testing.assert_close(split, whole, atol=1e-5, rtol=1e-6)


def test_a_part_without_a_possible_token_changes_no_bit(device):
    x, labels, ids = data(device, 2, 300)
    options = {"outputs": NAMES, "inv_temperature": 1.0, "ids": ids, "config": SMALL, "total": 340}
    full = row_stats.partials(x, labels, **options)
    empty = row_stats.partials(torch.full_like(x[:, :40], -torch.inf), labels, first=300, **options)
    merging = {"outputs": [n for n in NAMES if n != "mean_logprob"], "total": 340, "ids": ids}
    alone = row_stats.merge(full[None], labels, **merging)
    for order in ((full, empty), (empty, full)):
        both = row_stats.merge(torch.stack(order), labels, **merging)
        assert all(torch.equal(both[n], alone[n]) for n in both)


def test_a_part_without_tokens_has_no_argmax(device):
    x = torch.full((1, 2), -torch.inf, device=device)
    allowed = torch.tensor([1], device=device), torch.tensor([0, 1], device=device)
    options = {"outputs": ("argmax",), "inv_temperature": 1.0, "allowed": allowed, "total": 2}
    parts = torch.stack([row_stats.partials(x[:, i : i + 1], None, first=i, **options) for i in range(2)])
    assert row_stats.merge(parts, None, outputs=("argmax",), total=2)["argmax"].tolist() == [1]
    assert row_stats.merge(parts[:1], None, outputs=("argmax",), total=2)["argmax"].tolist() == [0]


def test_the_first_of_ties(device):
    x = torch.zeros(1, 700, device=device)
    x[0, [650, 333, 40]] = 7.0
    for split in (1, 2, 8):
        assert forward(x, None, outputs=("argmax",), split=split)["argmax"].tolist() == [40]
    # A shift rounds: of two neighbours at an offset the larger one wins all the same.
    x[0, 40] = 1000.0
    x[0, 650] = torch.nextafter(torch.tensor(1000.0), torch.tensor(1e9))
    for split in (1, 4):
        got = forward(x, None, outputs=("argmax", "p_max"), inv_temperature=0.6, split=split)
        assert got["argmax"].tolist() == [650]


def random_sets(device, rows, vocab, size, dtype=torch.int32):
    made = torch.Generator().manual_seed(1)
    lists = [torch.randperm(vocab, generator=made)[: max(1, size - 7 * i)] for i in range(rows)]
    offsets = torch.tensor([0, *[len(t) for t in lists]]).cumsum(0)
    return torch.cat(lists).to(dtype).to(device), offsets.to(device)


@pytest.mark.parametrize(("dtype", "listed"), [(torch.bfloat16, torch.int32), (torch.float32, torch.int64)])
def test_allowed_sets(device, stats_of_rows, near, dtype, listed):
    x, labels, ids = data(device, 3, 517, dtype, offset=100.0)
    tokens, offsets = random_sets(device, 3, 517, 400, listed)
    labels[0], ids[0, 0] = tokens[2].long(), tokens[3].long()
    x[1, 5:300] = -torch.inf
    expected = stats_of_rows(x, labels, ids=ids, allowed=(tokens, offsets), inv_temperature=1.4)
    near(forward(x, labels, ids, allowed=(tokens, offsets), inv_temperature=1.4), expected)
    view = torch.zeros(3, 601, dtype=dtype, device=device)[:, 1:518]
    view.copy_(x)
    near(forward(view, labels, ids, allowed=(tokens, offsets), inv_temperature=1.4), expected)


def test_sets_with_odd_tokens(device, stats_of_rows, near):
    x, labels, ids = data(device, 5, 40)
    lists = [[], [-1, 40, 7, 2**31 - 1], [0], [39, 4, 11], [3, 4]]
    tokens = torch.tensor(sum(lists, []), dtype=torch.int64, device=device)  # noqa: RUF017
    offsets = torch.tensor([0, 0, 4, 5, 8, 10], device=device)
    labels[:] = torch.tensor([1, 7, 0, 5, 4], device=device)
    x[3, [4, 11]] = 9.0
    got = forward(x, labels, ids, allowed=(tokens, offsets), mask=torch.tensor([1, 1, 1, 1, 0], device=device).bool())
    expected = stats_of_rows(x, labels, ids=ids, allowed=(tokens, offsets))
    for name in expected:
        expected[name][4] = 0
    expected["mean_logprob"][0] = torch.nan
    near(got, expected)
    assert got["entropy"][0].isnan()
    assert got["lse"][0] == -torch.inf
    assert got["logprob"][1:3].abs().max() < 1e-7  # alone in its set
    assert got["logprob"][3] == -torch.inf  # not in it
    assert got["argmax"][3] == 4
    # Offsets that lie are cut to the list.
    wild = torch.tensor([-5, 3, 3, 10**9, 10**9, 10**9], device=device)
    forward(x, labels, ids, allowed=(tokens, wild))


def test_labels_out_of_range_are_not_read(device):
    x, labels, _ = data(device, 6, 20)
    labels[:] = torch.tensor([-1, 20, 2**40, -(2**40), 19, -100], device=device)
    ids = labels[:, None].contiguous()
    got = forward(x, labels, ids, ignore_index=-100)
    assert got["logprob"].isnan().tolist() == [True] * 4 + [False] * 2
    assert got["logprob"][5] == 0
    assert got["gathered"][:, 0].isnan().tolist() == [True] * 4 + [False, True]
    # In the vocabulary, but not in these columns.
    got = forward(x, labels, ids, total=21, first=1)
    assert got["logprob"][4].isfinite()
    assert forward(x, labels + 1, ids, total=30)["logprob"].tolist()[4] == -torch.inf


def test_masked_rows_are_not_read(device, stats_of_rows, near):
    x, labels, ids = data(device, 3, 517)
    x[1] = torch.nan
    labels[1] = 2**50
    mask = torch.tensor([True, False, True], device=device)
    for split in (1, 3):
        got = forward(x, labels, ids, mask=mask, split=split)
        assert all((got[n][1] == 0).all() for n in got)
        expected = stats_of_rows(x, labels, ids=ids)
        for name in expected:
            expected[name][1] = 0
        near(got, expected)


@pytest.mark.parametrize("sets", [False, True])
def test_columns_beyond_the_vocabulary_are_no_tokens(device, sets):
    x, labels, ids = data(device, 2, 300)
    x[:, 290:] = torch.nan
    labels[0], ids[0, 0] = 289, 290
    allowed = random_sets(device, 2, 300, 250) if sets else None
    got = forward(x, labels, ids, total=290, allowed=allowed)
    alone = forward(x[:, :290], labels, ids, allowed=allowed)
    for name in got:
        torch.testing.assert_close(got[name], alone[name], atol=0, rtol=0, equal_nan=True, msg=name)
    assert got["gathered"][0, 0].isnan()
    assert got["entropy"].isfinite().all()


def test_no_columns_are_no_distribution(device):
    x, labels, ids = data(device, 2, 5)
    for options in ({"total": 5, "first": 5}, {}):
        got = forward(x if options else x[:, :0], labels, ids, **options)
        assert got["entropy"].isnan().all()
        assert (got["lse"] == -torch.inf).all()
    # And nothing to a merge.
    options = {"outputs": NAMES, "inv_temperature": 1.0, "ids": ids, "total": 5}
    parts = [row_stats.partials(x, labels, **options), row_stats.partials(x[:, :0], labels, first=5, **options)]
    merging = {"outputs": NAMES, "total": 5, "ids": ids}
    alone = row_stats.merge(torch.stack(parts[:1]), labels, **merging)
    both = row_stats.merge(torch.stack(parts), labels, **merging)
    assert all(torch.equal(both[n], alone[n]) for n in both)


@pytest.mark.parametrize(("split", "vocab"), [(1, 520), (2, 520), (1, 517)])
def test_rows_do_not_know_each_other(device, split, vocab):
    # Rows of 517 logits begin anywhere, and stay where they are.
    x, labels, ids = data(device, 4, vocab, torch.bfloat16)
    order = torch.tensor([2, 0, 3, 1], device=device)
    whole = forward(x, labels, ids, split=split)
    again = forward(x[order], labels[order], ids[order], split=split)
    one = forward(x[2:3], labels[2:3], ids[2:3], split=split)
    for name in whole:
        assert vocab == 517 or torch.equal(whole[name][order], again[name])
        assert torch.equal(whole[name][2:3], one[name])


def test_a_row_of_nan(device):
    x, labels, ids = data(device, 2, 300)
    x[0] = torch.nan
    for options in ({}, {"split": 2}, {"allowed": random_sets(device, 2, 300, 40)}):
        got = forward(x, labels, ids, **options)
        assert all(got[n][0].isnan().all() for n in NAMES if n != "argmax")
        assert 0 <= got["argmax"][0] < 300
        assert not got["entropy"][1].isnan()


@pytest.mark.parametrize("shape", [(0, 7), (2, 0, 7)])
def test_zero_rows(device, shape):
    x = torch.zeros(shape, device=device)
    none, ids = torch.zeros(0, dtype=torch.int64, device=device), torch.zeros(0, 2, dtype=torch.int64, device=device)
    got = forward(x, none, ids)
    assert got["logprob"].shape == (0,)
    assert got["gathered"].shape == (0, 2)
    assert row_stats.partials(x, none, outputs=NAMES, inv_temperature=1.0).shape == (0, 10)
    assert forward(x, none, split=4)["entropy"].shape == (0,)


def test_many_ids(device, stats_of_rows, near):
    x, labels, _ = data(device, 1, 300)
    ids = torch.arange(300, device=device)[None].contiguous()
    near(forward(x, labels, ids, split=2), stats_of_rows(x, labels, ids=ids))
    near(forward(x, labels, ids), stats_of_rows(x, labels, ids=ids))
    tokens = torch.arange(0, 300, 2, device=device)
    allowed = tokens, torch.tensor([0, 150], device=device)
    near(forward(x, labels, ids, allowed=allowed), stats_of_rows(x, labels, ids=ids, allowed=allowed))


def test_what_would_read_out_of_bounds_is_refused(device):
    x, labels, ids = data(device, 3, 20)
    with pytest.raises(AssertionError):
        forward(x, labels[:2])
    with pytest.raises(AssertionError):
        forward(x, labels, ids[:, ::2])
    with pytest.raises(AssertionError):
        forward(x, labels, config=Config(2, 1))
    with pytest.raises(AssertionError):
        forward(x, labels, allowed=(labels, torch.zeros(3, dtype=torch.int64, device=device)))


def test_sizes_of_launches(monkeypatch):
    assert config_of(151936, 8) == Config(512, 4, 1)
    assert config_of(7, 8) == Config(32, 1, 1)
    assert config_of(1000, 8) == Config(128, 1, 1)
    monkeypatch.setenv("ROLLMATH_KERNEL_CONFIG", "256x2x3")
    assert config_of(151936, 8) == Config(256, 2, 3)
    for wrong in ("100x4", "512x3", "512x4x", "4x1", "x", "512x4x1x1", "8192"):
        monkeypatch.setenv("ROLLMATH_KERNEL_CONFIG", wrong)
        with pytest.raises(ValueError, match=f"for the first two, as 512x4x1, got '{wrong}'$"):
            config_of(7, 8)
    assert parts_of(10, 151936, torch.device("cpu")) == 1


def test_the_rule_of_parts(monkeypatch):
    from rollmath.kernels import _config

    monkeypatch.setattr(_config, "_processors", lambda index: 132)
    cuda = torch.device("cuda", 0)
    assert [parts_of(n, 151936, cuda) for n in (0, 1, 100, 264, 527, 528, 8192)] == [1, 16, 8, 2, 2, 1, 1]
    assert parts_of(1, 32000, cuda) == 1
    assert parts_of(1, 32768, cuda) == 4
