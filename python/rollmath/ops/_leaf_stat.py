"""Statistics of the leaves below each node."""

from __future__ import annotations

from typing import Any, Literal

from rollmath import _core
from rollmath._arrays import Array, ArrayLike, check_ddof, choice, floats, number
from rollmath._checks import whole
from rollmath.forest import Forest, as_forest


def leaf_stat(
    forest: Forest,
    leaf_values: ArrayLike,
    *,
    how: Literal["mean", "var", "std", "quantile", "top_mean"],
    ddof: int = 0,
    q: float | None = None,
    k: int | None = None,
) -> Array:
    """One statistic a node of the ``n`` leaves below it; a leaf is below itself.

    Args:
        forest: a :class:`~rollmath.Forest`.
        leaf_values: ``[n_leaves]``, in the order of ``forest.leaves``.
        how: ``"mean"``; ``"var"``: ``sum (x - mean)^2 / (n - ddof)``, and ``"std"``, its root; ``"quantile"``: ``q``,
            linear between two leaves as in ``numpy.quantile``; ``"top_mean"``: the mean of the ``k`` largest, of all if
            there are fewer.
        ddof: of ``"var"`` and ``"std"``; NaN where ``n - ddof`` is not positive.
        q: of ``"quantile"``, in [0, 1].
        k: of ``"top_mean"``, at least 1.

    Returns:
        ``[n_nodes]`` by node id, in the kind and float type of ``leaf_values``; renumbering nodes or rollouts changes
        no bit. Equal leaves have exactly their own mean, and variance 0. NaN spreads to all ancestors. The time is
        linear in the nodes for the moments, and for the others at most ``n log(n)^2`` in the leaves of a tree, however
        deep it is.

    Raises:
        ValueError: wrong length, an unknown ``how``; ``ddof``, ``q`` or ``k`` out of range, missing, or given where it
            is not used.
        TypeError: ``ddof``, ``q`` or ``k`` of another type.

    >>> from rollmath import Forest
    >>> forest = Forest.from_parents([-1, 0, 0, 1, 1])
    >>> leaf_stat(forest, [0.0, 1.0, 5.0], how="quantile", q=0.5).tolist()
    [1.0, 3.0, 0.0, 1.0, 5.0]
    >>> leaf_stat(forest, [0.0, 1.0, 5.0], how="var", ddof=1).tolist()
    [7.0, 8.0, nan, nan, nan]
    >>> leaf_stat(forest, [0.0, 1.0, 5.0], how="top_mean", k=2).tolist()
    [3.0, 3.0, 0.0, 1.0, 5.0]
    """
    who = "leaf_stat"
    made = as_forest(who, forest)
    choice(who, "how", how, ("mean", "var", "std", "quantile", "top_mean"))
    parameter = _parameter(how, ddof, q, k)
    x, kind = floats(who, "leaf_values", leaf_values, length=made.n_leaves, why="forest.n_leaves")
    return kind.wrap(_core.forest_leaf_stat(who, "leaf_values", made._preorder, x, how, parameter))


def _parameter(how: str, ddof: Any, q: Any, k: Any) -> float:
    """The one that ``how`` uses, after a look at those that it does not."""
    given = {"ddof": ddof if ddof != 0 else None, "q": q, "k": k}
    uses = {"var": "ddof", "std": "ddof", "quantile": "q", "top_mean": "k"}.get(how)
    for name, value in given.items():
        if value is not None and name != uses:
            users = {"ddof": "'var' or 'std'", "q": "'quantile'", "k": "'top_mean'"}[name]
            msg = f"leaf_stat(): {name!r} goes with how={users}, got how={how!r}"
            raise ValueError(msg)
    if uses in ("q", "k") and given[uses] is None:
        what = "which quantile, from 0 to 1" if uses == "q" else "how many of the largest leaves"
        msg = f"leaf_stat(): how={how!r} needs {uses!r}, {what}"
        raise ValueError(msg)
    if uses == "q":
        return number("leaf_stat", "q", q)
    if uses == "k":
        # More than any forest has leaves is the same as all.
        return float(min(whole("leaf_stat", "k", k), 2**32))
    return float(check_ddof("leaf_stat", ddof))
