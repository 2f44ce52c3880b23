"""Every exported objective, and ways to make one, for the tests that run all of them."""

import inspect

from rollmath import loss

#: Ways to make an objective, by its name, where its defaults are not enough (or more than one way is worth a test).
MADE = {
    "PPO": [lambda cls: cls(), lambda cls: cls(clip=(0.2, 0.28), dual_clip=3.0), lambda cls: cls(delta=2.0)],
    "CISPO": [lambda cls: cls(clip=(0.2, 0.28)), lambda cls: cls(cap=2.0)],
    "DPPO": [lambda cls: cls(), lambda cls: cls(divergence="kl")],
    "GSPO": [lambda cls: cls(clip=0.2), lambda cls: cls(clip=0.2, unit="row", gradient="token")],
    "KL": [lambda cls: cls(0.1), lambda cls: cls(0.1, kind="k2", importance="ratio")],
    "LUSPO": [lambda cls: cls(clip=0.2)],
    "Quadratic": [lambda cls: cls(0.5)],
}

#: Objectives that are no policy loss: terms given as ``policy_loss(kl=...)``.
TERMS = {"KL"}


def exported(*couplings):
    """Classes of all objectives by name, or of those that are coupled so."""
    values = {name: getattr(loss, name) for name in loss.__all__}
    return {
        name: cls
        for name, cls in values.items()
        if inspect.isclass(cls)
        and issubclass(cls, loss.Objective)
        and cls is not loss.Objective
        and (not couplings or cls.coupling in couplings)
    }


def ways(name):
    """Functions of a class that make an objective."""
    return MADE.get(name, [lambda cls: cls()])


def made(name, way=0):
    """An objective."""
    return ways(name)[way](getattr(loss, name))


ALL = [(name, way) for name in exported() for way in range(len(ways(name)))]
