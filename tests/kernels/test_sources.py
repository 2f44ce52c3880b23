"""Rules for the source of kernels: what breaks silently on some GPU or in some version of Triton is not written."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "kernels").glob("*.py"))
#: Names of triton and triton.language that kernels do without, and why.
FORBIDDEN = {
    "autotune": "the first call of every shape would time dozens of kernels, and bits would depend on the winner",
    "inline_asm_elementwise": "the interpreter cannot run it",
    "dot": "products are for the library: TF32 and 16 bits lose digits silently",
    "libdevice": "the interpreter cannot run it",
    "atomic_add": "the order of float atomics is not fixed",
    "atomic_cas": "a spin lock has no fixed order",
    "make_tensor_descriptor": "its allocator belongs to one thread, and autograd has its own",
    "make_block_ptr": "gone from newer versions",
    "debug_assert": "a host cannot see it without waiting",
}


def calls(tree, name):
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == name
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_source_of_kernels(path):
    tree = ast.parse(path.read_text())
    used = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)} | {
        n.id for n in ast.walk(tree) if isinstance(n, ast.Name)
    }
    for name, why in FORBIDDEN.items():
        assert name not in used, f"{path.name} uses {name}: {why}"
    # A masked lane without a value is 0 in the interpreter and anything on a GPU.
    for load in calls(tree, "load"):
        names = {k.arg for k in load.keywords}
        assert "mask" not in names or "other" in names, f"{path.name}:{load.lineno}: a masked load without other="
    # Programs along y and z end at 65,535, which the interpreter does not know.
    for program in calls(tree, "program_id"):
        axis = program.args[0] if program.args else program.keywords[0].value
        assert ast.unparse(axis) == "0", f"{path.name}:{program.lineno}: rows belong on the first axis of the grid"
    # A host that reads a number from the device waits for it.
    for name in ("item", "tolist", "cpu", "numpy", "nonzero", "synchronize"):
        assert not calls(tree, name), f"{path.name} calls .{name}()"


def jitted(tree):
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and any("jit" in ast.unparse(d) for d in node.decorator_list)
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_every_launch_says_whether_it_fuses(path):
    # The default changes with the version of Triton, which says so in a warning to whoever calls us.
    tree = ast.parse(path.read_text())
    kernels = {f.name for f in jitted(tree)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Subscript):
            launched = ast.unparse(node.func.value)
            if launched.split(".")[-1] in kernels:
                says = any(k.arg in {"enable_fp_fusion", None} for k in node.keywords)
                assert says, f"{path.name}:{node.lineno}: {launched} without enable_fp_fusion"


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_every_launch_is_on_the_device_of_the_tensors(path):
    # Triton launches on the current device, which another one of several need not be.
    tree = ast.parse(path.read_text())

    def launches(node):
        return {
            n.lineno
            for n in ast.walk(node)
            if isinstance(n, ast.Call) and isinstance(n.func, ast.Subscript) and isinstance(n.func.slice, ast.Tuple)
        }

    guarded = [
        launches(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.With) and "launching(" in ast.unparse(node.items[0])
    ]
    assert launches(tree) == set().union(*guarded), path.name


def functions(path):
    return {n.name for n in ast.parse(path.read_text()).body if isinstance(n, ast.FunctionDef)}


def test_the_table_of_defects_is_complete():
    found = set()
    for path in (ROOT / "tests" / "kernels").glob("test_peer_defects*.py"):
        found |= {name.removeprefix("test_") for name in functions(path) if name.startswith("test_")}
    page = (ROOT / "docs" / "kernels.md").read_text().split("## Defects")[1]
    listed = re.findall(r"^\| `([\w/.:]+)` \| \S", page, re.MULTILINE)
    assert sorted(name for name in listed if "::" not in name) == sorted(found)
    for name in listed:
        if "::" in name:
            path, test = name.split("::")
            assert test in functions(ROOT / "tests" / path)
