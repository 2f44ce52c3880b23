"""Slow, clear rejection of stale tokens."""

from mismatch_units import trained, units, zeros


def Staleness(batch, current, max_age, level="token", unknown="reject"):
    """1 or 0 for each position in rows, 0 at gaps, and how many tokens are stale or of unknown version."""
    weights = zeros(batch)
    versions = {at: batch.version[at[0]][at[1]] for at in trained(batch)}
    stale = {at for at, v in versions.items() if v >= 0 and current - v > max_age}
    nameless = {at for at, v in versions.items() if v < 0}
    for members in units(batch, level):
        bad = any(at in stale or (unknown == "reject" and at in nameless) for at in members)
        for i, t in members:
            weights[i][t] = float(not bad)
    return weights, {"stale": len(stale), "version_unknown": len(nameless)}
