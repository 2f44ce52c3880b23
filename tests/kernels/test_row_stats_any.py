"""The forward kernels against float64 for whatever hypothesis thinks of."""

from itertools import pairwise

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from rollmath.kernels import row_stats  # noqa: E402
from rollmath.kernels._config import Config  # noqa: E402

# A run of the interpreter costs what a hundred runs of ordinary code cost.
FEW = max(12, settings.default.max_examples // 5)


@st.composite
def calls(draw):
    rows, vocab = draw(st.integers(1, 2)), draw(st.sampled_from([1, 2, 7, 8, 15, 33, 100, 255, 256, 257, 517]))
    made = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    dtype = draw(st.sampled_from([torch.bfloat16, torch.float16, torch.float32]))
    scale, offset = draw(st.sampled_from([0.01, 1, 3, 10])), draw(st.sampled_from([0, 50, -1000, 1000]))
    x = (torch.randn(rows, vocab, generator=made) * scale + offset).to(dtype)
    share = draw(st.sampled_from([0, 0, 0.1, 0.9, 1]))
    x[torch.rand(rows, vocab, generator=made) < share] = -torch.inf
    kind = draw(st.sampled_from(["plain", "padded", "moved", "transposed", "stepped"]))
    if kind in {"padded", "stepped"}:
        wide = torch.zeros(rows, 2 * vocab + 3, dtype=dtype)
        view = wide[:, :vocab] if kind == "padded" else wide[:, : 2 * vocab : 2]
        x = view.copy_(x)
    elif kind == "moved":
        x = torch.zeros(rows * vocab + 9, dtype=dtype)[5 : 5 + rows * vocab].view(rows, vocab).copy_(x)
    elif kind == "transposed":
        x = x.t().contiguous().t()
    labels = torch.randint(-1, vocab + 1, (rows,), generator=made)
    ids = torch.randint(-1, vocab + 1, (rows, draw(st.sampled_from([1, 2, 5]))), generator=made)
    k = 1 / draw(st.sampled_from([1, 1, 0.7, 2.5, 0.05, 100]))
    options = {"ids": ids, "inv_temperature": draw(st.sampled_from([k, torch.full((rows,), k)]))}
    if draw(st.booleans()):
        lists = [
            torch.randperm(vocab, generator=made)[: draw(st.integers(0, vocab), label="size")] for _ in range(rows)
        ]
        sizes = torch.tensor([0, *map(len, lists)])
        options["allowed"] = torch.cat(lists).to(draw(st.sampled_from([torch.int32, torch.int64]))), sizes.cumsum(0)
    outputs = draw(st.sets(st.sampled_from(row_stats.NAMES), min_size=1))
    cuts = draw(st.none() | st.lists(st.integers(1, vocab), max_size=2))
    launch = {"split": draw(st.sampled_from([1, 1, 2, 5])), "config": Config(draw(st.sampled_from([8, 32])), 1)}
    return x, labels, tuple(outputs), options, cuts, launch


@settings(max_examples=FEW, suppress_health_check=list(HealthCheck))
@given(calls())
def test_any_call(device, stats_of_rows, near, call):
    x, labels, outputs, options, cuts, launch = call
    expected = stats_of_rows(x, labels, **options)

    def there(value):
        if isinstance(value, tuple):
            return tuple(map(there, value))
        return value.to(device) if isinstance(value, torch.Tensor) else value

    # A copy would have other strides.
    if device != "cpu":
        whole = x.as_strided((x.untyped_storage().nbytes() // x.element_size(),), (1,), 0).to(device)
        x = whole.as_strided(x.shape, x.stride(), x.storage_offset())
    labels, options = there(labels), {name: there(value) for name, value in options.items()}
    if cuts is None:
        got = row_stats.forward(x, labels, outputs=outputs, **options, **launch)
    else:
        edges = sorted({0, x.shape[1], *cuts})
        given_all = {"outputs": outputs, "total": x.shape[1], **options, **launch}
        parts = [row_stats.partials(x[:, a:b], labels, first=a, **given_all) for a, b in pairwise(edges)]
        merging = {"outputs": outputs, "total": x.shape[1], "ids": options["ids"]}
        got = row_stats.merge(torch.stack(parts), labels, **merging)
    near(got, expected, rtol=5e-7)
