"""Importing this module calls :func:`~rollmath.adapters.verl.register`: for processes that verl starts.

Name it in ``actor_rollout_ref.model.external_lib``, or in the environment variable ``VERL_USE_EXTERNAL_MODULES``.
"""

from rollmath.adapters.verl._registry import register

register()
