"""Terms of advantages on forests by definition: every mean is over a list that was looked up."""

import math

from definitions import guard, mean, std
from forest import children, path


class Case:
    def __init__(self, parents, leaf_nodes, rewards, groups, rule, truncated=None, weights=None):
        self.parents, self.leaf_nodes, self.rule = [int(p) for p in parents], [int(v) for v in leaf_nodes], rule
        self.kids = children(self.parents)
        roots = [v for v, p in enumerate(self.parents) if p < 0]
        self.prompt = dict(zip(roots, groups, strict=True))
        self.weight = [1.0] * len(parents) if weights is None else list(weights)
        self.x = {}
        self.out = set()
        for i, leaf in enumerate(self.leaf_nodes):
            r = float(rewards[i])
            if truncated is not None and truncated[i] and rule.truncated == "penalty":
                r = rule.penalty
            if truncated is not None and truncated[i] and rule.truncated == "exclude":
                self.out.add(leaf)
                self.weight[leaf] = 0.0
            self.x[leaf] = r
        if rule.leaf != "reward":
            self.x = {leaf: self.standard(leaf) for leaf in self.leaf_nodes}

    def root(self, v):
        return path(self.parents, v)[0]

    def scope(self, v, what):
        """Leaves that count in the tree, prompt or batch of ``v``."""
        own = self.root(v)
        same = {
            "tree": lambda r: r == own,
            "prompt": lambda r: self.prompt[r] == self.prompt[own],
            "batch": lambda r: True,
        }[what]
        return [leaf for leaf in self.leaf_nodes if leaf not in self.out and same(self.root(leaf))]

    def standard(self, leaf):
        if leaf in self.out:
            return 0.0
        c, all_leaves = self.rule.convention, self.scope(leaf, "prompt")
        x, values = self.x[leaf], [self.x[v] for v in all_leaves]
        if len(values) == 1:
            return (x / guard(1.0, c.eps, c.eps_place) if self.rule.leaf == "zscore" else x) * (c.singleton == "raw")
        if self.rule.leaf == "loo":
            return x - mean([self.x[v] for v in all_leaves if v != leaf])
        s = std(values, c.ddof)
        return 0.0 if s == 0 else (x - mean(values)) / guard(s, c.eps, c.eps_place)

    def below(self, v, within=1.0):
        """(leaf, weight) of all below ``v``."""
        if not self.kids[v]:
            return [(v, within)]
        return [pair for c in self.kids[v] for pair in self.below(c, within * self.weight[c])]

    def value(self, v):
        if not self.kids[v]:
            return self.x[v]
        if self.rule.value == "leaf_mean":
            pairs = [(self.x[leaf], w) for leaf, w in self.below(v) if w > 0]
        else:
            pairs = [(self.value(c), self.weight[c]) for c in self.kids[v]]
            pairs = [(x, w) for x, w in pairs if w > 0 and x is not None]
        total = math.fsum(w for _, w in pairs)
        return math.fsum(x * w for x, w in pairs) / total if total else None

    def width(self, v):
        return math.fsum(w for _, w in self.below(v))

    def lone(self, v):
        return self.value(v) if self.rule.convention.singleton == "raw" else 0.0

    def term(self, v):
        rule, value, above = self.rule, self.value(v), self.parents[v]
        if value is None or v in self.out:
            return 0.0
        if rule.baseline == "none":
            return value
        if rule.baseline in {"tree", "prompt", "batch"}:
            return self.against_rollouts(v, value)
        if "ancestors" in rule.baseline:
            line = [a for a in path(self.parents, v)[:-1] if self.value(a) is not None]
            line = [a for a in line if self.width(a) > 1 or rule.baseline == "ancestors"]
            return value - mean([self.value(a) for a in line]) if line else self.lone(v)
        if above < 0:
            return self.lone(v)
        family = [c for c in self.kids[above] if self.value(c) is not None and self.weight[c] > 0]
        by_rollouts = rule.baseline == "parent" and rule.value == "leaf_mean"
        if rule.own == "included":
            if rule.baseline == "parent":
                b = 0.0 if rule.root == "zero" and self.parents[above] < 0 else self.value(above)
            else:
                b = self.weighted(family)
        else:
            others = [c for c in family if c != v]
            if by_rollouts:
                pairs = [(leaf, w * self.weight[c]) for c in others for leaf, w in self.below(c)]
                pairs = [(self.x[leaf], w) for leaf, w in pairs if w > 0]
                b = math.fsum(x * w for x, w in pairs) / math.fsum(w for _, w in pairs) if pairs else None
            else:
                b = self.weighted(others)
        if b is None:
            return self.lone(v) if rule.scale == "none" else self.scaled(v, 0.0, family)
        return value - b if rule.scale == "none" else self.scaled(v, value - b, family)

    def weighted(self, nodes):
        total = math.fsum(self.weight[c] for c in nodes)
        return math.fsum(self.weight[c] * self.value(c) for c in nodes) / total if total else None

    def scaled(self, v, gain, family):
        c = self.rule.convention
        if len(family) == 1:
            return self.value(v) / guard(1.0, c.eps, c.eps_place) if c.singleton == "raw" else 0.0
        s = std([self.value(u) for u in family], c.ddof)
        return 0.0 if s == 0 else gain / guard(s, c.eps, c.eps_place)

    def against_rollouts(self, v, value):
        rule = self.rule
        leaves = self.scope(v, rule.baseline)
        values = [self.x[leaf] for leaf in leaves]
        c = rule.convention
        if rule.level == "rollout":
            if len(values) == 1:
                return (value / guard(1.0, c.eps, c.eps_place) if rule.scale == "std" else value) * (
                    c.singleton == "raw"
                )
            gain = value - mean([self.x[leaf] for leaf in leaves if leaf != v or rule.own == "included"])
            s = std(values, c.ddof)
            return gain if rule.scale == "none" else 0.0 if s == 0 else gain / guard(s, c.eps, c.eps_place)
        if rule.own == "included":
            return value - mean(values)
        mine = {leaf for leaf, _ in self.below(v)}
        others = [self.x[leaf] for leaf in leaves if leaf not in mine]
        return value - mean(others) if others else self.lone(v)


def credit(parents, leaf_nodes, rewards, groups, terms, truncated=None, weights=None):
    total = None
    for rule in terms:
        case = Case(parents, leaf_nodes, rewards, groups, rule, truncated, weights)
        if rule.level == "rollout":
            out = [case.term(v) for v in case.leaf_nodes]
        else:
            out = [0.0 if p < 0 else case.term(v) for v, p in enumerate(case.parents)]
        if rule.divide == "sqrt_leaves" and rule.level == "node":
            held = [max(1, sum(leaf not in case.out for leaf, _ in case.below(v))) for v in range(len(parents))]
            out = [a / math.sqrt(n) for a, n in zip(out, held, strict=True)]
        total = out if total is None else [a + b for a, b in zip(total, out, strict=True)]
    return total
