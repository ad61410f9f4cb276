#include <algorithm>
#include <cstdlib>
#include <random>
#include <vector>

#include "core/kernels/kernels.h"
#include "core/layers/packed.h"
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

std::vector<Segment> OneSegment(int64_t depth, int64_t chunk) {
  SegmentList segments(chunk);
  segments.Add(0, 0, depth);
  return std::move(segments).Finish();
}

void Transpose(const float* src, int64_t rows, int64_t columns, float* dst) {
  for (int64_t j = 0; j < columns; ++j) {
    for (int64_t i = 0; i < rows; ++i) dst[j * rows + i] = src[i * columns + j];
  }
}

// Copies an image [size, line] into the middle of a larger one whose border is zero already.
void PadImage(const float* src, int64_t size, int64_t line, float* dst, int64_t dst_line,
              int64_t top, int64_t left) {
  for (int64_t i = 0; i < size; ++i) {
    std::copy_n(src + i * line, line, dst + (top + i) * dst_line + left);
  }
}

Call Forward(const KernelTable& kernels, const ConvCase& c) {
  const Floats x = RandomFloats(c.batch * c.size * c.size * c.in);
  const Floats w = RandomFloats(c.kernel * c.kernel * c.in * c.filters);
  const Floats y = RandomFloats(c.batch * c.out() * c.out() * c.filters);
  const int64_t padded = std::max(c.padded(), c.size), line = padded * c.in;
  const Floats image = RandomFloats(padded * line);
  std::fill_n(image.get(), padded * line, 0.0f);
  SegmentList segments(kernels::kConvChunk);
  for (int64_t i = 0; i < c.kernel; ++i) {
    segments.Add(i * line, i * c.kernel * c.in, c.kernel * c.in);
  }
  return [=, &kernels, list = std::move(segments).Finish()] {
    for (int64_t n = 0; n < c.batch; ++n) {
      const float* from = x.get() + n * c.size * c.size * c.in;
      if (c.pad > 0) {
        PadImage(from, c.size, c.size * c.in, image.get(), line, c.pad, c.pad * c.in);
        from = image.get();
      }
      kernels.contract_rows({.a = {from, c.out(), c.stride * line, c.stride * c.in},
                             .b = {w.get(), c.filters, c.filters},
                             .segments = list.data(),
                             .segment_count = std::ssize(list),
                             .y = {y.get() + n * c.out() * c.out() * c.filters, 1, c.filters, 0},
                             .bias = nullptr,
                             .relu = false},
                            0, c.out() * c.out());
    }
  };
}

// The input pixels that see the same taps of a strided kernel.
struct PixelClass {
  int64_t row, column, rows, columns;
  std::vector<Segment> segments;
};

