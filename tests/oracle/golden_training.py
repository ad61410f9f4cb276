"""What Keras 3 and PyTorch say about training beside the optimizers alone: called by make_golden.py.

parameter_update: steps of a small model with weight decay, clipping, regularizers and an average of
the weights; learning_rate: schedules; early_stopping: when Keras stops and what it restores.
"""

import types
import zlib

import keras
import numpy as np
import torch


def values(case, *shape, scale=1.0):
    rng = np.random.default_rng(zlib.crc32(case.encode()))
    return (rng.standard_normal(shape) * scale).astype(np.float32)


def parameter_update(out):
    regularizers = {("hidden", "kernel"): {"l1": 0.03, "l2": 0.01},
                    ("hidden", "bias"): {"l2": 0.05}, ("norm", "gamma"): {"l1": 0.02}}

    def regularizer(layer, tensor, wanted):
        # The proto has floats: what they round to is what is meant.
        found = regularizers.get((layer, tensor)) if wanted else None
        return found and keras.regularizers.L1L2(**{k: float(np.float32(v))
                                                    for k, v in found.items()})

    def make_model(regularized):
        def of(layer, *tensors):
            return {t + "_regularizer": regularizer(layer, t, regularized) for t in tensors}
        return keras.Sequential([
            keras.Input((4,)),
            keras.layers.Dense(3, name="hidden", **of("hidden", "kernel", "bias")),
            keras.layers.BatchNormalization(name="norm", **of("norm", "gamma", "beta")),
            keras.layers.Dense(2, name="out")])

    def model_spec(regularized):
        def with_regularizers(layer, spec):
            for (name, tensor), r in regularizers.items():
                if regularized and name == layer:
                    spec[tensor + "Regularizer"] = r
            return spec
        return {"inputs": [{"shape": [4]}], "layers": [
            {"name": "hidden", "dense": with_regularizers("hidden", {"units": 3})},
            {"name": "norm", "batchNormalization": with_regularizers("norm", {})},
            {"name": "out", "dense": {"units": 2}}]}

    def add(name, training, optimizer, excluded=(), regularized=False, steps=4, gradient=1.0):
        model = make_model(regularized)
        variables = model.trainable_variables
        names = [".".join(v.path.split("/")[-2:]) for v in variables]
        optimizer.exclude_from_weight_decay(
            [v for v, key in zip(variables, names) if set(key.split(".")) & set(excluded)])
        optimizer.build(variables)
        assert optimizer._learning_rate.dtype == "float64"
        tensors = {}
        for variable, key in zip(variables, names):
            start = values(f"{name}/{key}", *variable.shape, scale=0.1)
            start[..., -1] = 0  # where |w| has no slope
            variable.assign(start)
            tensors[key] = start
        for step in range(1, steps + 1):
            grads = []
            for variable, key in zip(variables, names):
                g = values(f"{name}/{key}/g{step}", *variable.shape, scale=gradient)
                tensors[f"{key}/g_{step}"] = g
                grads.append(torch.tensor(g, dtype=torch.float64))
            if regularized:
                penalty = sum(model.losses)
                tensors[f"penalty_{step}"] = penalty
                for i, d in enumerate(torch.autograd.grad(
                        penalty, [v.value for v in variables], allow_unused=True)):
                    if d is not None:
                        grads[i] = grads[i] + d
            optimizer.apply(grads, variables)
            for i, (variable, key) in enumerate(zip(variables, names)):
                tensors[f"{key}/w_after_{step}"] = variable.numpy()
                if optimizer.use_ema:
                    tensors[f"{key}/average_after_{step}"] = (
                        optimizer._model_variables_moving_average[i].numpy())
        out.case(name, {"model": model_spec(regularized), "training": training}, **tensors)

    adam, sgd, rmsprop = keras.optimizers.AdamW, keras.optimizers.SGD, keras.optimizers.RMSprop
    not_kernels = ["bias", "gamma", "beta"]
    rate = {"learningRate": 0.01}
    add("rmsprop", {"optimizer": {"rmsprop": {}}}, rmsprop())
    add("rmsprop_all_set",
        {"optimizer": {"rmsprop": {**rate, "rho": 0.8, "epsilon": 1e-3}}},
        rmsprop(0.01, rho=0.8, epsilon=1e-3))
    add("rmsprop_momentum", {"optimizer": {"rmsprop": {**rate, "momentum": 0.9}}},
        rmsprop(0.01, momentum=0.9))
    add("rmsprop_centered", {"optimizer": {"rmsprop": {**rate, "centered": True}}},
        rmsprop(0.01, centered=True))
    add("rmsprop_everything",
        {"optimizer": {"rmsprop": {**rate, "centered": True, "momentum": 0.5, "rho": 0.95}}},
        rmsprop(0.01, centered=True, momentum=0.5, rho=0.95))
    add("adamw", {"optimizer": {"adam": {}}, "weightDecay": {"rate": 0.5}},
        adam(weight_decay=0.5), not_kernels)
    add("adamw_bias",
        {"optimizer": {"adam": rate}, "weightDecay": {"rate": 0.5, "includeBias": True}},
        adam(0.01, weight_decay=0.5), ["gamma", "beta"])
    add("adamw_normalization",
        {"optimizer": {"adam": rate}, "weightDecay": {"rate": 0.5, "includeNormalization": True}},
        adam(0.01, weight_decay=0.5), ["bias"])
    add("adamw_group",
        {"optimizer": {"adam": rate}, "weightDecay": {
            "rate": 0.5, "includeBias": True, "includeNormalization": True,
            "groups": [{"layers": ["hidden"], "rate": 0}, {"layers": ["hidden"], "rate": 7}]}},
        adam(0.01, weight_decay=0.5), ["hidden"])
    add("sgd_decay", {"optimizer": {"sgd": {"learningRate": 0.1, "momentum": 0.9}},
                      "weightDecay": {"rate": 0.1}},
        sgd(0.1, momentum=0.9, weight_decay=0.1), not_kernels)
    plain = {"optimizer": {"sgd": {"learningRate": 0.1}}}
    add("clip_value", {**plain, "gradientClipping": {"value": 0.5}}, sgd(0.1, clipvalue=0.5))
    add("clip_norm", {**plain, "gradientClipping": {"norm": 1.5}}, sgd(0.1, clipnorm=1.5))
    add("clip_global_norm", {**plain, "gradientClipping": {"globalNorm": 2}},
        sgd(0.1, global_clipnorm=2.0))
    add("clip_nothing", {**plain, "gradientClipping": {"globalNorm": 2}},
        sgd(0.1, global_clipnorm=2.0), gradient=0.01)
    add("regularizers", plain, sgd(0.1), regularized=True)
    add("regularizers_clipped", {**plain, "gradientClipping": {"norm": 0.7}},
        sgd(0.1, clipnorm=0.7), regularized=True)
    add("average", {**plain, "ema": {"momentum": 0.8}}, sgd(0.1, use_ema=True, ema_momentum=0.8))
    add("all", {"optimizer": {"adam": rate}, "weightDecay": {"rate": 0.5}, "ema": {},
                "gradientClipping": {"globalNorm": 1}},
        adam(0.01, weight_decay=0.5, global_clipnorm=1.0, use_ema=True, ema_momentum=0.99),
        not_kernels, regularized=True, steps=10)


