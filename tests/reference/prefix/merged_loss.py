"""The loss of a token that several rollouts share, one rollout after another."""


def clipped(ratio, advantage, clip):
    low = min(max(ratio, 1 - clip), 1 + clip)
    return max(-advantage * ratio, -advantage * low)


def merged_loss(ratios, rollouts, advantages, weights, clip):
    """Sum of what each rollout of each token adds; ``rollouts[t]`` are those in which token ``t`` is trained."""
    return sum(
        weights[r] * clipped(ratio, advantages[r], clip)
        for ratio, having in zip(ratios, rollouts, strict=True)
        for r in having
    )


def naive_loss(ratios, rollouts, advantages, weights, clip):
    """The same with one sum of the advantages a token: not the loss, because a clip looks at their signs."""
    return sum(
        clipped(ratio, sum(weights[r] * advantages[r] for r in having), clip)
        for ratio, having in zip(ratios, rollouts, strict=True)
    )