Call InputGradient(const KernelTable& kernels, const ConvCase& c) {
  const int64_t taps = c.kernel * c.kernel;
  const Floats dy = RandomFloats(c.batch * c.out() * c.out() * c.filters);
  const Floats w = RandomFloats(taps * c.in * c.filters);
  const Floats transposed = RandomFloats(taps * c.in * c.filters);
  const Floats dx = RandomFloats(c.batch * c.size * c.size * c.in);
  const int64_t before = (c.kernel - 1 + c.stride - 1) / c.stride;
  const int64_t padded = before + std::max(c.out(), (c.size - 1 + c.pad) / c.stride + 1);
  const int64_t line = padded * c.filters;
  const Floats image = RandomFloats(padded * line);
  std::fill_n(image.get(), padded * line, 0.0f);
  std::vector<PixelClass> classes;
  for (int64_t i = 0; i < std::min(c.stride, c.size); ++i) {
    for (int64_t j = 0; j < std::min(c.stride, c.size); ++j) {
      SegmentList segments(kernels::kConvChunk);
      for (int64_t a = (i + c.pad) % c.stride; a < c.kernel; a += c.stride) {
        for (int64_t b = (j + c.pad) % c.stride; b < c.kernel; b += c.stride) {
          segments.Add(((i + c.pad - a) / c.stride + before) * line +
                           ((j + c.pad - b) / c.stride + before) * c.filters,
                       (a * c.kernel + b) * c.filters, c.filters);
        }
      }
      classes.push_back({i, j, (c.size - i + c.stride - 1) / c.stride,
                         (c.size - j + c.stride - 1) / c.stride, std::move(segments).Finish()});
    }
  }
  return [=, &kernels, classes = std::move(classes)] {
    for (int64_t t = 0; t < taps; ++t) {
      Transpose(w.get() + t * c.in * c.filters, c.in, c.filters,
                transposed.get() + t * c.in * c.filters);
    }
    for (int64_t n = 0; n < c.batch; ++n) {
      PadImage(dy.get() + n * c.out() * c.out() * c.filters, c.out(), c.out() * c.filters,
               image.get(), line, before, before * c.filters);
      float* to = dx.get() + n * c.size * c.size * c.in;
      for (const PixelClass& p : classes) {
        kernels.contract_rows({.a = {image.get(), p.columns, line, c.filters},
                               .b = {transposed.get(), c.in, c.in},
                               .segments = p.segments.data(),
                               .segment_count = std::ssize(p.segments),
                               .y = {to + (p.row * c.size + p.column) * c.in, p.columns,
                                     c.stride * c.size * c.in, c.stride * c.in},
                               .bias = nullptr,
                               .relu = false},
                              0, p.rows * p.columns);
      }
    }
  };
}

// A chunk of whole samples at a time, so that a chunk's rows stay in the cache; their sum is added
// to the shard's.
Call WeightGradient(const KernelTable& kernels, const ConvCase& c) {
  const int64_t padded = std::max(c.padded(), c.size), line = padded * c.in;
  const int64_t slice = c.kernel * c.in * c.filters, rows = c.out() * c.out();
  const Floats x = RandomFloats(c.batch * padded * line);
  const Floats dy = RandomFloats(c.batch * rows * c.filters);
  const Floats w = RandomFloats(c.kernel * slice), chunk_w = RandomFloats(c.kernel * slice);
  const int64_t chunk = (kernels::kConvGradientRows + rows - 1) / rows;
  std::vector<RowRun> runs;
  for (int64_t i = 0; i < chunk * c.out(); ++i) {
    runs.push_back({i / c.out() * padded * line + i % c.out() * c.stride * line,
                    i * c.out() * c.filters, c.out(), false, -1});
  }
  return [=, &kernels, runs = std::move(runs)] {
    for (int64_t n = 0; n < c.batch; n += chunk) {
      for (int64_t i = 0; i < c.kernel; ++i) {
        kernels.contract_columns({.x = x.get() + n * padded * line + i * line,
                                  .dy = dy.get() + n * rows * c.filters,
                                  .runs = runs.data(),
                                  .run_count = std::min(chunk, c.batch - n) * c.out(),
                                  .x_stride = c.stride * c.in,
                                  .dy_stride = c.filters,
                                  .rows = c.kernel * c.in,
                                  .columns = c.filters,
                                  .w = (n == 0 ? w.get() : chunk_w.get()) + i * slice,
                                  .w_stride = c.filters,
                                  .continues = false});
      }
      if (n > 0) kernels.add(c.kernel * slice, w.get(), chunk_w.get(), w.get());
    }
  };
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
  const bool transposed = c.kind == GemmKind::kNT;
  return [=, &kernels, segments = OneSegment(c.k, kernels::kDenseChunk)] {
    const kernels::RightOperand right =
        transposed ? kernels.pack_transposed(b.get(), c.k, 1, c.k, c.n, packed.get())
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

Call OurConv(const KernelTable& kernels, const ConvCase& c, ConvPass pass) {
  switch (pass) {
    case ConvPass::kForward:
      return Forward(kernels, c);
    case ConvPass::kInputGradient:
      return InputGradient(kernels, c);
    case ConvPass::kWeightGradient:
      return WeightGradient(kernels, c);
  }
  return nullptr;
}

}  // namespace lockstep
