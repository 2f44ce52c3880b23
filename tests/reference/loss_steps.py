"""Random steps for tests of losses that see more than one token, and the two forms of the engine."""

import importlib
from contextlib import contextmanager

import numpy as np
import torch

from rollmath import LogProbs, Ragged, Rows
from rollmath.loss import Aggregation, Normalizer, policy_loss

FORMS = ("in_pieces", "at_once")


@contextmanager
def form(name):
    """Losses run by pieces (CPU), or at once with gaps and padding as tokens of weight 0 (GPU)."""
    module = importlib.import_module("rollmath.loss._policy_loss")
    before = module.evaluate
    module.evaluate = getattr(importlib.import_module("rollmath.loss._engine"), name)
    try:
        yield
    finally:
        module.evaluate = before


class Step:
    """Rows of several rollouts with gaps, empty rows and rows of one token; one number a position in each column."""

    def __init__(self, seed, n_rows=7, *, per_token=True, spread=0.5, longest=5, ids=str):
        rng = np.random.default_rng(seed)
        lengths = rng.integers(0, longest + 1, n_rows)
        total = int(lengths.sum())
        mask = rng.random(total) < 0.75
        self.rows = Rows([ids(i) for i in rng.integers(0, 4, n_rows)], lengths, mask=mask)
        self.theta = -3 * rng.random(total)
        self.prox = self.theta + spread * rng.standard_normal(total)
        self.behaviour = self.prox + 0.3 * rng.standard_normal(total)
        self.ref = self.theta + rng.standard_normal(total)
        signs = rng.integers(-1, 2, total)
        flat = self.rows.rollouts.index.repeat(lengths)
        self.advantages = rng.random(total) * signs if per_token else rng.standard_normal(self.rows.n_rollouts)[flat]
        self.normalizer = Normalizer.local(self.rows)

    def logprobs(self, *, padded=False, dtype=torch.float64, poison=np.nan, only=None):
        """As tensors, NaN where nothing is trained; ``theta`` requires grad."""

        def column(x):
            x = np.where(self.rows.mask != 0, x, poison)
            if padded:
                x = Ragged(x, self.rows.offsets).to_padded(int(self.rows.lengths.max(initial=0)) + 1, fill=poison)
            return torch.tensor(x, dtype=dtype)

        names = only or ("theta", "prox", "behaviour", "ref")
        columns = {name: column(getattr(self, name)) for name in names}
        columns["theta"].requires_grad_()
        return LogProbs(**columns)

    def evaluate(self, objective, logprobs, aggregation="token_mean"):
        """The policy loss with the advantages of this step, one a position."""
        return policy_loss(
            logprobs,
            self.advantages,
            self.rows,
            objective,
            normalizer=self.normalizer,
            aggregation=aggregation,
            level="token",
        )

    def loss(self, objective, logprobs, aggregation="token_mean"):
        """``(policy_loss(...), gradient)``, the latter one number a position, packed."""
        out = self.evaluate(objective, logprobs, aggregation)
        (gradient,) = torch.autograd.grad(out.loss, logprobs.theta)
        if gradient.dim() == 2:
            outside = np.arange(gradient.shape[1]) >= self.rows.lengths[:, None]
            assert not gradient.numpy()[outside].any()
            gradient = torch.tensor(Ragged.from_padded(gradient.numpy(), lengths=self.rows.lengths).values)
        return out, gradient.numpy()

    def weights(self, aggregation):
        """The weight of a token of each row."""
        return Aggregation.named(aggregation).weights(self.rows, self.normalizer)

    def units(self, unit):
        """The packed positions of the trained tokens of each sequence, rows in order."""
        rows = self.rows
        owner = np.arange(rows.n_rows) if unit == "row" else rows.rollouts.index
        trained = [
            rows.offsets[i] + np.flatnonzero(rows.mask[rows.offsets[i] : rows.offsets[i + 1]])
            for i in range(rows.n_rows)
        ]
        count = rows.n_rows if unit == "row" else rows.n_rollouts
        return [np.concatenate([trained[i] for i in np.flatnonzero(owner == u)]) for u in range(count)]

    def lists(self, unit, *columns):
        """Columns of one number a position as lists of sequences."""
        return [[x[at].tolist() for at in self.units(unit)] for x in columns]

    def packed(self, unit, nested):
        """The way back; 0 where nothing is trained."""
        out = np.zeros(int(self.rows.offsets[-1]))
        for at, x in zip(self.units(unit), nested, strict=True):
            out[at] = x
        return out

    def keys(self):
        """``(rollout id, segment)`` of each row, and the positions of its trained tokens in it."""
        rows = self.rows
        keys = [(rows.rollouts.ids[rows.rollouts.index[i]], int(rows.segment[i])) for i in range(rows.n_rows)]
        return keys, [(at - rows.offsets[i]).tolist() for i, at in enumerate(self.units("row"))]

    def prepared(self, objective, logprobs, parts=1, order=None):
        """The objective with the choice made from ``parts`` parts of the rows, in an order."""
        cuts = [np.arange(self.rows.n_rows)[i::parts] for i in range(parts)]
        made = []
        for picked in [cuts[i] for i in (order or range(parts))]:
            at = np.concatenate([np.arange(*self.rows.offsets[[i, i + 1]]) for i in picked] or [[]]).astype(np.int64)
            part = LogProbs(**{name: x.detach()[at] for name, x in logprobs.given().items()})
            made.append(objective.prepare(part, self.advantages[at], self.rows.take(picked), level="token"))
        return objective.with_parts(made)

    def of_tokens(self, x):
        """The numbers of the trained tokens, rows in order."""
        return x[self.rows.mask != 0]
