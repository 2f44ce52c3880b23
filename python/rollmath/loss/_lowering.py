"""Operations of torch in terms of the few that a kernel has.

A function here gets the recorder, the dtype of the result and the arguments, and returns a node.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

if TYPE_CHECKING:
    from rollmath.loss._recorder import Recorder

Lower = Callable[..., int]


class Unsupported(Exception):  # noqa: N818  a reason, which no user sees as an error
    """Why some arithmetic has no kernel."""


class At(NamedTuple):
    """A node, where a tensor or number may be."""

    node: int


#: What only gives a tensor another form, which :class:`Recorder` follows by its storage.
SAME = {"alias", "detach", "expand", "lift_fresh", "view", "_unsafe_view"}


#: What has one number of all tokens.
REDUCED = {"sum", "dot", "count_nonzero", "amax", "max"}

#: What gives bools.
COMPARED = {
    "lt", "le", "gt", "ge", "eq", "ne", "isnan", "isinf", "logical_and", "logical_or", "logical_not",
}  # fmt: skip

#: What has the dtype of its first tensor, whatever comes with it.
_AS_FIRST = {
    "clone", "_to_copy", "masked_fill", "nan_to_num", "full_like", "ones_like", "zeros_like",
    "new_full", "new_ones", "new_zeros", "amax", "max",
}  # fmt: skip


def dtype_of(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.dtype:
    """The dtype that torch gives to a result; for what gives bools, that of its arguments together."""
    if kwargs.get("dtype") is not None:
        given: torch.dtype = kwargs["dtype"]
        return given
    if name == "count_nonzero":
        return torch.int64
    values = [x for x in args if isinstance(x, (torch.Tensor, bool, int, float))]
    values = values[:1] if name in _AS_FIRST or name == "sum" else values[1:] if name == "where" else values
    if not values and name in {"zeros", "ones"}:
        return torch.get_default_dtype()
    found = joined(values)
    if name == "sum":
        return found if found.is_floating_point else torch.int64
    return _floating(found) if name in FLOATING or name in {"reciprocal", "rsqrt"} else found


def promoted(recorder: Recorder, args: tuple[Any, ...]) -> torch.dtype:
    """The dtype in which torch combines tensors, numbers and nodes."""
    return joined(
        [torch.empty(1, dtype=recorder.dtype(x.node), device="meta") if isinstance(x, At) else x for x in args]
    )


def joined(values: list[Any]) -> torch.dtype:
    """The dtype in which torch combines tensors and numbers."""
    found: Any = values[0]
    for x in values[1:]:
        wide = any(isinstance(y, torch.Tensor) and y.dim() for y in (found, x))
        found = torch.empty((1,) if wide else (), dtype=torch.result_type(found, x), device="meta")
    if isinstance(found, torch.Tensor):
        return found.dtype
    return torch.bool if isinstance(found, bool) else torch.int64 if isinstance(found, int) else torch.float32


def _floating(dtype: torch.dtype) -> torch.dtype:
    return dtype if dtype.is_floating_point else torch.float32


def _elementwise(op: str) -> Lower:
    def lower(recorder: Recorder, dtype: torch.dtype, *args: Any) -> int:
        if dtype == torch.bool:
            if op not in _OF_BOOLS:
                raise Unsupported(f"{op} of bools has no form in the kernel")
            return recorder.op(_OF_BOOLS[op], dtype, *args)
        return recorder.op(op, _floating(dtype) if op in FLOATING else dtype, *args)

    return lower


#: What arithmetic of bools is.
_OF_BOOLS = {"mul": "and", "minimum": "and", "maximum": "or", "add": "or"}


#: Of these the result is a float whatever goes in.
FLOATING = {"div", "exp", "expm1", "log", "log1p", "sqrt", "sigmoid", "tanh"}


def _compare(op: str) -> Lower:
    def lower(recorder: Recorder, _: torch.dtype, x: Any, y: Any) -> int:
        return recorder.compare(op, x, y)

    return lower


def _logical(op: str) -> Lower:
    def lower(recorder: Recorder, _: torch.dtype, *args: Any) -> int:
        return recorder.add(op, torch.bool, tuple(recorder.cast(recorder.node_of(x), torch.bool) for x in args))

    return lower


def _bitwise(op: str) -> Lower:
    logical = _logical(op)

    def lower(recorder: Recorder, dtype: torch.dtype, *args: Any) -> int:
        if dtype != torch.bool:
            raise Unsupported("bits of integers are combined")
        return logical(recorder, dtype, *args)

    return lower


def _times(recorder: Recorder, dtype: torch.dtype, x: Any, factor: float) -> Any:
    return x if factor == 1 else At(_elementwise("mul")(recorder, dtype, x, factor))


def _sum_of(sign: int) -> Lower:
    def lower(recorder: Recorder, dtype: torch.dtype, x: Any, y: Any, alpha: float = 1) -> int:
        op = "add" if sign > 0 else "sub"
        return _elementwise(op)(recorder, dtype, x, _times(recorder, dtype, y, alpha))

    return lower


def _rsub(recorder: Recorder, dtype: torch.dtype, x: Any, y: Any, alpha: float = 1) -> int:
    return recorder.op("sub", dtype, y, _times(recorder, dtype, x, alpha))


def _div(recorder: Recorder, dtype: torch.dtype, x: Any, y: Any, rounding_mode: str | None = None) -> int:
    if rounding_mode is not None:
        raise Unsupported("a quotient is rounded")
    return recorder.op("div", _floating(dtype), x, y)


def _addc(op: str) -> Lower:
    def lower(recorder: Recorder, dtype: torch.dtype, x: Any, y: Any, z: Any, value: float = 1) -> int:
        both = At(recorder.op(op, dtype, _times(recorder, dtype, y, value), z))
        return recorder.op("add", dtype, x, both)

    return lower


def _clamp(recorder: Recorder, dtype: torch.dtype, x: Any, low: Any = None, high: Any = None, **named: Any) -> int:
    low, high = named.get("min", low), named.get("max", high)
    if low is not None:
        x = At(recorder.op("maximum", dtype, x, low))
    return recorder.op("minimum", dtype, x, high) if high is not None else x.node


def _clamp_one(op: str) -> Lower:
    def lower(recorder: Recorder, dtype: torch.dtype, x: Any, bound: Any) -> int:
        return recorder.op(op, dtype, x, bound)

    return lower


def _where(recorder: Recorder, dtype: torch.dtype, condition: Any, x: Any, y: Any) -> int:
    nodes = (
        recorder.cast(recorder.node_of(condition), torch.bool),
        _node(recorder, dtype, x),
        _node(recorder, dtype, y),
    )
    return recorder.add("where", dtype, nodes)


def _node(recorder: Recorder, dtype: torch.dtype, x: Any) -> int:
    node = x.node if isinstance(x, At) else recorder.node_of(x)
    if recorder.cuts(node, dtype):
        raise Unsupported("a single number is cut to a whole one")
    return recorder.cast(node, dtype)


def _masked_fill(recorder: Recorder, dtype: torch.dtype, x: Any, mask: Any, value: Any) -> int:
    return _where(recorder, dtype, mask, value, x)


def _lerp(recorder: Recorder, dtype: torch.dtype, x: Any, y: Any, w: Any) -> int:
    # As torch has it, so that both ends are exact.
    step = At(recorder.op("sub", dtype, y, x))
    up = At(recorder.op("add", dtype, x, At(recorder.op("mul", dtype, w, step))))
    rest = At(recorder.op("sub", dtype, 1, w))
    down = At(recorder.op("sub", dtype, y, At(recorder.op("mul", dtype, step, rest))))
    near = recorder.compare("lt", w, 0.5)
    return recorder.add("where", dtype, (near, up.node, down.node))


def _nan_to_num(
    recorder: Recorder,
    dtype: torch.dtype,
    x: Any,
    nan: float | None = None,
    posinf: float | None = None,
    neginf: float | None = None,
) -> int:
    most = torch.finfo(dtype).max
    out: Any = x
    for there, value in (
        (recorder.compare("eq", x, float("inf")), most if posinf is None else posinf),
        (recorder.compare("eq", x, float("-inf")), -most if neginf is None else neginf),
        (recorder.compare("ne", x, x), nan or 0.0),
    ):
        out = At(recorder.add("where", dtype, (there, _node(recorder, dtype, value), _node(recorder, dtype, out))))
    return _node(recorder, dtype, out)


def _pow(recorder: Recorder, dtype: torch.dtype, x: Any, exponent: Any) -> int:
    if not isinstance(exponent, (int, float)) or not isinstance(x, torch.Tensor):
        raise Unsupported("a power of a tensor")
    if exponent == 0.5:
        return recorder.op("sqrt", _floating(dtype), x)
    if exponent not in {1, 2, 3, -1, -2}:
        raise Unsupported(f"a power of {exponent}")
    out: Any = x
    for _ in range(int(abs(exponent)) - 1):
        out = At(recorder.op("mul", dtype, out, x))
    return recorder.op("div", _floating(dtype), 1, out) if exponent < 0 else _node(recorder, dtype, out)


def _reciprocal(recorder: Recorder, dtype: torch.dtype, x: Any) -> int:
    return recorder.op("div", _floating(dtype), 1, x)


def _rsqrt(recorder: Recorder, dtype: torch.dtype, x: Any) -> int:
    return recorder.op("div", _floating(dtype), 1, At(recorder.op("sqrt", _floating(dtype), x)))


def _relu(recorder: Recorder, dtype: torch.dtype, x: Any) -> int:
    return recorder.op("maximum", dtype, x, 0)


def _is(op: str, *bound: float) -> Lower:
    def lower(recorder: Recorder, _: torch.dtype, x: Any) -> int:
        size = At(recorder.op("abs", recorder.dtype(recorder.node_of(x)), x)) if bound else x
        return recorder.compare(op, size, *(bound or (x,)))

    return lower


def _copied(recorder: Recorder, dtype: torch.dtype, x: Any) -> int:
    return _node(recorder, dtype, x)


def _copy(recorder: Recorder, dtype: torch.dtype, _: Any, x: Any) -> int:
    return _node(recorder, dtype, x)


def _constant(recorder: Recorder, dtype: torch.dtype, value: Any) -> int:
    return _node(recorder, dtype, value)


def _full(recorder: Recorder, dtype: torch.dtype, _: Any, value: Any) -> int:
    return _node(recorder, dtype, value)


def _new_full(recorder: Recorder, dtype: torch.dtype, _: Any, __: Any, value: Any) -> int:
    return _node(recorder, dtype, value)


def _all(value: float) -> Lower:
    def lower(recorder: Recorder, dtype: torch.dtype, *_: Any) -> int:
        return _node(recorder, dtype, value)

    return lower


def _sum(recorder: Recorder, dtype: torch.dtype, x: Any, _dim: Any = None, keepdim: bool = False) -> int:
    if keepdim:
        raise Unsupported("a sum keeps its dimension")
    return _node(recorder, dtype, recorder.reduce("sum", x))


def _dot(recorder: Recorder, dtype: torch.dtype, x: Any, y: Any) -> int:
    return _node(recorder, dtype, recorder.reduce("sum", At(recorder.op("mul", dtype, x, y))))


def _count_nonzero(recorder: Recorder, dtype: torch.dtype, x: Any, _dim: Any = None) -> int:
    return _node(recorder, dtype, recorder.reduce("sum", At(recorder.compare("ne", x, 0))))


def _max(recorder: Recorder, dtype: torch.dtype, x: Any, _dim: Any = None, keepdim: bool = False) -> int:
    if keepdim:
        raise Unsupported("a maximum keeps its dimension")
    return _node(recorder, dtype, recorder.reduce("max", x))


LOWERED: dict[str, Lower] = {
    **{op: _elementwise(op) for op in ("mul", "maximum", "minimum", "neg", "abs", "sign", *sorted(FLOATING))},
    **{op: _compare(op) for op in ("lt", "le", "gt", "ge", "eq", "ne")},
    **{f"logical_{op}": _logical(op) for op in ("and", "or", "not")},
    **{f"bitwise_{op}": _bitwise(op) for op in ("and", "or", "not")},
    "add": _sum_of(1),
    "sub": _sum_of(-1),
    "rsub": _rsub,
    "div": _div,
    "addcmul": _addc("mul"),
    "addcdiv": _addc("div"),
    "clamp": _clamp,
    "clamp_min": _clamp_one("maximum"),
    "clamp_max": _clamp_one("minimum"),
    "where": _where,
    "masked_fill": _masked_fill,
    "lerp": _lerp,
    "nan_to_num": _nan_to_num,
    "pow": _pow,
    "square": lambda recorder, dtype, x: _pow(recorder, dtype, x, 2),
    "reciprocal": _reciprocal,
    "rsqrt": _rsqrt,
    "relu": _relu,
    "isnan": _is("ne"),
    "isinf": _is("eq", float("inf")),
    "clone": _copied,
    "_to_copy": _copied,
    "copy": _copy,
    "fill": _full,
    "full_like": _full,
    "full": _full,
    "new_full": _new_full,
    "scalar_tensor": _constant,
    "zero": _all(0),
    "zeros": _all(0),
    "zeros_like": _all(0),
    "new_zeros": _all(0),
    "ones": _all(1),
    "ones_like": _all(1),
    "new_ones": _all(1),
    "sum": _sum,
    "dot": _dot,
    "count_nonzero": _count_nonzero,
    "amax": _max,
    "max": _max,
}
