"""A race: who arrives first is drawn first."""

from races import first
from uid_order import bits, word


def weighted_sample(weights, prompts, *, keep, seed, short="keep", valid=None):
    able = [i for i in range(len(prompts)) if (valid is None or valid[i]) and weights[i] > 0]
    if short == "drop" and len(able) < keep:
        return []
    return first(weights, prompts, able, keep, [word(bits(uid), seed) for uid in prompts])
