"""Every advantage estimator that verl registers has a function here and a test that compares the two."""

import ast
import importlib.util
from operator import attrgetter
from pathlib import Path

import pytest

import rollmath as rm

if importlib.util.find_spec("verl") is None:
    pytest.skip("verl is not installed; `make test-peers` has an environment for it", allow_module_level=True)

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("default"), pytest.mark.timeout(600)]

HERE = Path(__file__).parent

#: verl's name: our function, and the test.
HANDLED = {
    "gae": ("temporal.gae", "test_verl_tokens.py::test_gae"),
    "gdpo": ("group.gdpo", "test_verl_group.py::test_gdpo"),
    "gpg": ("group.gpg", "test_verl_group.py::test_gpg"),
    "grpo": ("group.grpo", "test_verl.py::test_grpo"),
    "grpo_passk": ("group.passk", "test_verl_group.py::test_passk"),
    "grpo_vectorized": ("group.grpo", "test_verl.py::test_grpo_vectorized"),
    "opo": ("group.opo", "test_verl_group.py::test_opo"),
    "optimal_token_baseline": (
        "group.optimal_token_baseline",
        "test_verl_tokens.py::test_optimal_token_baseline",
    ),
    "reinforce_plus_plus": ("group.reinforce_pp", "test_verl_tokens.py::test_reinforce_plus_plus"),
    "reinforce_plus_plus_baseline": (
        "group.reinforce_pp_baseline",
        "test_verl_tokens.py::test_reinforce_plus_plus_baseline",
    ),
    "remax": ("group.remax", "test_verl_group.py::test_remax"),
    "rloo": ("group.rloo", "test_verl.py::test_rloo"),
    "rloo_vectorized": ("group.rloo", "test_verl.py::test_rloo_vectorized"),
    "tir_optimal_token_baseline": (
        "group.optimal_token_baseline",
        "test_verl_tokens.py::test_optimal_token_baseline",
    ),
}


def test_verl_registers_what_is_handled_here(peer):
    """A new estimator fails here until it has a function, a test and a line above."""
    algos = peer("verl.trainer.ppo.core_algos")
    assert sorted(algos.ADV_ESTIMATOR_REGISTRY) == sorted(HANDLED)
    assert sorted(member.value for member in algos.AdvantageEstimator) == sorted(HANDLED)


@pytest.mark.parametrize("name", HANDLED)
def test_each_has_a_function_and_a_test(name):
    function, test = HANDLED[name]
    assert callable(attrgetter(function)(rm))
    file, _, called = test.partition("::")
    body = ast.parse((HERE / file).read_text()).body
    assert called in {node.name for node in body if isinstance(node, ast.FunctionDef)}
