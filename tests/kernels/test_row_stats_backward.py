"""kernels/row_stats_backward.py against autograd in float64, interpreted on the CPU or compiled on a GPU."""

import itertools
import math

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

from rollmath.kernels.row_stats import forward  # noqa: E402
from rollmath.kernels.row_stats_backward import OUTPUTS, backward  # noqa: E402

INF = torch.inf


def statistics(x, labels, ids, member, temperature, softcap):
    """Every output in differentiable float64, and the logits as the softmax sees them. ``member``: bool [N, V].

    What is -inf comes with the gradient of the log-sum-exp that it has in it, and its value apart.
    """
    if softcap is not None:
        x = torch.where(x.isinf(), x, softcap * torch.tanh(x.where(x.isfinite(), 0) / softcap))
    possible = (x != -INF) & member
    z = (x / temperature).where(possible, 0)
    lse = z.masked_fill(~possible, -INF).logsumexp(1, keepdim=True)
    ell = z - lse
    p = ell.exp().where(possible, 0)
    entropy = -(p * ell).sum(1)
    found = {
        "logprob": ell.gather(1, labels[:, None])[:, 0],
        "entropy": entropy,
        "lse": lse[:, 0],
        "sum_p_squared": (p * p).sum(1),
        "var_logprob": (p * (ell + entropy[:, None]) ** 2).sum(1),
        "p_max": p.amax(1),
        "mean_logprob": ell.where(member, 0).sum(1) / member.sum(1),
        "gathered": ell.gather(1, ids),
    }
    values = {name: value.detach().float() for name, value in found.items()}
    values["logprob"][~possible.gather(1, labels[:, None])[:, 0]] = -INF
    values["gathered"][~possible.gather(1, ids)] = -INF
    return x.where(possible, -INF).detach(), found, values


class Case:
    """Logits, a gradient for each output, what the forward pass keeps, and the exact derivative."""

    def __init__(self, x, *, names=OUTPUTS, temperature=1.0, softcap=None, member=None, ids=None, seed=0, labels=None):
        draw = torch.Generator().manual_seed(seed)
        rows, width = x.shape[:-1].numel(), x.shape[-1]
        self.x = x
        flat = x.reshape(rows, width).double().requires_grad_()
        per_row = torch.as_tensor(temperature, dtype=torch.float64).expand(rows)
        inverse = (1 / per_row).float()
        self.inverse = inverse if isinstance(temperature, torch.Tensor) else 1 / temperature
        self.labels = torch.randint(width, (rows,), generator=draw) if labels is None else labels
        self.ids = torch.randint(width, (rows, 5), generator=draw) if ids is None else ids
        everything = torch.ones(rows, width, dtype=torch.bool)
        member = everything if member is None else member
        # The temperature that the kernels have: what its inverse is in float32.
        seen, found, self.saved = statistics(
            flat, self.labels, self.ids, member, 1 / inverse.double()[:, None], softcap
        )
        self.grads = {
            name: torch.randn(found[name].shape, generator=draw, dtype=torch.float64).float() for name in names
        }
        total = sum((g * found[name]).sum() for name, g in self.grads.items())
        (self.exact,) = torch.autograd.grad(total, flat)
        self.saved["argmax"] = seen.argmax(1)
        k = (inverse if isinstance(temperature, torch.Tensor) else torch.tensor(1 / temperature)).double()
        k = (k * math.log2(math.e)).float().double().expand(rows)
        self.saved["shift"] = (seen.amax(1) * k).float().detach()
        bits = seen * k[:, None] - self.saved["shift"].double()[:, None]
        self.saved["log2_l"] = torch.exp2(bits).sum(1).log2().float().detach()
        self.options = {"softcap": softcap}

    def run(self, device, block=32, **options):
        move = lambda x: x.to(device) if isinstance(x, torch.Tensor) else x  # noqa: E731
        given = {name: move(x) for name, x in self.grads.items()}
        saved = {name: move(x) for name, x in self.saved.items()}
        moved = {name: move(x) for name, x in ({"x": self.x} | self.options | options).items()}
        x = moved.pop("x")
        made = backward(
            x, move(self.labels), saved, given,
            inv_temperature=move(self.inverse), ids=move(self.ids), block=block, **moved,
        )  # fmt: skip
        assert made.shape == x.shape
        assert made.dtype == x.dtype
        return made.cpu().reshape(self.exact.shape)


