"""LogProbs: the policies that an asynchronous trainer has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rollmath._arrays import describe, is_tensor

if TYPE_CHECKING:
    import torch


def unnested(who: str, name: str, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The values of a jagged tensor and its offsets; any other tensor as it is, and None.

    Raises:
        TypeError: a nested tensor that is not jagged ``[rows, positions]``, or has holes between its rows.
    """
    if not x.is_nested:
        return x, None
    nested: Any = x
    if "jagged" not in str(x.layout) or x.dim() != 2 or nested.lengths() is not None:
        msg = f"{who}(): {name!r} as a nested tensor must be jagged [rows, positions] without holes between rows; call "
        raise TypeError(msg + "torch.nested.as_nested_tensor(list of rows, layout=torch.jagged)")
    return nested.values(), nested.offsets()


@dataclass(frozen=True, eq=False, repr=False)
class LogProbs:
    """Log-probabilities of the same tokens under up to four policies, packed ``[tokens]`` or padded ``[B, T]``.

    A jagged nested tensor is taken by its values, which are packed; a loss compares its offsets with the rows.

    Attributes:
        theta: the policy in training; the only one that may require grad.
        prox: the proximal (old) policy, the center of the trust region; None means theta detached: the first step on
            fresh rollouts, where every ratio is 1.
        behaviour: the policy that sampled, as the inference engine reported it.
        ref: the reference policy of a KL term.

    Raises:
        TypeError: not a float tensor, or not 1-D or 2-D.
        ValueError: shapes or devices that differ from those of theta, or a policy other than theta that requires grad.
    """

    theta: torch.Tensor
    prox: torch.Tensor | None = None
    behaviour: torch.Tensor | None = None
    ref: torch.Tensor | None = None

    def __post_init__(self) -> None:
        offsets: dict[str, torch.Tensor] = {}
        for name, x in self.given().items():
            values, found = unnested("LogProbs", name, x) if is_tensor(x) else (x, None)
            object.__setattr__(self, name, values)
            if found is not None:
                offsets[name] = found
        object.__setattr__(self, "_jagged", offsets)
        for name, x in self.given().items():
            if not is_tensor(x) or not x.is_floating_point() or x.dim() not in {1, 2}:
                msg = f"LogProbs(): {name!r} must be a float tensor [tokens] or [B, T], got {describe(x)}"
                raise TypeError(msg)
            shape = tuple(self.theta.shape)
            if tuple(x.shape) != shape:
                msg = f"LogProbs(): {name!r} must have shape {shape} (= theta.shape), got {tuple(x.shape)}"
                raise ValueError(msg)
            if x.device != self.theta.device:
                msg = f"LogProbs(): {name!r} must be on {self.theta.device} (= theta.device), got {x.device}"
                raise ValueError(msg)
            if name != "theta" and x.requires_grad:
                msg = f"LogProbs(): {name!r} requires grad, but only 'theta' is differentiated; call .detach()"
                raise ValueError(msg)

    @property
    def proximal(self) -> torch.Tensor:
        """``prox``, or theta detached."""
        return self.theta.detach() if self.prox is None else self.prox

    @property
    def shape(self) -> tuple[int, ...]:
        """The common shape."""
        return tuple(self.theta.shape)

    def given(self) -> dict[str, torch.Tensor]:
        """The policies that are there, by name."""
        others = {"prox": self.prox, "behaviour": self.behaviour, "ref": self.ref}
        return {"theta": self.theta} | {name: x for name, x in others.items() if x is not None}

    @property
    def jagged(self) -> dict[str, torch.Tensor]:
        """The offsets of the policies that came as jagged tensors, by name."""
        offsets: dict[str, torch.Tensor] = self.__dict__["_jagged"]
        return offsets

    def __repr__(self) -> str:
        dtype = str(self.theta.dtype).removeprefix("torch.")
        return f"LogProbs({', '.join(self.given())}; {dtype} {list(self.shape)})"