BASE = 0.4  # learning rate


def training(**fields):
    return {"optimizer": {"sgd": {"learningRate": BASE}}, **fields}


def learning_rate(out):
    def add(name, schedule, rates, steps_per_epoch=1, **tensors):
        out.case(name, training(learningRateSchedule=schedule), rates=rates,
                 steps_per_epoch=[steps_per_epoch], **tensors)

    def from_torch(make, steps, every=1):
        """The rate of each step, when the schedule moves on every so many steps."""
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=BASE)
        schedule = make(optimizer)
        rates = []
        for step in range(steps):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            if (step + 1) % every == 0 and step + 1 < steps:
                schedule.step()
        return rates

    schedules = torch.optim.lr_scheduler
    add("step", {"step": {"epochs": 2}},
        from_torch(lambda o: schedules.StepLR(o, 2, 0.1), 30, 3), 3)
    add("step_gamma", {"step": {"epochs": 1, "gamma": 0.7}},
        from_torch(lambda o: schedules.StepLR(o, 1, 0.7), 30, 4), 4)
    add("multi_step", {"multiStep": {"milestones": [1, 4, 5], "gamma": 0.3}},
        from_torch(lambda o: schedules.MultiStepLR(o, [1, 4, 5], 0.3), 30, 4), 4)

    def cosine(name, steps, warmup, decay, alpha):
        linear = from_torch(lambda o: schedules.LinearLR(o, 1 / warmup, 1, warmup - 1),
                            warmup) if warmup else []
        keras_cosine = keras.optimizers.schedules.CosineDecay(BASE, decay - warmup, alpha)
        rates = linear + [float(keras_cosine(t)) for t in range(steps - warmup)]
        add(name, {"cosine": {"warmupSteps": warmup, "decaySteps": decay, "alpha": alpha}}, rates)

    cosine("cosine", 40, 0, 40, 0)
    cosine("cosine_warmup", 40, 7, 40, 0)
    cosine("cosine_floor", 40, 3, 25, 0.2)
    cosine("cosine_long", 40, 5, 1000, 0)

    def exponential(name, steps, decay, rate, staircase):
        schedule = keras.optimizers.schedules.ExponentialDecay(BASE, decay, rate, staircase)
        add(name, {"exponential": {"decaySteps": decay, "decayRate": rate, "staircase": staircase}},
            [float(schedule(t)) for t in range(steps)])

    exponential("exponential", 40, 7, 0.5, False)
    exponential("exponential_slow", 40, 1000, 0.96, False)
    exponential("exponential_staircase", 40, 7, 0.5, True)

    def one_cycle(name, steps, **options):
        spec = {{"pct_start": "pctStart", "div_factor": "divFactor",
                 "final_div_factor": "finalDivFactor"}[k]: v for k, v in options.items()}
        add(name, {"oneCycle": spec}, from_torch(lambda o: schedules.OneCycleLR(
            o, BASE, total_steps=steps, cycle_momentum=False, **options), steps))

    one_cycle("one_cycle", 40)
    one_cycle("one_cycle_odd", 37, pct_start=0.41, div_factor=10, final_div_factor=100)
    one_cycle("one_cycle_short", 5, pct_start=0.4)

    def plateau(name, metric, spec, **options):
        callback = keras.callbacks.ReduceLROnPlateau(monitor="loss", **options)
        optimizer = keras.optimizers.SGD(BASE)
        callback.set_model(types.SimpleNamespace(optimizer=optimizer))
        callback.on_train_begin()
        rates = []
        for epoch, value in enumerate(metric):
            rates.append(float(optimizer.learning_rate.value))
            callback.on_epoch_end(epoch, {"loss": value})
        add(name, {"reduceOnPlateau": {"monitor": "loss", **spec}}, rates, metric=metric)

    falling = [5, 4, 4.5, 4, 4, 3, 3, 3, 3, 3, 3, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2]
    plateau("plateau", falling, {"patience": 2}, patience=2, factor=0.1)
    plateau("plateau_cooldown", falling, {"patience": 2, "cooldown": 2, "factor": 0.5},
            patience=2, cooldown=2, factor=0.5)
    plateau("plateau_least", falling, {"patience": 1, "factor": 0.5, "minLearningRate": 0.07},
            patience=1, factor=0.5, min_lr=0.07)
    plateau("plateau_delta", [5, 4.9, 4.5, 4.4, 4.1, 4.0, 3.9],
            {"patience": 1, "minDelta": 0.3, "factor": 0.5}, patience=1, min_delta=0.3, factor=0.5)
    plateau("plateau_max", [1, 2, 3, 3, 3, 4, 4, 4],
            {"patience": 2, "mode": "max", "factor": 0.5}, patience=2, mode="max", factor=0.5)


