"""verl's policy loss with its KL and entropy terms, as its actor adds them up."""

from collections.abc import Callable
from typing import Any

from bench.loss_inputs import CLIP, DUAL, ENTROPY, KL, Batch
from bench.peers.verl_trainer import _core_algos


def ppo(batch: Batch, *, compiled: bool = False) -> Callable[[], Any]:
    """Forward and backward; ``(loss, gradient of log-probabilities, gradient of entropies)``."""
    algos = _core_algos()
    import torch
    from verl.workers.config import ActorConfig

    config = ActorConfig(
        strategy="fsdp",
        rollout_n=1,
        use_dynamic_bsz=True,
        clip_ratio=CLIP[0],
        clip_ratio_low=CLIP[0],
        clip_ratio_high=CLIP[1],
        clip_ratio_c=DUAL,
    )
    mask = batch.mask.to(torch.int64)
    advantages = batch.advantages[:, None].expand(mask.shape)

    def loss(theta, entropy):
        policy, _ = algos.compute_policy_loss_vanilla(batch.prox, theta, advantages, mask, "token-mean", config)
        kl = algos.agg_loss(algos.kl_penalty(theta, batch.ref, "k3"), mask, "token-mean")
        return policy - ENTROPY * algos.agg_loss(entropy, mask, "token-mean") + KL * kl

    if compiled:
        loss = torch.compile(loss)

    def call():
        theta, entropy = batch.theta.detach().requires_grad_(), batch.entropy.detach().requires_grad_()
        value = loss(theta, entropy)
        value.backward()
        return value.detach(), theta.grad, entropy.grad

    return call
