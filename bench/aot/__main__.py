"""``python -m bench.aot``: compile, print the table, compare with what is recorded; not 0 where a limit is broken."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

# Before Triton is imported: tests of kernels set it, and nothing is compiled under it.
os.environ["TRITON_INTERPRET"] = "0"


def main(argv: list[str] | None = None) -> int:
    """Returns 1 if any kernel breaks a limit."""
    parser = argparse.ArgumentParser(prog="python -m bench.aot", description=__doc__)
    parser.add_argument("-k", metavar="TEXT", default="", help="only cases whose name contains TEXT")
    parser.add_argument("--quick", action="store_true", help="the forward and the backward of sm_90 alone")
    parser.add_argument("--targets", help="some of the targets, with commas between")
    parser.add_argument(
        "--write", action="store_true", help="record the figures, and write the table of docs/kernels.md"
    )
    parser.add_argument("--asm", metavar="FOLDER", type=Path, help="also write the machine code to FOLDER")
    options = parser.parse_args(argv)

    import triton
    from triton.compiler.errors import CompilationError

    from bench.aot import recorded
    from bench.aot.cases import ROW_CASES
    from bench.aot.figures import complaints, measure
    from bench.aot.stand_in import TARGETS, compiled, sass
    from bench.aot.token_cases import TOKEN_CASES

    targets = options.targets.split(",") if options.targets else ["sm_90"] if options.quick else list(TARGETS)
    cases = [c for c in [*ROW_CASES, *TOKEN_CASES] if options.k in c.name and (c.quick or not options.quick)]
    before = recorded.load(triton.__version__)
    print(f"triton {triton.__version__}; recorded figures: {'of this version' if before else 'none of this version'}")
    made: recorded.Rows = {}
    wrong = 0
    for target in targets:
        print(f"\n{target}\n{recorded.HEADER}", flush=True)
        for case in cases:
            start = time.perf_counter()
            try:
                found = [launch for launch in compiled(target, case.call) if launch.name == case.kernel]
            except CompilationError as error:
                print(f"{case.name}: does not compile\n{error}")
                wrong += 1
                continue
            if not found:
                print(f"{case.name}: launched no {case.kernel}")
                wrong += 1
                continue
            kernel = found[0].kernel
            now = measure(case, kernel)
            made.setdefault(case.name, {})[target] = now
            print(recorded.line(case.name, now), f"{time.perf_counter() - start:5.1f} s", flush=True)
            for complaint in complaints(case, target, now, before.get(case.name, {}).get(target)):
                print(f"  {case.name}, {target}: {complaint}")
                wrong += 1
            if options.asm:
                options.asm.mkdir(parents=True, exist_ok=True)
                text = sass(kernel) if "cubin" in kernel.asm else kernel.asm["amdgcn"]
                (options.asm / f"{case.name.replace(' ', '_')}.{target}.txt").write_text(text)
    if options.write:
        recorded.save(triton.__version__, made, whole=not (options.k or options.quick or options.targets))
    print(f"\n{wrong} complaints" if wrong else "\nwithin all limits")
    return min(wrong, 1) if cases else 1


if __name__ == "__main__":
    sys.exit(main())
