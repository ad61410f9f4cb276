// Every layer against what Keras 3 computes (tests/oracle), with every instruction set this CPU has
// and with the batch in one shard or several: sharding changes roundings, never the mathematics.

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "core/layers/layer.h"
#include "core/network/network.h"
#include "core/tensor/aligned_buffer.h"
#include "tests/oracle/golden.h"

namespace lockstep {
namespace {

using Floats = AlignedBuffer<float>;

constexpr int kThreads = 2;

Floats ToFloats(std::span<const float> values) {
  Floats floats(static_cast<int64_t>(values.size()));
  std::copy(values.begin(), values.end(), floats.data());
  return floats;
}

struct Setting {
  const kernels::KernelTable* kernels;
  int shards;
};

std::vector<Setting> Settings() {
  std::vector<Setting> settings;
  for (const kernels::KernelTable* const* table = kernels::AllKernels(); *table != nullptr;
       ++table) {
    for (int shards : {1, 3, 8}) settings.push_back({*table, shards});
  }
  return settings;
}

// One layer with the weights of a golden case, alone.
class LayerRun {
 public:
  LayerRun(const GoldenCase& golden, const Setting& setting)
      : golden_(golden), setting_(setting), collective_(setting.shards), pool_(kThreads) {
    v1::ModelSpec spec;
    const std::vector<int64_t>& shape = golden["x"].shape;
    spec.mutable_input()->mutable_shape()->Add(shape.begin() + 1, shape.end());
    *spec.add_layers() = golden.Spec<v1::Layer>();
    absl::StatusOr<Network> network = Network::Build(&spec);
    EXPECT_TRUE(network.ok()) << network.status();
    if (!network.ok()) return;
    network_ = std::make_unique<Network>(*std::move(network));
    Load(network_->parameters(), parameters_);
    Load(network_->buffers(), buffers_);
  }

  bool built() const { return network_ != nullptr; }
  const Layer& layer() const { return *network_->nodes()[0].layer; }

  // Trains on x, which becomes the batch that Backward differentiates.
  Floats Forward(const GoldenTensor& x) {
    SetBatch(x.shape[0]);
    x_ = ToFloats(x.values);
    Floats y(batch_.samples * network_->output().size());
    saved_ = AlignedBuffer<std::byte>(layer().saved_bytes(capacity_));
    AlignedBuffer<std::byte> scratch(layer().scratch_bytes(capacity_));
    layer().Forward({.step = Step(),
                     .x = x_.data(),
                     .y = y.data(),
                     .parameters = Pointers<const float>(parameters_),
                     .buffers = Pointers<float>(buffers_),
                     .saved = saved_.data(),
                     .scratch = scratch.data(),
                     .logits = false});
    return y;
  }

  Floats Infer(const GoldenTensor& x) const {
    const Floats input = ToFloats(x.values);
    Floats y(x.shape[0] * network_->output().size());
    AlignedBuffer<std::byte> scratch(layer().infer_scratch_bytes());
    layer().Infer({.kernels = setting_.kernels,
                   .samples = x.shape[0],
                   .x = input.data(),
                   .y = y.data(),
                   .parameters = Pointers<const float>(parameters_),
                   .buffers = Pointers<const float>(buffers_),
                   .scratch = scratch.data(),
                   .logits = false});
    return y;
  }

  struct Gradients {
    Floats x;
    std::map<std::string, std::vector<float>> parameters;
  };

  // Of the last Forward's batch, whose output was y.
  Gradients Backward(const Floats& y, const GoldenTensor& dy) {
    Floats dy_copy = ToFloats(dy.values);
    Gradients gradients;
    gradients.x = Floats(x_.size());
    std::vector<Floats> floats;
    std::vector<AlignedBuffer<double>> doubles;
    std::vector<float*> gradient;
    std::vector<double*> sum;
    for (const NetworkTensor& tensor : network_->parameters()) {
      gradient.push_back(floats.emplace_back(tensor.size).data());
      sum.push_back(doubles.emplace_back(tensor.size).data());
    }
    AlignedBuffer<std::byte> scratch(layer().scratch_bytes(capacity_));
    // The root is the only node here, so the strides between nodes do not matter.
    layer().Backward({.step = Step(),
                      .x = x_.data(),
                      .y = y.data(),
                      .dy = dy_copy.data(),
                      .dx = gradients.x.data(),
                      .parameters = Pointers<const float>(parameters_),
                      .gradients = gradient,
                      .gradient_node_stride = 0,
                      .sums = sum,
                      .sum_node_stride = 0,
                      .saved = saved_.data(),
                      .scratch = scratch.data(),
                      .logits = false});
    for (size_t i = 0; i < gradient.size(); ++i) {
      const NetworkTensor& tensor = network_->parameters()[i];
      std::vector<float>& values = gradients.parameters[tensor.spec.name];
      if (tensor.spec.gradient == GradientKind::kSum) {
        values.assign(sum[i], sum[i] + tensor.size);
      } else {
        values.assign(gradient[i], gradient[i] + tensor.size);
      }
    }
    return gradients;
  }

