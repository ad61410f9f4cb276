"""PyTorch, as fast as a plain training loop goes on a CPU. Runs with PyTorch 1.13 and newer.

    peer_torch.py THREADS

Prints PyTorch's version, then reads requests and answers each with a line of JSON:

    train SPEC BATCH LAYOUT MODE SECONDS   samples/s on random images
    epoch SPEC BATCH LAYOUT MODE DATA      seconds of a pass over DATA/x.npy and y.npy, preloaded as
                                           float32, in a new order, in full batches
    memory SPEC BATCH LAYOUT MODE DATA     bytes of anonymous memory this process holds when it has
                                           trained on those files, mapped, for some steps

SPEC is a job's JSON file, LAYOUT contiguous or channels_last (the memory format of images), MODE
eager or compile. What is made for a request is kept for the next one, and warmed up before the
clock starts.

    peer_torch.py first-step SPEC BATCH     imports, makes the network, trains one step and ends

What makes it fast: preloaded data, ReLU and addition in place, zero_grad(set_to_none), the fused
optimizer where there is one for CPUs, no reading of the loss; batches of random images are views.
"""

import functools
import json
import os
import sys
import time

if __name__ == "__main__":
    THREADS = 1 if sys.argv[1] == "first-step" else int(sys.argv[1])
    os.environ["OMP_NUM_THREADS"] = str(THREADS)
    # Without it two spinning threads may share a CPU while another one is idle.
    os.environ["OMP_PROC_BIND"] = "true"

import numpy as np
import torch
from networks import Network
from torch import nn

BATCHES = 8
WARM_UP_SECONDS = 1.0
WARM_UP_STEPS = 3
MEMORY_STEPS = 30


def read_spec(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def make_optimizer(spec, parameters):
    kind, options = next(iter(spec.items()))
    if kind == "adam":
        make = functools.partial(torch.optim.Adam, lr=options.get("learning_rate", 1e-3), eps=1e-7)
    else:
        make = functools.partial(torch.optim.SGD, lr=options.get("learning_rate", 1e-2),
                                 momentum=options.get("momentum", 0))
    try:
        return make(parameters, fused=True)
    except (RuntimeError, TypeError):  # before 2.4 there is none for CPUs
        return make(parameters)


class Training:
    def __init__(self, spec, batch, layout, mode):
        torch.manual_seed(1)
        spec = read_spec(spec)
        self.batch = batch
        self.network = Network(spec["model"])
        self.channels_last = layout == "channels_last"
        if self.channels_last:
            self.network.module.to(memory_format=torch.channels_last)
        self.optimizer = make_optimizer(spec["training"]["optimizer"],
                                        list(self.network.module.parameters()))
        loss = nn.CrossEntropyLoss()

        def compute_loss(x, y):
            return loss(self.network.module(x), y)
        compiles = mode == "compile"
        self.loss = torch.compile(compute_loss, dynamic=False) if compiles else compute_loss

    def in_layout(self, x):
        return x.contiguous(memory_format=torch.channels_last) if self.channels_last else x

    def make_random_data(self, batches):
        self.x = self.in_layout(self.network.random_images(self.batch * batches))
        self.y = torch.randint(0, 10, (self.batch * batches,))
        self.next = 0

    def warm_up(self):
        self.make_random_data(BATCHES)
        steps, start = 0, time.perf_counter()
        while steps < WARM_UP_STEPS or time.perf_counter() - start < WARM_UP_SECONDS:
            self.step_on_random_data()
            steps += 1

    def step(self, x, y):
        self.optimizer.zero_grad(set_to_none=True)
        self.loss(x, y).backward()
        self.optimizer.step()

    def step_on_random_data(self):
        x = self.x[self.next:self.next + self.batch]
        y = self.y[self.next:self.next + self.batch]
        self.next = (self.next + self.batch) % len(self.y)
        self.step(x, y)

    def samples_per_second(self, seconds):
        samples, elapsed, start = 0, 0.0, time.perf_counter()
        while elapsed < seconds:
            self.step_on_random_data()
            samples += self.batch
            elapsed = time.perf_counter() - start
        return samples / elapsed


@functools.lru_cache(maxsize=None)
def warm_training(*arguments):
    training = Training(*arguments)
    training.warm_up()
    return training


def train(spec, batch, layout, mode, seconds):
    training = warm_training(spec, int(batch), layout, mode)
    return {"samples_per_s": training.samples_per_second(float(seconds))}


@functools.lru_cache(maxsize=None)
def preloaded(training, data):
    x = torch.from_numpy(np.load(f"{data}/x.npy")).unsqueeze(1).float() * training.network.scale
    return training.in_layout(x), torch.from_numpy(np.load(f"{data}/y.npy")).long()


def epoch(spec, batch, layout, mode, data):
    training = warm_training(spec, int(batch), layout, mode)
    x, y = preloaded(training, data)
    start = time.perf_counter()
    # torch.compile would compile the smaller last batch for itself, which takes a minute.
    order = torch.randperm(len(y))[:len(y) // training.batch * training.batch]
    for samples in order.split(training.batch):
        training.step(x[samples], y[samples])
    return {"seconds": time.perf_counter() - start}


def memory(spec, batch, layout, mode, data):
    training = Training(spec, int(batch), layout, mode)
    x, y = (np.load(f"{data}/{name}.npy", mmap_mode="r") for name in "xy")
    order = np.random.default_rng(1).permutation(len(y))
    for step in range(MEMORY_STEPS):
        samples = order[step * training.batch:(step + 1) * training.batch]
        images = torch.from_numpy(x[samples]).unsqueeze(1).float() * training.network.scale
        training.step(training.in_layout(images), torch.from_numpy(y[samples]).long())
    with open("/proc/self/status", encoding="ascii") as status:
        line = next(line for line in status if line.startswith("RssAnon"))
    return {"bytes": int(line.split()[1]) * 1024}


def main():
    torch.set_num_threads(THREADS)
    torch.set_num_interop_threads(1)
    if sys.argv[1] == "first-step":
        training = Training(sys.argv[2], int(sys.argv[3]), "contiguous", "eager")
        training.make_random_data(batches=1)
        training.step_on_random_data()
        return
    print(json.dumps({"version": torch.__version__.partition("+")[0]}), flush=True)
    requests = {"train": train, "epoch": epoch, "memory": memory}
    for line in sys.stdin:
        request, *arguments = line.split()
        try:
            answer = requests[request](*arguments)
        except Exception as error:  # torch.compile raises many kinds: no compiler, no headers
            answer = {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
