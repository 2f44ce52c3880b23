"""Advantage functions with one defect each, of a kind that was found in a trainer: what, the check, the function."""

import numpy as np

import rollmath as rm

EPS = 1e-6


def by_group(function):
    """An advantage function that applies ``function`` to the rewards of each group."""

    def advantages(rewards, groups):
        out = np.zeros(len(rewards))
        for g in dict.fromkeys(groups.tolist()):
            rows = np.array([x == g for x in groups.tolist()])
            out[rows] = function(rewards[rows])
        return out

    return advantages


def std(x, ddof=1):
    return x.std(ddof=ddof) if len(x) > ddof else 1.0


def z_score(x):
    if len(x) == 1 or x.max() == x.min():
        return np.zeros(len(x))
    x = x.astype(np.float64)
    return (x - x.mean()) / (std(x) + EPS)


good = by_group(z_score)


def whole_batch(rewards, groups):
    return z_score(rewards)


def by_position(rewards, groups):
    n = len(rewards) // len(set(groups.tolist()))
    return np.concatenate([z_score(x) for x in np.split(rewards, range(n, len(rewards), n))])


def whole_batch_if_uneven(rewards, groups):
    sizes = {groups.tolist().count(g) for g in groups.tolist()}
    return good(rewards, groups) if len(sizes) == 1 else z_score(rewards)


def remainder(rewards, groups):
    """Slices of the size of the first group; what is left over has the mean 0 and the standard deviation 0."""
    n = groups.tolist().count(groups.tolist()[0])
    out = [z_score(rewards[i : i + n]) for i in range(0, len(rewards) - n + 1, n)]
    return np.concatenate([*out, rewards[len(out) * n :] / 1e-5])


def one_pass_variance(x):
    x = x.astype(np.float32)
    variance = np.float32((x * x).mean()) - np.float32(x.mean()) ** 2
    return (x - x.mean()) / (np.sqrt(max(variance, np.float32(0))) + EPS) if x.max() > x.min() else 0 * x


def two_ddofs(x):
    return (x - x.mean()) / (std(x, ddof=0 if len(x) == 4 else 1) + EPS) if x.max() > x.min() else 0 * x


def batch_centred(rewards, groups):
    return good(rewards - rewards.mean(), groups)


def missing_is_failure(rewards, groups):
    return good(np.nan_to_num(rewards), groups)


def loo_std(x):
    if len(x) < 3 or x.max() == x.min():
        return np.zeros(len(x))
    others = [np.delete(x, i) for i in range(len(x))]
    return np.array([(x[i] - o.mean()) / (o.std(ddof=1) + EPS) for i, o in enumerate(others)])


def flipped(rewards, groups):
    return -good(rewards, groups)


def counts_nonzero(x):
    return (x - x.mean()) * len(x) / max(np.count_nonzero(x), 1)


def residue(x):
    x = x.astype(np.float32)
    return (x - x.mean(dtype=np.float32)) / (np.float32(std(x)) + np.float32(1e-9))


def noisy(rewards, groups):
    return good(rewards + 1e-7 * np.random.random(len(rewards)), groups)  # noqa: NPY002 - that is the defect


def in_place(rewards, groups):
    rewards -= rewards.mean()
    return good(rewards, groups)


def ids_as_ints(rewards, groups):
    read = [int(g) if str(g).strip().strip("-").isdigit() else hash(g) for g in groups.tolist()]
    return good(rewards, np.array(read))


def table_of_ids(rewards, groups):
    groups = groups.astype(np.int64)
    total, count = np.zeros(groups.max() + 1), np.zeros(groups.max() + 1)
    np.add.at(total, groups, rewards)
    np.add.at(count, groups, 1)
    return rewards - (total / np.maximum(count, 1))[groups]


def float_ids(rewards, groups):
    return good(rewards, groups.astype(np.float64))


def normalised_twice(rewards, groups):
    return z_score(good(rewards, groups))


def of_ints(rewards, groups):
    out = np.zeros_like(rewards)
    out[:] = good(rewards, groups)
    return out


def nan_for_one(x):
    return (x - x.mean()) / (np.std(x, ddof=1) + EPS) if len(x) == 1 or x.max() > x.min() else 0 * x


def one_over_eps(x):
    return x / EPS if len(x) == 1 else z_score(x)


def large_eps(x):
    return (x - x.mean()) / (std(x) + 1.0)


def first_row_counts_twice(rewards, groups):
    out = good(rewards, groups)
    out[0] *= 2
    return out


def over_mean(x):
    return (x - x.mean()) / (x.mean() + EPS)