  std::span<const float> buffer(const std::string& name) const {
    for (size_t i = 0; i < buffers_.size(); ++i) {
      if (network_->buffers()[i].spec.name == name) return buffers_[i].span();
    }
    ADD_FAILURE() << "no buffer " << name;
    return {};
  }

 private:
  void Load(std::span<const NetworkTensor> tensors, std::vector<Floats>& values) {
    for (const NetworkTensor& tensor : tensors) {
      ASSERT_TRUE(golden_.has(tensor.spec.name)) << tensor.spec.name;
      ASSERT_EQ(tensor.spec.shape, golden_[tensor.spec.name].shape) << tensor.spec.name;
      values.push_back(ToFloats(golden_[tensor.spec.name].values));
    }
  }

  void SetBatch(int64_t samples) {
    batch_ = {};
    batch_.samples = samples;
    batch_.global_samples = samples;
    for (int v = 0; v <= setting_.shards; ++v) {
      batch_.shard_begin.push_back(ShardBegin(samples, setting_.shards, v));
    }
    batch_.nodes = {{0, setting_.shards}};
    capacity_ = {.samples = samples, .shards = setting_.shards, .threads = kThreads};
  }

  StepContext Step() {
    return {
        .kernels = setting_.kernels, .pool = &pool_, .collective = &collective_, .batch = &batch_};
  }

  template <typename T, typename Buffers>
  static std::vector<T*> Pointers(Buffers& buffers) {
    std::vector<T*> pointers;
    for (auto& buffer : buffers) pointers.push_back(buffer.data());
    return pointers;
  }

  const GoldenCase& golden_;
  const Setting setting_;
  LocalCollective collective_;
  ThreadPool pool_;
  std::unique_ptr<Network> network_;
  std::vector<Floats> parameters_;
  std::vector<Floats> buffers_;
  Batch batch_;
  Capacity capacity_;
  Floats x_;
  AlignedBuffer<std::byte> saved_;
};

// Calls check(case, run) for every case of a kind in every setting.
template <typename Check>
void ForEachCase(const std::string& kind, Check check) {
  const std::vector<GoldenCase> cases = ReadGolden(kind);
  ASSERT_FALSE(cases.empty());
  for (const GoldenCase& golden : cases) {
    for (const Setting& setting : Settings()) {
      SCOPED_TRACE(kind + "/" + golden.name + " " + golden.spec + ", " + setting.kernels->name +
                   ", " + std::to_string(setting.shards) + " shards");
      LayerRun run(golden, setting);
      if (run.built()) check(golden, run);
    }
  }
}

void ExpectForwardAndBackward(const GoldenCase& golden, LayerRun& run) {
  const Floats y = run.Forward(golden["x"]);
  ExpectClose(y.span(), golden["y"], "y");
  const LayerRun::Gradients gradients = run.Backward(y, golden["dy"]);
  ExpectClose(gradients.x.span(), golden["dx"], "dx");
  for (const auto& [name, values] : gradients.parameters) {
    ExpectClose(values, golden["d" + name], "d" + name);
  }
}

void ExpectSameInInference(const GoldenCase& golden, LayerRun& run) {
  ExpectForwardAndBackward(golden, run);
  ExpectClose(run.Infer(golden["x"]).span(), golden["y"], "y in inference");
}

TEST(KerasOracleTest, Dense) { ForEachCase("dense", ExpectSameInInference); }
TEST(KerasOracleTest, Conv2D) { ForEachCase("conv2d", ExpectSameInInference); }
TEST(KerasOracleTest, MaxPooling2D) { ForEachCase("max_pooling2d", ExpectSameInInference); }
TEST(KerasOracleTest, Activation) {
  ForEachCase("activation", [](const GoldenCase& golden, LayerRun& run) {
    ExpectSameInInference(golden, run);
    ExpectEachClose(run.Infer(golden["x"]).span(), golden["y"], "y, value by value", 1e-30);
  });
}

TEST(KerasOracleTest, BatchNormalization) {
  ForEachCase("batch_normalization", [](const GoldenCase& golden, LayerRun& run) {
    ExpectForwardAndBackward(golden, run);
    ExpectClose(run.buffer("moving_mean"), golden["moving_mean_after_1"], "moving_mean after 1");
    ExpectClose(run.buffer("moving_variance"), golden["moving_variance_after_1"],
                "moving_variance after 1");
    ExpectClose(run.Infer(golden["x"]).span(), golden["y_inference"], "y_inference");
    run.Forward(golden["x_2"]);
    run.Forward(golden["x_3"]);
    ExpectClose(run.buffer("moving_mean"), golden["moving_mean_after_3"], "moving_mean after 3");
    ExpectClose(run.buffer("moving_variance"), golden["moving_variance_after_3"],
                "moving_variance after 3");
  });
}

}  // namespace
}  // namespace lockstep
