"""The module that verl imports in its workers: by environment variable, and by ``external_lib``."""

import importlib.util
import os
import subprocess
import sys

import pytest

if importlib.util.find_spec("verl") is None:
    pytest.skip("verl is not installed; `make test-peers` has an environment for it", allow_module_level=True)

pytestmark = [pytest.mark.peers, pytest.mark.timeout(600)]

MODULE = "rollmath.adapters.verl.auto"


def python(code, **environment):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


SHOW = """
from verl.trainer.ppo import core_algos as a
print(*("rollmath/" + name in a.ADV_ESTIMATOR_REGISTRY for name in ("grpo", "dapo")))
print("rollmath/gspo" in a.POLICY_LOSS_REGISTRY)
"""


@pytest.mark.parametrize("first", ["", f"import {MODULE}"])
def test_from_within_the_import_of_verl(first):
    """verl imports the module while it is itself half imported, or while the module is."""
    assert python(first + SHOW, VERL_USE_EXTERNAL_MODULES=MODULE) == ["True", "True", "True"]


def test_as_an_external_lib():
    code = f"from verl.utils.import_utils import import_external_libs; import_external_libs({MODULE!r})"
    assert python(code + SHOW) == ["True", "True", "True"]


LEFT = """
import sys
from rollmath.adapters import verl as adapter
import verl.trainer.ppo.ray_trainer as t
print(t.compute_advantage.__module__)
adapter.unpatch_compute_advantage()
adapter.unregister()
from verl.trainer.ppo import core_algos as a
from verl.trainer.ppo.v1.trainer_base import PPOTrainer
places = [vars(m) for n, m in list(sys.modules.items()) if n.startswith("verl")]
places += [a.ADV_ESTIMATOR_REGISTRY, a.POLICY_LOSS_REGISTRY, vars(PPOTrainer)]
print(len([x for place in places for x in list(place.values()) if "rollmath" in str(getattr(x, "__module__", ""))]))
"""


def test_a_module_of_your_own_may_replace_and_patch(tmp_path):
    """Also from within the import of verl, whose trainers it imports; nothing is left of it afterwards."""
    (tmp_path / "my_verl.py").write_text(
        "from rollmath.adapters import verl as adapter\n"
        "print(len(adapter.register(replace='all').replaced))\n"
        "print(len(adapter.patch_compute_advantage().places))\n"
    )
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    found = python("import verl.trainer.ppo.core_algos" + LEFT, VERL_USE_EXTERNAL_MODULES="my_verl", PYTHONPATH=path)
    replaced, places, module, left = found
    assert int(replaced) == 14
    assert int(places) >= 4
    assert module == "rollmath.adapters.verl._patch"
    assert left == "0"
