"""Trains the benchmark's networks with PyTorch, as fast as a plain training loop goes on a CPU.

    peer.py NETWORK LAYOUT THREADS

NETWORK is mlp or cnn; LAYOUT is contiguous or channels_last (the memory format of images). Reads
lines "BATCH SECONDS" and answers each with samples/s, after a first line with PyTorch's version.
Runs with PyTorch 1.13 and newer.

What makes it fast: data preloaded as float32 tensors, batches are views, zero_grad(set_to_none),
the fused Adam where there is one for CPUs, no reading of the loss.
"""

import os
import sys
import time

NETWORK, LAYOUT, THREADS = sys.argv[1], sys.argv[2], int(sys.argv[3])
os.environ["OMP_NUM_THREADS"] = str(THREADS)

import torch
from torch import nn

BATCHES = 32
WARM_UP_STEPS = 10


def make_network():
    if NETWORK == "mlp":
        return nn.Sequential(
            nn.Linear(784, 64), nn.ReLU(), nn.BatchNorm1d(64, eps=1e-3, momentum=0.01),
            nn.Linear(64, 10))
    return nn.Sequential(
        nn.Conv2d(1, 32, 3), nn.ReLU(), nn.BatchNorm2d(32, eps=1e-3, momentum=0.01),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3), nn.ReLU(), nn.BatchNorm2d(64, eps=1e-3, momentum=0.01),
        nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(1600, 10))


def make_adam(parameters):
    try:
        return torch.optim.Adam(parameters, lr=1e-3, eps=1e-7, fused=True)
    except (RuntimeError, TypeError):  # before 2.4 there is none for CPUs
        return torch.optim.Adam(parameters, lr=1e-3, eps=1e-7)


class Training:
    def __init__(self, batch):
        torch.manual_seed(1)
        self.batch = batch
        samples = batch * BATCHES
        shape = (samples, 784) if NETWORK == "mlp" else (samples, 1, 28, 28)
        self.x = torch.randint(0, 256, shape).float() / 255
        self.y = torch.randint(0, 10, (samples,))
        self.network = make_network()
        if LAYOUT == "channels_last":
            self.x = self.x.contiguous(memory_format=torch.channels_last)
            self.network = self.network.to(memory_format=torch.channels_last)
        self.loss = nn.CrossEntropyLoss()
        self.optimizer = make_adam(list(self.network.parameters()))
        self.next = 0
        for _ in range(WARM_UP_STEPS):
            self.step()

    def step(self):
        x = self.x[self.next:self.next + self.batch]
        y = self.y[self.next:self.next + self.batch]
        self.next = (self.next + self.batch) % len(self.y)
        self.optimizer.zero_grad(set_to_none=True)
        self.loss(self.network(x), y).backward()
        self.optimizer.step()

    def samples_per_second(self, seconds):
        samples, elapsed, start = 0, 0.0, time.perf_counter()
        while elapsed < seconds:
            self.step()
            samples += self.batch
            elapsed = time.perf_counter() - start
        return samples / elapsed


def main():
    torch.set_num_threads(THREADS)
    torch.set_num_interop_threads(1)
    print(torch.__version__, flush=True)
    trainings = {}
    for line in sys.stdin:
        batch, seconds = line.split()
        if batch not in trainings:
            trainings[batch] = Training(int(batch))
        print(trainings[batch].samples_per_second(float(seconds)), flush=True)


if __name__ == "__main__":
    main()
