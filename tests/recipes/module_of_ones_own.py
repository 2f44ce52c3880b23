"""What users keep in a module of their own: a method, an objective, a filter, a recipe."""

from dataclasses import dataclass

import numpy as np

from rollmath.loss import PPO, Objective, TokenLoss
from rollmath.recipes import Advantage, Recipe
from rollmath.select import nonzero_spread
from rollmath.select._candidates import read


def half(rewards, groups, *, by=0.5, valid=None, **others):
    """Rewards minus a half."""
    return (rewards - by) * (1 if valid is None else valid)


def strict(rewards, groups, *, valid, tol=0.5):
    """A filter."""
    return nonzero_spread(rewards, groups, tol=tol, valid=valid)


def no_filter(rewards, groups, *, valid):
    """Returns no Selection."""
    return valid


def best(values, groups, *, keep=2, per="group", statistics=None, ties=None, uid=None, seed=None, valid=None):
    """A filter that knows ids and seeds: the largest values of each group."""
    found = read("best", values, groups, ties=ties, uid=uid, seed=seed, valid=valid)
    return found.select([("not the best", found.places(-found.x, per=per) >= keep)], statistics=statistics)


def drawn(groups, /, *, keep=1, uid, seed, valid=None):
    """A filter that looks at no values, and needs a seed."""
    found = read("drawn", np.zeros(len(groups)), groups, uid=uid, seed=seed, valid=valid)
    return found.select([("not drawn", found.places(found.x) >= keep)])


def by_column(rewards, groups, quality, *, least=0.5, valid=None):
    """A filter that looks at a column, too."""
    found = read("by_column", rewards, groups, valid=valid)
    return found.select([("of low quality", np.asarray(quality) < least)])


def by_keyword(rewards, groups, *, quality, least=0.5, valid=None):
    """The same by a keyword."""
    return by_column(rewards, groups, quality, least=least, valid=valid)


def of_many(rewards, groups, *, valid=None):
    """Of ten groups at least."""
    return best(rewards, groups, valid=valid, statistics={10: "after"}[len(groups) // 10 * 10])


@dataclass(frozen=True)
class Scaled(Objective):
    """REINFORCE times a factor: ``L = -factor A logp``."""

    factor: float | None = 2.0
    inner: PPO | None = None

    def token_loss(self, tokens):
        slope = -tokens.advantages * (self.factor or 1.0)
        return TokenLoss(loss=slope * tokens.theta, gradient=tokens.weighted(slope))


MINE = Recipe(name="mine", advantage=Advantage("group.rloo"), objective=Scaled(3.0))
