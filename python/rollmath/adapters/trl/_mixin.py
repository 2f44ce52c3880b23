"""RollmathMixin: the four methods of a TRL trainer in which advantages, selection and loss are made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast

from rollmath.adapters.trl._collect import Seen, collect, loss_mask
from rollmath.adapters.trl._settings import Settings, settings_of
from rollmath.adapters.trl._values import evaluate, place
from rollmath.adapters.trl._version import check_trainer

if TYPE_CHECKING:
    import torch

    from rollmath.adapters.trl._batch import TRLBatch
    from rollmath.loss import Aggregation, Correction, Objective
    from rollmath.recipes import Advantage, Recipe

    _Trainer = Any
else:
    _Trainer = object


class RollmathMixin(_Trainer):  # type: ignore[misc]
    """Goes before a GRPOTrainer or RLOOTrainer of TRL and takes what they have no argument for.

    ::

        class Trainer(RollmathMixin, trl.GRPOTrainer): ...

        trainer = Trainer(model, reward_funcs, args=config, train_dataset=data, recipe="dapo")
        trainer = Trainer(..., advantage=lambda batch: rm.group.dr_grpo(batch.rewards, batch.groups))
        trainer = Trainer(..., filter=rm.select.nonzero_spread, objective=rm.loss.GSPO(), aggregation="token_mean")

    What is not given stays TRL's own code: without ``objective``, ``aggregation``, ``kl``, ``correction`` or a recipe
    the loss is TRL's, with whatever advantages. Options of TRL's configuration that would have no effect beside what is
    given are an error.

    Groups, statistics and filters see the generation batch of all ranks, which several ranks gather once a batch; they
    gather the counts of ``aggregation`` too.

    Args:
        *args: of the trainer.
        recipe: a :class:`~rollmath.recipes.Recipe`, its name, or a table; or ``"trl"``: advantages and loss as the
            configuration says, computed by our functions (of RLOOTrainer the advantages alone). Excludes the parts.
        advantage: a function of a :class:`TRLBatch` that returns one number a rollout or a position, or a
            :class:`~rollmath.recipes.Advantage`. In rollouts without a reward and in dropped ones it is set to 0.
        filter: a function of rewards and groups, such as ``rm.select.nonzero_spread``, that returns a Selection or a
            bool array. What is dropped gets mask 0 and advantage 0, and counts nowhere but in the number of rows that
            TRL's own ``loss_type="grpo"`` and its kind divide by. Nothing is dropped in an evaluation.
        objective: of the loss, from :mod:`rollmath.loss`. Default, where another part of the loss is given: that of the
            configuration.
        aggregation: a name or an :class:`~rollmath.loss.Aggregation`: the weights of tokens in the mean of the whole
            optimiser step, all micro-batches and ranks, whatever their lengths. Default: what TRL's ``loss_type``
            divides by, which for all but dapo, cispo and vespo is a mean of the means of micro-batches.
        kl: a term of the loss, :class:`~rollmath.loss.KL`; ``beta`` of the configuration must be its coefficient.
            Default: that of the configuration.
        correction: of the mismatch between sampler and trainer; the sampler's log-probabilities are those of vLLM or
            ``rollout_func``.
        group_by: a column of the dataset, or a field of ``rollout_func``, that names the group of a rollout. Default:
            TRL's, ``num_generations`` rollouts in a row.
        columns: columns to pass on: names, or a mapping from the name of the method's parameter (``strata``).
        any_version: go on with a TRL that this was not tested with.
        **kwargs: of the trainer.

    Raises:
        ValueError: parts that exclude each other, options of TRL that would have no effect, a beta that is not that of
            the KL term, a generation batch that is no whole number of optimiser steps.
        TypeError: arguments of the wrong type; a trainer that is neither.
        RuntimeError: a TRL of another version.
    """

    _rollmath: Settings
    _rollmath_seen: Seen | None = None
    _rollmath_step: Any = None

    def __init__(
        self,
        *args: Any,
        recipe: Recipe | str | Mapping[str, Any] | None = None,
        advantage: Advantage | Callable[[TRLBatch], Any] | None = None,
        filter: Callable[..., Any] | None = None,  # noqa: A002 - what it is
        objective: Objective | None = None,
        aggregation: str | Aggregation | None = None,
        kl: Objective | None = None,
        correction: Correction | Iterable[Correction] | None = None,
        group_by: str | None = None,
        columns: Iterable[str] | Mapping[str, str] = (),
        any_version: bool = False,
        **kwargs: Any,
    ) -> None:
        who = type(self).__name__
        grpo = check_trainer(who, type(self), any_version=any_version)
        given = {
            "recipe": recipe,
            "advantage": advantage,
            "filter": filter,
            "objective": objective,
            "aggregation": aggregation,
            "kl": kl,
            "correction": correction,
            "group_by": group_by,
            "columns": columns,
        }
        config = kwargs.get("args", args[2] if len(args) > 2 else None)
        # Before a model is loaded.
        settings = None if config is None else settings_of(who, config, grpo=grpo, **given)
        super().__init__(*args, **kwargs)
        self._rollmath = settings or settings_of(who, self.args, grpo=grpo, **given)

    def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any) -> torch.Tensor:
        rewards: torch.Tensor = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        if self._rollmath_seen is not None:
            seen = self._rollmath_seen
            seen.rewards, seen.inputs, seen.completions = rewards, inputs, completion_ids_list
            seen.prompts, seen.messages = prompts, completions
        return rewards

    def _get_per_token_logps_and_entropies(self, *args: Any, **kwargs: Any) -> Any:
        found = super()._get_per_token_logps_and_entropies(*args, **kwargs)
        if self._rollmath_seen is not None and not self._rollmath.grpo:
            self._rollmath_seen.logps += (found[0],)  # RLOO keeps their sums alone
        return found

    def _generate_and_score_completions(self, inputs: Any) -> dict[str, Any]:
        settings = self._rollmath
        if not settings.looks and settings.objective is None:
            return super()._generate_and_score_completions(inputs)  # type: ignore[no-any-return]
        seen = self._rollmath_seen = Seen()
        try:
            output: dict[str, Any] = super()._generate_and_score_completions(inputs)
        finally:
            self._rollmath_seen = None
        return self._rollmath_scored(settings, seen, output)

    def _rollmath_scored(self, settings: Settings, seen: Seen, output: dict[str, Any]) -> dict[str, Any]:
        """TRL's output with what is ours in it."""
        import torch  # noqa: PLC0415 - the trainer has it

        n = len(seen.completions)
        first = n * self.accelerator.process_index
        if settings.recipe is not None and settings.recipe.reward_kl and settings.grpo:
            seen.logps = (self._rollmath_old(output), output["ref_per_token_logps"])
        if settings.looks:
            gathered = collect(self, settings, seen, output)
            place(self, settings, gathered, evaluate(self.args, settings, gathered), output)
        elif settings.objective is not None:
            output["rollmath_mask"] = (loss_mask(output) != 0).to(torch.uint8).cpu()
            each = self.num_generations if self.model.training else self.num_generations_eval
            output["rollmath_group"] = torch.arange(first, first + n) // each
        output["rollmath_rollout"] = torch.arange(first, first + n)
        if seen.logps and settings.objective is not None:
            output["old_per_token_logps"] = seen.logps[0]
        return output

    def _rollmath_old(self, output: dict[str, Any]) -> torch.Tensor:
        """Log-probabilities under the policy that sampled, which TRL leaves out where they are those of the loss."""
        import torch  # noqa: PLC0415 - the trainer has it

        from rollmath.adapters.trl._loss import FIELDS  # noqa: PLC0415

        if "old_per_token_logps" in output:
            return cast("torch.Tensor", output["old_per_token_logps"])
        args, completions = self.args, output["completion_ids"]
        with torch.no_grad():
            found = self._get_per_token_logps_and_entropies(
                self.model,
                torch.cat([output["prompt_ids"], completions], dim=1),
                torch.cat([output["prompt_mask"], output["completion_mask"]], dim=1),
                completions.size(1),
                batch_size=args.per_device_train_batch_size if self.model.training else args.per_device_eval_batch_size,
                **{name: output.get(name) for name in FIELDS},
            )
        return cast("torch.Tensor", found[0])

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        before = self._buffered_inputs
        inputs = super()._prepare_inputs(generation_batch)
        if self._rollmath.objective is not None and self._buffered_inputs is not before:
            from rollmath.adapters.trl._step import GenerationStep  # noqa: PLC0415

            self._rollmath_step = GenerationStep.of(self, self._rollmath, self._buffered_inputs)
        return inputs

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        if self._rollmath.objective is None:
            return super()._compute_loss(model, inputs)  # type: ignore[no-any-return]
        from rollmath.adapters.trl._loss import compute_loss  # noqa: PLC0415

        return compute_loss(self, self._rollmath, self._rollmath_step, model, inputs)
