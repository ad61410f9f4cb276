// The kernels alone equal the contract's scalar loops (specification.h) bit for bit, on every
// instruction set of this CPU: over random shapes (among them 1, primes, empty), strides, offsets,
// chunks and shards.

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "absl/strings/str_cat.h"
#include "core/kernels/kernels.h"
#include "core/parallel/shards.h"
#include "tests/core/kernels/specification.h"
#include "tests/core/layers/layer_run.h"

namespace lockstep {
namespace {

using kernels::KernelTable;
using kernels::RowRun;
using kernels::Segment;
using specification::Bounds;
using specification::Chain;
using specification::Floats;

constexpr int kTrials = 150;

// Values that a kernel must not write keep this one.
constexpr float kUntouched = 12345.0f;

Floats RandomFloats(std::mt19937& random, int64_t n) {
  std::uniform_real_distribution<float> uniform(-1.0f, 1.0f);
  Floats values(n);
  for (float& v : values) v = uniform(random);
  return values;
}

// Within [1, most], small ones as likely as large ones.
int64_t RandomSize(std::mt19937& random, int64_t most) {
  const int64_t bound = int64_t{1} << random() % 12;
  return 1 + static_cast<int64_t>(random() % std::min(bound, most));
}

template <typename Body>
void ForEachInstructionSet(Body body) {
  for (const KernelTable* const* table = kernels::AllKernels(); *table != nullptr; ++table) {
    SCOPED_TRACE((*table)->name);
    body(**table);
  }
}

// Segments whose left and right operands' k lie at random places; fills `order` with their (a, b).
std::vector<Segment> RandomSegments(std::mt19937& random, int64_t a_depth, int64_t a_step,
                                    int64_t b_depth, bool depthwise) {
  std::vector<Segment> segments(1 + random() % 4);
  for (Segment& s : segments) {
    s.length = RandomSize(random, std::min({a_depth, b_depth, int64_t{depthwise ? 9 : 700}}));
    s.a = static_cast<int64_t>(random() % (a_depth - s.length + 1)) * a_step;
    s.b = static_cast<int64_t>(random() % (b_depth - s.length + 1));
    s.ends_chunk = random() % 2 == 0;
  }
  segments.back().ends_chunk = true;
  return segments;
}

class RowContractions : public ::testing::TestWithParam<bool> {};

TEST_P(RowContractions, EqualsOneChainAnElement) {
  const bool depthwise = GetParam();
  std::mt19937 random(1);
  for (int trial = 0; trial < kTrials; ++trial) {
    // Lines shorter and longer than a tile.
    const int64_t rows = RandomSize(random, 60), width = RandomSize(random, trial % 2 ? 9 : 40);
    const int64_t columns = RandomSize(random, 140), depth = RandomSize(random, 800);
    const int64_t left = depthwise ? depth * columns : depth;
    const int64_t inner = left + random() % 3, outer = width * inner + random() % 5;
    const int64_t stride = columns + random() % 7, y_stride = columns + random() % 7;
    const int64_t offset = random() % 4;
    const Floats a = RandomFloats(random, offset + (rows / width + 1) * outer);
    const Floats b = RandomFloats(random, offset + depth * stride);
    const Floats bias = RandomFloats(random, columns);
    const bool has_bias = random() % 2 == 0, relu = random() % 2 == 0;
    const std::vector<Segment> segments =
        RandomSegments(random, depth, depthwise ? columns : 1, depth, depthwise);
    const int64_t begin = random() % rows, end = begin + random() % (rows - begin + 1);

    Floats expected(rows * y_stride, kUntouched);
    for (int64_t r = begin; r < end; ++r) {
      const float* row = a.data() + offset + r / width * outer + r % width * inner;
      for (int64_t j = 0; j < columns; ++j) {
        Chain chain(INT64_MAX);
        for (const Segment& s : segments) {
          for (int64_t k = 0; k < s.length; ++k) {
            chain.Add(depthwise ? row[s.a + k * columns + j] : row[s.a + k],
                      b[offset + (s.b + k) * stride + j]);
          }
          if (s.ends_chunk) chain.EndChunk();
        }
        float value = chain.Finish();
        if (has_bias) value += bias[j];
        expected[r * y_stride + j] = relu ? specification::Relu(value) : value;
      }
    }
    SCOPED_TRACE(absl::StrCat("trial ", trial, ": ", end - begin, " x ", columns));
    ForEachInstructionSet([&](const KernelTable& table) {
      Floats y(expected.size(), kUntouched);
      const kernels::RowContraction contraction = {.a = {a.data() + offset, width, outer, inner},
                                                   .b = {b.data() + offset, columns, stride},
                                                   .segments = segments.data(),
                                                   .segment_count = std::ssize(segments),
                                                   .y = {y.data(), 1, y_stride, 0},
                                                   .bias = has_bias ? bias.data() : nullptr,
                                                   .relu = relu};
      (depthwise ? table.contract_rows_depthwise : table.contract_rows)(contraction, begin, end);
      EXPECT_TRUE(SameBits(expected, y));
    });
  }
}

TEST(ContractRows, OfAPackedRightOperandOrItsTransposeAreTheSame) {
  std::mt19937 random(6);
  for (int trial = 0; trial < kTrials; ++trial) {
    const int64_t rows = RandomSize(random, 20), depth = RandomSize(random, 200);
    const int64_t columns = RandomSize(random, 200), stride = columns + random() % 7;
    const int64_t transposed_stride = depth + random() % 7;
    const Floats a = RandomFloats(random, rows * depth);
    const Floats b = RandomFloats(random, depth * stride);
    Floats transposed(columns * transposed_stride);
    for (int64_t k = 0; k < depth; ++k) {
      for (int64_t j = 0; j < columns; ++j) {
        transposed[j * transposed_stride + k] = b[k * stride + j];
      }
    }
    const Segment segment = {0, 0, depth, true};
    SCOPED_TRACE(absl::StrCat("trial ", trial, ": ", depth, " x ", columns));
    ForEachInstructionSet([&](const KernelTable& table) {
      const auto contract = [&](const kernels::RightOperand& right) {
        Floats y(rows * columns);
        table.contract_rows({.a = {a.data(), 1, depth, 0},
                             .b = right,
                             .segments = &segment,
                             .segment_count = 1,
                             .y = {y.data(), 1, columns, 0},
                             .bias = nullptr,
                             .relu = false},
                            0, rows);
        return y;
      };
      const Floats plain = contract({b.data(), columns, stride});
      Floats packed(kernels::PackedFloats(depth, columns), NAN);
      EXPECT_TRUE(
          SameBits(plain, contract(table.pack(b.data(), stride, depth, columns, packed.data()))));
      EXPECT_TRUE(
          SameBits(plain, contract(table.pack_transposed(transposed.data(), transposed_stride, 1,
                                                         depth, columns, packed.data()))));
    });
  }
}

TEST(ContractRows, WalkOverThePixelsOfSeveralImages) {
  // The inner 3 x 2 pixels of 4 x 5 images.
  std::mt19937 random(7);
  const int64_t images = 5, image = 4 * 5 * 2, rows = images * 6;
  const Floats x = RandomFloats(random, images * image), b = RandomFloats(random, 2);
  const Segment segment = {0, 0, 2, true};
  ForEachInstructionSet([&](const KernelTable& table) {
    Floats y(images * 20, kUntouched), expected = y;
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t pixel = r / 6 * 20 + (r % 6 / 2 + 1) * 5 + r % 2 + 2;
      Chain chain(2);
      for (int64_t k = 0; k < 2; ++k) chain.Add(x[pixel * 2 + k], b[k]);
      expected[pixel] = chain.Finish();
    }
    for (const auto& [begin, end] : {std::pair{0, 1}, {1, 7}, {7, 30}, {30, 30}}) {
      table.contract_rows({.a = {x.data() + 14, 2, 10, 2, 3, image},
                           .b = {b.data(), 1, 1},
                           .segments = &segment,
                           .segment_count = 1,
                           .y = {y.data() + 7, 2, 5, 1, 3, 20},
                           .bias = nullptr,
                           .relu = false},
                          begin, end);
    }
    EXPECT_TRUE(SameBits(expected, y));
  });
}

INSTANTIATE_TEST_SUITE_P(Kinds, RowContractions, ::testing::Bool(),
                         [](const auto& info) { return info.param ? "Depthwise" : "Dense"; });

// The rows of one shard list: each shard cut into chunks, each chunk into runs.
struct Runs {
  std::vector<RowRun> runs;
  Bounds shards;
  std::vector<bool> ends_chunk;  // by row
};

Runs RandomRuns(std::mt19937& random, int64_t rows, int64_t x_stride, int64_t dy_stride) {
  Runs result;
  const int shards = 1 + random() % 12;
  TreeReducer tree;
  int64_t row = 0;
  for (int v = 0; v < shards; ++v) {
    result.shards.push_back(row);
    const int64_t end = v + 1 == shards ? rows : row + random() % (rows - row + 1);
    if (row == end) result.runs.push_back({0, 0, 0, true, -1});
    while (row < end) {
      const int64_t length = std::min<int64_t>(end - row, RandomSize(random, 64));
      const bool ends_chunk = random() % 3 == 0;
      result.runs.push_back({row * x_stride, row * dy_stride, length, ends_chunk, -1});
      result.ends_chunk.resize(row + length, false);
      result.ends_chunk.back() = ends_chunk;
      row += length;
    }
    result.runs.back().merges = tree.PushMerges() + (v + 1 == shards ? tree.FinalMerges() : 0);
  }
  result.shards.push_back(rows);
  return result;
}

class ContractColumns : public ::testing::TestWithParam<bool> {};

TEST_P(ContractColumns, CombinesChunksInShardsAndShardsOverTheTree) {
  const bool depthwise = GetParam();
  std::mt19937 random(2);
  for (int trial = 0; trial < kTrials; ++trial) {
    const int64_t rows = RandomSize(random, 60), columns = RandomSize(random, 140);
    const int64_t sum_rows = RandomSize(random, 300) - 1;
    const bool grouped = !depthwise && random() % 2 == 0;
    const int64_t group = grouped ? RandomSize(random, 9) : 0, group_step = group + random() % 5;
    const auto x_offset = [=](int64_t i, int64_t j) {
      if (grouped) return i / group * group_step + i % group;
      return depthwise ? i * columns + j : i;
    };
    const int64_t x_stride = x_offset(rows - 1, columns - 1) + 1 + random() % 3;
    const int64_t dy_stride = columns + random() % 3, w_stride = columns + random() % 7;
    const int64_t offset = random() % 4;
    const Floats x = RandomFloats(random, offset + sum_rows * x_stride);
    const Floats dy = RandomFloats(random, offset + sum_rows * dy_stride);
    const Runs runs = RandomRuns(random, sum_rows, x_stride, dy_stride);

    Floats expected(rows * w_stride, kUntouched);
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < columns; ++j) {
        expected[i * w_stride + j] = specification::WeightGradientElement(
            runs.shards, INT64_MAX, [&](int64_t r, Chain& chain) {
              chain.Add(x[offset + r * x_stride + x_offset(i, j)], dy[offset + r * dy_stride + j]);
              if (runs.ends_chunk[r]) chain.EndChunk();
            });
      }
    }
    SCOPED_TRACE(absl::StrCat("trial ", trial, ": ", rows, " x ", columns, ", ", sum_rows,
                              " rows, ", runs.shards.size() - 1, " shards"));
    ForEachInstructionSet([&](const KernelTable& table) {
      Floats w(expected.size(), kUntouched);
      const kernels::ColumnContraction contraction = {.x = x.data() + offset,
                                                      .dy = dy.data() + offset,
                                                      .runs = runs.runs.data(),
                                                      .run_count = std::ssize(runs.runs),
                                                      .x_stride = x_stride,
                                                      .dy_stride = dy_stride,
                                                      .rows = rows,
                                                      .columns = columns,
                                                      .w = w.data(),
                                                      .w_stride = w_stride,
                                                      .continues = false,
                                                      .group = group,
                                                      .group_step = group_step};
      (depthwise ? table.contract_columns_depthwise : table.contract_columns)(contraction);
      EXPECT_TRUE(SameBits(expected, w));
    });
  }
}

