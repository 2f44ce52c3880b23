"""TRL's GRPO trainer on a small model, alone and with the mixin."""

import importlib.util
import tempfile
from types import ModuleType

from bench import machine


def tiny() -> ModuleType:
    """The model, tokenizer and data of the tests."""
    spec = importlib.util.spec_from_file_location("trl_tiny", machine.ROOT / "tests" / "reference" / "trl_tiny.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(provider: str, *, steps: int, rows: int, longest: int, width: int, layers: int) -> tuple[list, list]:
    """``(loss, milliseconds)`` of each step: generation, rewards, advantages, loss and gradient."""
    import trl

    from rollmath.adapters.trl import GRPOTrainer

    made = tiny()
    alone = provider == "trl"
    with tempfile.TemporaryDirectory() as folder:
        trainer = made.train(
            trl.GRPOTrainer if alone else GRPOTrainer,
            folder,
            policy=made.model(width=width, layers=layers),
            given=None if alone else {"recipe": "trl"},
            per_device_train_batch_size=rows,
            max_completion_length=longest,
            max_steps=steps,
            learning_rate=1e-4,
            beta=0.0,
        )
    return made.curve(trainer, "loss"), [1e3 * x for x in made.curve(trainer, "step_time")]
