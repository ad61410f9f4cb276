#!/usr/bin/env python3
"""Refuses calls in core/ whose bits depend on a library, a CPU or an alignment.

The numerics contract (core/README.md) defines every operation; these would step outside of it. Exits 1
and names file and line. Usage: check_sources.py CORE_DIRECTORY
"""

import pathlib
import re
import sys

FORBIDDEN = {
    r"\.(sum|mean|norm|squaredNorm|prod|dot|redux)\(\)": "library reduction: order depends on alignment",
    r"\.dot\(": "library reduction: order depends on alignment",
    r"\.noalias\(\)": "library product: order depends on cache sizes and instruction set",
    r"std::(accumulate|reduce|transform_reduce|inner_product)\b": "sum of unspecified order or type",
    r"std::(exp|log|pow|sin|cos|tanh|erf|expm1|log1p|exp2|log2|cbrt)\b": "libm: differs between C libraries and CPUs",
    r"std::\w+_distribution\b": "distribution: implementation-defined",
    r"std::(shuffle|random_device|mt19937\w*|rand)\b": "random numbers outside Philox",
    r"\b_mm\d*_(rsqrt|rcp)\w*": "approximation: differs between CPU makers",
    r"\b_mm\d*_reduce_\w+": "horizontal sum",
    r"#pragma omp": "OpenMP",
    r"-ffast-math|-Ofast": "fast-math",
}

# Integers, or not arithmetic on values.
ALLOWED = {
    ("tensor/shape.h", "std::accumulate"),
    ("layers/normalization.cc", ".mean()"),  # fields of the spec
    ("network/initialize.cc", ".mean()"),
    ("training/gradient_clipping.cc", ".norm()"),
    ("training/optimizer_checks.cc", ".norm()"),
}


def main() -> int:
    core = pathlib.Path(sys.argv[1])
    files = sorted(p for p in core.rglob("*") if p.suffix in {".cc", ".h", ".inl"})
    if not files:
        print(f"no sources below {core}")
        return 1
    problems = 0
    for path in files:
        name = path.relative_to(core).as_posix()
        for number, line in enumerate(path.read_text().splitlines(), 1):
            code = line.split("//")[0]
            for pattern, why in FORBIDDEN.items():
                match = re.search(pattern, code)
                if match and (name, match.group(0)) not in ALLOWED:
                    print(f"core/{name}:{number}: {match.group(0)}: {why}")
                    problems += 1
    print(f"{len(files)} files, {problems} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