TEST_P(ContractColumns, CarryAChunkOverCalls) {
  const bool depthwise = GetParam();
  std::mt19937 random(3);
  const int64_t rows = 37, columns = 21, sum_rows = 100;
  const int64_t x_stride = depthwise ? rows * columns : rows;
  const Floats x = RandomFloats(random, sum_rows * x_stride);
  const Floats dy = RandomFloats(random, sum_rows * columns);
  ForEachInstructionSet([&](const KernelTable& table) {
    const auto contract = [&](int64_t begin, int64_t end, bool continues, Floats& w) {
      const RowRun run = {begin * x_stride, begin * columns, end - begin, end == sum_rows, -1};
      (depthwise ? table.contract_columns_depthwise
                 : table.contract_columns)({.x = x.data(),
                                            .dy = dy.data(),
                                            .runs = &run,
                                            .run_count = 1,
                                            .x_stride = x_stride,
                                            .dy_stride = columns,
                                            .rows = rows,
                                            .columns = columns,
                                            .w = w.data(),
                                            .w_stride = columns,
                                            .continues = continues});
    };
    Floats at_once(rows * columns), in_parts(rows * columns, NAN);
    contract(0, sum_rows, false, at_once);
    contract(0, 1, false, in_parts);
    contract(1, 64, true, in_parts);
    contract(64, sum_rows, true, in_parts);
    EXPECT_TRUE(SameBits(at_once, in_parts));
  });
}

