"""Every comparison of whole networks: which networks, against whom, what is asked for.

A case is a generator of results (see report.compare). `options` are bench.py's.
"""

import contextlib
import functools
import json
import statistics
import subprocess
import tempfile
import time

import numpy as np
from durability import DURABILITY
from processes import (DEBIAN_PYTHON, HERE, OnnxRuntime, Program, Torch, pythons_with_torch,
                       spec_path, use_cpus)
from report import alternate, compare, judged
from service import FASHION_MNIST_SAMPLES, TrainingService, fashion_mnist
from watching import WATCHING

NETWORKS = ["mlp", "cnn", "resnet20", "mlp-sigmoid", "mlp-wide"]
# ex. 2 in the words
CNN, CNN_BATCH = "cnn", 128


def asks(program, key, *words):
    """A function that measures: asks `program` and returns `key` of the answer."""
    return lambda: program.ask(*words)[key]


def training(options, network, batch, threads, floor, aim):
    """Samples/s of the training step on random images."""
    use_cpus(threads)
    spec = spec_path(network)
    with contextlib.ExitStack() as stack:
        ours = stack.enter_context(Program(options.program, spec, threads))
        shards = ours.ask("train", batch, 0, options.seconds)["shards"]
        sides = {"ours": asks(ours, "samples_per_s", "train", batch, 0, options.seconds)}
        if shards > 1:
            sides["S=1"] = asks(ours, "samples_per_s", "train", batch, 1, options.seconds)
        peers, floor_peer = [], None
        for python in pythons_with_torch():
            torch = stack.enter_context(Torch(python, threads))
            for mode in torch.modes:
                fastest = torch.fastest_layout(network, batch, mode)
                if fastest is None:
                    continue
                _, layout = fastest
                peers.append(f"{torch.name} {mode} {layout}")
                sides[peers[-1]] = asks(torch, "samples_per_s", "train", spec, batch, layout, mode,
                                        options.seconds)
                if python == DEBIAN_PYTHON:
                    floor_peer = peers[-1]
        if threads == 2:
            single = stack.enter_context(Program(options.program, spec, 1))
            sides["ours, 1 thread"] = asks(single, "samples_per_s", "train", batch, 0,
                                           options.seconds)
        figures = alternate(sides, options.runs)
    case = f"train {network}, batch {batch}, {threads} thread{'s' * (threads > 1)}"
    more = {"network": network, "batch": batch, "threads": threads, "shards": shards}
    yield from compare(case, "samples/s", figures, "ours", peers,
                       one_shard="S=1" if shards > 1 else None, floor_peer=floor_peer, floor=floor,
                       aim=aim, **more)
    if threads == 2:
        yield from compare(case, "samples/s", figures, "ours", ["ours, 1 thread"], aim=1.9, **more)


def shards(options, network):
    """What S=8 costs over S=1 in a step."""
    use_cpus(1)
    batch = 256
    with Program(options.program, spec_path(network), 1) as ours:
        sides = {f"S={s}": asks(ours, "samples_per_s", "train", batch, s, options.seconds)
                 for s in [8, 1]}
        for measure in sides.values():
            measure()  # makes and warms it up
        figures = alternate(sides, options.runs)
    for result in compare(f"train {network}, batch {batch}, cost of S=8", "samples/s", figures,
                          "S=8", ["S=1"], network=network, batch=batch, threads=1):
        yield judged(**{**result, "ratio": 1 / result["ratio"]}, floor=1.10, aim=1.02, at_most=True)


