"""What other kernels got wrong in the values of a row, asked of both backends (the table is in docs/kernels.md)."""

import contextlib
import threading

import pytest

torch = pytest.importorskip("torch")

from rollmath import vocab  # noqa: E402

ALL = ("logprob", "entropy", "lse", "sum_p_squared", "var_logprob", "p_max")
BF16, F32 = torch.bfloat16, torch.float32
#: More columns than any block of a kernel has, so that a whole block, the loop and its tail are there.
WIDE = 9001


@pytest.fixture(params=["triton", "torch"])
def stats(request, device):
    """``row_stats`` of one backend, with arguments moved to the device and results moved back."""

    def run(logits, labels=None, **options):
        options = {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in options.items()}
        labels = labels if labels is None else labels.to(device)
        made = vocab.row_stats(logits.to(device), labels, backend=request.param, **options)
        return {name: value.cpu() for name, value in made._asdict().items() if value is not None}

    run.one_at_a_time = request.param == "triton" and device == "cpu"
    return run


def exact(logits, labels, temperature=1.0):
    """The same in float64, by the definitions."""
    z = logits.double() / torch.as_tensor(temperature).double().reshape(-1, 1)
    logp = torch.log_softmax(z, -1)
    p = logp.exp()
    plogp = torch.where(p > 0, p * logp, 0)
    square = torch.where(p > 0, p * logp.square(), 0)
    entropy = -plogp.sum(-1)
    return {
        "logprob": logp.gather(-1, labels[:, None])[:, 0],
        "entropy": entropy,
        "lse": torch.logsumexp(z, -1),
        "sum_p_squared": p.square().sum(-1),
        "var_logprob": square.sum(-1) - entropy.square(),
        "p_max": p.amax(-1),
    }


def agree(made, wanted, **near):
    assert made.keys() == wanted.keys()
    for name, value in made.items():
        assert value.dtype == F32, name
        # One rounding to float32 of the result, and 1e-6.
        bound = 1e-6 + 2e-7 * wanted[name].abs() * near.get(name, 1)
        off = (value.double() - wanted[name]).abs()
        assert ((off <= bound) | (value.double() == wanted[name])).all(), (name, off.max().item())


def logits_of(*shape, dtype=F32, seed=0, scale=3.0):
    return (torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale).to(dtype)


@pytest.mark.parametrize("dtype", [F32, BF16])
def test_minus_inf_scattered(stats, dtype):
    x = logits_of(3, WIDE, dtype=dtype)
    x[torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) < 0.4] = -torch.inf
    x[:, 7] = 1.0
    y = torch.tensor([7, 7, 7])
    agree(stats(x, y, outputs=ALL), exact(x, y), var_logprob=8)


def test_minus_inf_in_the_whole_first_block(stats):
    x = logits_of(2, WIDE)
    x[0, :8200] = -torch.inf
    x[1, 500:] = -torch.inf
    y = torch.tensor([9000, 3])
    agree(stats(x, y, outputs=ALL), exact(x, y), var_logprob=8)


def test_minus_inf_everywhere_but_once(stats):
    x = torch.full((3, WIDE), -torch.inf)
    x[0, 0] = x[1, 4096] = x[2, -1] = torch.tensor(-3.0)
    made = stats(x, torch.tensor([0, 4096, WIDE - 1]), outputs=ALL)
    for name, value in {
        "logprob": 0,
        "entropy": 0,
        "lse": -3,
        "sum_p_squared": 1,
        "var_logprob": 0,
        "p_max": 1,
    }.items():
        assert (made[name] - value).abs().max() <= 1e-7, name
    impossible = stats(x, torch.tensor([1, 1, 1]), outputs=("logprob", "entropy"))
    assert torch.equal(impossible["logprob"], torch.full((3,), -torch.inf))
    assert impossible["entropy"].abs().max() <= 1e-7


def test_nan_stays_in_its_row(stats):
    x = logits_of(4, WIDE)
    x[1, 4100], x[2, 0] = torch.nan, torch.inf
    y = torch.tensor([5, 5, 5, 5])
    made = stats(x, y, outputs=ALL)
    assert all(value[1:3].isnan().all() for value in made.values())
    keep = torch.tensor([0, 3])
    agree({k: v[keep] for k, v in made.items()}, exact(x[keep], y[keep]), var_logprob=8)


@pytest.mark.parametrize("level", [-120.0, -1e4, -1e8])
def test_all_logits_far_below_zero(stats, level):
    # A running maximum that begins at 0 instead of -inf loses every exponential.
    x = logits_of(2, 700, scale=1.0) + level
    y = torch.tensor([3, 699])
    agree(stats(x, y, outputs=("logprob", "entropy")), {k: exact(x, y)[k] for k in ("logprob", "entropy")})


