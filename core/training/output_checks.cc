#include "core/training/output_checks.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "absl/strings/str_cat.h"
#include "core/data/tensor.h"
#include "core/training/loss.h"
#include "core/training/metrics.h"

namespace lockstep {
namespace {

using kernels::Activation;

template <typename... Parts>
absl::Status Invalid(const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat(parts...));
}

// The loss's message in its spec, as far as it matters here.
struct LossFields {
  std::string path;  // "training.losses[0].binary_crossentropy"
  Activation activation;
  bool from_logits = false;
  double label_smoothing = 0;
};

const char* Name(Activation activation) {
  return activation == Activation::kSoftmax ? "softmax" : "sigmoid";
}

absl::StatusOr<LossFields> ReadFields(const std::string& path, v1::Loss* loss) {
  switch (loss->kind_case()) {
    case v1::Loss::kSparseCategoricalCrossentropy:
      return LossFields{path + ".sparse_categorical_crossentropy", Activation::kSoftmax,
                        loss->sparse_categorical_crossentropy().from_logits()};
    case v1::Loss::kCategoricalCrossentropy:
      return LossFields{path + ".categorical_crossentropy", Activation::kSoftmax,
                        loss->categorical_crossentropy().from_logits(),
                        loss->categorical_crossentropy().label_smoothing()};
    case v1::Loss::kBinaryCrossentropy:
      return LossFields{path + ".binary_crossentropy", Activation::kSigmoid,
                        loss->binary_crossentropy().from_logits(),
                        loss->binary_crossentropy().label_smoothing()};
    case v1::Loss::kMeanSquaredError:
      return LossFields{path + ".mean_squared_error", Activation::kLinear};
    case v1::Loss::kMeanAbsoluteError:
      return LossFields{path + ".mean_absolute_error", Activation::kLinear};
    case v1::Loss::kHuber:
      if (!loss->huber().has_delta()) loss->mutable_huber()->set_delta(1);
      return LossFields{path + ".huber", Activation::kLinear};
    case v1::Loss::KIND_NOT_SET:
      break;
  }
  return Invalid(path,
                 ": is required: sparse_categorical_crossentropy, categorical_crossentropy, "
                 "binary_crossentropy, mean_squared_error, mean_absolute_error or huber");
}

// The last layer ends in what the loss takes over, or says that it does not.
absl::Status CheckActivation(const LossFields& fields, const Network::Node& last) {
  if (fields.activation == Activation::kLinear) return absl::OkStatus();
  const bool ends = last.layer->traits().final_activation == fields.activation;
  if (fields.from_logits != ends) return absl::OkStatus();
  const char* name = Name(fields.activation);
  if (ends) {
    return Invalid(fields.path, ".from_logits: must be false, because the last layer \"", last.name,
                   "\" ends in a ", name);
  }
  return Invalid(fields.path, ".from_logits: must be true, or the last layer end in a ", name,
                 " (a dense or an activation layer); \"", last.name, "\" does not");
}

// What the loss takes the activation of over, nobody else can read after it.
absl::Status CheckReaders(const LossFields& fields, const Network& network, int node) {
  if (fields.activation == Activation::kLinear || fields.from_logits) return absl::OkStatus();
  for (const Network::Node& reader : network.nodes()) {
    if (reader.path.empty() || std::ranges::count(reader.inputs, node + 1) == 0) continue;
    return Invalid(fields.path, ".from_logits: must be true, because layer \"", reader.name,
                   "\" reads \"", network.nodes()[node].name,
                   "\" too; let an activation layer of its own follow");
  }
  return absl::OkStatus();
}

absl::Status CheckWeights(const LossFields& fields, const std::string& path, int64_t columns,
                          v1::Loss* loss) {
  if (!loss->has_weight()) loss->set_weight(1);
  if (!(loss->weight() >= 0 && std::isfinite(loss->weight()))) {
    return Invalid(path, ".weight: must be >= 0 and finite, got ", loss->weight());
  }
  if (loss->class_weights().empty()) return absl::OkStatus();
  const bool binary = fields.activation == Activation::kSigmoid;
  if (fields.activation == Activation::kLinear || (binary && columns > 1)) {
    return Invalid(path, ".class_weights: needs one class a sample; ",
                   binary ? "binary_crossentropy has them with a single output only"
                          : "there are none with this loss");
  }
  const int64_t classes = binary ? 2 : columns;
  if (loss->class_weights_size() != classes) {
    return Invalid(path, ".class_weights: must have one weight for each of the ", classes,
                   " classes, got ", loss->class_weights_size());
  }
  for (int c = 0; c < loss->class_weights_size(); ++c) {
    const float weight = loss->class_weights(c);
    if (!(weight >= 0 && std::isfinite(weight))) {
      return Invalid(path, ".class_weights[", c, "]: must be >= 0 and finite, got ", weight);
    }
  }
  return absl::OkStatus();
}

absl::Status CheckLoss(const std::string& path, const Network& network, int node, v1::Loss* loss) {
  auto fields = ReadFields(path, loss);
  if (!fields.ok()) return fields.status();
  const Network::Node& last = network.nodes()[node];
  const Shape& output = last.output;
  if (fields->activation == Activation::kSoftmax && (output.rank() != 1 || output.size() < 2)) {
    return Invalid(fields->path,
                   ": needs an output [N, classes] with at least 2 classes, but layer \"",
                   last.name, "\" gives [N, ", ShapeString(output.dims()).substr(1));
  }
  if (auto s = CheckActivation(*fields, last); !s.ok()) return s;
  if (auto s = CheckReaders(*fields, network, node); !s.ok()) return s;
  if (!(fields->label_smoothing >= 0 && fields->label_smoothing < 1)) {
    return Invalid(fields->path, ".label_smoothing: must be within [0, 1), got ",
                   fields->label_smoothing);
  }
  if (loss->has_huber()) {
    const auto delta = static_cast<float>(loss->huber().delta());
    if (!(delta > 0 && std::isfinite(delta))) {
      return Invalid(fields->path, ".delta: must be > 0 and a finite 32-bit float, got ",
                     loss->huber().delta());
    }
  }
  return CheckWeights(*fields, path, output.size(), loss);
}

absl::Status CheckMetrics(const v1::TrainingSpec& training, const Network& network) {
  for (int m = 0; m < training.metrics_size(); ++m) {
    const std::string& name = training.metrics(m);
    if (!Metric::Exists(name)) {
      return Invalid("training.metrics[", m, "]: \"", name, "\" is unknown; there are ",
                     Metric::kNames);
    }
    const auto first = std::find(training.metrics().begin(), training.metrics().end(), name);
    if (first - training.metrics().begin() != m) {
      return Invalid("training.metrics[", m, "]: \"", name, "\" is there twice");
    }
    bool fits = false;
    for (int o = 0; o < training.losses_size(); ++o) {
      const int64_t columns = network.outputs()[o].shape.size();
      fits |= Metric::Make(name, Loss(training.losses(o)).activation(), columns).has_value();
    }
    if (!fits) {
      return Invalid("training.metrics[", m, "]: \"", name,
                     "\" fits no output; mae and rmse are for values, auc is for one binary "
                     "output, top_K_accuracy for more than K classes, the others are for classes "
                     "and binary outputs");
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckOutputs(const Network& network, v1::TrainingSpec* training) {
  const auto outputs = static_cast<int>(network.outputs().size());
  if (training->losses_size() != outputs) {
    return Invalid("training.losses: must have one loss for each of the model's outputs, ", outputs,
                   ", got ", training->losses_size());
  }
  for (int o = 0; o < outputs && outputs > 1; ++o) {
    const std::string& name = network.outputs()[o].name;
    if (name == "val" || name.starts_with("val_")) {
      return Invalid("model.outputs[", o, "]: must not be \"val\" or begin with \"val_\", got \"",
                     name, "\": its loss would have the name of a validation loss");
    }
  }
  for (int o = 0; o < training->losses_size(); ++o) {
    const std::string path = absl::StrCat("training.losses[", o, "]");
    if (auto s = CheckLoss(path, network, network.outputs()[o].node, training->mutable_losses(o));
        !s.ok()) {
      return s;
    }
  }
  return CheckMetrics(*training, network);
}

}  // namespace lockstep
