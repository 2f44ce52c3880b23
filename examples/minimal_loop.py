"""A whole training loop in plain PyTorch: rollouts, a recipe, micro-batches, a loss. Some seconds on a CPU.

    python examples/minimal_loop.py

A prompt is a number n; right is "a" n times and then a full stop. The reward is the share of tokens that are right.
"""

import torch
from torch import Tensor, nn

import rollmath as rm

STOP, A, LETTERS, LONGEST = 0, 1, 4, 8
PROMPTS, ROLLOUTS, MICRO_BATCH, STEPS = 8, 16, 32, 40


class Policy(nn.Module):
    """Log-probabilities of each token given the prompt and the tokens before it."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.prompt, self.token = nn.Embedding(LONGEST, width), nn.Embedding(LETTERS, width)
        self.body, self.head = nn.GRU(width, width, batch_first=True), nn.Linear(width, LETTERS)

    def forward(self, prompts: Tensor, tokens: Tensor) -> Tensor:
        before = self.token(nn.functional.pad(tokens[:, :-1], (1, 0), value=STOP))
        return self.head(self.body(before, self.prompt(prompts)[None])[0])


@torch.no_grad()
def sample(policy: Policy, prompts: Tensor) -> tuple[Tensor, Tensor]:
    """Padded tokens [B, T], and how many of them are the response: up to the first full stop."""
    tokens = torch.zeros(len(prompts), LONGEST, dtype=torch.long)
    for t in range(LONGEST):
        tokens[:, t] = torch.distributions.Categorical(logits=policy(prompts, tokens)[:, t]).sample()
    stopped = (tokens == STOP).cumsum(1) > 0
    return tokens, (~stopped).sum(1).add(1).clamp(max=LONGEST)


def verify(prompts: Tensor, tokens: Tensor, lengths: Tensor) -> Tensor:
    """Right tokens over those that there are or should be."""
    column = torch.arange(LONGEST)
    right = (tokens == torch.where(column < prompts[:, None], A, STOP)) & (column <= prompts[:, None])
    return (right & (column < lengths[:, None])).sum(1) / torch.maximum(lengths, prompts + 1)


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)  # of so small a model, more of them only wait
    policy = Policy()
    optimizer = torch.optim.Adam(policy.parameters(), lr=5e-3)
    recipe = rm.recipes.get("dapo")
    for step in range(STEPS):
        groups = torch.arange(PROMPTS).repeat_interleave(ROLLOUTS)
        prompts = torch.randint(1, LONGEST - 1, (PROMPTS,))[groups]
        tokens, lengths = sample(policy, prompts)
        with torch.no_grad():
            old = rm.vocab.logprobs(policy(prompts, tokens), tokens)

        rows = rm.Rows(range(len(groups)), lengths)  # one row a rollout here
        batch = recipe.prepare(verify(prompts, tokens, lengths), groups, rows=rows)
        normalizer = rm.loss.Normalizer.local(batch.rows)  # counts of the whole step
        for _ in range(2):
            for part in torch.randperm(len(groups)).split(MICRO_BATCH):
                lp = rm.vocab.logprobs(policy(prompts[part], tokens[part]), tokens[part])
                out = recipe.policy_loss(rm.LogProbs(lp, prox=old[part]), batch.take(part), normalizer=normalizer)
                out.loss.backward()  # losses of micro-batches add up to that of the step
            optimizer.step()
            optimizer.zero_grad()
        if step % 10 == 0 or step == STEPS - 1:
            numbers = ", ".join(f"{name} {batch.metrics[name]:.3g}" for name in ("reward/mean", "groups/no_spread"))
            print(f"step {step:2d}: {numbers}")


if __name__ == "__main__":
    main()
