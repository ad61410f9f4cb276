// Convolutions of any stride, padding, dilation and groups equal the contract's chains bit for bit,
// though they neither store nor multiply padding, however many samples a call takes.

#include "core/kernels/convolution.h"

#include <gtest/gtest.h>

#include <random>

#include "absl/strings/str_cat.h"
#include "tests/core/kernels/specification.h"
#include "tests/core/layers/layer_run.h"

namespace lockstep {
namespace {

using kernels::Convolution;
using kernels::ConvolutionAxis;
using kernels::KernelTable;
using specification::Chain;
using specification::Floats;

Floats RandomFloats(std::mt19937& random, int64_t n) {
  std::uniform_real_distribution<float> uniform(-1.0f, 1.0f);
  Floats values(n);
  for (float& v : values) v = uniform(random);
  return values;
}

ConvolutionAxis RandomAxis(std::mt19937& random) {
  const auto within = [&](int64_t low, int64_t high) {
    return low + static_cast<int64_t>(random() % (high - low + 1));
  };
  ConvolutionAxis a = {.in = within(1, 9), .out = 0, .kernel = within(1, 5)};
  a.stride = within(1, 3);
  a.dilation = random() % 3 == 0 ? within(2, 3) : 1;
  const int64_t extent = (a.kernel - 1) * a.dilation + 1;
  a.pad = within(0, extent - 1);
  const int64_t pad_after = std::max(within(0, extent - 1), extent - a.in - a.pad);
  a.out = (a.in + a.pad + pad_after - extent) / a.stride + 1;
  return a;
}

struct Case {
  ConvolutionAxis h, w;
  int64_t channels = 1, filters = 1, groups = 1, samples = 1;

  int64_t x_size() const { return h.in * w.in * channels; }
  int64_t y_size() const { return h.out * w.out * filters; }
  int64_t group_in() const { return channels / groups; }
  int64_t group_filters() const { return filters / groups; }
  int64_t kernel_size() const { return h.kernel * w.kernel * group_in() * filters; }
};

Case RandomCase(std::mt19937& random) {
  Case c;
  c.h = RandomAxis(random);
  c.w = RandomAxis(random);
  const int64_t sizes[] = {1, 2, 3, 5, 16, 17, 33};
  c.groups = random() % 3 == 0 ? 1 + random() % 20 : 1;
  const bool depthwise = c.groups > 1 && random() % 2 == 0;
  c.channels = c.groups * (depthwise ? 1 : sizes[random() % (c.groups == 1 ? 7 : 3)]);
  c.filters = c.groups * (depthwise ? 1 : sizes[random() % (c.groups == 1 ? 7 : 3)]);
  // Chunks of 576 that end inside a tap.
  if (random() % 10 == 0 && c.groups == 1) c.channels = 150, c.filters = 131;
  c.samples = 1 + random() % 5;
  return c;
}

// Element by element what the contract says, from the padded image's point of view.
class Oracle {
 public:
  Oracle(const Case& c, const Floats& x, const Floats& kernel, const Floats& dy)
      : c_(c), x_(x), kernel_(kernel), dy_(dy) {}

  Floats Forward() const {
    Floats y;
    ForEach({c_.samples, c_.h.out, c_.w.out, c_.filters}, [&](int64_t n, int64_t i, int64_t j,
                                                              int64_t f) {
      Chain chain(specification::kConvChunk);
      ForEach({c_.h.kernel, c_.w.kernel, c_.group_in(), 1}, [&](int64_t a, int64_t b, int64_t k,
                                                                int64_t) {
        chain.Add(X(n, i, j, a, b, f / c_.group_filters() * c_.group_in() + k), Kernel(a, b, k, f));
      });
      y.push_back(chain.Finish());
    });
    return y;
  }

  Floats InputGradient() const {
    Floats dx;
    ForEach({c_.samples, c_.h.in, c_.w.in, c_.channels},
            [&](int64_t n, int64_t i, int64_t j, int64_t k) {
              Chain chain(specification::kConvChunk);
              ForEach({c_.h.kernel, c_.w.kernel, c_.group_filters(), 1},
                      [&](int64_t a, int64_t b, int64_t f, int64_t) {
                        const int64_t row = i + c_.h.pad - a * c_.h.dilation;
                        const int64_t column = j + c_.w.pad - b * c_.w.dilation;
                        if (row % c_.h.stride != 0 || column % c_.w.stride != 0) return;
                        f += k / c_.group_in() * c_.group_filters();
                        chain.Add(Dy(n, row / c_.h.stride, column / c_.w.stride, f),
                                  Kernel(a, b, k % c_.group_in(), f));
                      });
              dx.push_back(chain.Finish());
            });
    return dx;
  }

