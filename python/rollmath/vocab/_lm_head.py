"""The output layer of a language model, which gives logits, or statistics of their rows without them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from rollmath._arrays import ArrayLike, describe
from rollmath.vocab._args import check_factor, check_softcap
from rollmath.vocab._dtensor import is_dtensor
from rollmath.vocab._linear_rows import WORKSPACE, linear_rows
from rollmath.vocab._row_stats import RowStats


class HeadOptions(NamedTuple):
    """What a head says for every call."""

    softcap: float | None = None
    scale: float = 1.0
    logits_dtype: torch.dtype | str | None = None
    workspace: int = WORKSPACE
    backend: str = "auto"


class Sealed:
    """A number on its way through hooks that would round tensors to the dtype of the parameters."""

    def __init__(self, content: Any) -> None:
        self.content = content


class RowStatsHead(nn.Module):
    """What makes an output layer return statistics; comes before the class of the layer."""

    head_options: HeadOptions
    weight: Any
    bias: Any

    def forward(
        self, hidden: torch.Tensor, labels: torch.Tensor | None = None, *args: Any, **options: Any
    ) -> torch.Tensor | RowStats:
        """Logits of ``hidden``, or with labels or ``outputs=`` its :class:`RowStats`."""
        if labels is None and options.get("outputs") is None:
            options.pop("outputs", None)
            logits: torch.Tensor = super().forward(hidden, *args, **options)
            return logits
        if isinstance(options.get("temperature"), Sealed):
            options["temperature"] = options["temperature"].content
        if options.get("outputs") is None:
            options["outputs"] = ("logprob", "entropy")
        factors, bias = self.head_factors(hidden)
        return linear_rows("row_stats", factors, labels, bias=bias, **{**self.head_options._asdict(), **options})

    def head_factors(self, hidden: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor | None]:
        """Pairs of factors whose products are added up to the logits, and the bias."""
        return [hidden, self.weight], self.bias

    def row_stats(
        self,
        hidden: torch.Tensor,
        labels: torch.Tensor | None = None,
        *,
        outputs: Sequence[str] = ("logprob", "entropy"),
        temperature: ArrayLike = 1.0,
        mask: torch.Tensor | None = None,
        ignore_index: int | None = None,
        ids: torch.Tensor | None = None,
        check: bool | None = None,
        **options: Any,
    ) -> RowStats:
        """``rollmath.vocab.linear_row_stats`` of ``hidden`` and this layer, with its soft-cap and scale.

        It calls the module, so that its hooks run: under ``fully_shard`` they gather the weight, here and in backward.
        """
        stats: RowStats = self(
            hidden,
            labels,
            outputs=outputs,
            temperature=Sealed(temperature),
            mask=mask,
            ignore_index=ignore_index,
            ids=ids,
            check=check,
            **options,
        )
        return stats


class LMHead(RowStatsHead, nn.Linear):  # type: ignore[misc]  # more arguments than that of nn.Linear
    r"""An ``nn.Linear`` that also gives :class:`RowStats` of its logits, which then never exist.

    With ``x = hidden @ weight.T + bias`` and ``s`` the scale and ``c`` the soft-cap of the model, ``forward(hidden)``
    is ``x``, as of the ``nn.Linear`` in its place, and ``row_stats(hidden, labels)`` is that of ``s x``, or of
    ``c tanh(s x / c)``: models apply both behind the layer. ``forward(hidden, labels)`` does the same. The parameters
    are ``weight`` and ``bias``, so that checkpoints, tied weights, ``fully_shard`` and optimizers see no difference.

    Args:
        in_features: ``H``.
        out_features: ``V``.
        bias: whether there is a bias.
        softcap: the model's soft-cap of its logits, or None.
        scale: what the model multiplies its logits by, before the soft-cap.
        logits_dtype: as of ``linear_row_stats``.
        workspace: as of ``linear_row_stats``.
        backend: as of ``linear_row_stats``.
        device: of the parameters.
        dtype: of the parameters.

    Raises:
        ValueError: a soft-cap or a scale that is not positive and finite; what ``linear_row_stats`` raises.

    >>> head = LMHead(8, 100)
    >>> hidden, labels = torch.zeros(2, 3, 8), torch.zeros(2, 3, dtype=torch.long)
    >>> head(hidden).shape, head.row_stats(hidden, labels).logprob.shape
    (torch.Size([2, 3, 100]), torch.Size([2, 3]))
    >>> head.row_stats(hidden, labels).entropy[0]
    tensor([4.6052, 4.6052, 4.6052], grad_fn=<SelectBackward0>)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = False,
        *,
        softcap: float | None = None,
        scale: float = 1.0,
        logits_dtype: torch.dtype | str | None = None,
        workspace: int = WORKSPACE,
        backend: str = "auto",
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(in_features, out_features, bias, device, dtype)
        self.head_options = head_options("LMHead", softcap, scale, logits_dtype, workspace, backend)

    @classmethod
    def from_linear(cls, linear: nn.Linear, **options: Any) -> LMHead:
        """A head with the very parameters of ``linear``: what is tied to them stays tied.

        ``options`` are the keywords of :class:`LMHead`. Hooks of ``linear`` stay behind.

        >>> linear = nn.Linear(8, 100, bias=False)
        >>> LMHead.from_linear(linear, softcap=30.0).weight is linear.weight
        True
        """
        if not is_linear(linear):
            msg = f"LMHead.from_linear(): 'linear' must be an nn.Linear with its own forward, got {describe(linear)}"
            raise TypeError(msg)
        made = cls(linear.in_features, linear.out_features, False, device="meta", **options)
        made.weight, made.bias = linear.weight, linear.bias
        return made.train(linear.training)

    def parallelize(self, mesh: Any) -> LMHead:
        """Spreads the vocabulary over a one-dimensional ``DeviceMesh``: weight and bias become ``Shard(0)``, in place.

        ``hidden`` is then the same on all ranks of the mesh, plain or a replicated DTensor, and so are the statistics;
        each rank computes those of its tokens, one all-gather brings them together, and the gradient of ``hidden`` is
        added up. Logits come as a DTensor, sharded in its last dimension.

        Raises:
            ValueError: a mesh of several dimensions.
        """
        # Importing this takes a while, and few need it.
        from torch.distributed.tensor import (  # noqa: PLC0415
            DTensor,
            Replicate,
            Shard,
            distribute_module,
            distribute_tensor,
        )

        if mesh.ndim != 1:
            msg = f"LMHead.parallelize(): 'mesh' must have one dimension, got {mesh.ndim}; take one with mesh[name]"
            raise ValueError(msg)

        def spread(_: str, module: nn.Module, mesh: Any) -> None:
            for key, parameter in list(module.named_parameters(recurse=False)):
                placed = distribute_tensor(parameter.detach(), mesh, [Shard(0)])
                module.register_parameter(key, nn.Parameter(placed, requires_grad=parameter.requires_grad))

        def replicate(_: nn.Module, inputs: tuple[Any, ...], mesh: Any) -> tuple[Any, ...]:
            hidden, *rest = inputs
            if not is_dtensor(hidden):
                hidden = DTensor.from_local(hidden, mesh, [Replicate()], run_check=False)
            return hidden, *rest

        distribute_module(self, mesh, spread, replicate)  # type: ignore[arg-type]  # it may return the inputs
        return self


def is_linear(layer: Any) -> bool:
    """Whether the logits of a layer are the products of its weight: quantised ones are subclasses that do more."""
    plain = isinstance(layer, nn.Linear) and type(layer).forward in {nn.Linear.forward, RowStatsHead.forward}
    return plain and "forward" not in vars(layer)


def head_options(
    who: str,
    softcap: float | None,
    scale: float,
    logits_dtype: torch.dtype | str | None,
    workspace: int,
    backend: str,
) -> HeadOptions:
    """Checked as far as they can be without tensors."""
    return HeadOptions(check_softcap(who, softcap), check_factor(who, "scale", scale), logits_dtype, workspace, backend)
