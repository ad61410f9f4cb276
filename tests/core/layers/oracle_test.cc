// Every layer against what Keras 3 computes (tests/oracle), with every instruction set this CPU has
// and with the batch in one shard or several: sharding changes roundings, never the mathematics.

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/core/layers/layer_run.h"
#include "tests/oracle/golden.h"

namespace lockstep {
namespace {

constexpr int kThreads = 2;

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

// A layer with the weights of a golden case, whose buffers go on from step to step.
class GoldenRun {
 public:
  GoldenRun(const GoldenCase& golden, const Setting& setting)
      : golden_(golden),
        setting_(setting),
        run_(golden.spec, InputShape(golden["x"]), OtherInputs(golden)) {
    for (const TensorSpec& spec : run_.layer->parameters()) parameters_.push_back(Load(spec));
    for (const TensorSpec& spec : run_.layer->buffers()) buffers_.push_back(Load(spec));
  }

  // One step on the case's x and dy.
  LayerRun::Result Train() { return Step("x", Values("dy")); }
  // One step on another of its inputs, whose gradients do not matter.
  LayerRun::Result Train(const std::string& x) {
    const int64_t outputs = golden_[x].shape[0] * run_.layer->output_shape().size();
    return Step(x, std::vector<float>(outputs));
  }
  std::vector<float> Infer() const { return Run("x", Values("dy")).infer; }

  Shape output_shape() const { return run_.layer->output_shape(); }
  size_t inputs() const { return run_.inputs.size(); }
  std::string parameter_name(size_t i) const { return run_.layer->parameters()[i].name; }

 private:
  static Shape InputShape(const GoldenTensor& x) {
    return Shape({x.shape.begin() + 1, x.shape.end()});
  }
  // Of a layer with several: input_1, input_2, ...
  static std::vector<Shape> OtherInputs(const GoldenCase& golden) {
    std::vector<Shape> shapes;
    for (int i = 1; golden.has("input_" + std::to_string(i)); ++i) {
      shapes.push_back(InputShape(golden["input_" + std::to_string(i)]));
    }
    return shapes;
  }

  LayerRun::Result Run(const std::string& x, const std::vector<float>& dy) const {
    std::vector<int64_t> shards;
    for (int v = 0; v <= setting_.shards; ++v) {
      shards.push_back(ShardBegin(golden_[x].shape[0], setting_.shards, v));
    }
    return run_.Run(setting_.kernels, kThreads, shards, Inputs(x), dy, parameters_, buffers_);
  }

  LayerRun::Result Step(const std::string& x, const std::vector<float>& dy) {
    LayerRun::Result result = Run(x, dy);
    buffers_ = result.buffers;
    return result;
  }

  // What LayerRun::Run takes.
  std::vector<float> Inputs(const std::string& x) const {
    std::vector<float> all = Values(x);
    for (size_t i = 1; i < run_.inputs.size(); ++i) {
      const std::vector<float> input = Values("input_" + std::to_string(i));
      all.insert(all.end(), input.begin(), input.end());
    }
    return all;
  }

  std::vector<float> Values(const std::string& name) const {
    return {golden_[name].values.begin(), golden_[name].values.end()};
  }

  std::vector<float> Load(const TensorSpec& spec) const {
    EXPECT_TRUE(golden_.has(spec.name)) << spec.name;
    EXPECT_EQ(spec.shape, golden_[spec.name].shape) << spec.name;
    return Values(spec.name);
  }

  const GoldenCase& golden_;
  const Setting setting_;
  const LayerRun run_;
  std::vector<std::vector<float>> parameters_;
  std::vector<std::vector<float>> buffers_;
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
      GoldenRun run(golden, setting);
      check(golden, run);
    }
  }
}

// `least`: see ExpectClose; of gradients.
LayerRun::Result ExpectForwardAndBackward(const GoldenCase& golden, GoldenRun& run,
                                          double least = 0) {
  LayerRun::Result result = run.Train();
  ExpectClose(result.y, golden["y"], "y");
  std::span<const float> rest = result.dx;
  for (size_t i = 0; i < run.inputs(); ++i) {
    const std::string name = i == 0 ? "dx" : "dinput_" + std::to_string(i);
    const size_t size = golden[name].values.size();
    ExpectClose(rest.first(size), golden[name], name, least);
    rest = rest.subspan(size);
  }
  for (size_t i = 0; i < result.gradients.size(); ++i) {
    const std::string name = "d" + run.parameter_name(i);
    ExpectClose(result.gradients[i], golden[name], name, least);
  }
  return result;
}

void ExpectOutputsAndGradients(const GoldenCase& golden, GoldenRun& run, double least = 0) {
  const std::vector<int64_t>& shape = golden["y"].shape;
  EXPECT_EQ(run.output_shape(), Shape({shape.begin() + 1, shape.end()}));
  ExpectForwardAndBackward(golden, run, least);
  const std::string inference = golden.has("y_inference") ? "y_inference" : "y";
  ExpectClose(run.Infer(), golden[inference], inference);
}

// The layer table drives the proof: a kind without golden vectors fails here.
class KerasOracleTest : public testing::TestWithParam<LayerKind> {};

TEST_P(KerasOracleTest, GivesTheSameOutputsAndGradients) {
  const v1::Layer::KindCase kind = GetParam().kind;
  // Where all values are equal the gradients are 0, and Keras' are the noise of float64.
  const bool within_samples =
      kind == v1::Layer::kLayerNormalization || kind == v1::Layer::kGroupNormalization;
  ForEachCase(std::string(GetParam().name), [&](const GoldenCase& golden, GoldenRun& run) {
    ExpectOutputsAndGradients(golden, run, within_samples ? 1e-5 : 0);
  });
}

INSTANTIATE_TEST_SUITE_P(Layers, KerasOracleTest, testing::ValuesIn(LayerKinds()),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(KerasOracle, ActivationsAreRightValueByValue) {
  ForEachCase("activation", [](const GoldenCase& golden, GoldenRun& run) {
    ExpectEachClose(run.Infer(), golden["y"], "y in inference, value by value", 1e-30);
  });
  // In float64 too, 1 + erf(x) cancels where the tail is below 1e-10.
  ForEachCase("activation_more", [](const GoldenCase& golden, GoldenRun& run) {
    ExpectOutputsAndGradients(golden, run);
    ExpectEachClose(run.Infer(), golden["y"], "y in inference, value by value", 1e-10);
  });
}

TEST(KerasOracle, DenseOnMoreDimensionsAndActivations) {
  ForEachCase("dense_more", [](const GoldenCase& golden, GoldenRun& run) {
    ExpectOutputsAndGradients(golden, run);
  });
}

TEST(KerasOracle, BatchNormalizationMovesItsStatistics) {
  ForEachCase("batch_normalization", [](const GoldenCase& golden, GoldenRun& run) {
    const LayerRun::Result first = run.Train();
    ExpectClose(first.buffers[0], golden["moving_mean_after_1"], "moving_mean after 1");
    ExpectClose(first.buffers[1], golden["moving_variance_after_1"], "moving_variance after 1");
    run.Train("x_2");
    const LayerRun::Result third = run.Train("x_3");
    ExpectClose(third.buffers[0], golden["moving_mean_after_3"], "moving_mean after 3");
    ExpectClose(third.buffers[1], golden["moving_variance_after_3"], "moving_variance after 3");
  });
}

}  // namespace
}  // namespace lockstep