#: What it is, the check that must find it, the function of rewards and groups.
ROLLOUTS = [
    ("the whole batch is one group", "group_statistics", whole_batch),
    ("groups are slices by position", "interleaved_groups", by_position),
    ("the whole batch is one group if groups are uneven", "uneven_groups", whole_batch_if_uneven),
    ("rows beyond a multiple of the group size are divided by eps", "uneven_groups", remainder),
    ("E[x^2] - E[x]^2 in float32", "cancellation", by_group(one_pass_variance)),
    ("ddof 0 for the usual size, 1 for others", "uneven_groups", by_group(two_ddofs)),
    ("a NaN reaches the batch", "nan_reward", batch_centred),
    ("a NaN is a failure", "nan_reward", missing_is_failure),
    ("leave-one-out standard deviation", "lone_success", by_group(loo_std)),
    ("flipped sign", "sign", flipped),
    ("rewards of 0 are not counted", "zero_reward", by_group(counts_nonzero)),
    ("the rounding of the mean over a small eps", "zero_spread", by_group(residue)),
    ("unseeded noise", "determinism", noisy),
    ("rewards are centred in place", "inputs_mutated", in_place),
    ("ids are read as ints", "string_ids", ids_as_ints),
    ("a table as long as the largest id", "integer_ids", table_of_ids),
    ("ids are cast to float64", "integer_ids", float_ids),
    ("normalised twice", "partition", normalised_twice),
    ("the result has the dtype of the rewards", "integer_rewards", of_ints),
    ("the standard deviation of one reward", "singletons", by_group(nan_for_one)),
    ("a lone reward over eps", "singletons", by_group(one_over_eps)),
    ("an eps of 1", "scale", by_group(large_eps)),
    ("the first row counts twice", "order", first_row_counts_twice),
    ("divided by the mean", "shift", by_group(over_mean)),
    ("one row missing", "runs", lambda rewards, groups: good(rewards, groups)[1:]),
]


def outcome(rewards, mask, groups):
    """A correct token-level function: the rewards of a row are summed up to its last trained token."""
    last = np.where(mask.any(1), mask.shape[1] - 1 - np.argmax(mask[:, ::-1], 1), -1)
    inside = np.arange(mask.shape[1]) <= last[:, None]
    scores = np.where(inside, rewards, 0.0).sum(1)
    return np.where(mask != 0, good(scores, groups)[:, None], 0.0)


def last_column(rewards, mask, groups):
    return np.where(mask != 0, good(rewards[:, -1], groups)[:, None], 0.0)


def all_columns(rewards, mask, groups):
    return np.where(mask != 0, good(rewards.sum(1), groups)[:, None], 0.0)


def masked_rewards(rewards, mask, groups):
    return outcome(np.where(mask != 0, rewards, 0.0), mask, groups)


def per_token(rewards, mask, groups):
    return outcome(rewards, mask, groups) * (mask.sum(1) / mask.sum(1))[:, None]


#: Functions of token rewards, mask and groups.
TOKENS = [
    ("the reward is what the last column has", "padding_width", last_column),
    ("a sum over the padding", "rewards_behind_mask", all_columns),
    ("rewards are multiplied by the mask", "reward_on_gap", masked_rewards),
    ("divided by the length of the row", "empty_row", per_token),
]

GAMMA, LAM = 0.9, 0.8


def gae(rewards, values, mask, gamma=GAMMA, lam=LAM):
    """A correct one, rewards on gaps included."""
    rewards, values = np.where(mask, np.nan_to_num(rewards), rewards), np.where(mask, values, 0.0)
    out = rm.temporal.gae(_up_to_last(rewards, mask), values, mask=mask, gamma=gamma, lam=lam, reward_on_gap="previous")
    return tuple(np.asarray(x) for x in out)


def _up_to_last(rewards, mask):
    last = np.where(mask.any(1), mask.shape[1] - 1 - np.argmax(mask[:, ::-1], 1), -1)
    return np.where(np.arange(mask.shape[1]) <= last[:, None], rewards, 0.0)


def loop(rewards, values, mask, *, through_gaps=False, padding=False, filled=False, nan=False):
    out = np.zeros(rewards.shape)
    for i in range(len(rewards)):
        following, carry = (values[i, -1] if padding else 0.0), 0.0
        for t in reversed(range(rewards.shape[1])):
            delta = rewards[i, t] + GAMMA * following - values[i, t]
            new = delta + GAMMA * LAM * carry
            if mask[i, t] or through_gaps or (padding and not mask[i, t:].any()):
                following, carry = values[i, t], new
            elif nan:
                carry = carry + 0 * new
            out[i, t] = carry if mask[i, t] or filled else 0.0
    return out


def last_reward(rewards, values, mask):
    """The end of a row is where its last reward is that is not 0."""
    out = loop(rewards, values, mask)
    ends = [int(np.flatnonzero(row)[-1]) for row in rewards if row.any()]
    out[np.flatnonzero(~rewards.any(1))] = 0.0
    return out if ends else out * 0


def across_rows(rewards, values, mask):
    out, carry = np.zeros(rewards.shape), 0.0
    for i in range(len(rewards)):
        for t in reversed(range(rewards.shape[1])):
            if mask[i, t]:
                carry = rewards[i, t] - values[i, t] + GAMMA * LAM * carry
                out[i, t] = carry
    return out


def whitened(rewards, values, mask):
    out = loop(rewards, values, mask)
    kept = out[mask != 0]
    return np.where(mask != 0, (out - kept.mean()) / np.std(kept, ddof=1), 0.0)


def nan_returns(rewards, values, mask):
    return gae(rewards, values, mask)[0], np.full(rewards.shape, np.nan)


#: Functions of token rewards, values and mask.
VALUES = [
    ("a scan through gaps", "gap_neutrality", lambda r, v, m: loop(r, v, m, through_gaps=True)),
    ("numbers are left where nothing is trained", "masked_output", lambda r, v, m: loop(r, v, m, filled=True)),
    ("the value at padding follows the last token", "gae_formula", lambda r, v, m: loop(r, v, m, padding=True)),
    ("0 times NaN", "values_behind_mask", lambda r, v, m: loop(r, v, m, nan=True)),
    ("the end is the last reward that is not 0", "zero_token_reward", last_reward),
    ("a state that goes from row to row", "row_order", across_rows),
    ("the standard deviation of one token", "one_token", whitened),
    ("returns that are NaN", "returns", nan_returns),
]
