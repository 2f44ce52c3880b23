"""Checks of what a call does beside its result."""

from __future__ import annotations

from dataclasses import replace

import torch

from rollmath.testing._cases import show
from rollmath.testing._loss import LossFunction, make_rows
from rollmath.testing._registry import CallError, Remark, check, fail


@check("loss")
def detached_inputs(f: LossFunction) -> str:
    """No gradient flows through old_logp or the advantages, should they require one.

    An old_logp that is not detached cancels the gradient of logp where the two are one tensor; advantages of a critic
    that is trained too would train it by the policy's loss.
    """
    rows = make_rows([4, 3])
    leaves = {n: getattr(rows, n).clone().requires_grad_() for n in ("logp", "old", "advantages")}
    try:
        torch.autograd.backward(f.loss(replace(rows, **leaves)))
    except CallError as error:
        if error.refusal:
            return f"it refuses: {error.text}"
        raise
    reached = [n for n in ("old", "advantages") if leaves[n].grad is not None and bool(leaves[n].grad.any())]
    if reached:
        names = {"old": "old_logp", "advantages": "advantages"}
        return Remark(f"a gradient reaches {' and '.join(names[n] for n in reached)}: detach before the call")
    return "old_logp and advantages get none"


@check("loss")
def determinism(f: LossFunction) -> str:
    """Five calls with the same inputs give the same loss and gradient.

    A draw from the global generator makes every run another one: verl 0.9.1's ``clip_cov`` takes the tokens that it
    stops by ``torch.randperm``.
    """
    rows = make_rows([24] * 8, noise=1.0, seed=1)
    rows = replace(rows, advantages=2 * rows.advantages)
    state = torch.get_rng_state()
    try:
        torch.manual_seed(0)
        values = [f(rows) for _ in range(5)]
    finally:
        torch.set_rng_state(state)
    for value in values[1:]:
        if value.loss != values[0].loss or (value.gradient != values[0].gradient).any():
            fail(f"calls with the same inputs give the losses {', '.join(f'{v.loss:.9g}' for v in values)}")
    return f"five calls give the loss {show(values[0].loss)}"


@check("loss")
def inputs_mutated(f: LossFunction) -> str:
    """The inputs are as they were.

    Advantages that are clipped or masked in place are what the next epoch, and the log, get.
    """
    rows = make_rows([4, 3, 5, 2], noise=1.0)
    if f.style != "rows":
        rows = replace(rows, advantages=rows.advantages[:, None].expand_as(rows.logp).clone())
    rows = replace(rows, mask=rows.mask.to(getattr(torch, str(f.way.mask))), logp=(rows.logp.requires_grad_() * 1.0))
    before = {n: getattr(rows, n).detach().clone() for n in ("logp", "old", "advantages", "mask")}
    f.loss(rows)
    for name, then in before.items():
        now = getattr(rows, name).detach()
        if not torch.equal(now, then):
            fail(f"an element of {name} is {show(float(now[now != then][0]))} after the call, and was "
                 f"{show(float(then[now != then][0]))}")  # fmt: skip
    return "all inputs are as they were"
