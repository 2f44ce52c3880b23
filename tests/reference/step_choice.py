"""What the oracles of batch-coupled objectives share: statistics of a step, and the random number of a token."""

import hashlib
import math

WRAP = (1 << 64) - 1


def uid(key, position, seed=0):
    """The random number of a token: its row's digest, mixed with its position by splitmix64."""
    digest = hashlib.blake2b(repr((*key, seed)).encode(), digest_size=8).digest()
    z = (int.from_bytes(digest, "little") + (position + 1) * 0x9E3779B97F4A7C15) & WRAP
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & WRAP
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & WRAP
    return z ^ (z >> 31)


def covariances(theta, advantages):
    """``(A - mean A) (logp - mean logp)`` of each token, in rows as they came."""
    n = sum(len(row) for row in theta)
    mean_a = math.fsum(x for row in advantages for x in row) / n if n else 0.0
    mean_p = math.fsum(x for row in theta for x in row) / n if n else 0.0
    return [
        [(a - mean_a) * (p - mean_p) for a, p in zip(*rows, strict=True)]
        for rows in zip(advantages, theta, strict=True)
    ]


def tokens_of(rows):
    """All ``(row, number in the row)``."""
    return [(i, t) for i, row in enumerate(rows) for t in range(len(row))]


def ppo(log_ratio, a, clip):
    """``(loss, d loss / d logp)`` of one token."""
    rho = math.exp(log_ratio)
    plain, bounded = -a * rho, -a * min(max(rho, 1 - clip[0]), 1 + clip[1])
    return max(plain, bounded), plain if plain >= bounded else 0.0
