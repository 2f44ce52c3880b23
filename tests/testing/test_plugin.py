"""The plugin, in pytest runs of its own."""

import importlib.util

import pytest
import torch  # noqa: F401 - pytester forgets what a run has imported, and torch loads once in a process

pytest_plugins = ["pytester"]

MINE = """
def grpo(rewards, groups):
    import rollmath
    return rollmath.group.grpo(rewards, groups)

def whole_batch(rewards, groups):
    return (rewards - rewards.mean()) / (rewards.std(ddof=1) + 1e-6)

def outcome(token_rewards, mask, groups):
    return grpo(token_rewards.sum(1), groups)[:, None] * mask

def scaled(rewards, groups, *, by):
    return by * grpo(rewards, groups)

def reinforce(logp, old_logp, advantages, mask):
    return -(logp * advantages).masked_fill(mask == 0, 0).sum() / mask.sum()

number = 3
"""


@pytest.fixture
def mine(pytester):
    pytester.makepyfile(mine=MINE, test_other="def test_other(): raise AssertionError('collected')")
    return pytester


def test_without_a_file_and_nothing_else_is_collected(mine):
    result = mine.runpytest("--rollmath-advantage", "mine.py:grpo", "-v")
    outcomes = result.parseoutcomes()
    assert outcomes == {"passed": 22}
    assert "collected 22 items" in result.stdout.str()
    result.stdout.fnmatch_lines(["mine.py:grpo::runs PASSED*"])
    assert "padding_width" not in result.stdout.str()


def test_a_failure_without_a_traceback_of_ours(mine):
    result = mine.runpytest("--rollmath-advantage", "mine:whole_batch", "-k", "partition or sign")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "rewards *0.25, 1, 0.5, 0.125* get *alone and*among three others",
            "whole_batch, partition: fails",
            "must hold   Other groups in the batch change nothing*",
            "why         An advantage that depends on which prompts*",
        ]
    )
    assert "hidden" not in result.stdout.str()
    assert "rollmath/testing" not in result.stdout.str()


def test_allowed(mine):
    result = mine.runpytest(
        "--rollmath-advantage",
        "mine:whole_batch",
        "--rollmath-allow",
        "partition,zero_spread",
        "-k",
        "partition or spread",
    )
    result.assert_outcomes(xfailed=2)


def test_style_and_options(mine):
    result = mine.runpytest("--rollmath-advantage", "mine:outcome", "--rollmath-style", "tokens", "-k", "padding_width")
    result.assert_outcomes(passed=1)
    result = mine.runpytest(
        "--rollmath-advantage", "mine:scaled", "--rollmath-options", '{"by": -1}', "-k", "sign or runs"
    )
    result.assert_outcomes(passed=1, failed=1)


def test_a_loss_beside_an_advantage_and_files(mine):
    result = mine.runpytest(
        "test_other.py",
        "--rollmath-advantage=mine:grpo",
        "--rollmath-loss=mine:reinforce",
        "-k",
        "test_other or gradient_direction or sign",
    )
    result.assert_outcomes(passed=2, failed=1)


def test_under_xdist(mine):
    pytest.importorskip("xdist")
    result = mine.runpytest("--rollmath-advantage", "mine:grpo", "-n", "2", "-k", "sign or scale or shift or sizes")
    result.assert_outcomes(passed=3)


def test_a_file_is_loaded_as_python_loads_it(mine):
    """Neighbours, relative imports and dataclasses with postponed annotations."""
    package = mine.mkpydir("package")
    (package / "helper.py").write_text("import mine\ngrpo = mine.grpo")
    (package / "advantages.py").write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\nfrom .helper import grpo\n"
        "@dataclass\nclass Config:\n    eps: float = 0.0\n"
    )
    for name in ("package/advantages.py:grpo", "package.advantages:grpo"):
        mine.runpytest("--rollmath-advantage", name, "-k", "sign").assert_outcomes(passed=1)


def test_without_torch(mine):
    """Advantages are checked; losses say what is missing."""
    mine.makeconftest("import sys; sys.modules['torch'] = None")
    mine.runpytest("--rollmath-advantage", "mine:grpo", "-k", "sign or runs").assert_outcomes(passed=2)
    result = mine.runpytest("--rollmath-loss", "mine:reinforce")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*checks of losses need torch: install rollmath with its 'torch' extra*"])


def test_what_a_function_may_do_in_a_run(mine):
    mine.makepyfile(
        odd="""
        import pytest, time
        def prints(rewards, groups):
            print("said")
            return rewards[:1]
        def skips(rewards, groups):
            pytest.skip("no GPU")
        def hangs(rewards, groups):
            time.sleep(600)
        """
    )
    result = mine.runpytest("--rollmath-advantage", "odd:prints", "-k", "runs")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*returns the shape ?1? for rewards of shape ?16?*", "said"])
    mine.runpytest("--rollmath-advantage", "odd:skips", "-k", "runs").assert_outcomes(skipped=1)
    if importlib.util.find_spec("pytest_timeout"):
        mine.runpytest("--rollmath-advantage", "odd:hangs", "-k", "runs", "--timeout=1").assert_outcomes(failed=1)


