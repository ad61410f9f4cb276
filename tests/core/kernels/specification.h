#ifndef LOCKSTEP_TESTS_CORE_KERNELS_SPECIFICATION_H_
#define LOCKSTEP_TESTS_CORE_KERNELS_SPECIFICATION_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

// The numerics contract as scalar loops: the text of core/README.md with nothing optimised. What
// the kernels and layers compute must equal it bit for bit.
namespace lockstep::specification {

using Floats = std::vector<float>;
using Bounds = std::vector<int64_t>;  // first sample of each shard, and the end

inline constexpr int64_t kDenseChunk = 384;
inline constexpr int64_t kConvChunk = 576;
inline constexpr int64_t kGradientRows = 512;
inline constexpr int64_t kBlock = 128;

// Rule 1: one element of a contraction over products (a, b) in order, in chunks.
class Chain {
 public:
  explicit Chain(int64_t chunk) : chunk_(chunk) {}
  void Add(float a, float b) {
    if (length_ == chunk_) EndChunk();
    sum_ = std::fma(a, b, sum_);
    ++length_;
  }
  void EndChunk() {
    if (length_ == 0) return;
    total_ = first_ ? sum_ : total_ + sum_;
    first_ = false;
    sum_ = 0.0f;
    length_ = 0;
  }
  float Finish() {
    EndChunk();
    return total_ + 0.0f;
  }

