"""Packed tokens by definition: a trie of dictionaries, one token a node, walked depth first."""


class Token:
    """A token of some rollouts of a tree: where it first is, what it follows, who has it."""

    def __init__(self, flat, parent):
        self.flat, self.parent, self.below, self.rollouts = flat, parent, {}, []

    def path(self):
        """From the first token down to this one."""
        above = [] if self.parent is None else self.parent.path()
        return [*above, self]


def trie(lists, groups, payload=None):
    """All packed tokens, trees in the order in which their groups first appear."""
    roots, flat = {}, 0
    for rollout, tokens in enumerate(lists):
        below, parent = roots.setdefault(groups[rollout], {}), None
        for n, token in enumerate(tokens):
            key = token if payload is None else (token, payload[rollout][n])
            if key not in below:
                below[key] = Token(flat + n, parent)
            parent = below[key]
            parent.rollouts.append(rollout)
            below = parent.below
        flat += len(tokens)
    return [token for below in roots.values() for token in _walk(below)]


def _walk(below):
    for token in below.values():
        yield token
        yield from _walk(token.below)


def columns(packed, n_rollouts):
    """What a batch says of these tokens, as lists."""
    number = {token: i for i, token in enumerate(packed)}
    return {
        "index": [token.flat for token in packed],
        "positions": [len(token.path()) - 1 for token in packed],
        "previous": [-1 if token.parent is None else number[token.parent] for token in packed],
        "attends": [[other in token.path() for other in packed] for token in packed],
        "rows": [[i for i, token in enumerate(packed) if r in token.rollouts] for r in range(n_rollouts)],
    }