def inference(options, network, batch):
    """Samples/s of the same weights in ONNX Runtime and in our InferenceModel, in process."""
    use_cpus(1)
    with tempfile.TemporaryDirectory() as directory, \
            Program(options.program, spec_path(network), 1) as ours, OnnxRuntime() as peer:
        peer.ask("export", spec_path(network), directory)
        request = ["infer", directory, batch, options.seconds]
        own_answer, peer_answer = ours.ask(*request)["y"], peer.ask(*request)["y"]
        # Another network, or one layer less, would be far off.
        np.testing.assert_allclose(own_answer, peer_answer, rtol=1e-2, atol=1e-4)
        figures = alternate({"ours": asks(ours, "samples_per_s", *request),
                             peer.name: asks(peer, "samples_per_s", *request)}, options.runs)
        yield from compare(f"infer {network}, batch {batch}, 1 thread", "samples/s", figures,
                           "ours", [peer.name], floor_peer=peer.name, floor=1.0, aim=1.5,
                           network=network, batch=batch, threads=1)


def epoch(options):
    """Seconds of an epoch of Fashion-MNIST through the service: see TrainingService.epoch."""
    use_cpus(2)
    with contextlib.ExitStack() as stack:
        data = stack.enter_context(fashion_mnist())
        service = stack.enter_context(TrainingService(options.program.parent, threads=2))
        sides, floor_peer = {"ours": lambda: service.epoch(CNN, CNN_BATCH)}, None
        for python in pythons_with_torch():
            torch = stack.enter_context(Torch(python, threads=2))
            fastest = {mode: torch.fastest_layout(CNN, CNN_BATCH, mode) for mode in torch.modes}
            (_, layout), mode = max((found, mode) for mode, found in fastest.items() if found)
            peer = f"{torch.name} {mode} {layout}"
            sides[peer] = asks(torch, "seconds", "epoch", spec_path(CNN), CNN_BATCH, layout, mode,
                               data)
            if python == DEBIAN_PYTHON:
                floor_peer = peer
        figures = alternate(sides, options.runs)
    yield from compare(f"epoch of Fashion-MNIST, {CNN}, 2 threads", "s", figures, "ours",
                       [side for side in sides if side != "ours"], floor_peer=floor_peer, floor=2.2,
                       aim=3.5, smaller_is_better=True, network=CNN, batch=CNN_BATCH, threads=2,
                       samples=FASHION_MNIST_SAMPLES)


def start(options, network):
    """Seconds from the start of a process to the end of its first step."""
    use_cpus(1)

    def run(*command):
        began = time.perf_counter()
        subprocess.run([str(part) for part in command], check=True, stderr=subprocess.DEVNULL)
        return time.perf_counter() - began

    spec = spec_path(network)
    batch = 128
    sides = {"ours": functools.partial(run, options.program, spec, 1, "first-step")}
    floor_peer = None
    for python in pythons_with_torch():
        with Torch(python, threads=1) as torch:
            peer = f"{torch.name} eager contiguous"
        sides[peer] = functools.partial(run, python, HERE / "peer_torch.py", "first-step", spec,
                                        batch)
        if python == DEBIAN_PYTHON:
            floor_peer = peer
    for measure in sides.values():
        measure()  # files into memory
    figures = alternate(sides, options.runs)
    yield from compare(f"start to first step, {network}", "s", figures, "ours",
                       [side for side in sides if side != "ours"], floor_peer=floor_peer, floor=30,
                       smaller_is_better=True, network=network, batch=batch, threads=1)


def memory(options):
    """Anonymous memory of a process that trains: see TrainingService.worker_memory."""
    use_cpus(2)

    def of_torch(python, layout, data):
        with Torch(python, threads=2) as torch:
            return torch.ask("memory", spec_path(CNN), CNN_BATCH, layout, "eager", data)["bytes"]

    with fashion_mnist() as data, TrainingService(options.program.parent, threads=2) as service:
        sides = {"ours": lambda: service.worker_memory(CNN, CNN_BATCH)}
        floor_peer = None
        for python in pythons_with_torch():
            layout = min(["contiguous", "channels_last"],
                         key=lambda layout, python=python: of_torch(python, layout, data))
            with Torch(python, threads=2) as torch:
                peer = f"{torch.name} eager {layout}"
            sides[peer] = functools.partial(of_torch, python, layout, data)
            if python == DEBIAN_PYTHON:
                floor_peer = peer
        figures = alternate(sides, options.runs)
    yield from compare(f"memory of a training process, {CNN}", "bytes", figures, "ours",
                       [side for side in sides if side != "ours"], floor_peer=floor_peer, floor=5,
                       smaller_is_better=True, network=CNN, batch=CNN_BATCH, threads=2)


