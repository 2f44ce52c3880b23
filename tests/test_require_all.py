"""What ROLLMATH_REQUIRE_ALL=1 does to a skip: a missing sample is a failure, a missing GPU is not."""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).parent

CODE = f"""
import pytest
tests = ["{HERE}/group/test_grpo.py::test_real_rollouts_of_which_few_groups_carry_signal",
         "{HERE}/test_bad_input.py::test_cuda_tensors_come_back_to_their_device"]
print("status", int(pytest.main([*tests, "-q", "-p", "no:cacheprovider", "--rootdir", "{HERE.parent}"])))
"""


def test_a_missing_sample_fails_on_demand_and_a_missing_gpu_does_not(script, tmp_path):
    out, _ = script(CODE, ROLLMATH_SAMPLES=str(tmp_path), CUDA_VISIBLE_DEVICES="", ROLLMATH_REQUIRE_ALL="1")
    assert "1 failed, 1 skipped" in out
    assert "ROLLMATH_REQUIRE_ALL=1 allows no skip, but: Skipped: no sample rollouts at" in out
    assert "no CUDA device on this machine" in out
