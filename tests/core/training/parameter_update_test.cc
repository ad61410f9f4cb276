// What happens between gradient and weights against core/README.md's rule 16 as scalar loops, bit
// for bit, over any number of threads.

#include "core/training/parameter_update.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "tests/core/parse_json.h"

namespace lockstep {
namespace {

constexpr double kRate = 0.1;

// Tensors of several blocks, of a part of one, and one with no regularizer between them.
Network BuildNetwork() {
  auto spec = ParseJson<v1::ModelSpec>(R"({"inputs":[{"shape":[90]}],"layers":[
      {"dense":{"units":101,"kernelRegularizer":{"l1":0.01,"l2":0.02},"biasRegularizer":{"l1":0.5}}},
      {"batchNormalization":{}},
      {"dense":{"units":47,"kernelRegularizer":{"l2":0.3}}}]})");
  return *Network::Build(&spec);
}

// From tiny to large, so that every order of a sum gives other bits; zero in the gaps.
std::vector<float> Draw(const Network& network, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<float> flat(network.parameters_size());
  for (const NetworkTensor& tensor : network.parameters()) {
    for (int64_t i = tensor.offset; i < tensor.offset + tensor.size; ++i) {
      const float fraction = static_cast<float>(random() % 20001) / 10000.0f - 1.0f;
      flat[i] = std::ldexp(fraction, static_cast<int>(random() % 12) - 8);
    }
  }
  return flat;
}

// By block: its sum of term(value).
std::vector<double> BlockSums(const NetworkTensor& tensor, const std::vector<float>& flat,
                              const std::function<double(double)>& term) {
  std::vector<double> sums;
  for (int64_t begin = 0; begin < tensor.size; begin += 4096) {
    double lanes[4] = {0, 0, 0, 0};
    for (int64_t i = begin; i < std::min(begin + 4096, tensor.size); ++i) {
      lanes[(i - begin) % 4] += term(double{flat[tensor.offset + i]});
    }
    sums.push_back((lanes[0] + lanes[1]) + (lanes[2] + lanes[3]));
  }
  return sums;
}

double Square(double x) { return x * x; }

double SpecifiedPenalty(const Network& network, const std::vector<float>& w) {
  double penalty = 0;
  for (const NetworkTensor& tensor : network.parameters()) {
    const v1::Regularizer& r = tensor.spec.regularizer;
    if (r.l1() == 0 && r.l2() == 0) continue;
    const std::vector<double> magnitudes =
        BlockSums(tensor, w, [](double x) { return std::fabs(x); });
    const std::vector<double> squares = BlockSums(tensor, w, Square);
    for (size_t b = 0; b < squares.size(); ++b) {
      penalty += double{r.l1()} * magnitudes[b] + double{r.l2()} * squares[b];
    }
  }
  return penalty;
}

float FactorOf(double sum_of_squares, double norm) {
  const double length = std::sqrt(sum_of_squares);
  return length > norm ? static_cast<float>(norm / length) : 1.0f;
}

// One step of plain SGD with what surrounds it. Returns the gradient's norm.
double SpecifiedStep(const Network& network, const v1::TrainingSpec& spec, std::vector<float>& g,
                     std::vector<float>& w) {
  double all = 0;
  for (const NetworkTensor& tensor : network.parameters()) {
    const v1::Regularizer& r = tensor.spec.regularizer;
    for (int64_t i = tensor.offset; i < tensor.offset + tensor.size; ++i) {
      const float sign = w[i] > 0 ? 1.0f : w[i] < 0 ? -1.0f : 0.0f;
      if (r.l1() > 0 || r.l2() > 0) g[i] = g[i] + (r.l1() * sign + 2.0f * r.l2() * w[i]);
    }
    for (double sum : BlockSums(tensor, g, Square)) all += sum;
  }
  for (const NetworkTensor& tensor : network.parameters()) {
    double own = 0;
    for (double sum : BlockSums(tensor, g, Square)) own += sum;
    const v1::GradientClipping& clipping = spec.gradient_clipping();
    float factor = 1.0f;
    if (clipping.norm() > 0) factor = FactorOf(own, clipping.norm());
    if (clipping.global_norm() > 0) factor = FactorOf(all, clipping.global_norm());
    const bool decays = tensor.spec.name == "kernel";
    for (int64_t i = tensor.offset; i < tensor.offset + tensor.size; ++i) {
      g[i] = g[i] * factor;
      if (clipping.value() > 0) {
        const auto limit = static_cast<float>(clipping.value());
        g[i] = std::min(std::max(g[i], -limit), limit);
      }
      if (decays) w[i] = w[i] - static_cast<float>(kRate * spec.weight_decay().rate()) * w[i];
      w[i] = w[i] + (0.0f - static_cast<float>(kRate) * g[i]);
    }
  }
  return std::sqrt(all);
}

TEST(ParameterUpdateTest, IsWhatTheRuleSays) {
  const Network network = BuildNetwork();
  for (const char* clipping :
       {R"({})", R"({"value":0.7})", R"({"norm":0.7})", R"({"globalNorm":0.7})"}) {
    const auto spec = ParseJson<v1::TrainingSpec>(
        std::string(R"({"optimizer":{"sgd":{}},"weightDecay":{"rate":0.3},"gradientClipping":)") +
        clipping + "}");
    for (int threads = 1; threads <= 4; ++threads) {
      SCOPED_TRACE(std::string(clipping) + ", " + std::to_string(threads) + " threads");
      ThreadPool pool(threads);
      ParameterUpdate update(spec, network);
      std::vector<float> w = Draw(network, 1);
      std::vector<float> wanted = w;
      for (int step = 1; step <= 3; ++step) {
        ASSERT_EQ(update.Penalty(pool, w), SpecifiedPenalty(network, w));
        std::vector<float> gradient = Draw(network, 1 + step);
        std::vector<float> same = gradient;
        double norm = 0;
        update.Apply(*kernels::Kernels(), pool, step, kRate, gradient, w,
                     step == 2 ? nullptr : &norm);
        const double wanted_norm = SpecifiedStep(network, spec, same, wanted);
        ASSERT_EQ(norm, step == 2 ? 0 : wanted_norm);
        ASSERT_EQ(gradient, same) << "step " << step;
        ASSERT_EQ(w, wanted) << "step " << step;
      }
    }
  }
}

// A gradient that is not finite must reach the weights, where it is noticed.
TEST(ParameterUpdateTest, ClippingDoesNotHideNan) {
  const Network network = BuildNetwork();
  for (const char* clipping : {"value", "norm", "globalNorm"}) {
    const auto spec = ParseJson<v1::TrainingSpec>(
        std::string(R"({"optimizer":{"sgd":{}},"gradientClipping":{")") + clipping + R"(":0.7}})");
    ThreadPool pool(1);
    ParameterUpdate update(spec, network);
    std::vector<float> w = Draw(network, 1);
    std::vector<float> gradient = Draw(network, 2);
    gradient[5] = std::nanf("");
    update.Apply(*kernels::Kernels(), pool, 1, kRate, gradient, w);
    EXPECT_TRUE(std::isnan(w[5])) << clipping;
  }
}

}  // namespace
}  // namespace lockstep
