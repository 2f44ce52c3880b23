"""TRL's trainers on a model small enough for the CPU: random weights from a config, a tokenizer made in memory."""

import os
import warnings

os.environ.setdefault("HF_HUB_OFFLINE", "1")

CHARACTERS = ["<pad>", "<eos>", *"0123456789+=abcdefgh"]
EOS = 1


def tokenizer():
    """One token a character."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {character: i for i, character in enumerate(CHARACTERS)}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    made.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    made.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>", eos_token="<eos>", padding_side="left")


def model(seed=0, folder=None, *, width=32, layers=2):
    """A small Qwen2; with a folder it is saved there, where TRL finds the reference."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=len(CHARACTERS),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        pad_token_id=0,
        eos_token_id=EOS,
        bos_token_id=None,
    )
    torch.manual_seed(seed)
    made = Qwen2ForCausalLM(config)
    if folder is not None:
        made.save_pretrained(folder)
        made = Qwen2ForCausalLM.from_pretrained(folder, dtype="float32")
    return made


def letters(completions, **columns):
    """A reward without rounding: quarters of the number of letters a to d, at most 2."""
    return [min(sum(x in "abcd" for x in text), 8) / 4 for text in completions]


def dataset(n=64):
    from datasets import Dataset

    prompts = [f"{i // 8}+{i % 8}=" for i in range(n)]
    return Dataset.from_dict({"prompt": prompts, "uid": prompts, "kind": [i % 2 for i in range(n)]})


def make(kind, folder, *, rewards=letters, policy=None, data=None, rollout_func=None, given=None, **options):
    """A trainer of class `kind` that writes nothing."""
    import torch
    import trl

    config = trl.RLOOConfig if "RLOO" in kind.__name__ else trl.GRPOConfig
    told = {
        "per_device_train_batch_size": 8,
        "num_generations": 4,
        "gradient_accumulation_steps": 1,
        "max_completion_length": 12,
        "max_steps": 5,
        "learning_rate": 1e-3,
        "logging_steps": 1,
        "report_to": [],
        "use_cpu": True,
        "save_strategy": "no",
        "disable_tqdm": True,
        "bf16": False,
        "seed": 1,
    }
    arguments = {} if rollout_func is None else {"rollout_func": rollout_func}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        return kind(
            model() if policy is None else policy,
            rewards,
            args=config(str(folder), **told | options),
            train_dataset=dataset() if data is None else data,
            processing_class=tokenizer(),
            **arguments,
            **(given or {}),
        )


def trainers(name):
    """``(TRL's, ours)`` of a name; torch runs on one thread, for the model is tiny."""
    import torch
    import trl

    from rollmath.adapters import trl as ours

    torch.set_num_threads(1)
    return getattr(trl, name), getattr(ours, name)


def recorder(kind):
    """The same trainer, which keeps what its loss is given and returns."""

    class Recorder(kind):
        def __init__(self, *args, **kwargs):
            self.batches = []
            super().__init__(*args, **kwargs)

        def _compute_loss(self, model, inputs):
            loss = super()._compute_loss(model, inputs)
            self.batches.append((inputs, loss.detach()))
            return loss

    Recorder.__name__ = kind.__name__
    return Recorder


def train(*args, **options):
    """The trainer after its steps; its log is ``trainer.state.log_history``."""
    trainer = make(*args, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.train()
    return trainer


def curve(trainer, name):
    """A number of each logged step."""
    return [entry[name] for entry in trainer.state.log_history if name in entry]
