"""``import rollmath`` needs NumPy alone, and little time."""

from __future__ import annotations

import ast
import statistics
from pathlib import Path

import pytest

import rollmath as rm

HEAVY = (
    "torch triton pandas scipy ray pyarrow rich matplotlib rapidfuzz reasoning_gym numba jax pytest hypothesis "
    "multiprocessing"
)

# Time of the processor, so that a busy machine does not matter.
TIMED = """
import sys, time
import numpy
start = time.process_time()
import rollmath
print(1000 * (time.process_time() - start))
"""


def test_nothing_heavy_is_imported(script):
    out, _ = script(f"import sys, rollmath; print([m for m in {HEAVY.split()!r} if m in sys.modules])")
    assert out.strip() == "[]"
    out, _ = script(
        "import sys, rollmath as rm; rm.group.grpo([1.0, 0.0], [0, 0]); rm.Ragged.from_lists([[1]]).to_padded();"
        f"print([m for m in {HEAVY.split()!r} if m in sys.modules])"
    )
    assert out.strip() == "[]"


def test_it_takes_little_time_over_numpy(script, tmp_path):
    # With bytecode, as an installed package has it.
    cached = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(tmp_path)}
    script(TIMED, **cached)
    times = [float(script(TIMED, **cached)[0]) for _ in range(5)]
    print(f"import rollmath over import numpy: median {statistics.median(times):.1f} ms, best {min(times):.1f} ms")
    assert min(times) < 60
    assert statistics.median(times) < 150


def test_unknown_attributes_say_so():
    try:
        rm.grpo
    except AttributeError as error:
        assert str(error) == "module 'rollmath' has no attribute 'grpo'"  # noqa: PT017
    assert set(dir(rm)) == set(rm.__all__)
    assert rm.__version__.count(".") == 2


@pytest.mark.parametrize("package", [rm.group, rm.temporal])
def test_what_loads_when_first_used_is_all_there(package):
    assert set(dir(package)) == set(package.__all__)
    for name in package.__all__:
        value = getattr(package, name)
        assert value is package.__dict__[name]
        assert value.__name__ == name
    with pytest.raises(AttributeError, match=f"module '{package.__name__}' has no attribute 'salt'"):
        package.salt


def test_a_missing_torch_is_named(script):
    out, _ = script(
        "import sys, rollmath as rm\n"
        "sys.modules['torch'] = None\n"
        "for name in ('loss', 'vocab'):\n"
        "    try: getattr(rm, name)\n"
        "    except ModuleNotFoundError as error: print(error)\n"
    )
    assert out.splitlines() == [
        f"rollmath.{name} needs torch: install rollmath with its 'torch' extra" for name in ("loss", "vocab")
    ]


LOOKED_AT = """
import sys
sys.modules['torch'] = None
import inspect, pydoc
import rollmath
from rollmath import *
names = {'loss', 'vocab'} & {*rollmath.__all__, *dir(rollmath), *globals()}
found = [name for name, _ in inspect.getmembers(rollmath)]
for module in (rollmath, group, temporal, tree, ops, conventions, metrics):
    inspect.getmembers(module)
    assert pydoc.render_doc(module)
print(names, 'audit' in found, Groups.__name__, audit([1, 0], [0, 0]))
"""


def test_numpy_alone_can_be_looked_at(script):
    """``help``, a star import and what completes names in a shell: nothing of it asks for torch."""
    out, _ = script(LOOKED_AT)
    assert out.startswith("set() True Groups Audit of 2 rollouts")


def test_with_torch_its_packages_are_public(script):
    pytest.importorskip("torch")
    assert {"loss", "vocab"} <= set(rm.__all__)
    # A stand-in that has no specification, as tests of other packages make one.
    out, _ = script(
        "import sys, types; sys.modules['torch'] = types.ModuleType('torch')\n"
        "import rollmath; print('loss' in rollmath.__all__)"
    )
    assert out.strip() == "True"


def test_type_checkers_see_misspelt_names():
    """A ``__getattr__`` of the module would give every name the type Any."""
    for path in Path(rm.__file__).parent.rglob("__init__.py"):
        tree = ast.parse(path.read_text())
        hidden = [node for node in tree.body if isinstance(node, ast.If)]
        assert all(ast.unparse(n.test) != "TYPE_CHECKING" or "__getattr__" not in ast.unparse(n) for n in hidden)
        seen = "\n".join(ast.unparse(node) for node in tree.body if not isinstance(node, (ast.If, ast.Expr)))
        assert "__getattr__" not in seen, path
