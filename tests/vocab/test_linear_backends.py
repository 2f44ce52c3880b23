"""The kernels under linear_row_stats: in Triton's interpreter without a GPU, compiled with one."""

import pytest

torch = pytest.importorskip("torch")

from rollmath import vocab  # noqa: E402
from rollmath.vocab._row_stats import NAMES  # noqa: E402
from rollmath.vocab._shard import VocabShard  # noqa: E402

N, H, V = 3, 8, 300


@pytest.fixture
def case(device):
    generator = torch.Generator().manual_seed(0)
    made = {
        "hidden": torch.randn(N, H, generator=generator),
        "weight": torch.randn(V, H, generator=generator),
        "bias": torch.randn(V, generator=generator),
        "labels": torch.randint(V, (N,), generator=generator),
        "ids": torch.randint(V, (N, 2), generator=generator),
        "temperature": torch.rand(N, generator=generator) + 0.5,
    }
    return {name: x.to(device) for name, x in made.items()}


def run(case, backend, *, dtype=torch.float32, outputs=NAMES, **options):
    """Values, then gradients."""
    factors = {name: case[name].to(dtype).requires_grad_() for name in ("hidden", "weight", "bias")}
    stats = vocab.linear_row_stats(
        factors["hidden"], factors["weight"], case["labels"], bias=factors["bias"], outputs=outputs,
        ids=case["ids"] if "gathered" in outputs else None, backend=backend, **options,
    )  # fmt: skip
    made = {name: x for name, x in stats._asdict().items() if x is not None}
    sum(((1 + i) * x).sum() for i, (name, x) in enumerate(made.items()) if name != "argmax").backward()
    return {**made, **{f"d{name}": x.grad for name, x in factors.items()}}


def close(got, want, atol):
    assert got.keys() == want.keys()
    for name, x in got.items():
        assert x.dtype == want[name].dtype
        most = float(want[name].abs().max()) if name[0] == "d" else 1.0
        torch.testing.assert_close(x, want[name], rtol=2e-6, atol=atol * most, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize("workspace", [1 << 20, 128 * 2 * 4], ids=["whole", "chunks"])
@pytest.mark.parametrize("softcap", [None, 2.0])
def test_the_kernels_agree_with_torch(case, workspace, softcap):
    options = {"workspace": workspace, "softcap": softcap, "temperature": case["temperature"]}
    close(run(case, "triton", **options), run(case, "torch", **options), 4e-6)


def test_factors_of_16_bits(case):
    """The same logits, and gradients of them that are rounded alike but for some that lie between two numbers."""
    options = {"dtype": torch.bfloat16, "outputs": ("logprob", "entropy"), "workspace": 128 * 2 * 6}
    got, want = (run(case, backend, **options) for backend in ("triton", "torch"))
    for name in ("logprob", "entropy"):
        torch.testing.assert_close(got[name], want[name], rtol=2e-6, atol=4e-6)
    for name in ("dhidden", "dweight", "dbias"):
        off = (got[name].double() - want[name].double()).abs().max()
        assert off <= 2**-7 * want[name].abs().max()


@pytest.mark.parametrize("backend", ["torch", "triton"])
def test_labels_that_do_not_lie_side_by_side(case, backend, device, same_bits):
    """Columns of wider tensors, and one number for all rows."""
    wide = {name: torch.stack([case[name]] * 2, -1)[..., 0] for name in ("labels", "ids", "temperature")}
    assert not wide["labels"].is_contiguous()
    mask = (torch.arange(2 * N, device=device).view(N, 2) < 2 * N - 2)[:, 0]
    options = {"outputs": ("logprob", "gathered"), "workspace": 128 * 2 * 4}
    for labels in (wide["labels"], case["labels"][0].expand(N)):
        strided, plain = case | wide | {"labels": labels}, case | {"labels": labels.contiguous()}
        got = run(strided, backend, mask=mask, temperature=wide["temperature"], **options)
        want = run(plain, backend, mask=mask.contiguous(), temperature=case["temperature"], **options)
        for name, x in got.items():
            same_bits(x.detach(), want[name].detach())


def test_a_rank_without_tokens_and_padding(case):
    """One process that is told it has a part; a chunk without tokens merges with the others."""
    shard = VocabShard(None, 0, 200)
    spoiled = case | {"weight": case["weight"].clone()}
    spoiled["weight"][200:] = torch.nan
    spoiled["labels"] = case["labels"] % 200
    spoiled["ids"] = case["ids"] % 200
    short = {**spoiled, "weight": case["weight"][:200], "bias": case["bias"][:200]}
    options = {"outputs": ("logprob", "entropy", "mean_logprob", "argmax", "gathered"), "workspace": 128 * 2 * 4}
    got, want = run(spoiled, "triton", shard=shard, **options), run(short, "torch", **options)
    for name in ("dweight", "dbias"):
        assert (got[name][200:] == 0).all()
        got[name] = got[name][:200]
    close(got, want, 4e-6)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("logits_dtype", [None, "float32"])
def test_nothing_waits_for_the_device(case, dtype, logits_dtype):
    """A mask on the CPU is copied there; one on the device stays unread."""
    masks = (torch.arange(N) > 0, (torch.arange(N) > 0).to("cuda"))
    options = {"dtype": dtype, "logits_dtype": logits_dtype, "workspace": 128 * 2 * 8}
    case["one temperature"] = torch.tensor(0.7, device="cuda")
    run(case, "triton", **options)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for mask in masks:
            for temperature in (case["temperature"], case["one temperature"], 0.7):
                run(case, "triton", mask=mask, temperature=temperature, **options)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
@pytest.mark.parametrize("workspace", [1 << 28, 1 << 20])
def test_a_large_layer_on_a_device(device, workspace):
    """Sums of 16-bit products in float32, by the library, beside float64."""
    torch.manual_seed(0)
    hidden = torch.randn(700, 256, device=device).bfloat16().requires_grad_()
    weight = (0.1 * torch.randn(5003, 256, device=device)).bfloat16().requires_grad_()
    labels = torch.randint(5003, (700,), device=device)
    stats = vocab.linear_row_stats(hidden, weight, labels, logits_dtype="float32", workspace=workspace)
    exact = [x.detach().double().requires_grad_() for x in (hidden, weight)]
    want = vocab.row_stats(exact[0] @ exact[1].T, labels)
    torch.testing.assert_close(stats.logprob.double(), want.logprob, rtol=0, atol=1e-5)
    torch.testing.assert_close(stats.entropy.double(), want.entropy, rtol=0, atol=1e-5)
    (stats.logprob.sum() + stats.entropy.sum()).backward()
    (want.logprob.sum() + want.entropy.sum()).backward()
    for mine, other in zip((hidden, weight), exact, strict=True):
        off = (mine.grad.double() - other.grad).norm() / other.grad.norm()
        assert off < 3e-3
