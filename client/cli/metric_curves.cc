#include "client/cli/metric_curves.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <string_view>

#include "client/cli/progress_line.h"

namespace lockstep {
namespace {

constexpr int kWidestCurve = 60;
// A curve of fewer columns shows nothing; it gives way to no best value when it has so many.
constexpr int kLeastCurve = 4;
constexpr int kGoodCurve = 10;
constexpr std::string_view kValidation = "val_";

// The metrics that should fall and those that should grow, by how their names end.
bool Falls(std::string_view name) {
  return name.ends_with("loss") || name.ends_with("mae") || name.ends_with("rmse");
}
bool Grows(std::string_view name) {
  return name.ends_with("accuracy") || name.ends_with("auc") || name.ends_with("precision") ||
         name.ends_with("recall") || name.ends_with("f1");
}

double Mean(const double* begin, const double* end) {
  return std::accumulate(begin, end, 0.0) / static_cast<double>(end - begin);
}

// `points` drawn over so many columns, each for as long as it was the newest.
std::vector<double> Stretch(const std::vector<double>& points, int columns) {
  std::vector<double> stretched(columns);
  for (int i = 0; i < columns; ++i) stretched[i] = points[i * points.size() / columns];
  return stretched;
}

}  // namespace

void SparkCurve::Add(double value) {
  sum_ += value;
  if (++count_ < values_per_point_) return;
  points_.push_back(sum_ / static_cast<double>(count_));
  sum_ = 0;
  count_ = 0;
  if (points_.size() < kMostPoints) return;
  for (size_t i = 0; i < kMostPoints / 2; ++i) {
    points_[i] = (points_[2 * i] + points_[2 * i + 1]) / 2;
  }
  points_.resize(kMostPoints / 2);
  values_per_point_ *= 2;
}

std::vector<double> SparkCurve::Points(int columns) const {
  std::vector<double> points = points_;
  if (count_ > 0) points.push_back(sum_ / static_cast<double>(count_));
  const auto most = static_cast<size_t>(columns);
  if (points.size() <= most) return points;
  std::vector<double> fewer(most);
  for (size_t i = 0; i < most; ++i) {
    fewer[i] = Mean(points.data() + i * points.size() / most,
                    points.data() + (i + 1) * points.size() / most);
  }
  return fewer;
}

MetricCurves::Metric& MetricCurves::Find(const std::string& name) {
  const auto [found, fresh] = by_name_.emplace(name, metrics_.size());
  if (!fresh) return metrics_[found->second];
  const auto training =
      name.starts_with(kValidation)
          ? std::ranges::find(metrics_, name.substr(kValidation.size()), &Metric::name)
          : metrics_.end();
  const auto place = training == metrics_.end() ? training : training + 1;
  Metric& metric = *metrics_.insert(place, Metric{.name = name});
  for (size_t i = 0; i < metrics_.size(); ++i) by_name_[metrics_[i].name] = i;
  return metric;
}

void MetricCurves::Apply(const v1::Event& event) {
  for (const v1::MetricSummary& said : event.step().metrics()) {
    Metric& metric = Find(said.name());
    metric.by_steps = true;
    metric.curve.Add(said.mean());
    metric.newest = said.mean();
  }
  const int64_t epoch = event.epoch().epoch();
  for (const v1::Metric& said : event.epoch().metrics()) {
    Metric& metric = Find(said.name());
    if (!metric.by_steps) metric.curve.Add(said.value());
    metric.newest = said.value();
    const bool falls = Falls(said.name());
    if (!std::isfinite(said.value()) || (!falls && !Grows(said.name()))) continue;
    if (!metric.best ||
        (falls ? said.value() < metric.best->value : said.value() > metric.best->value)) {
      metric.best = Best{said.value(), epoch};
    }
  }
}

std::string MetricCurves::BestText(const Metric& metric) {
  if (!metric.best) return "";
  const std::string best = FormatMetric(metric.best->value);
  if (best == FormatMetric(metric.newest)) return "";
  return fmt::format("best {} in epoch {}", best, metric.best->epoch);
}

std::vector<std::string> MetricCurves::Table(const LineStyle& style) const {
  size_t name_columns = 0;
  size_t value_columns = 0;
  size_t best_columns = 0;
  size_t points = 0;
  for (const Metric& metric : metrics_) {
    name_columns = std::max(name_columns, metric.name.size());
    value_columns = std::max(value_columns, FormatMetric(metric.newest).size());
    best_columns = std::max(best_columns, BestText(metric).size());
    points = std::max(points, metric.curve.Points(kWidestCurve).size());
  }
  // What stands before and between: two columns each.
  const int room = style.width - static_cast<int>(value_columns) - 4;
  name_columns = std::min<size_t>(name_columns, std::max(room, 1));
  const int beside = room - static_cast<int>(name_columns) - 2;
  const int beside_best = beside - static_cast<int>(best_columns) - 2;
  // One value is no curve.
  int curve = points > 1 ? static_cast<int>(points) : 0;
  const bool bests = best_columns > 0 && beside_best >= std::min(curve, kGoodCurve);
  curve = std::min(curve, bests ? beside_best : beside);
  if (curve < std::min<int>(kLeastCurve, static_cast<int>(points))) curve = 0;

  std::vector<std::string> lines;
  for (const Metric& metric : metrics_) {
    std::string line = fmt::format("  {:<{}}", metric.name.substr(0, name_columns), name_columns);
    if (curve > 0) {
      line += "  " + Sparkline(Stretch(metric.curve.Points(curve), curve), style);
    }
    line += fmt::format("  {:>{}}", FormatMetric(metric.newest), value_columns);
    const std::string best = BestText(metric);
    if (bests && !best.empty()) line += "  " + best;
    lines.push_back(std::move(line));
  }
  return lines;
}

}  // namespace lockstep
