"""The PyTorch network that a ModelSpec (JSON, as the lockstep command takes it) describes."""

import torch
from torch import nn

ACTIVATIONS = {"relu": lambda: nn.ReLU(inplace=True), "sigmoid": nn.Sigmoid, "tanh": nn.Tanh,
               "softmax": lambda: nn.Softmax(dim=1)}


class Add(nn.Module):
    def forward(self, first, *others):
        for other in others:
            first += other
        return first


class GlobalAveragePool(nn.Module):
    def forward(self, x):
        return x.mean((2, 3))


class Graph(nn.Module):
    """Layers that read any earlier value; value 0 is the input."""

    def __init__(self, layers, sources):
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.sources = sources

    def forward(self, x):
        values = [x]
        for layer, sources in zip(self.layers, self.sources):
            values.append(layer(*[values[i] for i in sources]))
        return values[-1]


class Network:
    """A network, its layers' names, and its weights under the names that Lockstep gives them.

    For training it ends with the logits, as CrossEntropyLoss wants them, and pads a convolution
    with stride 2 on both sides, as PyTorch does without a further pass; `inference` keeps the
    softmax and pads exactly as the spec says.
    """

    def __init__(self, model, inference=False):
        self.inference = inference
        self.input_shape = model["inputs"][0]["shape"]
        self.scale = model["inputs"][0].get("scale", 1)
        self.names, layers, sources = ["input"], [], []
        shapes = [list(self.input_shape)]
        self.tensors = []  # (Lockstep's name, PyTorch's tensor, what makes one into the other)
        self.flattened = None  # shape before the last flatten
        counts = {}
        for layer in model["layers"]:
            kind = next(key for key in layer if key not in ("name", "inputs"))
            count = counts[kind] = counts.get(kind, -1) + 1
            name = layer.get("name") or (f"{kind}_{count}" if count else kind)
            read = [self.names.index(i) for i in layer.get("inputs", [])] or [len(layers)]
            module, shape = getattr(self, f"_{kind}")(name, layer[kind], shapes[read[0]])
            if module is not None:
                activation = layer[kind].get("activation", "linear")
                if activation != "linear" and (inference or activation != "softmax"):
                    module = nn.Sequential(*module, ACTIVATIONS[activation]())
                else:
                    module = nn.Sequential(*module) if len(module) > 1 else module[0]
            self.names.append(name)
            layers.append(module)
            sources.append(read)
            shapes.append(shape)
        if all(read == [i] for i, read in enumerate(sources)):
            self.module = nn.Sequential(*layers)
        else:
            self.module = Graph(layers, sources)

    def _dense(self, name, spec, shape):
        module = nn.Linear(shape[0], spec["units"], bias=spec.get("use_bias", True))
        flattened, self.flattened = self.flattened, None

        def kernel(weight):
            if flattened:  # PyTorch flattens channels first
                h, w, c = flattened
                weight = weight.reshape(-1, c, h, w).permute(0, 2, 3, 1).flatten(1)
            return weight.t()
        self._tensor(f"{name}.kernel", module.weight, kernel)
        self._tensor(f"{name}.bias", module.bias)
        return [module], [spec["units"]]

    def _conv2d(self, name, spec, shape):
        kernel, strides = spec["kernel_size"], spec.get("strides", [1, 1])
        same = spec.get("padding", "valid") == "same"
        outputs = [-(-size // stride) if same else (size - k) // stride + 1
                   for size, k, stride in zip(shape, kernel, strides)]
        padding = [max((out - 1) * stride + k - size, 0) if same else 0
                   for out, stride, k, size in zip(outputs, strides, kernel, shape)]
        modules = []
        if self.inference and any(total % 2 for total in padding):
            top, left = padding[0] // 2, padding[1] // 2
            modules.append(nn.ZeroPad2d((left, padding[1] - left, top, padding[0] - top)))
            padding = [0, 0]
        conv = nn.Conv2d(shape[2], spec["filters"], kernel, strides,
                         padding=[(total + 1) // 2 for total in padding],
                         bias=spec.get("use_bias", True))
        self._tensor(f"{name}.kernel", conv.weight, lambda weight: weight.permute(2, 3, 1, 0))
        self._tensor(f"{name}.bias", conv.bias)
        return modules + [conv], outputs + [spec["filters"]]

    def _batch_normalization(self, name, spec, shape):
        kind = nn.BatchNorm2d if len(shape) == 3 else nn.BatchNorm1d
        module = kind(shape[-1], eps=spec.get("epsilon", 1e-3),
                      momentum=1 - spec.get("momentum", 0.99))
        self._tensor(f"{name}.gamma", module.weight)
        self._tensor(f"{name}.beta", module.bias)
        self._tensor(f"{name}.moving_mean", module.running_mean)
        self._tensor(f"{name}.moving_variance", module.running_var)
        return [module], shape

    def _max_pooling2d(self, name, spec, shape):
        pool = spec.get("pool_size", [2, 2])
        strides = spec.get("strides", pool)
        sizes = [(size - k) // stride + 1 for size, k, stride in zip(shape, pool, strides)]
        return [nn.MaxPool2d(pool, strides)], sizes + shape[2:]

    def _flatten(self, name, spec, shape):
        self.flattened = shape
        return [nn.Flatten()], [shape[0] * shape[1] * shape[2]]

    def _activation(self, name, spec, shape):
        return [], shape  # the constructor adds it

    def _add(self, name, spec, shape):
        return [Add()], shape

    def _global_average_pooling2d(self, name, spec, shape):
        return [GlobalAveragePool()], shape[2:]

    def _tensor(self, name, tensor, convert=lambda tensor: tensor):
        if tensor is not None:
            self.tensors.append((name, tensor, convert))

    def randomize_statistics(self):
        """BatchNorm as after some training: a constant to fold away would be another network."""
        for name, tensor, _ in self.tensors:
            if name.endswith((".gamma", ".moving_variance")):
                tensor.data.uniform_(0.5, 1.5)
            elif name.endswith((".beta", ".moving_mean")):
                tensor.data.uniform_(-0.5, 0.5)

    def random_images(self, samples):
        """Scaled 8-bit images of the input's shape, channels first."""
        shape = self.input_shape
        if len(shape) == 3:
            shape = [shape[2], shape[0], shape[1]]
        return torch.randint(0, 256, [samples, *shape]).float() * self.scale
