#include <algorithm>
#include <cstdlib>
#include <random>
#include <vector>

#include "core/kernels/convolution.h"
#include "core/kernels/kernels.h"
#include "tests/bench/kernel_cases.h"

namespace lockstep {

using kernels::KernelTable;
using kernels::RowRun;
using kernels::Segment;

std::shared_ptr<float[]> RandomFloats(int64_t n) {
  const size_t bytes = (static_cast<size_t>(n) * sizeof(float) + 63) / 64 * 64;
  std::shared_ptr<float[]> values(static_cast<float*>(std::aligned_alloc(64, bytes)), std::free);
  std::mt19937 random(1);
  std::uniform_real_distribution<float> uniform(-1.0f, 1.0f);
  std::generate_n(values.get(), n, [&] { return uniform(random); });
  return values;
}

namespace {

using Floats = std::shared_ptr<float[]>;

// Of x and y together, in the L2 cache beside the kernel.
constexpr int64_t kTileFloats = 64 << 10;

std::vector<Segment> OneSegment(int64_t depth) {
  std::vector<Segment> segments;
  for (int64_t k = 0; k < depth; k += kernels::kDenseChunk) {
    segments.push_back({k, k, std::min(kernels::kDenseChunk, depth - k), /*ends_chunk=*/true});
  }
  return segments;
}

}  // namespace

Call OurGemm(const KernelTable& kernels, const GemmCase& c) {
  const Floats a = RandomFloats(c.m * c.k), b = RandomFloats(c.k * c.n);
  const Floats packed = RandomFloats(kernels::PackedFloats(c.k, c.n)), y = RandomFloats(c.m * c.n);
  if (c.kind == GemmKind::kTN) {
    std::vector<RowRun> runs;
    for (int64_t r = 0; r < c.k; r += kernels::kDenseChunk) {
      runs.push_back({r * c.m, r * c.n, std::min(kernels::kDenseChunk, c.k - r), true, -1});
    }
    return [=, &kernels, runs = std::move(runs)] {
      kernels.contract_columns({.x = a.get(),
                                .dy = b.get(),
                                .runs = runs.data(),
                                .run_count = std::ssize(runs),
                                .x_stride = c.m,
                                .dy_stride = c.n,
                                .rows = c.m,
                                .columns = c.n,
                                .w = y.get(),
                                .w_stride = c.n,
                                .continues = false});
    };
  }
  return [=, &kernels, segments = OneSegment(c.k)] {
    const kernels::RightOperand right =
        c.kind == GemmKind::kNT ? kernels.pack_transposed(b.get(), c.k, 1, c.k, c.n, packed.get())
                                : kernels.pack(b.get(), c.n, c.k, c.n, packed.get());
    kernels.contract_rows({.a = {a.get(), 1, c.k, 0},
                           .b = right,
                           .segments = segments.data(),
                           .segment_count = std::ssize(segments),
                           .y = {y.get(), 1, c.n, 0},
                           .bias = nullptr,
                           .relu = false},
                          0, c.m);
  };
}

// As a training step does: packs what it multiplies by, then takes as many samples at a time as the
// cache holds, in the kernel's gradient a chunk.
Call OurConv(const KernelTable& kernels, const ConvCase& c, ConvPass pass) {
  const kernels::ConvolutionAxis axis = {
      .in = c.size, .out = c.out(), .kernel = c.kernel, .stride = c.stride, .pad = c.pad};
  const auto conv =
      std::make_shared<const kernels::Convolution>(axis, axis, c.in, c.filters, /*groups=*/1);
  const int64_t x_size = c.size * c.size * c.in, rows = c.out() * c.out();
  const int64_t y_size = rows * c.filters, w_size = c.kernel * c.kernel * c.in * c.filters;
  const Floats x = RandomFloats(c.batch * x_size), y = RandomFloats(c.batch * y_size);
  const Floats w = RandomFloats(w_size);
  if (pass == ConvPass::kWeightGradient) {
    int64_t chunk = 1;
    while (chunk * rows < kernels::kConvGradientRows) chunk *= 2;
    const Floats scratch = RandomFloats(conv->gradient_scratch_floats(chunk));
    const Floats chunk_w = RandomFloats(w_size);
    return [=, &kernels] {
      for (int64_t n = 0; n < c.batch; n += chunk) {
        conv->KernelGradient(kernels, std::min(chunk, c.batch - n), x.get() + n * x_size,
                             y.get() + n * y_size, /*continues=*/false, scratch.get(),
                             n == 0 ? w.get() : chunk_w.get());
        if (n > 0) kernels.add(w_size, w.get(), chunk_w.get(), false, w.get());
      }
    };
  }
  const int64_t tile = std::max<int64_t>(1, kTileFloats / (x_size + y_size));
  const Floats packed = RandomFloats(conv->packed_floats());
  const auto segments = std::make_shared<std::vector<Segment>>(conv->segments());
  return [=, &kernels] {
    kernels::RightOperand right;
    if (pass == ConvPass::kForward) {
      conv->PackForward(kernels, w.get(), packed.get(), &right);
    } else {
      conv->PackInputGradient(kernels, w.get(), packed.get(), &right);
    }
    for (int64_t n = 0; n < c.batch; n += tile) {
      const int64_t samples = std::min(tile, c.batch - n);
      float* tile_x = x.get() + n * x_size;
      float* tile_y = y.get() + n * y_size;
      if (pass == ConvPass::kForward) {
        conv->Forward(kernels, &right, samples, tile_x, nullptr, false, segments->data(), tile_y);
      } else {
        conv->InputGradient(kernels, &right, samples, tile_y, /*adds=*/false, segments->data(),
                            tile_x);
      }
    }
  };
}

}  // namespace lockstep
