"""Models of Hugging Face transformers whose output layer returns statistics instead of logits.

::

    from rollmath.adapters.transformers import patch_lm_head
    patch_lm_head(model)
    out = model(input_ids, logprob_labels=labels)        # a RowStats in the place of logits
    out.logits.logprob, out.logits.entropy

transformers and peft are not imported: a model brings them along.
"""

from typing import TYPE_CHECKING

from rollmath._lazy import lazy

if TYPE_CHECKING:
    from rollmath.adapters.transformers._patch import patch_lm_head, unpatch_lm_head

__all__ = ["patch_lm_head", "unpatch_lm_head"]

_load, __dir__ = lazy(__name__, {"_patch": ("patch_lm_head", "unpatch_lm_head")})
if not TYPE_CHECKING:  # to a type checker, a name that is not there is an error
    __getattr__ = _load
