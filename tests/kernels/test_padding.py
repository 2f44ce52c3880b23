"""Columns behind the end of the vocabulary, as the last shard of a padded one has them."""

import pytest

torch = pytest.importorskip("torch")


@pytest.mark.parametrize("total", [45, 52, 60])
def test_columns_from_total_on_are_not_read(device, total):
    from rollmath.kernels import row_stats
    from rollmath.vocab import _torch_rows

    torch.manual_seed(0)
    x = torch.randn(3, 12)
    x[:, total - 40 :] = torch.nan
    y = torch.tensor([41, 43, 44])
    outputs = ("logprob", "entropy", "mean_logprob", "argmax", "p_max")
    common = {"outputs": outputs, "inv_temperature": 0.8, "first": 40, "total": total}
    got = row_stats.forward(x.to(device), y.to(device), **common)
    expected = _torch_rows.forward(x.double(), y, **common)
    for name in outputs:
        torch.testing.assert_close(got[name].cpu().double(), expected[name].double(), rtol=1e-6, atol=1e-6)


def test_a_shard_of_padding_alone_changes_no_bit(device):
    from rollmath.kernels import row_stats

    torch.manual_seed(0)
    x, y = torch.randn(3, 50, device=device), torch.tensor([4, 0, 49], device=device)
    common = {"outputs": ("logprob", "entropy"), "inv_temperature": 1.0, "total": 50}
    whole = row_stats.partials(x, y, **common)
    padding = row_stats.partials(torch.full((3, 12), torch.nan, device=device), y, first=60, **common)
    merged = {"outputs": ("logprob", "entropy"), "total": 50}
    alone = row_stats.merge(whole[None], y, **merged)
    for parts in ([whole, padding], [padding, whole]):
        both = row_stats.merge(torch.stack(parts), y, **merged)
        assert all(torch.equal(both[name], alone[name]) for name in alone)
