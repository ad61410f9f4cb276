#include "core/training/metrics.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/strip.h"

namespace lockstep {
namespace {

constexpr int64_t kBlock = 1024;
// Classes that precision, recall and f1 keep apart: their numbers are exact floats.
constexpr int64_t kMostCountedClasses = int64_t{1} << 20;

// A sample's numbers for the ROC curve.
struct Ranked {
  float score;
  float positive;  // 1 or 0
};

double Quotient(double a, double b) { return b == 0 ? 0 : a / b; }

// Counts pairs in integers, so the order of equal scores does not matter.
double AreaUnderRoc(std::span<const float> numbers) {
  std::vector<Ranked> samples(numbers.size() / 2);
  for (size_t i = 0; i < samples.size(); ++i) samples[i] = {numbers[2 * i], numbers[2 * i + 1]};
  std::sort(samples.begin(), samples.end(),
            [](const Ranked& a, const Ranked& b) { return a.score < b.score; });
  int64_t negatives = 0;
  int64_t positives = 0;
  int64_t half_pairs = 0;  // two for each pair in the right order, one for each tie
  for (size_t begin = 0, end; begin < samples.size(); begin = end) {
    int64_t tied[2] = {0, 0};
    for (end = begin; end < samples.size() && samples[end].score == samples[begin].score; ++end) {
      ++tied[samples[end].positive > 0];
    }
    half_pairs += tied[1] * (2 * negatives + tied[0]);
    negatives += tied[0];
    positives += tied[1];
  }
  return Quotient(static_cast<double>(half_pairs),
                  2.0 * static_cast<double>(negatives) * static_cast<double>(positives));
}

}  // namespace

double BlockMean(std::span<const float> values) {
  double total = 0;
  for (size_t begin = 0; begin < values.size(); begin += kBlock) {
    double block = 0;
    for (float value : values.subspan(begin, std::min<size_t>(kBlock, values.size() - begin))) {
      block += value;
    }
    total += block;
  }
  return total / static_cast<double>(values.size());
}

std::optional<Metric::Parsed> Metric::Parse(absl::string_view name) {
  constexpr std::pair<const char*, Kind> kKinds[] = {
      {"accuracy", Kind::kAccuracy}, {"auc", Kind::kAuc}, {"precision", Kind::kPrecision},
      {"recall", Kind::kRecall},     {"f1", Kind::kF1},   {"mae", Kind::kMae},
      {"rmse", Kind::kRmse}};
  for (const auto& [known, kind] : kKinds) {
    if (name == known) return Parsed{kind, 0};
  }
  int64_t top;
  if (absl::ConsumePrefix(&name, "top_") && absl::ConsumeSuffix(&name, "_accuracy") &&
      !name.empty() && name[0] >= '1' && name[0] <= '9' && absl::SimpleAtoi(name, &top)) {
    return Parsed{Kind::kTop, top};
  }
  return std::nullopt;
}

bool Metric::Exists(absl::string_view name) { return Parse(name).has_value(); }

std::optional<Metric> Metric::Make(absl::string_view name, kernels::Activation activation,
                                   int64_t columns) {
  const std::optional<Parsed> parsed = Parse(name);
  if (!parsed) return std::nullopt;
  const bool classes = activation == kernels::Activation::kSoftmax;
  const bool binary = activation == kernels::Activation::kSigmoid;
  bool fits = false;
  switch (parsed->kind) {
    case Kind::kAccuracy:
      fits = classes || binary;
      break;
    case Kind::kTop:
      fits = classes && parsed->top < columns;
      break;
    case Kind::kAuc:
      fits = binary && columns == 1;
      break;
    case Kind::kPrecision:
    case Kind::kRecall:
    case Kind::kF1:
      fits = (classes || binary) && columns <= kMostCountedClasses;
      break;
    case Kind::kMae:
    case Kind::kRmse:
      fits = !classes && !binary;
      break;
  }
  if (!fits) return std::nullopt;
  return Metric(name, *parsed, activation, columns);
}

Metric::Metric(absl::string_view name, Parsed parsed, kernels::Activation activation,
               int64_t columns)
    : name_(name),
      kind_(parsed.kind),
      top_(parsed.top),
      activation_(activation),
      columns_(columns) {
  switch (kind_) {
    case Kind::kAccuracy:
    case Kind::kTop:
    case Kind::kMae:
      of_ = Of::kMean;
      break;
    case Kind::kRmse:
      of_ = Of::kRoot;
      break;
    case Kind::kPrecision:
    case Kind::kRecall:
    case Kind::kF1:
      of_ = Of::kCounts;
      break;
    case Kind::kAuc:
      of_ = Of::kRanks;
      break;
  }
}

int64_t Metric::width() const {
  switch (of_) {
    case Of::kMean:
    case Of::kRoot:
      return 1;
    case Of::kCounts:
      return classes() ? 2 : 3;
    case Of::kRanks:
      return 2;
  }
  return 0;
}

void Metric::Measure(int64_t rows, const float* y, const Targets& targets, float* numbers) const {
  for (int64_t r = 0; r < rows; ++r, y += columns_, numbers += width()) {
    switch (of_) {
      case Of::kMean:
      case Of::kRoot:
        numbers[0] = MeasureMean(r, y, targets);
        break;
      case Of::kCounts:
        MeasureCounts(r, y, targets, numbers);
        break;
      case Of::kRanks:
        // What is not a number ranks below all that are.
        numbers[0] = std::isnan(y[0]) ? -std::numeric_limits<float>::infinity() : y[0];
        numbers[1] = static_cast<float>(targets.Class(r, 1));
        break;
    }
  }
}

float Metric::MeasureMean(int64_t r, const float* row, const Targets& targets) const {
  if (kind_ == Kind::kTop) {
    const float at_label = row[targets.Class(r, columns_)];
    const int64_t larger =
        std::count_if(row, row + columns_, [&](float v) { return !(v <= at_label); });
    return larger < top_ ? 1.0f : 0.0f;
  }
  if (classes()) {
    return std::max_element(row, row + columns_) - row == targets.Class(r, columns_) ? 1.0f : 0.0f;
  }
  const float* values = targets.values + r * columns_;
  float sum = 0.0f;
  for (int64_t j = 0; j < columns_; ++j) {
    const float d = row[j] - values[j];
    switch (kind_) {
      case Kind::kMae:
        sum += std::abs(d);
        break;
      case Kind::kRmse:
        sum = std::fma(d, d, sum);
        break;
      default:  // a logit above 0 is a probability above 1/2
        sum += (row[j] > 0.0f) == (values[j] > 0.5f) ? 1.0f : 0.0f;
    }
  }
  return sum / static_cast<float>(columns_);
}

// Classes: the predicted and the actual one. Binary: positives that were predicted rightly, all
// predicted and all actual ones.
void Metric::MeasureCounts(int64_t r, const float* row, const Targets& targets,
                           float* numbers) const {
  if (classes()) {
    numbers[0] = static_cast<float>(std::max_element(row, row + columns_) - row);
    numbers[1] = static_cast<float>(targets.Class(r, columns_));
    return;
  }
  const float* values = targets.values + r * columns_;
  std::fill_n(numbers, 3, 0.0f);
  for (int64_t j = 0; j < columns_; ++j) {
    const bool predicted = row[j] > 0.0f;
    const bool actual = values[j] > 0.5f;
    numbers[0] += predicted && actual ? 1.0f : 0.0f;
    numbers[1] += predicted ? 1.0f : 0.0f;
    numbers[2] += actual ? 1.0f : 0.0f;
  }
}

double Metric::Value(std::span<const float> numbers) const {
  switch (of_) {
    case Of::kMean:
      return BlockMean(numbers);
    case Of::kRoot:
      return std::sqrt(BlockMean(numbers));
    case Of::kCounts:
      return classes() ? MacroScore(numbers) : BinaryScore(numbers);
    case Of::kRanks:
      return AreaUnderRoc(numbers);
  }
  return 0;
}

int64_t Metric::ScratchBytes(int64_t samples) const {
  switch (of_) {
    case Of::kCounts:
      return classes() ? 3 * columns_ * static_cast<int64_t>(sizeof(double)) : 0;
    case Of::kRanks:
      return samples * static_cast<int64_t>(sizeof(Ranked));
    default:
      return 0;
  }
}

double Metric::Score(double hits, double predicted, double actual) const {
  switch (kind_) {
    case Kind::kPrecision:
      return Quotient(hits, predicted);
    case Kind::kRecall:
      return Quotient(hits, actual);
    default:
      return Quotient(2 * hits, predicted + actual);
  }
}

double Metric::MacroScore(std::span<const float> numbers) const {
  std::vector<double> hits(columns_), predicted(columns_), actual(columns_);
  for (size_t i = 0; i < numbers.size(); i += 2) {
    const auto guess = static_cast<int64_t>(numbers[i]);
    const auto truth = static_cast<int64_t>(numbers[i + 1]);
    predicted[guess] += 1;
    actual[truth] += 1;
    if (guess == truth) hits[truth] += 1;
  }
  double sum = 0;
  for (int64_t c = 0; c < columns_; ++c) sum += Score(hits[c], predicted[c], actual[c]);
  return sum / static_cast<double>(columns_);
}

double Metric::BinaryScore(std::span<const float> numbers) const {
  double counts[3] = {0, 0, 0};
  for (size_t i = 0; i < numbers.size(); ++i) counts[i % 3] += numbers[i];
  return Score(counts[0], counts[1], counts[2]);
}

}  // namespace lockstep
