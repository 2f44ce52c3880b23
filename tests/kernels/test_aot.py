"""``python -m bench.aot``: it reads machine code rightly, sees what must not pass, and the kernels pass."""

import ast
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("triton")

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _bench(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))


# Two loops and an end, as cuobjdump writes them; the second line of an instruction has no address.
SASS = """
        Function : rows
        /*0000*/                   S2R R5, SR_TID.X ;                              /* 0x0000000000057919 */
                                                                                   /* 0x000e220000002100 */
        /*0010*/              @!P0 BRA 0x00b0 ;                                    /* 0x0000001000f08947 */
        /*0020*/                   LDG.E.EF.128 R8, [R2.64] ;                      /* 0x0000000000000000 */
        /*0030*/                   LDG.E.128.CONSTANT R12, desc[UR4][R2.64+0x800] ; /* 0x0000000000000000 */
        /*0040*/                   FFMA R9, R10, R11, R12 ;                        /* 0x0000000000000000 */
        /*0050*/                   MUFU.EX2 R9, R9 ;                               /* 0x0000000000000000 */
        /*0060*/               @P1 MUFU.EX2 R10, R10 ;                             /* 0x0000000000000000 */
        /*0070*/               @P0 BRA 0x20 ;                                      /* 0xffffffec00388947 */
        /*0080*/                   LDG.E.U16 R8, [R2.64] ;                         /* 0x0000000000000000 */
        /*0090*/                   SHFL.BFLY PT, R9, R9, 0x1, 0x1f ;               /* 0x0000000000000000 */
        /*00a0*/                   BRA.U UP0, 0x80 ;                               /* 0x0000000000000000 */
        /*00b0*/                   BAR.SYNC.DEFER_BLOCKING 0x0 ;                   /* 0x0000000000000000 */
        /*00c0*/                   EXIT ;                                          /* 0x0000000000000000 */
        /*00d0*/                   BRA 0xd0;                                       /* 0xfffffffc00fc7947 */
        /*00e0*/                   NOP;                                            /* 0x0000000000000000 */
"""
GCN = """
rows:
	s_load_dwordx2 s[0:1], s[4:5], 0x0
.LBB0_2:                                ; =>This Inner Loop Header: Depth=1
	buffer_load_dwordx4 v[6:9], v3, s[0:3], 0 offen
	v_exp_f32_e32 v6, v6
	s_barrier
	.loc	1 33 34                         ; rows.py:33:34
	s_cbranch_scc1 .LBB0_2
	global_load_ushort v1, v2, s[0:1]
	s_endpgm
	.section	.rodata
"""


def test_the_main_loop_is_the_one_with_the_wide_loads():
    from bench.aot.machine_code import NVIDIA, examine, parse_sass

    code = examine(parse_sass(SASS), NVIDIA)
    assert code.loops
    assert (code.instructions, code.loop_instructions, code.loop_special) == (14, 6, 2)
    assert code.loop_load_bits == (128, 128)
    assert (code.loop_barriers, code.loop_shuffles, code.local) == (0, 0, 0)


def test_an_outer_loop_is_not_the_main_loop():
    from bench.aot.machine_code import NVIDIA, Instruction, examine

    inner = [Instruction("LDG.E.128"), Instruction("FADD"), Instruction("BRA", 1)]
    code = examine([Instruction("MOV"), *inner, Instruction("LDG.E.U16"), Instruction("BRA", 0)], NVIDIA)
    assert (code.loop_instructions, code.loop_load_bits) == (3, (128,))
    # Two branches back to one place are one loop.
    twice = [Instruction("LDG.E.128"), Instruction("BRA", 0), Instruction("STL"), Instruction("BRA", 0)]
    code = examine(
        [Instruction("MOV"), *[i._replace(branches_to=1) if i.branches_to == 0 else i for i in twice]], NVIDIA
    )
    assert (code.loop_instructions, code.local) == (4, 1)


def test_without_a_loop_the_whole_kernel_counts():
    from bench.aot.machine_code import NVIDIA, examine, parse_sass

    code = examine(parse_sass("/*0000*/ LDG.E.64 R1, [R2] ;\n/*0010*/ STG.E R1 ;\n/*0020*/ EXIT ;\n"), NVIDIA)
    assert not code.loops
    assert (code.loop_instructions, code.loop_load_bits) == (3, (64,))