def test_without_the_plugin_and_by_importlib(pytester):
    """Test classes need neither the plugin nor a place in sys.path."""
    pytester.makepyfile(TESTS)
    result = pytester.runpytest("-p", "no:rollmath", "--import-mode=importlib", "-k", "TestGood and (sign or runs)")
    result.assert_outcomes(passed=2)


def test_nothing_happens_unless_it_is_asked(pytester):
    pytester.makepyfile("def test_one(): pass")
    pytester.runpytest("-v").assert_outcomes(passed=1)


def test_the_plugin_loads_neither_numpy_nor_torch(script):
    """Whoever has rollmath installed loads it with every run of pytest."""
    heavy = {"numpy", "torch", "rollmath.testing._registry"}
    out, _ = script(f"import sys, pytest, rollmath.testing.plugin; print({heavy!r} & set(sys.modules))")
    assert out.strip() == "set()"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rollmath-advantage", "mine"], "must be given as module:name or file.py:name, got 'mine'"),
        (["--rollmath-advantage", "nowhere:fn"], "'nowhere:fn' cannot be loaded: ModuleNotFoundError"),
        (["--rollmath-advantage", "nowhere.py:fn"], "'nowhere.py:fn' cannot be loaded: ImportError: no Python file"),
        (["--rollmath-advantage", "random.py:fn"], "rename the file, or give module:name"),
        (["--rollmath-advantage", "wrong.py:fn"], "'wrong.py:fn' cannot be loaded: SyntaxError"),
        (["--rollmath-advantage", "mine:grpo", "--rollmath-allow", "sign, x"], "got 'x'"),
        (["--rollmath-advantage", "mine:nothing"], "'mine:nothing' cannot be loaded: AttributeError"),
        (["--rollmath-advantage", "mine:number"], "'mine:number' is not callable: int"),
        (["--rollmath-advantage", "mine:grpo", "--rollmath-allow", "x"], "'--rollmath-allow' must be of aliasing, "),
        (
            ["--rollmath-advantage", "mine:grpo", "--rollmath-options", "[1]"],
            "must be a JSON object",
        ),
        (["--rollmath-advantage", "mine:grpo", "--rollmath-style", "rows"], "'style' must be one of 'rollouts'"),
        (["--rollmath-loss", "mine:reinforce", "--rollmath-style", "values"], "'style' must be one of 'tokens'"),
    ],
)
def test_usage_errors(mine, options, message):
    mine.makepyfile(random="def fn(): pass", wrong="def fn(")
    result = mine.runpytest(*options)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert message in result.stderr.str() + result.stdout.str()


TESTS = """
import rollmath.testing

class TestGood(rollmath.testing.AdvantageChecks):
    exclude = ("order_bits",)

    def advantage(self, rewards, groups):
        import rollmath
        return rollmath.group.grpo(rewards, groups)

class TestBad(rollmath.testing.AdvantageChecks):
    allow = ("zero_spread",)

    def advantage(self, rewards, groups):
        return (rewards - rewards.mean()) / (rewards.std(ddof=1) + 1e-6)

class TestLoss(rollmath.testing.LossChecks):
    def loss(self, logp, old_logp, advantages, mask):
        return (logp * advantages).masked_fill(mask == 0, 0).sum() / mask.sum().clamp(min=1)
"""


def test_classes(pytester):
    pytester.makepyfile(TESTS)
    result = pytester.runpytest("-k", "sign or zero_spread or order_bits or partition or gradient_direction", "-v")
    result.assert_outcomes(passed=5, failed=3, xfailed=1)
    result.stdout.fnmatch_lines(["*TestBad::test_check?partition? FAILED*", "*TestLoss::test_check?grad*? F*"])
    assert "rollmath/testing" not in result.stdout.str()


def test_a_class_without_its_function(pytester):
    pytester.makepyfile("import rollmath.testing\nclass TestMine(rollmath.testing.LossChecks): pass")
    result = pytester.runpytest()
    result.stdout.fnmatch_lines(["*TestMine must define loss(), the function to check*"])
    assert "rollmath/testing" not in result.stdout.str()


def test_an_unknown_check_in_a_class(pytester):
    pytester.makepyfile(TESTS.replace('"order_bits"', '"x"'))
    result = pytester.runpytest()
    result.stdout.fnmatch_lines(["*TestGood(): 'exclude' must be of aliasing, *, got 'x'*"])
