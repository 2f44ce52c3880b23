"""Batches of agents as verl has them: a row a step with verl-agent's columns, or a row a rollout of several turns."""

import numpy as np
import torch

import rollmath as rm


class Agents:
    """Rows by trajectory and time; a few states and actions that trajectories of a task share."""

    def __init__(self, seed, *, gaps=False, width=6):
        rng = np.random.default_rng([seed, gaps])
        self.rng, n = rng, int(rng.integers(2, 9))
        lengths = rng.integers(1, 5, n)
        self.trajectory = np.repeat([f"t{i}" for i in rng.permutation(n)], lengths).astype(object)
        self.turn = np.concatenate([np.arange(k) for k in lengths])
        self.uid = np.repeat([f"p{i}" for i in rng.integers(0, 3, n)], lengths).astype(object)
        rows = len(self.turn)
        self.states = np.array([f"room {i}" for i in rng.integers(0, 3, rows)], object)
        self.actions = np.array(rng.choice(["go", "take"], rows), object)
        self.rewards = rng.integers(0, 3, n).astype(float)
        self.final = np.cumsum(lengths) - 1
        inside = np.arange(width) < rng.integers(1, width + 1, rows)[:, None]
        mask = inside & (rng.random((rows, width)) < 0.7) if gaps else inside
        self.mask = torch.from_numpy(mask.astype(np.int64))
        self.responses = torch.from_numpy(rng.integers(5, 7, (rows, width)))
        # The reward of the rollout in all of its rows, as verl-agent has it.
        rewards = np.zeros((rows, width), np.float32)
        rewards[:, 0] = np.repeat(self.rewards, lengths)
        self.token_rewards, self.lengths = torch.from_numpy(rewards), lengths

    def columns(self, *names):
        named = {"uid": self.uid, "traj_uid": self.trajectory, "anchor_obs": self.states}
        return named | {name: getattr(self, name) for name in names}

    def steps(self):
        return rm.Steps(self.trajectory.tolist(), self.states.tolist(), self.actions.tolist(), groups=self.uid.tolist())

    def shuffled(self):
        """All rows in another order, and some of them again."""
        rows = len(self.turn)
        return self.rng.permutation(np.concatenate([np.arange(rows), self.rng.integers(0, rows, 3)]))

    def at_rows(self, values):
        return values[:, None] * (self.mask.numpy() != 0)

    def multi_turn(self, values, *, touching):
        """A row a rollout: tensors, columns, and the number of each step at its tokens."""
        n, rows, at = len(self.lengths), [], 0
        for k in self.lengths.tolist():
            row = []
            for turn in range(k):
                row += [(turn, values[at])] * int(self.rng.integers(1, 4))
                row += [(-1, 0.0)] * int(self.rng.integers(0 if touching else 1, 3))
                at += 1
            rows.append(row)
        width = max(map(len, rows)) + 1
        turns, expected = np.full((n, width), -1), np.zeros((n, width))
        for i, row in enumerate(rows):
            turns[i, : len(row)], expected[i, : len(row)] = zip(*row, strict=True)
        rewards = np.zeros((n, width), np.float32)
        rewards[np.arange(n), self.rng.integers(0, width, n)] = self.rewards
        tensors = {"token_level_rewards": rewards, "response_mask": (turns >= 0).astype(np.int64)}
        starts = np.cumsum(self.lengths)[:-1]
        columns = {"uid": self.uid[self.final], "states": lists(self.states, starts)}
        columns["actions"] = lists(self.actions, starts)
        if touching:
            columns["turns"] = torch.from_numpy(turns)
        return {name: torch.from_numpy(x) for name, x in tensors.items()}, columns, expected


def lists(x, starts):
    """One list a rollout, as an array of objects."""
    out = np.empty(len(starts) + 1, object)
    out[:] = [part.tolist() for part in np.split(x, starts)]
    return out
