"""What the oracles of separable objectives share: one token at a time, in lists of rows."""


def by_token(token, weights, *columns):
    """``(losses, gradients)`` in rows: the loss of each token, and its slope times its weight."""
    losses, gradients = [], []
    for row, row_weights in enumerate(weights):
        losses.append([])
        gradients.append([])
        for t, weight in enumerate(row_weights):
            loss, slope = token(*(column[row][t] for column in columns))
            losses[row].append(loss)
            gradients[row].append(weight * slope)
    return losses, gradients


def clamp(x, low, high):
    return min(max(x, low), high)
