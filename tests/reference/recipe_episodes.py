"""Random episodes of agents as rows, and what a recipe on steps makes of them, position by position."""

import numpy as np

import rollmath as rm

#: How turns are told: by runs of trained tokens, by rows, or by numbers.
LAYOUTS = ("run", "row", "number")


class Episodes:
    """Rollouts of a few tasks that see the same few states; rows of different rollouts are interleaved."""

    def __init__(self, seed, n, layout="run"):
        rng = np.random.default_rng([seed, n, LAYOUTS.index(layout)])
        least = 1 if layout == "row" else 0
        steps = rng.integers(least, 5, n)
        states = [rng.choice(["hall", "yard", "cellar"], k).tolist() for k in steps]
        actions = [rng.choice(["go", "take"], k).tolist() for k in steps]
        earned = [rng.integers(0, 3, k).astype(float).tolist() for k in steps]
        groups, rewards = rng.integers(0, 3, n).tolist(), rng.integers(0, 3, n).astype(float).tolist()
        rows = []
        for i in range(n):
            # Positions of the rollout: the number of the turn where it trains, None where it does not.
            parts = [[None] * int(rng.integers(0, 3))]
            for t in range(steps[i]):
                if layout == "row":
                    parts.append([t if rng.random() < 0.7 else None for _ in range(rng.integers(0, 4))])
                    continue
                tokens = [t] * int(rng.integers(1, 4))
                if layout == "number":
                    tokens = [t if rng.random() < 0.8 else None for _ in range(rng.integers(0, 4))]
                begins = rng.random() < 0.3
                gap = [None] * int(rng.integers(0 if begins or layout == "number" else 1, 3))
                if begins:
                    parts.append(gap + tokens)
                else:
                    parts[-1] += gap + tokens
            parts = parts[1:] if layout == "row" else parts
            rows += [(i, segment, part) for segment, part in enumerate(parts)]
        rows = [rows[at] for at in rng.permutation(len(rows))]
        first = list(dict.fromkeys(i for i, _, _ in rows))
        #: For each row, the rollout by its place, and the turns of its positions.
        self.places = [(first.index(i), part) for i, _, part in rows]
        self.states, self.actions, self.earned, self.groups, self.rewards = (
            [x[i] for i in first] for x in (states, actions, earned, groups, rewards)
        )
        self.rewards = np.array(self.rewards)
        self.truncated = rng.random(n) < 0.3
        turns = [[-1 if t is None else t for t in part] for _, part in self.places]
        self.turns = {"run": None, "row": "row", "number": turns}[layout]
        flat = [t for part in turns for t in part]
        self.rows = rm.Rows(
            [f"r{i}" for i, _, _ in rows],
            [len(part) for _, _, part in rows],
            segment=[segment for _, segment, _ in rows],
            mask=np.array(flat, np.int64) >= 0,
            tokens=rng.integers(0, 2, len(flat)),
        )

    def columns(self, *names):
        return {"states": self.states, "turns": self.turns} | {name: getattr(self, name) for name in names}

    def values(self, method, seen, **options):
        """One number a (rollout, step), by a table of the rollouts that are seen alone; 0 in the others."""
        at = [i for i, x in enumerate(seen) if x]
        out = [[0.0] * len(x) for x in self.states]
        if at:
            picked = ([x[i] for i in at] for x in (self.states, self.actions, self.groups))
            states, actions, groups = picked
            steps = rm.Steps.from_episodes(states, actions, groups=groups)
            found = iter(method(steps, self.rewards[at], **options).tolist())
            for i in at:
                out[i] = [next(found) for _ in self.states[i]]
        return out

    def expected(self, values, kept):
        """Of all positions."""
        return [values[i][t] if t is not None and kept[i] else 0.0 for i, part in self.places for t in part]


def salt(steps, rewards, **options):
    """SALT of GRPO."""
    return rm.graph.salt(steps, rm.group.grpo(rewards, steps.trajectory_groups), **options)
