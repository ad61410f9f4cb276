#include "core/kernels/self_test.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <iterator>
#include <span>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "core/data/digest.h"
#include "core/numerics/contract.h"
#include "core/numerics/float_environment.h"
#include "core/numerics/random.h"

namespace lockstep::kernels {
namespace {

using Floats = std::vector<float>;

// Neither is a multiple of a vector's or a tile's size.
constexpr int64_t kRows = 29;
constexpr int64_t kColumns = 37;
constexpr int64_t kSize = kRows * kColumns;
constexpr int64_t kDepth = 500;  // a chunk and a part
constexpr int64_t kTaps = 9;

// What one kernel reads, and the hash of what it writes.
class Run {
 public:
  Run(const KernelTable& table, uint32_t kernel) : table(table), kernel_(kernel) {}

  uint32_t Bits() {
    const uint32_t i = drawn_++;
    if (i % 4 == 0) block_ = Philox({i / 4, kernel_, 0, 0}, {0x5e1f7e57, 0});
    return block_[i % 4];
  }
  // Within [-scale, scale); every sixteenth is subnormal.
  Floats Draw(int64_t count, float scale = 2.0f) {
    Floats values(count);
    for (int64_t i = 0; i < count; ++i) {
      values[i] = (2.0f * Random::Uniform(Bits()) - 1.0f) * (i % 16 == 5 ? 0x1p-127f : scale);
    }
    return values;
  }
  Floats DrawPositive(int64_t count) {
    Floats values = Draw(count);
    for (float& value : values) value = std::abs(value);
    return values;
  }

  template <typename T>
  void Add(const std::vector<T>& outputs) {
    hasher_.Update(std::as_bytes(std::span(outputs)));
  }
  std::string Hash() { return hasher_.Finish().substr(0, 16); }

  const KernelTable& table;

