"""A replay buffer as a list of dicts."""

from draws import pcg, permutation


class ReplayBuffer:
    def __init__(self, max_age=8, per_key=32):
        self.max_age, self.per_key, self.entries = max_age, per_key, []

    def add(self, keys, positions, *, iteration):
        self.entries += [
            {"key": k, "position": p, "iteration": iteration} for k, p in zip(keys, positions, strict=True)
        ]

    def draw(self, *, iteration, seed):
        before = len(self.entries)
        if self.max_age is not None:
            self.entries = [e for e in self.entries if iteration - e["iteration"] < self.max_age]
        aged, taken, used = before - len(self.entries), set(), {}
        for i in permutation(pcg(seed), len(self.entries)):
            key = self.entries[i]["key"]
            if self.per_key is None or used.get(key, 0) < self.per_key:
                used[key] = used.get(key, 0) + 1
                taken.add(i)
        drawn = [e for i, e in enumerate(self.entries) if i in taken]
        self.entries = [e for i, e in enumerate(self.entries) if i not in taken]
        return [e["position"] for e in drawn], [e["iteration"] for e in drawn], aged

    def sample(self, n, *, seed):
        chosen = sorted(permutation(pcg(seed), len(self.entries))[:n])
        return [self.entries[i]["position"] for i in chosen], [self.entries[i]["iteration"] for i in chosen], 0
