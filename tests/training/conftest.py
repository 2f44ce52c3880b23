"""Made-up lines of runs, for the tests of statistics and tables."""

import dataclasses

import pytest


@pytest.fixture(scope="session")
def lines_of():
    """Lines of a run that is evaluated at each mark of its budget, with the accuracies given."""

    def make(plan, accuracies, *, step=10_000, **changes):
        lines = []
        for k, accuracy in enumerate(accuracies):
            tokens = plan.budget * k // plan.evaluations
            lines.append(
                {
                    **dataclasses.asdict(plan),
                    "step": tokens // step,
                    "sampled_tokens": tokens,
                    "trained_tokens": tokens,
                    "signal_tokens": tokens // 2,
                    "computed_tokens": tokens * 2,
                    "rollouts": tokens // 20,
                    "accuracy": accuracy,
                    "greedy": 0.9,
                    "entropy": 1.0 - accuracy,
                    "length": 30.0 - k,
                    "seconds": {"sampling": tokens / 1e4, "model": tokens / 2e4, "rollmath": tokens / 1e6},
                    **changes,
                }
            )
        return lines

    return make