 private:
  const uint32_t kernel_;
  uint32_t drawn_ = 0;
  std::array<uint32_t, 4> block_;
  Hasher hasher_{Hasher::Algorithm::kBlake2s256};
};

constexpr Segment kSegments[] = {{0, 0, 384, true}, {384, 384, kDepth - 384, true}};

void ContractRows(Run& run, const RightOperand& b, bool relu) {
  const Floats a = run.Draw(kRows * kDepth);
  const Floats bias = run.Draw(kColumns);
  Floats y(kSize);
  run.table.contract_rows({.a = {a.data(), 1, kDepth, 0},
                           .b = b,
                           .segments = kSegments,
                           .segment_count = std::ssize(kSegments),
                           .y = {y.data(), 1, kColumns, 0},
                           .bias = bias.data(),
                           .relu = relu},
                          0, kRows);
  run.Add(y);
}

void Rows(Run& run) {
  const Floats b = run.Draw(kDepth * kColumns);
  ContractRows(run, {b.data(), kColumns, kColumns}, true);
}

// How operands are packed is each instruction set's own affair; what comes of them is not.
void Pack(Run& run) {
  const Floats b = run.Draw(kDepth * kColumns);
  Floats packed(PackedFloats(kDepth, kColumns));
  ContractRows(run, run.table.pack(b.data(), kColumns, kDepth, kColumns, packed.data()), false);
}

void PackTransposed(Run& run) {
  constexpr int64_t kBlocks = 4;
  const Floats b = run.Draw(kDepth * kColumns);
  Floats packed(PackedFloats(kDepth, kColumns));
  ContractRows(run,
               run.table.pack_transposed(b.data(), kDepth / kBlocks, kBlocks, kDepth / kBlocks,
                                         kColumns, packed.data()),
               false);
}

// Two shards, the first of more than a chunk.
void Columns(Run& run) {
  constexpr RowRun kRuns[] = {{0, 0, 384, true, -1},
                              {384 * kRows, 384 * kColumns, 36, true, 0},
                              {420 * kRows, 420 * kColumns, 80, true, 1}};
  const Floats x = run.Draw(kDepth * kRows);
  const Floats dy = run.Draw(kDepth * kColumns);
  Floats w(kSize);
  run.table.contract_columns({x.data(), dy.data(), kRuns, std::ssize(kRuns), kRows, kColumns, kRows,
                              kColumns, w.data(), kColumns, false});
  run.Add(w);
}

void ColumnsInGroups(Run& run) {
  constexpr RowRun kRun = {0, 0, kDepth, true, 0};
  const Floats x = run.Draw(kDepth * 2 * kRows);
  const Floats dy = run.Draw(kDepth * kColumns);
  Floats w(kSize);
  run.table.contract_columns({x.data(), dy.data(), &kRun, 1, 2 * kRows, kColumns, kRows, kColumns,
                              w.data(), kColumns, false, /*group=*/3, /*group_step=*/5});
  run.Add(w);
}

void RowsDepthwise(Run& run) {
  constexpr Segment kSegment = {0, 0, kTaps, true};
  const Floats a = run.Draw(kSize * kTaps);
  const Floats b = run.Draw(kTaps * kColumns);
  const Floats bias = run.Draw(kColumns);
  Floats y(kSize);
  run.table.contract_rows_depthwise({.a = {a.data(), 1, kTaps * kColumns, 0},
                                     .b = {b.data(), kColumns, kColumns},
                                     .segments = &kSegment,
                                     .segment_count = 1,
                                     .y = {y.data(), 1, kColumns, 0},
                                     .bias = bias.data(),
                                     .relu = false},
                                    0, kRows);
  run.Add(y);
}

void ColumnsDepthwise(Run& run) {
  constexpr RowRun kRun = {0, 0, kRows, true, 0};
  const Floats x = run.Draw(kSize * kTaps);
  const Floats dy = run.Draw(kSize);
  Floats w(kTaps * kColumns);
  run.table.contract_columns_depthwise({x.data(), dy.data(), &kRun, 1, kTaps * kColumns, kColumns,
                                        kTaps, kColumns, w.data(), kColumns, false});
  run.Add(w);
}

void BlockMoments(Run& run) {
  const Floats x = run.Draw(kBlockRows * kColumns);
  Floats s1(kColumns), s2(kColumns);
  run.table.block_moments(x.data(), kBlockRows, kColumns, s1.data(), s2.data());
  run.Add(s1);
  run.Add(s2);
}

void BlockSums(Run& run) {
  const Floats dy = run.Draw(kSize), x = run.Draw(kSize), m = run.Draw(kColumns);
  Floats s1(kColumns), s2(kColumns);
  run.table.block_sums(dy.data(), x.data(), {m.data()}, kRows, kColumns, s1.data(), s2.data());
  run.Add(s1);
  run.Add(s2);
}

void Normalize(Run& run) {
  const Floats x = run.Draw(kSize), m = run.Draw(kColumns), a = run.Draw(kColumns);
  const Floats b = run.Draw(kColumns);
  Floats y(kSize);
  run.table.normalize(x.data(), kRows, kColumns, {m.data(), a.data(), b.data()}, /*relu=*/false,
                      y.data());
  run.Add(y);
}

void NormalizeBackward(Run& run) {
  const Floats dy = run.Draw(kSize), x = run.Draw(kSize), m = run.Draw(kColumns);
  const Floats k0 = run.Draw(kColumns), k1 = run.Draw(kColumns), k2 = run.Draw(kColumns);
  Floats dx(kSize);
  run.table.normalize_backward(dy.data(), x.data(), kRows, kColumns, {m.data()}, k0.data(),
                               k1.data(), k2.data(), dx.data());
  run.Add(dx);
}

// The two whose dy goes through a ReLU first.
void BlockSumsThroughRelu(Run& run) {
  const Floats dy = run.Draw(kSize), x = run.Draw(kSize), m = run.Draw(kColumns);
  const Floats a = run.Draw(kColumns), b = run.Draw(kColumns);
  Floats s1(kColumns), s2(kColumns);
  run.table.block_sums(dy.data(), x.data(), {m.data(), a.data(), b.data()}, kRows, kColumns,
                       s1.data(), s2.data());
  run.Add(s1);
  run.Add(s2);
}

void NormalizeBackwardThroughRelu(Run& run) {
  const Floats dy = run.Draw(kSize), x = run.Draw(kSize), m = run.Draw(kColumns);
  const Floats a = run.Draw(kColumns), b = run.Draw(kColumns);
  const Floats k0 = run.Draw(kColumns), k1 = run.Draw(kColumns), k2 = run.Draw(kColumns);
  Floats dx(kSize);
  run.table.normalize_backward(dy.data(), x.data(), kRows, kColumns, {m.data(), a.data(), b.data()},
                               k0.data(), k1.data(), k2.data(), dx.data());
  run.Add(dx);
}

constexpr PoolGeometry kPool = {.height = 7,
                                .width = 6,
                                .channels = kColumns,
                                .out_height = 3,
                                .out_width = 5,
                                .pool_height = 3,
                                .pool_width = 2,
                                .stride_height = 2,
                                .stride_width = 1};
constexpr int64_t kPoolIn = kPool.height * kPool.width * kColumns;
constexpr int64_t kPoolOut = kPool.out_height * kPool.out_width * kColumns;

void MaxPool(Run& run) {
  const Floats x = run.Draw(kPoolIn);
  Floats y(kPoolOut);
  std::vector<std::byte> winners(kPoolOut);
  run.table.max_pool(kPool, x.data(), y.data(), winners.data());
  run.Add(y);
  std::vector<int32_t> taps(kPoolOut);
  std::ranges::transform(winners, taps.begin(),
                         [](std::byte b) { return std::to_integer<int32_t>(b); });
  run.Add(taps);
}

void MaxPoolBackward(Run& run) {
  const Floats dy = run.Draw(kPoolOut);
  std::vector<std::byte> winners(kPoolOut);
  for (std::byte& winner : winners) winner = static_cast<std::byte>(run.Bits() % 6);
  Floats dx(kPoolIn);
  run.table.max_pool_backward(kPool, winners.data(), dy.data(), dx.data());
  run.Add(dx);
}

void AveragePool(Run& run) {
  const Floats x = run.Draw(kSize);
  Floats y(kColumns);
  run.table.average_pool(kRows, kColumns, x.data(), y.data());
  run.Add(y);
}

void AveragePoolBackward(Run& run) {
  const Floats dy = run.Draw(kColumns);
  Floats dx(kSize);
  run.table.average_pool_backward(kRows, kColumns, dy.data(), dx.data());
  run.Add(dx);
}

void AddVectors(Run& run) {
  const Floats a = run.Draw(kSize), b = run.Draw(kSize);
  Floats y(kSize);
  run.table.add(kSize, a.data(), b.data(), /*relu=*/false, y.data());
  run.Add(y);
}

constexpr ActivationFunction kActivations[] = {{Activation::kLinear},
                                               {Activation::kRelu},
                                               {Activation::kSigmoid},
                                               {Activation::kTanh},
                                               {Activation::kSoftmax}};
// Those that came later have a case of their own: a stored answer never changes.
constexpr ActivationFunction kMoreActivations[] = {
    {.kind = Activation::kRectifier, .negative_slope = 0.2f, .max_value = 6.0f},
    {.kind = Activation::kElu, .alpha = 1.67326324f, .scale = 1.05070099f},
    {Activation::kGelu},
    {Activation::kGeluTanh},
    {Activation::kSilu},
    {Activation::kHardSigmoid},
    {Activation::kSoftplus}};

void ActivateAll(Run& run, std::span<const ActivationFunction> functions) {
  for (const ActivationFunction& f : functions) {
    const Floats x = run.Draw(kSize, 30.0f);
    Floats y(kSize);
    run.table.activate(f, kRows, kColumns, x.data(), y.data());
    run.Add(y);
  }
}

void ActivateAllBackward(Run& run, std::span<const ActivationFunction> functions, float scale) {
  for (const ActivationFunction& f : functions) {
    const Floats y = run.Draw(kSize, scale), dy = run.Draw(kSize);
    Floats dx(kSize);
    run.table.activate_backward(f, kRows, kColumns, y.data(), dy.data(), dx.data());
    run.Add(dx);
  }
}

void Activate(Run& run) { ActivateAll(run, kActivations); }
void ActivateMore(Run& run) { ActivateAll(run, kMoreActivations); }
void ActivateBackward(Run& run) { ActivateAllBackward(run, kActivations, 1.0f); }
void ActivateMoreBackward(Run& run) { ActivateAllBackward(run, kMoreActivations, 30.0f); }

void NormalizeRows(Run& run) {
  const Floats x = run.Draw(kSize), gamma = run.Draw(kColumns), beta = run.Draw(kColumns);
  Floats normalized(kSize), inverses(kRows), y(kSize);
  run.table.normalize_rows(x.data(), kRows, kColumns, 1e-3, gamma.data(), beta.data(),
                           normalized.data(), inverses.data(), y.data());
  run.Add(normalized);
  run.Add(inverses);
  run.Add(y);
}

void NormalizeRowsBackward(Run& run) {
  const Floats dy = run.Draw(kSize), normalized = run.Draw(kSize), gamma = run.Draw(kColumns);
  const Floats inverses = run.DrawPositive(kRows);
  Floats dx(kSize);
  run.table.normalize_rows_backward(dy.data(), normalized.data(), kRows, kColumns, gamma.data(),
                                    inverses.data(), dx.data());
  run.Add(dx);
}

void CrossEntropy(Run& run) {
  const Floats logits = run.Draw(kSize, 30.0f);
  std::vector<int32_t> labels(kRows);
  for (int32_t& label : labels) label = static_cast<int32_t>(run.Bits() % kColumns);
  Floats losses(kRows), gradient(kSize);
  run.table.cross_entropy(kRows, kColumns, logits.data(), labels.data(), 0.1f, losses.data(),
                          gradient.data());
  run.Add(losses);
  run.Add(gradient);
}

// The two losses with a target for every output.
void TargetLoss(Run& run, decltype(KernelTable::soft_cross_entropy) loss) {
  const Floats logits = run.Draw(kSize, 30.0f), targets = run.DrawPositive(kSize);
  Floats losses(kRows), gradient(kSize);
  loss(kRows, kColumns, logits.data(), targets.data(), {0.9f, 0.01f}, 0.1f, losses.data(),
       gradient.data());
  run.Add(losses);
  run.Add(gradient);
}

void SoftCrossEntropy(Run& run) { TargetLoss(run, run.table.soft_cross_entropy); }
void BinaryCrossEntropy(Run& run) { TargetLoss(run, run.table.binary_cross_entropy); }

void ScaleUint8(Run& run) {
  std::vector<uint8_t> bytes(kSize);
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(run.Bits());
  Floats x(kSize);
  run.table.scale_uint8(bytes.data(), kSize, 1.0f / 255.0f, -0.1f, x.data());
  run.Add(x);
}

void ScaleFloat(Run& run) {
  const Floats values = run.Draw(kSize);
  Floats x(kSize);
  run.table.scale_float(values.data(), kSize, 0.3f, 0.0f, x.data());
  run.Add(x);
}

void Adam(Run& run) {
  const Floats gradient = run.Draw(kSize);
  Floats m = run.Draw(kSize), v = run.DrawPositive(kSize), w = run.Draw(kSize);
  run.table.adam({1e-3f, 0.1f, 1e-3f, 1e-7f}, kSize, gradient.data(), m.data(), v.data(), w.data());
  run.Add(m);
  run.Add(v);
  run.Add(w);
}

void Sgd(Run& run) {
  const Floats gradient = run.Draw(kSize);
  Floats velocity = run.Draw(kSize), w = run.Draw(kSize);
  for (bool nesterov : {false, true}) {
    run.table.sgd({0.01f, 0.9f, nesterov}, kSize, gradient.data(), velocity.data(), w.data());
    run.Add(velocity);
    run.Add(w);
  }
}

void RmsProp(Run& run) {
  const Floats gradient = run.Draw(kSize);
  Floats square = run.DrawPositive(kSize), average = run.Draw(kSize), change = run.Draw(kSize);
  Floats w = run.Draw(kSize);
  for (bool all : {false, true}) {
    run.table.rmsprop({1e-3f, 0.1f, 0.9f, 1e-7f}, kSize, gradient.data(), square.data(),
                      all ? average.data() : nullptr, all ? change.data() : nullptr, w.data());
    run.Add(square);
    run.Add(average);
    run.Add(change);
    run.Add(w);
  }
}

// A case's inputs depend on its place, so what is new comes last. The tests print the list as it
// should be when an answer changes.
struct Case {
  const char* kernel;
  void (*run)(Run& run);
  const char* answer;
};
constexpr Case kCases[] = {
    {"pack", Pack, "845a522371fd39b6"},
    {"pack_transposed", PackTransposed, "0574adcfa8f6a7a5"},
    {"contract_rows", Rows, "c70b242d934bd7c9"},
    {"contract_columns", Columns, "68cdff71ae6e1e08"},
    {"contract_rows_depthwise", RowsDepthwise, "807e9469fd846b7f"},
    {"contract_columns_depthwise", ColumnsDepthwise, "489b3d3396336594"},
    {"block_moments", BlockMoments, "1a4c929dc7d2d676"},
    {"block_sums", BlockSums, "370e9a81c0220c14"},
    {"normalize", Normalize, "8d17857791079f2d"},
    {"normalize_backward", NormalizeBackward, "7857f542d73e77d8"},
    {"max_pool", MaxPool, "0e110fe0ac32d418"},
    {"max_pool_backward", MaxPoolBackward, "aaa15a2580499a3e"},
    {"average_pool", AveragePool, "07bf0168c02611da"},
    {"average_pool_backward", AveragePoolBackward, "e5bf6ca3986c7862"},
    {"add", AddVectors, "bbfd35cfd88b30a9"},
    {"activate", Activate, "e9ee1f108e54354c"},
    {"activate_backward", ActivateBackward, "446054158592db9e"},
    {"cross_entropy", CrossEntropy, "1a803914ba5c0db8"},
    {"scale_uint8", ScaleUint8, "5502457f25140516"},
    {"scale_float", ScaleFloat, "57273d2ad2cf3a53"},
    {"adam", Adam, "43b201f56e1ffc2b"},
    {"sgd", Sgd, "e9ebee62d2850179"},
    {"rmsprop", RmsProp, "0bff362ef471c54d"},
    {"soft_cross_entropy", SoftCrossEntropy, "cd073d9c5909ad90"},
    {"binary_cross_entropy", BinaryCrossEntropy, "04ada29801eec416"},
    {"activate", ActivateMore, "3816e1f4f1e14946"},
    {"activate_backward", ActivateMoreBackward, "6c285dcae8cea694"},
    {"normalize_rows", NormalizeRows, "98da43f458c62217"},
    {"normalize_rows_backward", NormalizeRowsBackward, "1364ece3b116e276"},
    {"block_sums", BlockSumsThroughRelu, "885411f75afa8e78"},
    {"normalize_backward", NormalizeBackwardThroughRelu, "1e43aca6b157f7de"},
    {"contract_columns", ColumnsInGroups, "efc6c384ca7d6165"},
};

consteval size_t KernelsWithACase() {
  size_t count = 0;
  for (size_t i = 0; i < std::size(kCases); ++i) {
    const std::string_view name = kCases[i].kernel;
    count += std::none_of(kCases, kCases + i, [&](const Case& c) { return c.kernel == name; });
  }
  return count;
}
static_assert(sizeof(KernelTable) == (1 + KernelsWithACase()) * sizeof(void*),
              "every kernel has a case");

}  // namespace

std::vector<SelfTestResult> RunSelfTest(const KernelTable& kernels) {
  ResetFloatEnvironment();
  std::vector<SelfTestResult> results;
  for (const Case& c : kCases) {
    Run run(kernels, static_cast<uint32_t>(results.size()));
    c.run(run);
    results.push_back({c.kernel, c.answer, run.Hash()});
  }
  return results;
}

absl::Status SelfTest(const KernelTable& kernels) {
  std::string wrong;
  for (const SelfTestResult& result : RunSelfTest(kernels)) {
    if (result.hash == result.answer) continue;
    absl::StrAppend(&wrong, wrong.empty() ? "" : ", ", result.kernel, " gives ", result.hash,
                    " instead of ", result.answer);
  }
  if (wrong.empty()) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("this machine or build does not compute the bits of ", kContract,
                   " with the kernels for ", kernels.name, ": ", wrong));
}

}  // namespace lockstep::kernels