  // Of all samples as one chunk.
  Floats KernelGradient() const {
    Floats gradient;
    ForEach({c_.h.kernel, c_.w.kernel, c_.group_in(), c_.filters}, [&](int64_t a, int64_t b,
                                                                       int64_t k, int64_t f) {
      Chain chain(INT64_MAX);
      ForEach({c_.samples, c_.h.out, c_.w.out, 1}, [&](int64_t n, int64_t i, int64_t j, int64_t) {
        chain.Add(X(n, i, j, a, b, f / c_.group_filters() * c_.group_in() + k), Dy(n, i, j, f));
      });
      gradient.push_back(chain.Finish());
    });
    return gradient;
  }

 private:
  static void ForEach(const int64_t (&size)[4],
                      const std::function<void(int64_t, int64_t, int64_t, int64_t)>& body) {
    for (int64_t i = 0; i < size[0]; ++i) {
      for (int64_t j = 0; j < size[1]; ++j) {
        for (int64_t k = 0; k < size[2]; ++k) {
          for (int64_t l = 0; l < size[3]; ++l) body(i, j, k, l);
        }
      }
    }
  }

  // What tap (a, b) of output pixel (i, j) sees.
  float X(int64_t n, int64_t i, int64_t j, int64_t a, int64_t b, int64_t k) const {
    const int64_t row = i * c_.h.stride + a * c_.h.dilation - c_.h.pad;
    const int64_t column = j * c_.w.stride + b * c_.w.dilation - c_.w.pad;
    if (row < 0 || row >= c_.h.in || column < 0 || column >= c_.w.in) return 0.0f;
    return x_[((n * c_.h.in + row) * c_.w.in + column) * c_.channels + k];
  }

  float Kernel(int64_t a, int64_t b, int64_t k, int64_t f) const {
    return kernel_[((a * c_.w.kernel + b) * c_.group_in() + k) * c_.filters + f];
  }

  float Dy(int64_t n, int64_t i, int64_t j, int64_t f) const {
    if (i < 0 || j < 0 || i >= c_.h.out || j >= c_.w.out) return 0.0f;
    return dy_[((n * c_.h.out + i) * c_.w.out + j) * c_.filters + f];
  }

  const Case& c_;
  const Floats &x_, &kernel_, &dy_;
};

TEST(Convolution, EqualsTheContractsChains) {
  std::mt19937 random(8);
  for (int trial = 0; trial < 250; ++trial) {
    const Case c = RandomCase(random);
    SCOPED_TRACE(absl::StrCat("trial ", trial, ": ", c.samples, " x ", c.h.in, "x", c.w.in, "x",
                              c.channels, " -> ", c.h.out, "x", c.w.out, "x", c.filters,
                              ", kernel ", c.h.kernel, "x", c.w.kernel, ", groups ", c.groups));
    const Floats x = RandomFloats(random, c.samples * c.x_size());
    const Floats dy = RandomFloats(random, c.samples * c.y_size());
    const Floats kernel = RandomFloats(random, c.kernel_size());
    const Oracle oracle(c, x, kernel, dy);
    const Floats y = oracle.Forward(), dx = oracle.InputGradient();
    const Floats dw = oracle.KernelGradient();

    const Convolution conv(c.h, c.w, c.channels, c.filters, c.groups);
    for (const KernelTable* const* t = kernels::AllKernels(); *t != nullptr; ++t) {
      SCOPED_TRACE((*t)->name);
      Floats packed(conv.packed_floats(), NAN);
      Floats scratch(conv.gradient_scratch_floats(c.samples), NAN);
      std::vector<kernels::RightOperand> operands(c.groups);
      std::vector<kernels::Segment> segments(conv.segments());
      Floats actual_y(y.size(), NAN), actual_dx(dx.size(), NAN), actual_dw(dw.size(), NAN);
      // Any split of the samples over calls.
      const int64_t cut = random() % (c.samples + 1);
      const std::pair<int64_t, int64_t> parts[] = {{0, cut}, {cut, c.samples}};
      conv.PackForward(**t, kernel.data(), packed.data(), operands.data());
      for (const auto& [begin, end] : parts) {
        conv.Forward(**t, operands.data(), end - begin, x.data() + begin * c.x_size(), nullptr,
                     false, segments.data(), actual_y.data() + begin * c.y_size());
      }
      EXPECT_TRUE(SameBits(y, actual_y)) << "y";
      conv.PackInputGradient(**t, kernel.data(), packed.data(), operands.data());
      for (const auto& [begin, end] : parts) {
        conv.InputGradient(**t, operands.data(), end - begin, dy.data() + begin * c.y_size(),
                           /*adds=*/false, segments.data(), actual_dx.data() + begin * c.x_size());
        conv.KernelGradient(**t, end - begin, x.data() + begin * c.x_size(),
                            dy.data() + begin * c.y_size(), /*continues=*/begin > 0, scratch.data(),
                            actual_dw.data());
      }
      EXPECT_TRUE(SameBits(dx, actual_dx)) << "dx";
      EXPECT_TRUE(SameBits(dw, actual_dw)) << "kernel gradient";
    }
  }
}

}  // namespace
}  // namespace lockstep