 private:
  int64_t chunk_;
  int64_t length_ = 0;
  float sum_ = 0.0f;
  float total_ = 0.0f;
  bool first_ = true;
};

// Rule 5: leaves combined over the binary tree; an empty side passes the other through.
template <typename T>
T Tree(std::span<const T> leaves, const std::function<T(const T&, const T&)>& combine) {
  if (leaves.size() == 1) return leaves[0];
  size_t half = 1;
  while (half * 2 < leaves.size()) half *= 2;
  return combine(Tree<T>(leaves.first(half), combine), Tree<T>(leaves.subspan(half), combine));
}

// Rule 1, weight gradients: per shard in chunks of whole samples, shards over the tree.
inline float WeightGradientElement(const Bounds& shards, int64_t chunk_samples,
                                   const std::function<void(int64_t, Chain&)>& add_sample) {
  std::vector<float> leaves;
  for (size_t v = 0; v + 1 < shards.size(); ++v) {
    Chain chain(INT64_MAX);
    for (int64_t n = shards[v]; n < shards[v + 1]; ++n) {
      if ((n - shards[v]) % chunk_samples == 0) chain.EndChunk();
      add_sample(n, chain);
    }
    leaves.push_back(chain.Finish());
  }
  return Tree<float>(leaves, [](float a, float b) { return a + b; });
}

// Rule 2: blocks of up to 128 rows of one shard, restarting at each sample when it has several
// positions. Calls body(first row, rows).
inline void ForBlocks(int64_t begin, int64_t end, int64_t positions,
                      const std::function<void(int64_t, int64_t)>& body) {
  const int64_t part = positions == 1 ? end - begin : positions;
  for (int64_t first = begin * positions; first < end * positions; first += part) {
    for (int64_t row = first; row < first + part; row += kBlock) {
      body(row, std::min(kBlock, first + part - row));
    }
  }
}

// Rule 2, inside a block: four accumulators by row mod 4.
inline float BlockSum(int64_t rows, const std::function<float(int64_t, float)>& add) {
  float sum[4] = {0, 0, 0, 0};
  for (int64_t r = 0; r < rows; ++r) sum[r % 4] = add(r, sum[r % 4]);
  return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

struct Moments {
  double n = 0, mean = 0, m2 = 0;
};

inline Moments Merge(const Moments& a, const Moments& b) {
  if (b.n == 0) return a;
  if (a.n == 0) return b;
  const double n = a.n + b.n;
  const double weight = b.n / n;
  const double d = b.mean - a.mean;
  return {n, a.mean + d * weight, (a.m2 + b.m2) + (d * d) * (a.n * weight)};
}

// {n, mean, M2} of channel c of x [rows, channels].
inline Moments BatchMoments(const Floats& x, int64_t channels, int64_t c, const Bounds& shards,
                            int64_t positions) {
  std::vector<Moments> leaves;
  for (size_t v = 0; v + 1 < shards.size(); ++v) {
    Moments shard;
    ForBlocks(shards[v], shards[v + 1], positions, [&](int64_t row, int64_t rows) {
      const auto at = [&](int64_t r) { return x[(row + r) * channels + c]; };
      const double s1 = BlockSum(rows, [&](int64_t r, float s) { return s + (at(r) - at(0)); });
      const double s2 = BlockSum(rows, [&](int64_t r, float s) {
        const float d = at(r) - at(0);
        return std::fma(d, d, s);
      });
      const auto n = static_cast<double>(rows);
      shard = Merge(shard, {n, at(0) + s1 / n, std::max(0.0, s2 - s1 * s1 / n)});
    });
    leaves.push_back(shard);
  }
  return Tree<Moments>(leaves, Merge);
}

struct Sum {
  int64_t n = 0;
  double value = 0;
};

// Sum over all rows of add(row, accumulator).
inline double BatchSum(const Bounds& shards, int64_t positions,
                       const std::function<float(int64_t, float)>& add) {
  std::vector<Sum> leaves;
  for (size_t v = 0; v + 1 < shards.size(); ++v) {
    Sum shard;
    ForBlocks(shards[v], shards[v + 1], positions, [&](int64_t row, int64_t rows) {
      shard.value += BlockSum(rows, [&](int64_t r, float s) { return add(row + r, s); });
      shard.n += rows;
    });
    leaves.push_back(shard);
  }
  return Tree<Sum>(leaves,
                   [](const Sum& a, const Sum& b) {
                     if (b.n == 0) return a;
                     if (a.n == 0) return b;
                     return Sum{a.n + b.n, a.value + b.value};
                   })
      .value;
}

inline float Relu(float x) { return 0.0f > x ? 0.0f : x; }

inline float Clamp(float x, float least, float most) {
  x = x > most ? most : x;
  return least > x ? least : x;
}

// Rule 7: e^x = (fraction + 1) * power for x clamped to [-87, 87].
struct ExpParts {
  float fraction, power;
};
inline ExpParts SplitExp(float x) {
  if (std::isnan(x)) return {x, 1.0f};
  x = Clamp(x, -87.0f, 87.0f);
  const float n = std::nearbyint(x * 1.44269504088896341f);
  float r = std::fma(n, -0.693359375f, x);
  r = std::fma(n, 2.12194440e-4f, r);
  float p = 1.9875691500e-4f;
  for (float c :
       {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f}) {
    p = std::fma(p, r, c);
  }
  return {std::fma(p, r * r, r), std::ldexp(1.0f, static_cast<int>(n))};
}
inline float Exp(float x) {
  const ExpParts e = SplitExp(x);
  return (e.fraction + 1.0f) * e.power;
}

inline float Sigmoid(float x) { return 1.0f / (1.0f + Exp(0.0f - x)); }

inline float Tanh(float x) {
  const float a = std::fabs(x);
  if (a > 0.625f) {
    const float magnitude = 1.0f - 2.0f / (Exp(a + a) + 1.0f);
    return 0.0f > x ? 0.0f - magnitude : magnitude;
  }
  const float z = x * x;
  float p = -5.70498872745e-3f;
  for (float c : {2.06390887954e-2f, -5.37397155531e-2f, 1.33314422036e-1f, -3.33332819422e-1f}) {
    p = std::fma(p, z, c);
  }
  return std::fma(p * z, x, x);
}

// Rule 3: one ascending chain.
inline Floats Softmax(const float* x, int64_t n) {
  const float max = *std::max_element(x, x + n);
  Floats e(n);
  for (int64_t j = 0; j < n; ++j) e[j] = Exp(x[j] - max);
  float sum = e[0];
  for (int64_t j = 1; j < n; ++j) sum += e[j];
  for (float& v : e) v /= sum;
  return e;
}

}  // namespace lockstep::specification

#endif  // LOCKSTEP_TESTS_CORE_KERNELS_SPECIFICATION_H_
