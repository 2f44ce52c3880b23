"""The order in which equal rollouts are taken, one key after another, and random words of ids in plain integers."""

import hashlib

WORD = 2**64


def mix(z):
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % WORD
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % WORD
    return z ^ (z >> 31)


def word(key, seed):
    """Random 64 bits of a 64-bit key and a seed."""
    salt = int.from_bytes(hashlib.blake2b(str(seed).encode(), digest_size=8).digest(), "little")
    return mix(mix((key + 0x9E3779B97F4A7C15) % WORD) ^ salt)


def bits(uid):
    """64 bits of an id; integers that have no more are their own."""
    if isinstance(uid, int) and -(2**63) <= uid < 2**63:
        return uid % WORD
    return int.from_bytes(hashlib.blake2b(repr(uid).encode(), digest_size=8).digest(), "little")


def preferred(n, *, ties=None, uid=None, seed=None):
    """All rows, the first to be taken first."""
    ids = list(range(n)) if uid is None else list(uid)
    return sorted(
        range(n),
        key=lambda i: (ties[i] if ties is not None else 0, word(bits(ids[i]), seed) if seed is not None else 0, ids[i]),
    )
