"""What users keep in a module of their own: a method, an objective, a filter, a recipe."""

from dataclasses import dataclass

from rollmath.loss import PPO, Objective, TokenLoss
from rollmath.recipes import Advantage, Recipe
from rollmath.select import nonzero_spread


def half(rewards, groups, *, by=0.5, valid=None, **others):
    """Rewards minus a half."""
    return (rewards - by) * (1 if valid is None else valid)


def strict(rewards, groups, *, valid, tol=0.5):
    """A filter."""
    return nonzero_spread(rewards, groups, tol=tol, valid=valid)


def no_filter(rewards, groups, *, valid):
    """Returns no Selection."""
    return valid


@dataclass(frozen=True)
class Scaled(Objective):
    """REINFORCE times a factor: ``L = -factor A logp``."""

    factor: float | None = 2.0
    inner: PPO | None = None

    def token_loss(self, tokens):
        slope = -tokens.advantages * (self.factor or 1.0)
        return TokenLoss(loss=slope * tokens.theta, gradient=tokens.weighted(slope))


MINE = Recipe(name="mine", advantage=Advantage("group.rloo"), objective=Scaled(3.0))
