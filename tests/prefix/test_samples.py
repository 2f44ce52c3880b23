"""Real rollouts: token ids and log-probabilities of five answers to one prompt."""

import json

import numpy as np

import rollmath as rm


def test_five_answers_share_their_prompt(samples):
    lines = (samples("nemo-gym") / "coding_with_logprobs.jsonl").read_text().splitlines()
    answers = [json.loads(line)["response"]["output"][-1] for line in lines]
    lists = [a["prompt_token_ids"] + a["generation_token_ids"] for a in answers]
    prompts = [len(a["prompt_token_ids"]) for a in answers]
    flat = np.array([t for x in lists for t in x])
    forest = rm.Forest.from_sequences(
        flat, np.cumsum([0, *map(len, lists)]), groups=[0] * len(lists), prompt_lengths=prompts
    )
    batch = rm.prefix.pack(forest)
    seen = {tuple(x[:n]) for x in lists for n in range(1, len(x) + 1)}
    assert batch.n_tokens == len(seen) < len(flat)
    assert batch.gather(batch.take_column(flat)).to_lists() == [x[n:] for x, n in zip(lists, prompts, strict=True)]
    # An engine computes the copies of a shared beginning in different batches.
    reported = np.concatenate([a["generation_log_probs"] for a in answers])
    merged = batch.merge(reported, tolerance=0.5)
    assert merged.shape == (batch.n_targets,)
    rows = rm.Rows(range(len(lists)), batch.lengths, logprobs=reported)
    assert rows.take(batch.rollouts).offsets.tolist() == batch.offsets.tolist()
