"""A ladder of hints as a dict of levels."""


class HintLadder:
    def __init__(self, prompts, *, levels, success="stay"):
        self.levels, self.success = levels, success
        self.level = dict.fromkeys(prompts, 0)

    def advance(self, prompts, failed):
        for prompt in set(prompts):
            mine = [bad for p, bad in zip(prompts, failed, strict=True) if p == prompt]
            if all(mine):
                self.level[prompt] = min(self.level[prompt] + 1, self.levels)
            elif self.success == "down":
                self.level[prompt] = max(self.level[prompt] - 1, 0)
            elif self.success == "reset":
                self.level[prompt] = 0
        return [self.level[p] for p in prompts]

    def settle(self, prompts, tried, solved):
        for prompt in set(prompts):
            rows = [(t, s) for p, t, s in zip(prompts, tried, solved, strict=True) if p == prompt]
            enough = [t for t, s in rows if s]
            self.level[prompt] = min(enough) if enough else min(max(t for t, _ in rows) + 1, self.levels)
        return [self.level[p] for p in prompts]
