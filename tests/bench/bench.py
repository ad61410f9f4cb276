"""Lockstep beside what people use today, from the same run: whole networks.

    bench.py --program build/tests/bin/lockstep_bench [--only CASE,...] [--json FILE]

Ours and its peers take turns on the same CPUs, each idle while another one runs. A figure is the
median over the turns, a ratio the median of the turns' ratios. Training is measured with the
default number of shards (S), with S=1 beside it. A floor holds against Debian's PyTorch (against
ONNX Runtime for inference), an aim against the best peer. PyTorch uses the better of its memory
layouts.

CASE is a network to train, or shards, inference, explain, start, memory, epoch, kernels, durability
or watching; cases.py, durability.py and watching.py say what each is. With --json each comparison is also a line
of JSON.
"""

import argparse
import json
import pathlib

from cases import CASES
from report import summary, table


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", required=True, type=pathlib.Path,
                        help="the lockstep_bench to measure; lockstepd and lockstep are beside it")
    parser.add_argument("--only", metavar="CASE,...", default=",".join(CASES),
                        help=f"of {', '.join(CASES)} (default: all)")
    parser.add_argument("--json", metavar="FILE", help="write one JSON line a comparison")
    parser.add_argument("--runs", type=int, default=7, help="turns (default 7)")
    parser.add_argument("--seconds", type=float, default=0.4, help="of a turn (default 0.4)")
    durability = parser.add_argument_group("of the case durability")
    durability.add_argument("--pairs", type=int, default=15, help="turns (default 15)")
    durability.add_argument("--queued", type=int, default=10_000,
                            help="jobs in the long queue (default 10000)")
    durability.add_argument("--finished", type=int, default=1_000,
                            help="runs that a killed server had finished (default 1000)")
    watching = parser.add_argument_group("of the case watching (with --pairs, too)")
    watching.add_argument("--watchers", type=int, default=1_000,
                          help="that read a job's events (default 1000)")
    watching.add_argument("--compared", type=int, default=50,
                          help="runs of 100,000 points in one plot (default 50)")
    options = parser.parse_args()
    chosen = options.only.split(",")
    for name in chosen:
        if name not in CASES:
            parser.error(f"--only: {name} is not one of {', '.join(CASES)}")

    results = []
    for name in chosen:
        for measure in CASES[name]:
            for result in measure(options):
                results.append(result)
                print(summary(result), flush=True)
    print(f"\n{table(results)}")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            file.writelines(json.dumps(result) + "\n" for result in results)


if __name__ == "__main__":
    main()
