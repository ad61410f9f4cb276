"""Samples per second of Lockstep's trainer beside PyTorch's, from the same run.

    bench.py --program build/tests/bin/lockstep_bench [--json FILE] [--runs 7] [--seconds 1]

Trains the examples' networks on random images of their shape with Adam, at batches of 32 and 128,
on one thread, with the default number of shards and with one. Ours and each PyTorch take turns, all on
the same CPU, idle while another one runs; a figure is the median over the turns. PyTorch's for the
CNN is that of the better memory layout. With --json each comparison is also a line of JSON.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
EXAMPLES = HERE.parent.parent / "deploy" / "examples"
NETWORKS = {"mlp": ["contiguous"], "cnn": ["contiguous", "channels_last"]}
BATCHES = [32, 128]


class Peer:
    """A PyTorch that waits in a process of its own."""

    def __init__(self, python, network, layout, threads):
        command = [python, str(HERE / "peer.py"), network, layout, str(threads)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True)
        self.name = f"pytorch {self._answer()}"

    def _answer(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{' '.join(self.process.args)} ended with {self.process.wait()}")
        return line.strip()

    def samples_per_second(self, batch, seconds):
        self.process.stdin.write(f"{batch} {seconds}\n")
        self.process.stdin.flush()
        return float(self._answer())

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def ours(program, network, batch, shards, threads, seconds):
    """Samples/s and the number of shards that `shards` (0: default) stands for."""
    command = [program, EXAMPLES / f"{network}.json", batch, shards, threads, seconds]
    result = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, text=True, check=False)
    if result.returncode != 0:
        sys.exit(f"{program} failed with exit code {result.returncode}")
    answer = json.loads(result.stdout)
    return answer["samples_per_s"], answer["shards"]


def pythons_with_torch():
    """Ours (from requirements.txt), and Debian's, if it has the package python3-torch."""
    found = []
    for python in [sys.executable, "/usr/bin/python3"]:
        probe = subprocess.run([python, "-c", "import torch"], capture_output=True, check=False)
        if probe.returncode == 0:
            found.append(python)
        else:
            print(f"{python} has no PyTorch: not compared (Debian's is the package python3-torch)")
    if not found:
        sys.exit("no PyTorch to compare with: pip install -r tests/bench/requirements.txt")
    return found


def measure(options, network, pythons):
    """Yields one dictionary a comparison."""
    peers = [Peer(python, network, layout, options.threads)
             for python in pythons for layout in NETWORKS[network]]
    for batch in BATCHES:
        figures = {peer: [] for peer in peers}
        ours_figures = {}
        for _ in range(options.runs):
            for shards in [0, 1]:
                figure, used = ours(options.program, network, batch, shards, options.threads,
                                    options.seconds)
                ours_figures.setdefault(used, []).append(figure)
                if used == 1:
                    break  # the default is one shard already
            for peer in peers:
                figures[peer].append(peer.samples_per_second(batch, options.seconds))
        best = {}  # of a PyTorch's memory layouts
        for peer, values in figures.items():
            best[peer.name] = max(best.get(peer.name, 0), statistics.median(values))
        for shards, values in ours_figures.items():
            for name, peer_figure in best.items():
                own_figure = statistics.median(values)
                yield {"case": network, "threads": options.threads, "batch": batch,
                       "shards": shards, "ours_samples_per_s": round(own_figure, 1), "peer": name,
                       "peer_samples_per_s": round(peer_figure, 1),
                       "ratio": round(own_figure / peer_figure, 3)}
    for peer in peers:
        peer.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", required=True, help="the lockstep_bench to measure")
    parser.add_argument("--json", metavar="FILE", help="write one JSON line a comparison")
    parser.add_argument("--runs", type=int, default=7, help="turns (default 7)")
    parser.add_argument("--seconds", type=float, default=1.0, help="of a turn (default 1)")
    parser.add_argument("--threads", type=int, default=1, help="for each side (default 1)")
    options = parser.parse_args()
    # The last ones: the first CPU is where a machine's other work tends to be.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-options.threads:])

    lines = []
    print(f"{'case':4} {'batch':>5} {'shards':>6} {'threads':>7} {'ours/s':>9}  {'peer':20} "
          f"{'peer/s':>9} {'ratio':>6}")
    pythons = pythons_with_torch()
    for network in NETWORKS:
        for r in measure(options, network, pythons):
            lines.append(json.dumps(r) + "\n")
            print(f"{r['case']:4} {r['batch']:5} {r['shards']:6} {r['threads']:7} "
                  f"{r['ours_samples_per_s']:9.0f}  {r['peer']:20} {r['peer_samples_per_s']:9.0f} "
                  f"{r['ratio']:6.2f}", flush=True)
    if options.json:
        pathlib.Path(options.json).write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