@pytest.mark.parametrize("dtype", [F32, BF16])
@pytest.mark.parametrize("offset", [-1000.0, 100.0, 1000.0])
def test_a_common_offset_changes_nothing(stats, offset, dtype):
    # The log-sum-exp form subtracts two large numbers; a maximum and the logarithm of a sum do not.
    x = (logits_of(3, 2100) + offset).to(dtype)
    y = torch.tensor([0, 1000, 2099])
    agree(stats(x, y, outputs=("logprob", "entropy")), {k: exact(x, y)[k] for k in ("logprob", "entropy")})


@pytest.mark.parametrize("width", [1, 2, 5, 7, 8, 17, 1000, 1025, 4097])
def test_widths_that_no_block_divides(stats, width):
    x = logits_of(3, width, dtype=BF16)
    y = torch.tensor([0, width // 2, width - 1])
    made = stats(x, y, outputs=ALL)
    assert (made["logprob"] <= 1e-7).all()
    agree(made, exact(x, y), var_logprob=8)


def test_bfloat16_logits_lose_nothing(stats):
    x = logits_of(4, WIDE, dtype=BF16, scale=0.1)
    y = torch.tensor([0, 10, 9000, 4097])
    made = stats(x, y, outputs=("logprob", "entropy"), temperature=0.7)
    assert (made["entropy"] > 8.9).all()
    agree(made, {k: exact(x, y, 0.7)[k] for k in ("logprob", "entropy")})


def test_logprobs_are_not_positive(stats):
    x = logits_of(4, 3000, scale=0.01)
    x[torch.arange(4), torch.arange(4)] += torch.tensor([10.0, 20.0, 60.0, 1000.0])
    made = stats(x, torch.arange(4), outputs=("logprob",), temperature=0.9)["logprob"]
    assert (made <= 1e-7).all()
    assert made.double().sub(exact(x, torch.arange(4), 0.9)["logprob"]).abs().max() < 1e-6


def test_temperature_of_each_row(stats):
    x, y, t = logits_of(3, 600, dtype=BF16), torch.tensor([1, 2, 3]), torch.tensor([0.5, 1.0, 2.7])
    agree(stats(x, y, outputs=ALL, temperature=t), exact(x, y, t), var_logprob=8)


def test_arguments_with_strides_of_their_own(stats):
    # Labels cut from prompt and completion, a mask that is not, temperatures of every second row, ids of a wider table.
    x = logits_of(2, 3, 50)
    labels = torch.arange(14).reshape(2, 7)[:, 4:]
    mask = torch.tensor([[True, False, True, True], [True, True, True, False]])[:, :3]
    temperature = torch.linspace(0.5, 2, 12).reshape(2, 6)[:, ::2]
    ids = torch.arange(60).reshape(2, 3, 10).remainder(50)[..., 1:9:3]
    assert not any(a.is_contiguous() for a in (labels, mask, temperature, ids))
    made = stats(x, labels, outputs=("logprob", "gathered"), temperature=temperature, mask=mask, ids=ids)
    logp = torch.log_softmax(x.double() / temperature.double()[..., None], -1)
    wanted = torch.where(mask, logp.gather(-1, labels[..., None])[..., 0], 0)
    assert (made["logprob"] - wanted).abs().max() < 1e-6
    assert (made["gathered"] - torch.where(mask[..., None], logp.gather(-1, ids), 0)).abs().max() < 1e-6


@pytest.mark.parametrize(
    "view",
    [
        "padded vocabulary",
        "cut sequence",
        "cut sequence of padded vocabulary",
        "transposed",
        "every second column",
        "misaligned",
    ],
)
@pytest.mark.parametrize("dtype", [F32, BF16])
def test_views_of_logits(stats, view, dtype):
    def poisoned(*shape):
        return torch.full(shape, torch.nan, dtype=dtype)

    values = logits_of(2, 3, 517, dtype=dtype)
    whole, at = {
        "padded vocabulary": (poisoned(2, 3, 560), (..., slice(517))),
        "cut sequence": (poisoned(2, 4, 517), (slice(None), slice(3))),
        "cut sequence of padded vocabulary": (poisoned(2, 4, 523), (slice(None), slice(3), slice(3, 520))),
        "transposed": (poisoned(517, 3, 2).permute(2, 1, 0), (...,)),
        "every second column": (poisoned(2, 3, 1034), (..., slice(1, None, 2))),
        "misaligned": (poisoned(2 * 3 * 517 + 1)[1:].view(2, 3, 517), (...,)),
    }[view]
    logits = whole[at]
    logits.copy_(values)
    labels = torch.arange(7)[1:].reshape(2, 3)  # int64 that starts 8 bytes into its memory
    made = stats(logits, labels, outputs=("logprob", "entropy"))
    wanted = exact(values.reshape(6, 517), labels.reshape(-1))
    agree({k: v.reshape(-1) for k, v in made.items()}, {k: wanted[k] for k in made})


@pytest.fixture
def dirty_memory():
    """Fresh tensors hold NaN (or the largest integer), as memory of a GPU may after use."""
    before = torch.are_deterministic_algorithms_enabled()
    # torch.use_deterministic_algorithms() also imports the compiler, which takes seconds.
    torch._C._set_deterministic_algorithms(True, warn_only=True)
    assert torch.empty(3).isnan().all()
    yield
    torch._C._set_deterministic_algorithms(before)


def test_rows_that_are_left_out_are_written(stats, dirty_memory):
    x, y = logits_of(4, 100), torch.tensor([5, -100, 7, 8])
    mask = torch.tensor([True, True, False, True])
    made = stats(x, y, outputs=ALL, ignore_index=-100, mask=mask)
    assert torch.equal(made["logprob"][1:3], torch.zeros(2))
    assert all(value[2] == 0 for value in made.values())
    wanted = exact(x, y.clamp(min=0))
    assert all((made[k] - wanted[k])[[0, 3]].abs().max() < 1e-5 for k in made)
    assert (made["entropy"][1] - wanted["entropy"][1]).abs() < 1e-5


def test_labels_out_of_range_read_nothing(stats):
    x = logits_of(3, 40)
    made = stats(x, torch.tensor([40, -1, 2**40]), outputs=("logprob", "entropy"), check=False)
    assert made["logprob"].isnan().all()
    assert made["entropy"].isfinite().all()


@pytest.mark.parametrize("grad", [False, True])
def test_logits_are_left_alone(stats, grad):
    x, y = logits_of(3, 500, dtype=BF16), torch.tensor([1, 2, 3])
    before = x.clone()
    x.requires_grad_(grad)
    with torch.no_grad():
        stats(x, y, outputs=ALL, temperature=0.5)
    assert torch.equal(x, before)
    stats(x, y, outputs=ALL, temperature=0.5)
    assert torch.equal(x, before)


def test_row_offsets_beyond_32_bits(stats):
    # Two rows 2^31 + 64 elements apart; what lies between is never touched and takes no memory.
    step = 2**31 + 64
    memory = torch.empty(step + 300, dtype=BF16)
    x = memory.as_strided((2, 300), (step, 1))
    x.copy_(logits_of(2, 300, dtype=BF16))
    y = torch.tensor([299, 0])
    agree(stats(x, y, outputs=("logprob", "entropy")), {k: exact(x, y)[k] for k in ("logprob", "entropy")})


def test_a_row_has_the_same_bits_anywhere(stats):
    x, y = logits_of(5, 5000, dtype=BF16), torch.arange(5)
    made = stats(x, y, outputs=ALL)
    order = torch.tensor([3, 0, 4, 1, 2])
    shuffled = stats(x[order], y[order], outputs=ALL)
    again = stats(x, y, outputs=ALL)
    alone = stats(x[2:3], y[2:3], outputs=ALL)
    for name, value in made.items():
        assert torch.equal(value[order], shuffled[name]), name
        assert torch.equal(value, again[name]), name
        assert torch.equal(value[2:3], alone[name]), name


def test_several_threads(stats):
    x, y = logits_of(8, 3, 700), torch.tensor([1, 2, 3])
    wanted = [stats(rows, y) for rows in x]
    made = [None] * 8

    # Triton's interpreter puts its own functions into triton.language while it runs, so only one can run.
    turn = threading.Lock() if stats.one_at_a_time else contextlib.nullcontext()

    def work(i):
        with turn:
            made[i] = stats(x[i], y)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(a[k], b[k]) for a, b in zip(made, wanted, strict=True) for k in b)


def test_an_allowed_set_is_its_own_distribution(stats):
    # Also where the mask of a sampler is meant: the entropy is that of what could be sampled.
    x = logits_of(2, 60)
    allowed = torch.zeros(2, 60, dtype=torch.bool)
    allowed[0, [3, 50, 9]] = True
    allowed[1, [59]] = True
    y = torch.tensor([50, 59])
    masked = x.masked_fill(~allowed, -torch.inf)
    made = stats(x, y, outputs=("logprob", "entropy"), allowed=vocab.TokenSets.of_mask(allowed))
    agree(made, {k: exact(masked, y)[k] for k in made})


def extra_bytes(device, work):
    """Bytes of the largest allocation on a CPU, of all that live at once on a GPU."""
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return torch.cuda.max_memory_allocated() - before
    with torch.autograd.profiler.profile(profile_memory=True) as profile:
        work()
    return max(event.cpu_memory_usage for event in profile.function_events)


@pytest.mark.parametrize("cut", [False, True])
def test_no_copy_of_the_logits(device, cut):
    whole = logits_of(2, 5, 8192, dtype=BF16)
    x = (whole[:, :-1] if cut else whole).to(device)
    y = torch.zeros(x.shape[:-1], dtype=torch.int64, device=device)

    def work():
        vocab.row_stats(x, y, outputs=ALL, temperature=0.8, backend="triton")

    work()
    assert extra_bytes(device, x.clone) >= x.numel() * 2
    assert extra_bytes(device, work) < 8192