def close(made, exact, atol=1e-6):
    """float32 within ``atol``; narrower dtypes one rounding away, which may fall on the other side of a tie."""
    error = (made.double() - exact).abs()
    eps = torch.finfo(made.dtype).eps
    bound = atol if made.dtype == torch.float32 else atol + eps / 2 * 1.001 * exact.abs()
    assert (error <= bound).all(), f"{float((error - bound).max())} beyond the bound"


def logits(rows, width, dtype=torch.float32, scale=3, seed=1):
    return (torch.randn(rows, width, generator=torch.Generator().manual_seed(seed)) * scale).to(dtype)


@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.parametrize("temperature", [0.5, torch.tensor([0.3, 1.0, 4.0])])
def test_each_output_alone(device, name, temperature):
    case = Case(logits(3, 77), names=(name,), temperature=temperature)
    close(case.run(device), case.exact, 3e-6 if name == "var_logprob" else 1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("width", [1, 5, 8, 17, 67])
def test_all_outputs_together(device, dtype, width):
    case = Case(logits(2, width, dtype), ids=torch.randint(width, (2, 3)), temperature=0.7)
    close(case.run(device), case.exact, 3e-6)


@pytest.mark.parametrize("offset", [1000.0, -1000.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_offset_costs_no_digits(device, offset, dtype):
    case = Case(((logits(3, 60) * 8).round() / 8 + offset).to(dtype), names=("logprob", "entropy"), temperature=0.7)
    close(case.run(device), case.exact)


def test_impossible_tokens_get_exactly_nothing(device):
    x = logits(5, 70)
    x[0, 3:60:7] = -INF
    x[1, :33] = -INF
    x[2, 5:] = -INF
    x[3, :69] = -INF
    case = Case(x, labels=torch.tensor([3, 40, 1, 69, 0]))
    made = case.run(device)
    assert (made[x == -INF] == 0).all()
    close(made, case.exact, 3e-6)


def test_a_row_without_distribution_is_nan_and_harms_no_other(device):
    x = logits(4, 40)
    case = Case(x, names=("logprob", "entropy"))
    x[1], x[2, 7], x[3, 9] = -INF, torch.nan, INF
    for name in ("shift", "log2_l", "logprob", "entropy"):
        case.saved[name][1:] = torch.nan
    case.saved["shift"][1], case.saved["log2_l"][1] = torch.finfo(torch.float32).min, -INF
    made = case.run(device)
    close(made[:1], case.exact[:1])
    assert made[1:].isnan().all()


def test_without_a_possible_token_all_of_a_set_is_nan(device):
    x, member = logits(3, 40), torch.zeros(3, 40, dtype=torch.bool)
    member[:, 4:9] = True
    allowed = (torch.arange(4, 9).repeat(2), torch.tensor([0, 5, 5, 10]))
    case = Case(x, member=member)
    case.x[2] = -INF
    for name in set(case.saved) - {"argmax"}:
        case.saved[name][1:] = torch.nan
    case.saved["shift"][1:], case.saved["log2_l"][1:] = torch.finfo(torch.float32).min, -INF
    made = case.run(device, allowed=tuple(y.to(device) for y in allowed))
    close(made[:1], case.exact[:1], 3e-6)
    assert (made[1] == 0).all()
    assert torch.equal(made[2].isnan(), member[2])


def test_takes_what_the_forward_kernel_keeps(device):
    x = logits(3, 60, torch.bfloat16)
    x[1, 5:30] = -INF
    case = Case(x, temperature=0.7, softcap=30.0, labels=torch.tensor([3, 7, 59]))
    names = (*OUTPUTS, "argmax")
    made = forward(
        x.to(device), case.labels.to(device), outputs=names, inv_temperature=1 / 0.7, softcap=30.0,
        ids=case.ids.to(device),
    )  # fmt: skip
    case.saved = {name: value.cpu() for name, value in made.items()}
    close(case.run(device), case.exact, 3e-6)


@pytest.mark.parametrize("poison", [torch.nan, INF, -INF])
def test_rows_into_which_nothing_flows_are_zero_whatever_is_in_them(device, poison):
    case = Case(logits(4, 40))
    for g in case.grads.values():
        g[1] = 0
    case.x[1:3] = poison
    for name in set(case.saved) - {"argmax"}:
        case.saved[name][1:3] = torch.nan
    made = case.run(device, mask=torch.tensor([True, True, False, True]))
    assert (made[1:3] == 0).all()
    close(made[::3], case.exact[::3], 3e-6)


def test_ignored_labels(device):
    x, labels = logits(3, 40), torch.tensor([4, 0, 7])
    case = Case(x, names=("logprob", "entropy"), labels=labels)
    other = Case(x, names=("logprob", "entropy"), labels=labels)
    other.grads["logprob"] = other.grads["logprob"].index_fill(0, torch.tensor(1), 0)
    case.saved["logprob"][1] = 0
    # The ignored label is a token here, which still gets its share of the entropy.
    assert torch.equal(case.run(device, ignore_index=0), other.run(device))
    case.labels = torch.tensor([4, -100, 7])
    assert torch.equal(case.run(device, ignore_index=-100), other.run(device))
    alone = Case(x, names=("logprob",), labels=torch.tensor([4, -100, 7]) % 40)
    alone.labels = torch.tensor([4, -100, 7])
    assert (alone.run(device, ignore_index=-100)[1] == 0).all()


def test_labels_out_of_range_touch_nothing(device):
    case = Case(logits(3, 40), names=("logprob",))
    room = torch.full((5, 40), 7.0).to(device)
    case.labels = torch.tensor([-1, 40, 10**12])
    case.run(device, out=room[1:4])
    assert (room[::4] == 7).all()
    assert room[1:4].isfinite().all()


@pytest.mark.parametrize("count", [1, 3, 40])
def test_gathered_duplicates_add_up_and_are_rounded_once(device, count):
    x = logits(2, 50, torch.bfloat16)
    labels = torch.tensor([9, 11])
    ids = torch.randint(8, 13, (2, count), generator=torch.Generator().manual_seed(3))
    x[:, 9] = 12
    case = Case(x, names=("logprob", "p_max", "gathered"), labels=labels, ids=ids)
    close(case.run(device), case.exact)


def test_rows_sum_to_zero(device):
    x = logits(2, 200)
    for name in set(OUTPUTS) - {"lse"}:
        assert Case(x, names=(name,)).run(device, block=256).double().sum(1).abs().max() < 3e-6
    case = Case(x, names=("lse",))
    torch.testing.assert_close(case.run(device, block=256).sum(1), case.grads["lse"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("softcap", [2.0, 30.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_softcap(device, softcap, dtype):
    x = logits(3, 70, dtype, scale=20)
    x[1, 4:20] = -INF
    x[2, :3] = torch.tensor([1e-3, -1e-5, 400.0])
    case = Case(x, softcap=softcap, temperature=0.7, labels=torch.tensor([0, 4, 2]))
    made = case.run(device)
    assert (made[x == -INF] == 0).all()
    close(made, case.exact, 1e-5)


def test_a_logit_that_is_infinite_in_units_of_the_cap_is_capped(device):
    x = torch.tensor([[3e38, 0.25, -3e38, -0.5]])
    case = Case(x, names=("logprob", "entropy"), softcap=0.5, labels=torch.tensor([1]))
    close(case.run(device), case.exact)


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("width", [45, 64])
def test_allowed_sets(device, in_place, width):
    x = logits(4, width, torch.bfloat16)
    member = torch.rand(4, width, generator=torch.Generator().manual_seed(2)) < 0.3
    member[:, 3], member[2] = True, False
    member[2, 5] = True
    x[0, 3] = -INF
    sets = [row.nonzero()[:, 0][torch.randperm(int(row.sum()))] for row in member]
    # Ids that are no tokens are skipped.
    sets[1] = torch.cat([sets[1], torch.tensor([width, -1])])
    offsets = torch.tensor([0, *itertools.accumulate(len(s) for s in sets)])
    case = Case(x, member=member, labels=torch.tensor([3, 3, 4, 5]))
    allowed = (torch.cat(sets).to(torch.int32).to(device), offsets.to(device))
    case.x = x.clone().to(device)
    made = case.run(device, allowed=allowed, out=case.x if in_place else None, parts=2)
    assert (made[~member] == 0).all()
    close(made, case.exact, 3e-6)


def test_offsets_that_lie_are_cut_to_the_list(device):
    case = Case(logits(3, 40), names=("entropy", "mean_logprob"))
    allowed = torch.arange(5, dtype=torch.int32).to(device), torch.tensor([-(2**40), 2, 2**40, 3]).to(device)
    made = case.run(device, allowed=allowed)
    assert (made[:, 5:] == 0).all()
    assert (made[0, :2] != 0).all()
    assert (made[2] == 0).all()


def strided(x):
    """The same numbers in other places: name, tensor."""
    rows, width = x.shape
    padded = torch.full((rows, width + 11), 9.0, dtype=x.dtype)
    padded[:, :width] = x
    shifted = torch.full((rows * width + 3,), 9.0, dtype=x.dtype)
    shifted[3:] = x.flatten()
    apart = torch.full((rows, width, 2), 9.0, dtype=x.dtype)
    apart[:, :, 1] = x
    deep = torch.full((2, 3, 2, 3, width), 9.0, dtype=x.dtype)
    some = deep[:, :2, :1, ::2]
    if rows == some.shape[:-1].numel():
        some.copy_(x.view(some.shape))
    return {
        "padded": padded[:, :width],
        "misaligned": shifted[3:].view(rows, width),
        "columns": x.t().contiguous().t(),
        "apart": apart[..., 1],
        "deep": some,
    }


@pytest.mark.parametrize("layout", ["padded", "misaligned", "columns", "apart", "deep"])
@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("width", [3, 45])
def test_strides_change_no_bit(device, layout, in_place, width):
    x = logits(8 if layout == "deep" else 3, width, torch.bfloat16)
    case = Case(x)
    expected = case.run(device)
    moved = strided(x)[layout]
    if in_place and device == "cpu":
        whole = moved.as_strided((moved.untyped_storage().nbytes() // 2,), (1,), 0)
        mine = torch.zeros_like(whole, dtype=torch.bool).as_strided(moved.shape, moved.stride(), moved.storage_offset())
        mine.fill_(True)
        before, mine = whole.clone(), mine.as_strided(whole.shape, (1,), 0)
        case.x = moved
        assert torch.equal(case.run(device, out=moved), expected)
        assert torch.equal(whole[~mine], before[~mine])
    else:
        case.x = moved
        assert torch.equal(case.run(device), expected)


def test_how_a_row_is_dealt_out_changes_no_bit(device):
    case = Case(logits(2, 133, torch.bfloat16))
    expected = case.run(device, block=256)
    for parts in (1, 3, 5):
        assert torch.equal(case.run(device, parts=parts), expected)
    alone = Case(logits(2, 133, torch.bfloat16))
    alone.x, alone.labels, alone.ids = case.x[1:], case.labels[1:], case.ids[1:]
    alone.grads = {name: g[1:] for name, g in case.grads.items()}
    alone.saved = {name: s[1:] for name, s in case.saved.items()}
    alone.exact = case.exact[1:]
    assert torch.equal(alone.run(device), expected[1:])


def test_a_shard_is_a_part_of_the_whole(device):
    x = logits(3, 50)
    case = Case(x)
    expected = case.run(device)
    for first, last in ((0, 17), (17, 41), (41, 50)):
        case.x, case.exact = x[:, first:last], expected[:, first:last]
        assert torch.equal(case.run(device, first=first, total=50), expected[:, first:last])
    # The last shard may be padded; what is beyond is no token.
    case.x, case.exact = torch.cat([x[:, 41:], torch.full((3, 4), torch.nan)], 1), torch.empty(3, 13)
    made = case.run(device, first=41, total=50)
    assert torch.equal(made[:, :9], expected[:, 41:])
    assert (made[:, 9:] == 0).all()


def test_gradients_may_be_expanded_or_strided(device):
    case = Case(logits(3, 40), names=("logprob", "gathered"), ids=torch.tensor([[1, 2], [3, 3], [0, 9]]))
    case.grads = {"logprob": torch.full((3,), 0.3), "gathered": torch.full((3, 2), -0.7)}
    expected = case.run(device)
    case.grads = {"logprob": torch.tensor(0.3).expand(3), "gathered": torch.tensor(-0.7).expand(3, 2)}
    assert torch.equal(case.run(device), expected)
    case.grads["logprob"] = torch.full((3, 4), 0.3)[:, 2]
    case.grads["gathered"] = torch.full((2, 3), -0.7).t()
    assert torch.equal(case.run(device), expected)


def test_rounded_once(device):
    """bfloat16 is the float64 derivative rounded once, but where float32 lands on the other side of a tie."""
    case = Case(logits(8, 400, torch.bfloat16), names=("logprob", "entropy"))
    made, exact = case.run(device, block=512), case.exact.to(torch.bfloat16)
    other = made != exact
    assert other.float().mean() < 0.002
    steps = made.view(torch.int16).int() - exact.view(torch.int16).int()
    assert steps[other].abs().max() <= 1


def test_nothing_to_do(device):
    for shape in ((0, 5), (2, 0, 5), (3, 0)):
        x = torch.empty(shape).to(device)
        made = backward(x, None, {}, {}, inv_temperature=1.0)
        assert made.shape == shape
