"""What the tests of the row kernels share: float64 statistics of a row, written down from their definitions."""

import pytest


@pytest.fixture
def stats_of_rows():
    """``stats_of_rows(logits, labels, **options)``: every output in float64, with the options of the kernels."""
    torch = pytest.importorskip("torch")

    def one(x, label, ids, k, softcap, columns, total):
        z = x.double()
        if softcap is not None:
            z = torch.where(z.isinf(), z, softcap * torch.tanh(z / softcap))
        z = z * k
        kept = torch.full_like(z, -torch.inf)
        kept[columns] = z[columns]
        top = kept.max() if len(columns) else torch.tensor(-torch.inf, dtype=z.dtype)
        logp = (kept - top) - (kept - top).exp().sum().log()
        p = logp.exp()
        terms = torch.where(p == 0, 0, p * logp)
        h = -terms.sum()

        def of(token):
            if not 0 <= token < total:
                return torch.nan
            return float(logp[token]) if token < len(logp) else -torch.inf

        return {
            "logprob": of(label),
            "entropy": float(h),
            "lse": float(torch.logsumexp(kept, 0)),
            "sum_p_squared": float((p * p).sum()),
            "var_logprob": float(torch.where(p == 0, 0, p * (logp + h) ** 2).sum()),
            "p_max": float(p.max()),
            "argmax": int(min(columns, key=lambda j: (-float(x[j]), int(j)))) if len(columns) else 0,
            "mean_logprob": float(logp[columns].mean()),
            "gathered": [of(int(i)) for i in ids],
        }

    def all_rows(logits, labels, *, ids=None, inv_temperature=1.0, softcap=None, allowed=None, total=None):
        flat = logits.detach().cpu().reshape(-1, logits.shape[-1])
        rows, vocab = flat.shape
        k = torch.as_tensor(inv_temperature).cpu().double().expand(rows)
        made = []
        for i in range(rows):
            columns = torch.arange(vocab)
            if allowed is not None:
                tokens, offsets = (t.cpu() for t in allowed)
                listed = tokens[int(offsets[i]) : int(offsets[i + 1])].long()
                columns = listed[(listed >= 0) & (listed < vocab)]
            picked = [] if ids is None else ids[i].tolist()
            label = 0 if labels is None else int(labels.reshape(-1)[i])
            made.append(one(flat[i], label, picked, k[i], softcap, columns, vocab if total is None else total))
        return {name: torch.tensor([row[name] for row in made], dtype=torch.float64) for name in made[0]}

    return all_rows


@pytest.fixture
def near():
    """``near(got, expected, atol=)``: all outputs that both have; NaN and infinities at the same places."""
    torch = pytest.importorskip("torch")

    def check(got, expected, atol=2e-6, rtol=2e-7, names=None):
        for name in names or [n for n in expected if n in got]:
            a, b = got[name].cpu().double(), expected[name]
            assert a.shape == b.shape, name
            torch.testing.assert_close(a, b, atol=atol, rtol=rtol, equal_nan=True, msg=lambda m, n=name: f"{n}: {m}")

    return check
