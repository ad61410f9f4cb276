"""ONNX Runtime on one thread, with the networks of PyTorch.

    peer_onnx.py

Prints ONNX Runtime's version, then reads requests and answers each with a line of JSON:

    export SPEC DIRECTORY          writes network.onnx, and for Lockstep weights.safetensors and
                                   input.bin: 64 samples as float32, channels last, not yet scaled
    infer DIRECTORY BATCH SECONDS  samples/s of that network, and what it says of the first samples

The weights are random; BatchNorm's statistics are too, so that it cannot be left out.
"""

import functools
import json
import pathlib
import sys
import time

import numpy as np
import onnxruntime
import torch
from networks import Network

SAMPLES = 64
WARM_UP_SECONDS = 0.3


def write_safetensors(path, tensors):
    header, offset = {}, 0
    for name, values in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(values.shape),
                        "data_offsets": [offset, offset + values.nbytes]}
        offset += values.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for values in tensors.values():
            file.write(values.tobytes())


def export(spec, directory):
    torch.manual_seed(1)
    directory = pathlib.Path(directory)
    with open(spec, encoding="utf-8") as file:
        network = Network(json.load(file)["model"], inference=True)
    network.randomize_statistics()
    x = network.random_images(SAMPLES)
    network.module.eval()
    torch.onnx.export(network.module, (x,), directory / "network.onnx", dynamo=False,
                      input_names=["x"], output_names=["y"],
                      dynamic_axes={"x": {0: "batch"}, "y": {0: "batch"}})
    np.save(directory / "x.npy", x.numpy())
    raw = x / network.scale
    if raw.dim() == 4:
        raw = raw.permute(0, 2, 3, 1)
    raw.round().contiguous().numpy().tofile(directory / "input.bin")
    write_safetensors(directory / "weights.safetensors",
                      {name: np.ascontiguousarray(convert(tensor.detach()).numpy())
                       for name, tensor, convert in network.tensors})
    return {}


@functools.lru_cache(maxsize=None)
def session(directory):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    made = onnxruntime.InferenceSession(str(pathlib.Path(directory) / "network.onnx"), options,
                                        providers=["CPUExecutionProvider"])
    return made, np.load(pathlib.Path(directory) / "x.npy")


def infer(directory, batch, seconds):
    made, x = session(directory)
    x = x[:int(batch)]
    start = time.perf_counter()
    while time.perf_counter() - start < WARM_UP_SECONDS:
        y = made.run(None, {"x": x})[0]
    samples, elapsed, start = 0, 0.0, time.perf_counter()
    while elapsed < float(seconds):
        made.run(None, {"x": x})
        samples += len(x)
        elapsed = time.perf_counter() - start
    return {"samples_per_s": samples / elapsed, "y": y[0].tolist()}


def main():
    print(json.dumps({"version": onnxruntime.__version__}), flush=True)
    for line in sys.stdin:
        request, *arguments = line.split()
        print(json.dumps({"export": export, "infer": infer}[request](*arguments)), flush=True)


if __name__ == "__main__":
    main()
