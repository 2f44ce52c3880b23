"""Selection without rollmath: batched NumPy, a loop over splits, the dynamic program, radix select in numba."""

import numpy as np
import torch

from bench.alternatives import numba, prange


def _jit(**options):
    return numba.njit(cache=True, **options) if numba else lambda f: f


def max_variance_batched(x, keep):
    """The mask of each group's ``keep`` rewards of largest variance; groups of one size as a matrix."""
    order = np.argsort(x, axis=1)
    ordered = np.take_along_axis(x, order, axis=1) - x.mean(1, keepdims=True)
    zero = np.zeros((len(x), 1))
    low1, low2 = (np.hstack([zero, np.cumsum(y[:, :keep], 1)]) for y in (ordered, ordered**2))
    high1, high2 = (np.hstack([zero, np.cumsum(y[:, ::-1][:, :keep], 1)]) for y in (ordered, ordered**2))
    s, q = low1[:, ::-1] + high1, low2[:, ::-1] + high2
    top = np.argmax(q - s * s / keep, axis=1)
    place = np.arange(x.shape[1])
    chosen = (place < (keep - top)[:, None]) | (place >= (x.shape[1] - top)[:, None])
    mask = np.zeros(x.shape, bool)
    np.put_along_axis(mask, order, chosen, axis=1)
    return mask


def max_variance_splits(x, keep):
    """The same, group by group, with the variance of every split computed anew, as published code does."""
    mask = torch.zeros(x.shape, dtype=torch.bool)
    for row, values in enumerate(torch.from_numpy(x)):
        order = values.argsort()
        best, chosen = -1.0, order
        for top in range(keep + 1):
            part = torch.cat([order[: keep - top], order[len(order) - top :]])
            if (spread := values[part].var().item()) > best:
                best, chosen = spread, part
        mask[row, chosen] = True
    return mask.numpy()


def value(n, p):
    """What ``n`` rollouts of a prompt with success rate ``p`` are worth."""
    return (1 - p**n - (1 - p) ** n) * p * (1 - p) ** 2


@_jit()
def knapsack_program(table, budget):
    """Values of the best allocation of ``budget`` extra rollouts, and how many each prompt gets: prompt by prompt."""
    prompts, width = table.shape
    best = np.full(budget + 1, -np.inf)
    best[0] = 0.0
    taken = np.zeros((prompts, budget + 1), np.int32)
    for i in range(prompts):
        fresh = np.full(budget + 1, -np.inf)
        for b in range(budget + 1):
            for k in range(min(width - 1, b) + 1):
                total = best[b - k] + table[i, k]
                if total > fresh[b]:
                    fresh[b] = total
                    taken[i, b] = k
        best = fresh
    counts = np.zeros(prompts, np.int64)
    left = budget
    for i in range(prompts - 1, -1, -1):
        counts[i] = taken[i, left]
        left -= counts[i]
    return counts


def tokens_torch(advantages, entropy, k):
    """The mask of the ``k`` tokens with the largest ``|A| H``."""
    score = advantages.abs() * entropy
    return score >= score.topk(k).values[-1]


def tokens_partition(advantages, entropy, k):
    score = np.abs(advantages) * entropy
    return score >= np.partition(score, len(score) - k)[len(score) - k]


@_jit(parallel=True)
def _counted(bits, shift, width, prefix):
    """How many keys whose higher bits are ``prefix`` have each value of the next ``width`` ones."""
    threads = 8
    counts = np.zeros((threads, 1 << width), np.uint32)
    step = -(-len(bits) // threads)
    low, last = np.uint32(shift), np.uint32((1 << width) - 1)
    for t in prange(threads):
        own = counts[t]
        for key in bits[t * step : (t + 1) * step]:
            part = key >> low
            if part >> np.uint32(width) == prefix:
                own[part & last] += np.uint32(1)
    return counts.sum(0)


@_jit(parallel=True)
def _scores(advantages, entropy):
    out = np.empty_like(entropy)
    for i in prange(len(out)):
        out[i] = abs(advantages[i]) * entropy[i]
    return out


@_jit(parallel=True)
def _at_least(bits, threshold):
    out = np.empty(len(bits), np.bool_)
    for i in prange(len(bits)):
        out[i] = bits[i] >= threshold
    return out


def tokens_radix(advantages, entropy, k):
    """By three counts of eleven bits; bits of floats that are not negative are in their order."""
    bits = _scores(advantages, entropy).view(np.uint32)
    prefix, left = 0, k
    for shift, width in ((21, 11), (10, 11), (0, 10)):
        counts = _counted(bits, shift, width, np.uint32(prefix))
        from_top = np.cumsum(counts[::-1])
        at = int(np.searchsorted(from_top, left))
        left -= int(from_top[at - 1]) if at else 0
        prefix = (prefix << width) | (len(counts) - 1 - at)
    return _at_least(bits, np.uint32(prefix))


class NumpySampler:
    """Beta posteriors and draws without replacement, with work in proportion to all prompts."""

    def __init__(self, n):
        self.passed, self.failed = np.ones(n), np.ones(n)
        self.rng = np.random.default_rng(0)

    def weights(self):
        p = self.passed / (self.passed + self.failed)
        return p * (1 - p)

    def draw(self, n):
        # Exponential races: the same distribution as one draw after another.
        with np.errstate(divide="ignore"):
            key = self.rng.exponential(size=len(self.passed)) / self.weights()
        return np.argpartition(key, n)[:n]

    def update(self, at, successes, trials):
        np.add.at(self.passed, at, successes)
        np.add.at(self.failed, at, trials - successes)
