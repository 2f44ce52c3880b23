"""A prompt sampler as a dict of prompts, with exact sums and the hash of splitmix64 in whole numbers."""

import hashlib
import math
from fractions import Fraction

WORD = 2**64
#: What the numbers of draws begin with.
FIRST = 0xBB67AE8584CAA73B


def mixed(z):
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % WORD
    z = (z ^ z >> 27) * 0x94D049BB133111EB % WORD
    return z ^ z >> 31


def uniform(number, seed):
    """In (0, 1), of the number of a word and the seed."""
    salt = int.from_bytes(hashlib.blake2b(str(seed).encode(), digest_size=8).digest(), "little")
    word = mixed(mixed((number + FIRST + 0x9E3779B97F4A7C15) % WORD) ^ salt)
    return ((word >> 12) + 0.5) * 2.0**-52


def nearest(p, target, width, kernel):
    away = abs(p - target) / width
    return math.exp(-away) if kernel == "exponential" else max(0.0, 1 - away)


def share_of(weights, rest):
    """Whose share of the line the point ``rest`` is in."""
    for prompt, w in weights.items():
        if rest < w:
            return prompt
        rest -= w
    return None


class PromptSampler:
    def __init__(
        self,
        prompts,
        *,
        priority="uniform",
        prior=(1.0, 1.0),
        decay=1.0,
        explore=0.0,
        least=0.0,
        target=0.5,
        width=0.25,
        kernel="exponential",
    ):
        self.prior, self.decay, self.explore, self.least = prior, decay, explore, least
        self.rule = {
            "uniform": lambda p: 1.0,
            "learnability": lambda p: p * (1 - p),
            "failure": lambda p: 1 - p,
            "nearest": lambda p: nearest(p, target, width, kernel),
        }[priority]
        self.known, self.step = {}, -1
        self.add(prompts)

    def add(self, prompts):
        for prompt in prompts:
            self.known[prompt] = {"alpha": self.prior[0], "beta": self.prior[1], "visits": 0, "last": -1, "out": False}
            self._weigh(prompt)

    def _weigh(self, prompt):
        one = self.known[prompt]
        one["weight"] = max(self.least, self.rule(one["alpha"] / (one["alpha"] + one["beta"])))

    def update(self, prompts, successes, trials, step=None):
        self.step, now = (self.step + 1,) * 2 if step is None else (max(self.step, step), step)
        for prompt in dict.fromkeys(prompts):
            mine = [i for i, p in enumerate(prompts) if p == prompt]
            one = self.known[prompt]
            one["alpha"] = self.decay * one["alpha"] + math.fsum(successes[i] for i in mine)
            one["beta"] = self.decay * one["beta"] + math.fsum(trials[i] - successes[i] for i in mine)
            one["visits"] += 1
            one["last"] = now
            self._weigh(prompt)

    def draw(self, n, *, seed, replace=False, exclude=()):
        """Prompts, and the probability of each in the first draw; fewer than ``n`` if no more can be drawn."""
        weight = {p: Fraction(0 if x["out"] else x["weight"]) for p, x in self.known.items() if p not in exclude}
        equal = {p: Fraction(not self.known[p]["out"]) for p in weight}
        total, number, e = sum(weight.values()), sum(equal.values()), Fraction(self.explore)
        share = e if total else Fraction(1)
        first = {
            p: (1 - share) * (weight[p] / total if total else 0) + (share * equal[p] / number if number else 0)
            for p in weight
        }
        drawn = []
        for k in range(n):
            explores = e and (Fraction(uniform(2 * k + 1, seed)) < e or not sum(weight.values()))
            among = equal if explores else weight
            if not sum(among.values()):
                break
            rest = Fraction(uniform(2 * k, seed)) * sum(among.values())
            p = share_of(among, rest)
            drawn.append(p)
            if not replace:
                weight[p] = equal[p] = Fraction(0)
        return drawn, [float(first[p]) for p in drawn]
