"""Discounted sums along rows, from the last position to the first."""


def discounted_sum(rows, mask=None, *, decay=1.0, gaps="carry", bootstrap=None):
    """y_t = x_t + decay y_{t+1}; lists of rows, whose numbers at gaps are 0 unless gaps are ignored."""
    mask = [[True] * len(row) for row in rows] if mask is None else mask
    out = []
    for i, (row, m) in enumerate(zip(rows, mask, strict=True)):
        carried = 0.0 if bootstrap is None else bootstrap[i]
        result = [0.0] * len(row)
        for t in reversed(range(len(row))):
            if m[t] or gaps == "ignore":
                carried = row[t] + decay * carried
            elif gaps == "state":
                carried = decay * carried
            elif gaps == "cut":
                carried = 0.0
            result[t] = carried if m[t] else 0.0
        out.append(result)
    return out