def test_assembly_of_amd():
    from bench.aot.machine_code import AMD, examine, parse_amdgcn

    code = examine(parse_amdgcn(GCN), AMD)
    assert (code.instructions, code.loop_instructions, code.loop_special, code.loop_barriers) == (7, 4, 1, 1)
    assert code.loop_load_bits == (128,)


@pytest.mark.parametrize(
    ("name", "bits"),
    [
        ("LDG.E.128", 128),
        ("LDG.E.EF.64.CONSTANT", 64),
        ("LDG.E", 32),
        ("LDG.E.U16", 16),
        ("LDG.E.S8", 8),
        ("LDGSTS.E.BYPASS.LTC128B.128", 128),
        ("global_load_dwordx4", 128),
        ("buffer_load_dword", 32),
        ("global_load_ushort", 16),
        ("buffer_load_ubyte", 8),
        ("global_load_short_d16_hi", 16),
        ("STG.E.EF.128", 128),
        ("STG.E.U16", 16),
        ("buffer_store_dwordx4", 128),
        ("global_store_short", 16),
    ],
)
def test_width_of_loads_and_stores(name, bits):
    from bench.aot.machine_code import access_bits

    assert access_bits(name) == bits


GOOD = {
    "registers": 40, "stack": 0, "spills": 0, "shared": 0, "warps": 4, "instructions": 900, "loop": 300,
    "elements": 32, "per_element": 9.4, "special_per_element": 1.1, "load_bits": [128], "store_bits": [128],
    "barriers": 0, "shuffles": 0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({}, None),
        ({"stack": 40}, "40 bytes of stack"),
        ({"spills": 3}, "3 loads and stores of local memory"),
        ({"load_bits": [128, 16]}, "loads of 16 bits"),
        ({"load_bits": []}, "no load"),
        ({"store_bits": [64]}, "stores of 64 bits"),
        ({"store_bits": []}, None),
        ({"loop": None}, "no loop"),
        ({"barriers": 9}, "9 barriers and 0 shuffles"),
        ({"shuffles": 5}, "0 barriers and 5 shuffles"),
        ({"per_element": 10.6}, "over the budget of 10.5"),
        ({"per_element": None}, "over the budget"),
        ({"per_element": 9.9}, "9.4 are recorded"),
        ({"per_element": 9.8}, None),
    ],
)
def test_complaints(change, complaint):
    from bench.aot.cases import Case
    from bench.aot.figures import complaints

    case = Case("a case", "kernel", lambda: None, budget=10.5)
    found = complaints(case, "sm_90", {**GOOD, **change}, GOOD)
    assert any(complaint in c for c in found) if complaint else not found
    # Only sm_90 has budgets; a kernel that is no stream of wide loads has fewer limits, but never spills.
    assert not complaints(case, "sm_80", {**GOOD, "per_element": 30.0}, None)
    loose = replace(case, streaming=False, budget=None)
    assert bool(complaints(loose, "sm_90", {**GOOD, "barriers": 1, "load_bits": [16], **change}, None)) == (
        "stack" in change or "spills" in change
    )


