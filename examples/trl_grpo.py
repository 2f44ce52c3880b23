"""TRL with a recipe of rollmath: a small model from a config learns to write letters, on the CPU, in a minute.

    python examples/trl_grpo.py [dapo | gspo | cispo] [steps]

No download: random weights, a tokenizer made in memory. Needs TRL 1.16. (A recipe with a KL term needs ``beta`` in the
config, by which TRL loads the reference from the model's path; this model has none.)
"""

import sys
import tempfile

import torch
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM
from trl import GRPOConfig

import rollmath as rm
from rollmath.adapters.trl import GRPOTrainer

CHARACTERS = ["<pad>", "<eos>", *"0123456789=abcdefgh"]


def make_tokenizer() -> PreTrainedTokenizerFast:
    """One token a character."""
    vocabulary = {character: i for i, character in enumerate(CHARACTERS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", padding_side="left"
    )


def make_model() -> Qwen2ForCausalLM:
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(CHARACTERS),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
    )
    return Qwen2ForCausalLM(config)


def vowels(completions: list[str], **_: object) -> list[float]:
    """The share of a and e among twelve characters."""
    return [sum(character in "ae" for character in text) / 12 for text in completions]


def main(recipe: str = "dapo", steps: int = 40) -> None:
    print(rm.recipes.get(recipe).explain(), end="\n\n")
    with tempfile.TemporaryDirectory() as folder:
        config = GRPOConfig(
            folder,
            per_device_train_batch_size=16,
            gradient_accumulation_steps=2,
            num_generations=8,
            max_completion_length=12,
            max_steps=steps,
            learning_rate=3e-3,
            lr_scheduler_type="constant",
            logging_steps=1,
            report_to=[],
            save_strategy="no",
            use_cpu=True,
            bf16=False,
            disable_tqdm=True,
        )
        trainer = GRPOTrainer(
            make_model(),
            vowels,
            args=config,
            train_dataset=Dataset.from_dict({"prompt": [f"{i}=" for i in range(64)]}),
            processing_class=make_tokenizer(),
            recipe=recipe,
        )
        trainer.train()
    rewards = [entry["reward"] for entry in trainer.state.log_history if "reward" in entry]
    dropped = [entry.get("rollmath/rollouts/dropped", 0.0) for entry in trainer.state.log_history if "reward" in entry]
    few = max(1, steps // 8)
    before, after = (sum(x) / few for x in (rewards[:few], rewards[-few:]))
    print(f"mean reward {before:.3f} -> {after:.3f}; {sum(dropped) / len(dropped):.1f} of 32 rollouts dropped a step")


if __name__ == "__main__":
    main(*sys.argv[1:2], *map(int, sys.argv[2:3]))
