"""Policy losses with one defect each, of a kind that was found in a trainer: what, the check, the function."""

import torch


def ppo(logp, old, advantages, mask, *, low=0.2, high=0.28, log_ratio=None):
    """[B, T], correct, and nothing behind the mask reaches it."""
    log_ratio = torch.where(mask != 0, logp - old, 0.0) if log_ratio is None else log_ratio
    ratio = log_ratio.exp()
    clipped = ratio.clamp(1 - low, 1 + high)
    advantages = torch.where(mask != 0, advantages, 0.0)
    return torch.where(mask != 0, -torch.minimum(ratio * advantages, clipped * advantages), 0.0)


def safe(logp, old, mask):
    """Both without what is behind the mask."""
    return torch.where(mask != 0, logp, 0.0), torch.where(mask != 0, old, 0.0)


def good(logp, old, advantages, mask, *, num_tokens=None):
    logp, old = safe(logp.float() if logp.dtype == torch.bfloat16 else logp, old.to(logp.dtype).float(), mask)
    total = mask.sum() if num_tokens is None else num_tokens
    return ppo(logp, old.to(logp.dtype), advantages.to(logp.dtype), mask).sum() / max(float(total), 1.0)


def token_mean(losses, mask):
    return losses.sum() / mask.sum().clamp(min=1)


def flipped(logp, old, advantages, mask):
    return -good(logp, old, advantages, mask)


def old_over_theta(logp, old, advantages, mask):
    """The gradient of a score function, weighted by the inverse of the ratio."""
    logp, old = safe(logp, old, mask)
    weight = (old - logp).exp().detach()
    return token_mean(torch.where(mask != 0, -weight * torch.where(mask != 0, advantages, 0.0) * logp, 0.0), mask)


def max_for_min(logp, old, advantages, mask):
    logp, old = safe(logp, old, mask)
    ratio = (logp - old).exp()
    advantages = torch.where(mask != 0, advantages, 0.0)
    return token_mean(-torch.maximum(ratio * advantages, ratio.clamp(0.8, 1.28) * advantages) * mask, mask)


def bounds_swapped(logp, old, advantages, mask):
    return token_mean(ppo(*safe(logp, old, mask), advantages, mask, low=0.28, high=0.2), mask)


def mean_of_means(logp, old, advantages, mask, *, num_tokens):
    return token_mean(ppo(*safe(logp, old, mask), advantages, mask), mask)


def divided_again(logp, old, advantages, mask, *, num_tokens):
    return good(logp, old, advantages, mask, num_tokens=num_tokens) / len(mask)


def unmasked_numerator(logp, old, advantages, mask):
    return -((logp - old).exp() * advantages).sum() / mask.sum()


def finite_padding(logp, old, advantages, mask):
    """A sequence's ratio is of the sum over the row; the gradient at padding is stopped."""
    log_ratio = torch.where(mask != 0, logp, logp.detach()) - old
    mean = log_ratio.sum(1, keepdim=True) / mask.sum(1, keepdim=True).clamp(min=1)
    return token_mean(-mean.exp() * advantages * mask, mask)


def over_width(logp, old, advantages, mask):
    return (ppo(*safe(logp, old, mask), advantages, mask).sum(1) / logp.shape[1]).mean()


def length_is_position(logp, old, advantages, mask):
    length = (mask != 0).long().mul(torch.arange(1, mask.shape[1] + 1)).amax(1).clamp(min=1)
    return (ppo(*safe(logp, old, mask), advantages, mask).sum(1) / length).mean()


def nan_times_zero(logp, old, advantages, mask):
    return ((-(logp - old).exp() * advantages) * mask).sum() / mask.sum().clamp(min=1)


def where_on_the_loss(logp, old, advantages, mask):
    """The loss is right, and the gradient is 0 times what is behind it."""
    losses = -(logp - old).exp() * torch.where(mask != 0, advantages, 0.0)
    return token_mean(torch.where(mask != 0, losses, 0.0), mask)


def zero_over_zero(logp, old, advantages, mask):
    return ppo(*safe(logp, old, mask), advantages, mask).sum() / mask.sum()


def rows_over_zero(logp, old, advantages, mask):
    return (ppo(*safe(logp, old, mask), advantages, mask).sum(1) / mask.sum(1)).mean()


def empty_rows_count(logp, old, advantages, mask):
    return ppo(*safe(logp, old, mask), advantages, mask).sum() / mask.sum(1).clamp(min=1).sum()


def whitened_inside(logp, old, advantages, mask):
    kept = advantages[mask != 0]
    return good(logp, old, (advantages - kept.mean()) / (kept.std() + 1e-6), mask)


def random_tokens(logp, old, advantages, mask):
    drop = torch.zeros_like(logp).flatten()
    drop[torch.randperm(drop.numel())[: max(1, drop.numel() // 50)]] = 1
    return token_mean(ppo(*safe(logp, old, mask), advantages, mask) * (1 - drop.view_as(logp)), mask)


def in_place(logp, old, advantages, mask):
    old.clamp_(min=-1.0)
    return good(logp, old, advantages, mask)


def bfloat16_count(logp, old, advantages, mask):
    """A running sum in the dtype of the log-probabilities."""
    count = torch.zeros((), dtype=logp.dtype)
    for n in mask.flatten().tolist():
        count = count + n
    return ppo(*safe(logp, old, mask), advantages, mask).sum() / count.clamp(min=1)


def first_row_counts_twice(logp, old, advantages, mask):
    weight = torch.ones(len(mask), 1)
    weight[0] = 2
    return token_mean(ppo(*safe(logp, old, mask), advantages, mask) * weight, mask)


def not_a_scalar(logp, old, advantages, mask):
    return ppo(logp, old, advantages, mask)


#: What it is, the check that must find it, the function; those that take ``num_tokens`` take the count of the step.
LOSSES = [
    ("flipped sign", "gradient_direction", flipped),
    ("old / theta", "ratio_direction", old_over_theta),
    ("max for min", "clip_sides", max_for_min),
    ("bounds swapped", "clip_sides", bounds_swapped),
    ("a mean of means", "partition", mean_of_means),
    ("divided by the rows again", "accumulation", divided_again),
    ("no mask in the numerator", "masked_gradient", unmasked_numerator),
    ("a sum over the padding", "finite_behind_mask", finite_padding),
    ("a mean over the width", "padding_width", over_width),
    ("the length is the position of the last token", "gap_neutrality", length_is_position),
    ("0 times NaN", "nan_behind_mask", nan_times_zero),
    ("torch.where on the loss alone", "nan_behind_mask", where_on_the_loss),
    ("-inf minus -inf", "inf_behind_mask", nan_times_zero),
    ("0 / 0 where nothing is trained", "nothing_trained", zero_over_zero),
    ("0 / 0 of a row", "empty_row", rows_over_zero),
    ("a row without a trained token counts as a token", "empty_row_counted", empty_rows_count),
    ("advantages are normalised again", "advantages_as_given", whitened_inside),
    ("unseeded choice of tokens", "determinism", random_tokens),
    ("old_logp is clipped in place", "inputs_mutated", in_place),
    ("a count in bfloat16", "low_precision", bfloat16_count),
    ("the first row counts twice", "row_order", first_row_counts_twice),
    ("the first row counts twice", "equal_rows", first_row_counts_twice),
    ("a matrix", "runs", not_a_scalar),
]