def early_stopping(out):
    def add(name, metric, spec, **options):
        """`outcome`: the epoch after which it stops, 0: none; the epoch whose weights remain."""
        callback = keras.callbacks.EarlyStopping(monitor="loss", restore_best_weights=True,
                                                 **options)
        weights = []
        model = types.SimpleNamespace(stop_training=False, get_weights=lambda: weights[-1],
                                      set_weights=weights.append)
        callback.set_model(model)
        callback.on_train_begin()
        stopped = 0
        for epoch, value in enumerate(metric):
            weights.append(epoch + 1)
            callback.on_epoch_end(epoch, {"loss": value})
            if model.stop_training:
                stopped = epoch + 1
                break
        callback.on_train_end()
        out.case(name, training(earlyStopping={"monitor": "loss", "restoreBestWeights": True,
                                               **spec}),
                 metric=metric, outcome=[stopped, weights[-1]])

    add("at_once", [3, 2, 2.5, 1], {})
    add("patience", [3, 2, 2.5, 2.4, 1, 1.5, 1.5, 1.5, 0.5], {"patience": 3}, patience=3)
    add("never", [5, 4, 3, 2, 1], {"patience": 1}, patience=1)
    add("best_before_the_end", [5, 4, 3, 3.5, 3.2], {"patience": 4}, patience=4)
    add("min_delta", [5, 4.9, 4.2, 4.1, 4.0], {"patience": 2, "minDelta": 0.5}, patience=2,
        min_delta=0.5)
    add("max", [0.1, 0.5, 0.4, 0.45], {"patience": 2, "mode": "max"}, patience=2, mode="max")
    add("start", [1, 5, 4, 4.5, 4.5, 4.5], {"patience": 2, "startFromEpoch": 2}, patience=2,
        start_from_epoch=2)


KINDS = [parameter_update, learning_rate, early_stopping]