INSTANTIATE_TEST_SUITE_P(Kinds, ContractColumns, ::testing::Bool(),
                         [](const auto& info) { return info.param ? "Depthwise" : "Dense"; });

TEST(Kernels, AveragePoolIsOneChainAChannel) {
  std::mt19937 random(4);
  for (const auto& size : {std::pair<int64_t, int64_t>{1, 1}, {49, 3}, {64, 64}, {7, 131}}) {
    const int64_t positions = size.first, channels = size.second;
    const Floats x = RandomFloats(random, positions * channels);
    const Floats dy = RandomFloats(random, channels);
    Floats y(channels), dx(x.size());
    for (int64_t c = 0; c < channels; ++c) {
      y[c] = x[c];
      for (int64_t i = 1; i < positions; ++i) y[c] += x[i * channels + c];
      y[c] /= static_cast<float>(positions);
      for (int64_t i = 0; i < positions; ++i) {
        dx[i * channels + c] = dy[c] / static_cast<float>(positions);
      }
    }
    ForEachInstructionSet([&](const KernelTable& table) {
      Floats actual_y(y.size()), actual_dx(dx.size());
      table.average_pool(positions, channels, x.data(), actual_y.data());
      table.average_pool_backward(positions, channels, dy.data(), actual_dx.data());
      EXPECT_TRUE(SameBits(y, actual_y));
      EXPECT_TRUE(SameBits(dx, actual_dx));
    });
  }
}

TEST(Kernels, AddsInPlaceToo) {
  std::mt19937 random(5);
  for (const int64_t n : {0, 1, 15, 16, 1001}) {
    const Floats a = RandomFloats(random, n), b = RandomFloats(random, n);
    Floats expected(n);
    for (int64_t i = 0; i < n; ++i) expected[i] = a[i] + b[i];
    ForEachInstructionSet([&](const KernelTable& table) {
      Floats y(n), in_place = a;
      table.add(n, a.data(), b.data(), /*relu=*/false, y.data());
      table.add(n, in_place.data(), b.data(), /*relu=*/false, in_place.data());
      EXPECT_TRUE(SameBits(expected, y));
      EXPECT_TRUE(SameBits(expected, in_place));
    });
  }
}

}  // namespace
}  // namespace lockstep
