"""Random trees as rows, and what a recipe on trees makes of them, position by position."""

import numpy as np
from forest import leaves, path, random_parents

import rollmath as rm


def trunk(forest, rewards):
    """``A(v) = 1`` below the roots, by an import path."""
    return (forest.depth == 1) * 1.0


class Trees:
    """Rollouts of random trees, as rows: some of several rows, some with gaps that the forest knows or does not."""

    def __init__(self, seed, n, *, gaps="none", split=False):
        rng = np.random.default_rng([seed, n])
        self.parents = random_parents(seed, n)
        self.lengths = rng.integers(0, 4, n)
        roots = [v for v in range(n) if self.parents[v] < 0]
        self.groups_of_trees = rng.integers(0, max(len(roots), 2) // 2 + 1, len(roots)).tolist()
        group_of = dict(zip(roots, self.groups_of_trees, strict=True))
        paths = [path(self.parents, leaf) for leaf in leaves(self.parents)]
        self.groups = [group_of[nodes[0]] for nodes in paths]
        #: The token at each position of a rollout, as (node, number in it); None at a gap that the forest lacks.
        self.tokens = [[(v, k) for v in nodes[1:] for k in range(self.lengths[v])] for nodes in paths]
        env = {(v, k): rng.random() < 0.3 for v in range(n) for k in range(self.lengths[v])}
        if gaps == "outside":
            self.tokens = [
                [x for token in tokens for x in ([None, token] if rng.random() < 0.3 else [token])]
                for tokens in self.tokens
            ]
        self.trains = [
            [token is not None and not (gaps == "inside" and env[token]) for token in tokens] for tokens in self.tokens
        ]
        rollout, segment, pieces = [], [], []
        for i, tokens in enumerate(self.tokens):
            cut = int(rng.integers(0, len(tokens) + 1)) if split else len(tokens)
            for number, part in enumerate([tokens[:cut], tokens[cut:]][: 1 + split]):
                rollout, segment, pieces = [*rollout, i], [*segment, number], [*pieces, (i, cut * number, len(part))]
        # The second row of a rollout may come first.
        order = rng.permutation(len(rollout)) if split else np.arange(len(rollout))
        order = order[np.argsort(np.array(rollout)[order], kind="stable")]
        self.pieces = [pieces[at] for at in order]
        mask = [x for i, start, size in self.pieces for x in self.trains[i][start : start + size]]
        self.rows = rm.Rows(
            [f"r{rollout[at]}" for at in order],
            [self.pieces[at][2] for at in range(len(order))],
            segment=[segment[at] for at in order],
            mask=np.array(mask, bool) if gaps != "none" else None,
        )
        self.rewards = rng.choice([0.0, 0.5, 1.0], len(paths))
        self.truncated = rng.random(len(paths)) < 0.3

    def forest(self):
        return rm.Forest.from_parents(self.parents, groups=self.groups_of_trees, lengths=self.lengths)

    def node_values(self, method, seen):
        """One number a node, by the forest of some rollouts, made anew; 0 at the nodes of others alone."""
        found = leaves(self.parents)
        nodes = sorted({v for i, leaf in enumerate(found) if seen[i] for v in path(self.parents, leaf)})
        number = {v: at for at, v in enumerate(nodes)}
        parents = [number[self.parents[v]] if self.parents[v] >= 0 else -1 for v in nodes]
        out = np.zeros(len(self.parents))
        if nodes:
            out[nodes] = method(rm.Forest.from_parents(parents), self.rewards[np.asarray(seen, bool)])
        return out

    def expected(self, node_values, kept, *, shared, zeros):
        """Advantages and mask of all positions."""
        advantages, mask, done = [], [], set()
        for i, tokens in enumerate(self.tokens):
            values, trains = [], []
            for token, sampled in zip(tokens, self.trains[i], strict=True):
                train = sampled and bool(kept[i]) and not (shared == "once" and token in done)
                done |= {token} if train else set()
                value = float(node_values[token[0]]) if train else 0.0
                values.append(value)
                trains.append(train and (zeros == "keep" or value != 0))
            advantages.append(values)
            mask.append(trains)
        pick = [(i, slice(start, start + size)) for i, start, size in self.pieces]
        return [x for i, at in pick for x in advantages[i][at]], [x for i, at in pick for x in mask[i][at]]