BAD_KERNELS = '''
import triton
import triton.language as tl

@triton.jit
def blockwise(x, out, width, BLOCK: tl.constexpr):
    """A reduction over threads in every turn: shuffles and barriers."""
    row = tl.program_id(0).to(tl.int64)
    total = 0.0
    for start in range(0, width, BLOCK):
        at = start + tl.arange(0, BLOCK)
        total += tl.sum(tl.load(x + row * width + at, mask=at < width, other=0.0).to(tl.float32))
    tl.store(out + row, total)

@triton.jit
def threadwise(x, out, width, BLOCK: tl.constexpr):
    """None in the loop."""
    row = tl.program_id(0).to(tl.int64)
    total = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, width // BLOCK * BLOCK, BLOCK):
        total += tl.load(x + row * width + start + tl.arange(0, BLOCK)).to(tl.float32)
    tl.store(out + row, tl.sum(total))
'''
LOOK = """
import os
os.environ["TRITON_INTERPRET"] = "0"
from bench.aot.cases import BF16, Case, empty
from bench.aot.figures import complaints, measure
from bench.aot.stand_in import compiled
import sample

def look(kernel, width, warps, block, target="sm_90"):
    call = lambda: kernel[(8,)](empty(8, width, dtype=BF16), empty(8), width, BLOCK=block, num_warps=warps)
    case = Case("sample", kernel.fn.__name__, call)
    (launch,) = compiled(target, call)
    return complaints(case, target, measure(case, launch.kernel), None)

print(look(sample.threadwise, 4096, 4, 1024))
print(look(sample.blockwise, 4096, 4, 1024))
print(look(sample.threadwise, 4099, 4, 1024))
print(look(sample.threadwise, 4096, 1, 16384))
for target in ("sm_100", "gfx942"):
    print(look(sample.threadwise, 4096, 4, 2048, target))
    print(look(sample.blockwise, 4096, 4, 2048, target))
"""


def test_compiled_kernels_that_break_a_limit(tmp_path, script):
    (tmp_path / "sample.py").write_text(BAD_KERNELS)
    path = os.pathsep.join([str(tmp_path), str(ROOT), str(ROOT / "python"), *(p for p in sys.path if p)])
    out, _ = script(LOOK, deadline=110, PYTHONPATH=path, TRITON_DEFAULT_FP_FUSION="1")
    good, blockwise, odd, large, *others = out.splitlines()
    assert good == "[]"
    assert "barriers" in blockwise
    assert "loads of 16 bits" in odd
    assert "spills" in large
    assert all((line == "[]") == (i % 2 == 0) for i, line in enumerate(others)), others


def test_figures_are_recorded(tmp_path, monkeypatch):
    from bench.aot import recorded

    page = tmp_path / "kernels.md"
    page.write_text(f"before\n{recorded.BEGIN}old\n{recorded.END}after\n")
    monkeypatch.setattr(recorded, "FILE", tmp_path / "figures.json")
    monkeypatch.setattr(recorded, "PAGE", page)
    recorded.save("3.6.0", {"KL(p || q)": {"sm_90": GOOD}}, whole=True)
    recorded.save("3.10.0", {"a": {"sm_90": GOOD, "sm_80": {**GOOD, "per_element": None, "stack": 8}}}, whole=True)
    recorded.save("3.10.0", {"a": {"sm_90": {**GOOD, "registers": 41}}}, whole=False)
    assert recorded.load("3.10.0")["a"]["sm_90"]["registers"] == 41
    assert recorded.load("3.2.0") == {}
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert text.index("Triton 3.10.0") < text.index("Triton 3.6.0")
    assert "| a | 9.4, 41 | (900), 40, spills |" in text
    assert r"| KL(p \|\| q) | 9.4, 40 |" in text
    recorded.save("3.10.0", {"b": {"sm_90": GOOD}}, whole=True)
    assert list(recorded.load("3.10.0")) == ["b"]


def test_the_page_has_what_is_recorded():
    from bench.aot import recorded

    text = recorded.PAGE.read_text()
    assert recorded.table(recorded._all()) == text.split(recorded.BEGIN)[1].split(recorded.END)[0]


LISTED = """
from bench.aot.cases import ROW_CASES
from bench.aot.token_cases import TOKEN_CASES
print(*{case.kernel for case in [*ROW_CASES, *TOKEN_CASES]})
"""


def test_every_kernel_is_compiled(script):
    # What is launched: kernel[grid](...).
    launched = {
        ast.unparse(node.func.value)
        for path in (ROOT / "kernels").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Subscript)
    }
    path = os.pathsep.join([str(ROOT), str(ROOT / "python"), *(p for p in sys.path if p)])
    listed = script(LISTED, PYTHONPATH=path)[0].split()
    assert launched <= set(listed)


@pytest.mark.timeout(300)
def test_the_kernels_are_within_their_limits():
    done = subprocess.run(
        # No warning of a compiler reaches a user.
        [sys.executable, "-W", "error", "-m", "bench.aot", "--quick"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "within all limits" in done.stdout
