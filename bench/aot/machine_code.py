"""Reads what a compiler made of a kernel: the main loop, and the instructions in it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple


class Instruction(NamedTuple):
    """One machine instruction: the name with its suffixes, and the place that it branches to."""

    name: str
    branches_to: int | None = None


@dataclass(frozen=True)
class Vocabulary:
    """What the instructions of one architecture are called (regular expressions for the beginning of a name)."""

    load: str
    store: str
    barrier: str
    shuffle: str
    special: str
    local: str


NVIDIA = Vocabulary(
    load=r"LDG",  # LDGSTS too: the asynchronous copy of a pipelined loop
    store=r"STG",
    barrier=r"(BAR|UCGABAR)\b",
    shuffle=r"(SHFL|REDUX|CREDUX)\b",
    special=r"MUFU\b",
    local=r"(LDL|STL)\b",
)
AMD = Vocabulary(
    load=r"(global|buffer|flat)_load",
    store=r"(global|buffer|flat)_store",
    barrier=r"s_barrier",
    shuffle=r"(ds_bpermute|ds_permute|ds_swizzle|v_permlane|v_readlane|v_\w+_dpp)",
    special=r"v_(exp|log|rcp|rsq|sqrt|sin|cos)_f",
    local=r"scratch_(load|store)",
)


class Code(NamedTuple):
    """Counts of one kernel. ``loop_*`` are those of the main loop, or of the whole kernel where nothing loops."""

    instructions: int
    local: int
    loops: bool
    loop_instructions: int
    loop_load_bits: tuple[int, ...]
    loop_store_bits: tuple[int, ...]
    loop_barriers: int
    loop_shuffles: int
    loop_special: int


def parse_sass(text: str) -> list[Instruction]:
    """Instructions of ``cuobjdump -sass``, which prints the address of each and branches as addresses."""
    lines = re.findall(r"^\s*/\*([0-9a-f]{4,})\*/\s+(.*?)\s*;", text, re.MULTILINE)
    at = {int(address, 16): i for i, (address, _) in enumerate(lines)}
    made = []
    for _, line in lines:
        name, _, rest = re.sub(r"^@!?U?P\w+\s+", "", line).partition(" ")
        target = re.search(r"(0x[0-9a-f]+)$", rest.strip()) if name.split(".")[0] == "BRA" else None
        made.append(Instruction(name, at.get(int(target[1], 16)) if target else None))
    while made and made[-1].name == "NOP":
        made.pop()
    return made


def parse_amdgcn(text: str) -> list[Instruction]:
    """Instructions of AMD assembly, which branches to labels."""
    body = text.split(".section", 1)[0] if "s_endpgm" not in text else text[: text.rindex("s_endpgm") + 8]
    lines: list[tuple[str, str]] = []
    labels: dict[str, int] = {}
    for raw in body.splitlines():
        line = raw.split(";")[0].strip()
        if label := re.match(r"([.\w$]+):$", line):
            labels[label[1]] = len(lines)
        elif re.match(r"(s|v|ds|global|buffer|flat|scratch)_", line):
            name, _, rest = line.partition(" ")
            name, _, more = name.partition("\t")
            lines.append((name, more or rest))
    return [Instruction(n, labels.get(rest.strip()) if "branch" in n else None) for n, rest in lines]


def access_bits(name: str) -> int:
    """Bits that one thread gets or gives by a load or store of this name."""
    if name.startswith(("LDG", "STG")):
        wide = re.search(r"\.(256|128|64)\b", name)
        if wide:
            return int(wide[1])
        return 8 if re.search(r"\.[US]8\b", name) else 16 if re.search(r"\.[US]16\b", name) else 32
    wide = re.search(r"_dword(?:x(\d))?(?!\w)", name)
    if wide:
        return 32 * int(wide[1] or 1)
    return 8 if "byte" in name else 16


def _loops(code: Sequence[Instruction]) -> list[tuple[int, int]]:
    """(first, last) instruction of every loop: a branch to an earlier instruction, and all between."""
    last: dict[int, int] = {}
    for i, step in enumerate(code):
        if step.branches_to is not None and step.branches_to < i:
            last[step.branches_to] = i
    return list(last.items())


def examine(code: Sequence[Instruction], words: Vocabulary) -> Code:
    """The counts. The main loop is the innermost one that gets most through 16-byte loads, else through any."""

    def bits(pattern: str, first: int, last: int) -> list[int]:
        return [access_bits(step.name) for step in code[first : last + 1] if re.match(pattern, step.name)]

    def weight(loop: tuple[int, int]) -> tuple[int, int, int]:
        loads = bits(words.load, *loop)
        return sum(b for b in loads if b >= 128), sum(loads), loop[1] - loop[0]

    loops = [loop for loop in _loops(code) if bits(words.load, *loop)]
    inner = [a for a in loops if not any(b != a and a[0] <= b[0] and b[1] <= a[1] for b in loops)]
    first, last = max(inner, key=weight) if inner else (0, len(code) - 1)
    body = code[first : last + 1]

    def count(pattern: str, steps: Sequence[Instruction]) -> int:
        return sum(bool(re.match(pattern, step.name)) for step in steps)

    return Code(
        instructions=len(code),
        local=count(words.local, code),
        loops=bool(loops),
        loop_instructions=len(body),
        loop_load_bits=tuple(sorted(bits(words.load, first, last), reverse=True)),
        loop_store_bits=tuple(sorted(bits(words.store, first, last), reverse=True)),
        loop_barriers=count(words.barrier, body),
        loop_shuffles=count(words.shuffle, body),
        loop_special=count(words.special, body),
    )
