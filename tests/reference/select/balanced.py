"""As many above as below: every number of rollouts above is tried."""

from subsets import subset


def balanced(rewards, ids, *, threshold=0.5, order="preference", **options):
    def rule(rows, keep):
        above = [i for i in rows if rewards[i] >= threshold]
        below = [i for i in rows if rewards[i] < threshold]
        if order == "extreme":
            above.sort(key=lambda i: -rewards[i])
            below.sort(key=lambda i: rewards[i])
        can = [k for k in range(keep + 1) if k <= len(above) and keep - k <= len(below)]
        # The odd one is below.
        k = min(can, key=lambda k: (abs(2 * k - keep), k))
        return above[:k] + below[: keep - k]

    return subset(rewards, ids, rule, "over the share of its side", **options)
