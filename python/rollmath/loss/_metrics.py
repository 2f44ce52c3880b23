"""LossMetrics: named numbers of a loss in one tensor, which nothing waits for until it is read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import torch

from rollmath.loss._check import require

#: Sums that are terms of the loss; the others are divided by the tokens of the step.
TERMS = ("policy_loss", "kl_loss", "entropy_loss")


class LossMetrics(Mapping[str, torch.Tensor]):
    """Named 0-d values in one 1-D float64 tensor on the device of the loss: to read all is one copy.

    Each is a sum over trained tokens divided by the tokens of the whole step, or a term of the loss, and so adds up
    over micro-batches and ranks; those whose name ends in ``_max`` are maxima. :meth:`merge` does both.

    Attributes:
        values_tensor: all values, float64 ``[len(self)]``.

    >>> m = LossMetrics({"loss": torch.tensor(0.5), "ratio_max": torch.tensor(2.0)})
    >>> LossMetrics.merge([m, m]).to_dict()
    {'loss': 1.0, 'ratio_max': 2.0}
    """

    def __init__(self, values: Mapping[str, torch.Tensor]) -> None:
        each = [x.detach().double() for x in values.values()]
        self._fill(tuple(values), torch.stack(each) if each else torch.empty(0, dtype=torch.float64))

    def _fill(self, names: tuple[str, ...], table: torch.Tensor) -> LossMetrics:
        self._names, self.values_tensor = names, table
        return self

    @classmethod
    def of_sums(cls, terms: Mapping[str, torch.Tensor], sums: Mapping[str, torch.Tensor], tokens: int) -> LossMetrics:
        """Terms of a loss as they are, with their sum as ``loss``; sums over ``tokens``; maxima. Few launches."""
        largest = [name for name in sums if name.endswith("_max")]
        means = [name for name in sums if not name.endswith("_max")]
        table = torch.stack([*terms.values(), *(sums[name] for name in [*means, *largest])])
        cut, end = len(terms), len(terms) + len(means)
        parts = [table[:cut].sum(0, keepdim=True), table[:cut], table[cut:end] / max(tokens, 1), table[end:]]
        return cls.__new__(cls)._fill(("loss", *terms, *means, *largest), torch.cat(parts))

    @classmethod
    def of_table(cls, names: tuple[str, ...], table: torch.Tensor) -> LossMetrics:
        """Values that are one tensor already."""
        return cls.__new__(cls)._fill(names, table)

    def __getitem__(self, name: str) -> torch.Tensor:
        if name not in self._names:
            msg = f"no metric {name!r}; there are {', '.join(self._names)}"
            raise KeyError(msg)
        return self.values_tensor[self._names.index(name)]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def to_dict(self) -> dict[str, float]:
        """All values as floats: one copy from the device, which waits for it."""
        return dict(zip(self._names, self.values_tensor.tolist(), strict=True))

    @staticmethod
    def merge(parts: Iterable[LossMetrics]) -> LossMetrics:
        """Those of several micro-batches or ranks together: sums are added, maxima compared; of none: empty.

        Raises:
            ValueError: parts with different names.
            TypeError: a part that is no LossMetrics.
        """
        given = list(parts)
        for number, part in enumerate(given):
            require("LossMetrics.merge", f"parts[{number}]", part, LossMetrics, "LossMetrics")
            if part._names != given[0]._names:
                msg = (
                    f"LossMetrics.merge(): 'parts[{number}]' must have the metrics of parts[0], {list(given[0])}, got "
                )
                raise ValueError(msg + str(list(part)))
        if not given:
            return LossMetrics({})
        table = torch.stack([part.values_tensor for part in given])
        total, largest = table.sum(0), table.amax(0)
        return LossMetrics(
            {name: (largest if name.endswith("_max") else total)[i] for i, name in enumerate(given[0]._names)}
        )

    def __repr__(self) -> str:
        return f"LossMetrics({', '.join(self._names)})"


def add_counts(counts: dict[str, torch.Tensor], found: Mapping[str, torch.Tensor]) -> None:
    """Puts named sums beside others; a name that is there already gets a number, ``gate_high_2``."""
    for name, x in found.items():
        # The number goes before _max, which says how a metric merges.
        stem, tail = (name.removesuffix("_max"), "_max") if name.endswith("_max") else (name, "")
        number, free = 2, name
        while free in counts:
            free, number = f"{stem}_{number}{tail}", number + 1
        counts[free] = x
