"""The programs that bench.py compares: each answers a line of words with a line of JSON."""

import functools
import json
import os
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
EXAMPLES = HERE.parents[1] / "deploy" / "examples"
DEBIAN_PYTHON = "/usr/bin/python3"
PROBES = 3
PROBE_SECONDS = 0.3
CPUS = sorted(os.sched_getaffinity(0))


def spec_path(network):
    return EXAMPLES / f"{network}.json"


def use_cpus(count):
    """For this process and those it starts. The last ones: other work tends to be on the first."""
    os.sched_setaffinity(0, CPUS[-count:])


class Program:
    """Waits for requests in a process of its own until the `with` block ends."""

    def __init__(self, *command):
        self.process = subprocess.Popen([str(part) for part in command], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()

    def ask(self, *words):
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        return self.answer()

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{' '.join(self.process.args)} ended with {self.process.wait()}")
        return json.loads(line)


class Torch(Program):
    """PyTorch of one Python; `modes` are the ways of running that it has."""

    def __init__(self, python, threads):
        super().__init__(python, "-W", "ignore", HERE / "peer_torch.py", threads)
        self.name = f"PyTorch {self.answer()['version']}"
        self.modes = ["eager"] if python == DEBIAN_PYTHON else ["eager", "compile"]

    def fastest_layout(self, network, batch, mode):
        """The (samples/s, layout) that trains fastest in a few tries; None if the mode fails here."""
        tries = []
        for layout in PROBES * layouts(network):
            answer = self.ask("train", spec_path(network), batch, layout, mode, PROBE_SECONDS)
            if "error" in answer:
                print(f"{self.name} {mode}: not compared, it says: {answer['error']}")
                return None
            tries.append((answer["samples_per_s"], layout))
        return max(tries)


class OnnxRuntime(Program):
    def __init__(self):
        super().__init__(sys.executable, "-W", "ignore", HERE / "peer_onnx.py")
        self.name = f"ONNX Runtime {self.answer()['version']}"


def layouts(network):
    """The memory layouts that PyTorch may choose from."""
    convolves = "conv2d" in spec_path(network).read_text(encoding="utf-8")
    return ["contiguous", "channels_last"] if convolves else ["contiguous"]


@functools.lru_cache
def pythons_with_torch():
    """Debian's, if it has the package python3-torch, and ours (from requirements.txt)."""
    found = []
    for python in [DEBIAN_PYTHON, sys.executable]:
        probe = subprocess.run([python, "-c", "import torch"], capture_output=True, check=False)
        if probe.returncode == 0:
            found.append(python)
        else:
            print(f"{python} has no PyTorch: not compared (Debian's is the package python3-torch)")
    if not found:
        sys.exit("no PyTorch to compare with: pip install -r tests/bench/requirements.txt")
    return found
