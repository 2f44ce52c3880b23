"""From a compiled kernel to the figures that are recorded, and from figures to complaints."""

from __future__ import annotations

import re
from typing import Any

from bench.aot.cases import Case
from bench.aot.machine_code import AMD, NVIDIA, Code, examine, parse_amdgcn, parse_sass

Figures = dict[str, Any]

#: Growth of the instructions per element over the recorded ones that passes as the mood of a compiler.
TOLERANCE = 0.05


def _amd(text: str, key: str) -> int:
    found = re.search(rf"\.{key}:\s*(\d+)", text)
    return int(found[1]) if found else 0


def measure(case: Case, kernel: Any) -> Figures:
    """Registers, spills and the main loop of one compiled kernel."""
    if "cubin" in kernel.asm:
        from bench.aot.stand_in import resources, sass

        code = examine(parse_sass(sass(kernel)), NVIDIA)
        used = dict(re.findall(r"(\w+):(\d+)", resources(kernel)))
        registers, stack, shared = int(used["REG"]), int(used["STACK"]) + int(used["LOCAL"]), int(used["SHARED"])
        spills = code.local
    else:
        text = kernel.asm["amdgcn"]
        code = examine(parse_amdgcn(text), AMD)
        registers, stack = _amd(text, "vgpr_count"), _amd(text, "private_segment_fixed_size")
        shared = _amd(text, "group_segment_fixed_size")
        spills = _amd(text, "vgpr_spill_count") + code.local
    return {
        "registers": registers,
        "stack": stack,
        "spills": spills,
        "shared": shared,
        "warps": kernel.metadata.num_warps,
        **per_element(case, code),
    }


def per_element(case: Case, code: Code) -> Figures:
    """Counts of the main loop over the elements that one thread takes in one turn."""
    bits = code.loop_load_bits
    by_loads = sum(bits) / (8 * case.itemsize * case.streams) if case.streaming else None
    elements = case.elements or by_loads
    return {
        "instructions": code.instructions,
        "loop": code.loop_instructions if code.loops else None,
        "elements": elements,
        "per_element": round(code.loop_instructions / elements, 2) if elements else None,
        "special_per_element": round(code.loop_special / elements, 2) if elements else None,
        "load_bits": list(dict.fromkeys(bits)),
        "store_bits": list(dict.fromkeys(code.loop_store_bits)),
        "barriers": code.loop_barriers,
        "shuffles": code.loop_shuffles,
    }


def complaints(case: Case, target: str, now: Figures, before: Figures | None) -> list[str]:
    """What is wrong with these figures."""
    found = []
    if now["stack"] > case.stack or (now["spills"] and not now["stack"]):
        found.append(f"spills: {now['spills']} loads and stores of local memory, {now['stack']} bytes of stack")
    if case.streaming:
        if now["loop"] is None:
            found.append("no loop with loads")
        narrow = {kind: [b for b in now[f"{kind}_bits"] if b < 128] for kind in ("load", "store")}
        found += [
            f"{kind}s of {', '.join(map(str, bits))} bits in the main loop; all should have 128"
            for kind, bits in narrow.items()
            if bits
        ]
        if not now["load_bits"]:
            found.append("no load in the main loop")
        if now["barriers"] or now["shuffles"]:
            found.append(f"{now['barriers']} barriers and {now['shuffles']} shuffles in the main loop")
    limit = case.budget if target == "sm_90" else None
    if limit is not None and (now["per_element"] is None or now["per_element"] > limit):
        found.append(f"{now['per_element']} instructions per element, over the budget of {limit}")
    key = "per_element" if now["per_element"] is not None else "instructions"
    if before and before.get(key) and now[key] > before[key] * (1 + TOLERANCE):
        found.append(f"{now[key]} instructions ({key}), {before[key]} are recorded")
    return found