def kernels(options):
    """Geometric means over the shapes of lockstep_kernel_bench, whose own tables show each."""
    use_cpus(1)
    program = options.program.with_name("lockstep_kernel_bench")
    output = subprocess.run([program, "--json", "--turns", str(options.runs)], check=True,
                            text=True, stdout=subprocess.PIPE).stdout
    lines = [json.loads(line) for line in output.splitlines()]
    means = {line["geometric_means"]: line["ratios"] for line in lines if "geometric_means" in line}
    # After ours on other widths: oneDNN, for convolutions in its own layout, then in channels last.
    gemm, conv, conv_channels_last = means["GEMM"][-1], *means["convolution"][-2:]
    yield judged("GEMM, mean of the shapes", "oneDNN", gemm, floor=0.97, aim=1.15)
    yield judged("convolution, mean of the shapes", "oneDNN, its own layout", conv, floor=1.05,
                 aim=1.15)
    yield judged("convolution, mean of the shapes", "oneDNN, channels last", conv_channels_last)
    share = next(line["of_peak"] for line in lines if "resnet20" in line)
    yield judged("ResNet-20's convolutions", "peak of fused multiply-adds", share, floor=0.55,
                 aim=0.80)


def explain(options, network, batch, threads):
    """How far `lockstep explain`'s step time is from the real one, whichever is the longer."""
    use_cpus(threads)
    with Program(options.program, spec_path(network), threads) as ours:
        request = ["train", batch, 0, options.seconds]
        predicted = ours.ask(*request)["predicted_samples_per_s"]
        figures = alternate({"ours": asks(ours, "samples_per_s", *request)}, options.runs)
    real = statistics.median(figures["ours"])
    yield judged(f"explain {network}, batch {batch}, {threads} thread{'s' * (threads > 1)}",
                 "measured step", max(real / predicted, predicted / real), floor=1.5, at_most=True,
                 network=network, batch=batch, threads=threads)


# Network, batch, threads, floor, aim.
TRAINING = [
    ("mlp", 32, 1, 6, 10), ("mlp", 128, 1, 3.5, 5),
    ("cnn", 32, 1, 2.4, 4), ("cnn", 128, 1, 2.4, 4),
    ("resnet20", 128, 1, 1.2, 2),
    ("mlp", 32, 2, 6, 10), ("mlp", 128, 2, 3.5, 5),
    ("cnn", 32, 2, 2.4, 4), ("cnn", 128, 2, 2.4, 4),
    ("resnet20", 128, 2, 1.2, 2),
    ("mlp-sigmoid", 60, 1, 5, 10),
    ("mlp-wide", 256, 1, 1.0, 1.3),
]

# What bench.py --only names, and the cases it stands for.
CASES = {network: [functools.partial(training, network=network, batch=batch, threads=threads,
                                     floor=floor, aim=aim)
                   for name, batch, threads, floor, aim in TRAINING if name == network]
         for network in NETWORKS}
CASES["shards"] = [functools.partial(shards, network=network) for network in ["mlp", "cnn"]]
CASES["inference"] = [functools.partial(inference, network=network, batch=batch)
                      for network in NETWORKS for batch in [1, 64]]
CASES["start"] = [functools.partial(start, network=network) for network in ["mlp", "cnn"]]
CASES["explain"] = [functools.partial(explain, network=network, batch=batch, threads=threads)
                    for network in NETWORKS for batch in [32, 128] for threads in [1, 2]]
CASES["memory"] = [memory]
CASES["epoch"] = [epoch]
CASES["kernels"] = [kernels]
CASES["durability"] = DURABILITY
CASES["watching"] = WATCHING
