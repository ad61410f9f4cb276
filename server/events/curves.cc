#include "server/events/curves.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace lockstep {
namespace {

bool Less(const CurvePoint& a, const CurvePoint& b) {
  if (std::isnan(a.value)) return false;
  return std::isnan(b.value) || a.value < b.value;
}

bool Earlier(const CurvePoint& a, const CurvePoint& b) { return a.step < b.step; }

}  // namespace

// Of equal points the first and the last.
Curve::Bucket Curve::Merge(const Bucket& a, const Bucket& b) {
  return {Less(b.least, a.least) ? b.least : a.least,
          Less(b.greatest, a.greatest) ? a.greatest : b.greatest, a.sum + b.sum,
          a.weight + b.weight};
}

void Curve::Add(const CurvePoint& point) {
  newest_ = point;
  const Bucket alone = {point, point, point.value, 1};
  if (!buckets_.empty() && in_last_ < bucket_size_) {
    buckets_.back() = Merge(buckets_.back(), alone);
    ++in_last_;
    return;
  }
  if (buckets_.size() == kBuckets) {
    for (size_t i = 0; i < kBuckets / 2; ++i) {
      buckets_[i] = Merge(buckets_[2 * i], buckets_[2 * i + 1]);
    }
    buckets_.resize(kBuckets / 2);
    bucket_size_ *= 2;
  }
  buckets_.push_back(alone);
  in_last_ = 1;
}

std::vector<ShownPoint> Curve::Points(int limit, int64_t first_step, int64_t last_step) const {
  const auto outside = [&](const CurvePoint& point) {
    return point.step < first_step || point.step > last_step;
  };
  std::vector<Bucket> parts;
  for (Bucket bucket : buckets_) {
    if (outside(bucket.least)) bucket.least = bucket.greatest;
    if (outside(bucket.greatest)) bucket.greatest = bucket.least;
    if (!outside(bucket.least)) parts.push_back(bucket);
  }
  const bool with_newest = !buckets_.empty() && !outside(newest_);
  std::vector<ShownPoint> points;
  const auto room = static_cast<size_t>(std::max(limit, 0));
  if (parts.empty() && with_newest && room > 0) points.push_back({newest_, newest_.value});
  if (parts.empty() || room == 0) return points;

  const auto add = [&](const Bucket& bucket) {
    const auto [first, last] = std::minmax(bucket.least, bucket.greatest, Earlier);
    const double mean = bucket.sum / static_cast<double>(bucket.weight);
    points.push_back({first, mean});
    if (first.step < last.step) points.push_back({last, mean});
  };
  for (const Bucket& bucket : parts) add(bucket);
  ShownPoint newest = points.back();
  if (with_newest) static_cast<CurvePoint&>(newest) = newest_;
  if (points.back().step < newest.step) points.push_back(newest);
  if (points.size() <= room) return points;

  points.clear();
  // One place is the newest's; two are each group's.
  const size_t groups = (room - 1) / 2;
  for (size_t i = 0; i < groups; ++i) {
    const auto begin = parts.begin() + static_cast<std::ptrdiff_t>(i * parts.size() / groups);
    const auto end = parts.begin() + static_cast<std::ptrdiff_t>((i + 1) * parts.size() / groups);
    if (begin != end) add(std::accumulate(begin + 1, end, *begin, Merge));
  }
  if (points.empty() || points.back().step < newest.step) points.push_back(newest);
  return points;
}

void Curve::Save(v1::Curve* saved) const {
  const auto save = [&](const CurvePoint& point) {
    saved->add_step(point.step);
    saved->add_time(point.time_s);
    saved->add_value(point.value);
  };
  for (const Bucket& bucket : buckets_) {
    save(bucket.least);
    save(bucket.greatest);
    saved->add_sum(bucket.sum);
    saved->add_weight(bucket.weight);
  }
  save(newest_);
  saved->set_complete(complete());
}

std::optional<Curve> Curve::Load(const v1::Curve& saved) {
  const int points = saved.step_size();
  const int buckets = saved.weight_size();
  if (buckets == 0 || points != 2 * buckets + 1 || saved.time_size() != points ||
      saved.value_size() != points || saved.sum_size() != buckets) {
    return std::nullopt;
  }
  const auto load = [&](int i) -> CurvePoint {
    return {saved.step(i), saved.time(i), saved.value(i)};
  };
  Curve curve;
  for (int i = 0; i < buckets; ++i) {
    curve.buckets_.push_back({load(2 * i), load(2 * i + 1), saved.sum(i), saved.weight(i)});
  }
  curve.newest_ = load(points - 1);
  curve.bucket_size_ = saved.complete() ? 1 : std::numeric_limits<int64_t>::max();
  return curve;
}

void Curves::AddPoint(std::string_view name, int64_t step, double time_s, double value) {
  auto curve = curves_.find(name);
  if (curve == curves_.end()) curve = curves_.emplace(name, Curve()).first;
  curve->second.Add({step, time_s, value});
}

void Curves::Add(const v1::Event& event) {
  last_sequence_ = event.sequence();
  const double time_s = static_cast<double>(event.time().seconds()) + 1e-9 * event.time().nanos();
  const auto add_timing = [&](int64_t step, const v1::Timing& timing) {
    AddPoint("samples_per_second", step, time_s, timing.samples_per_second());
    AddPoint("step_ms", step, time_s, timing.step_ms());
    AddPoint("compute_ms", step, time_s, timing.compute_ms());
    AddPoint("wait_ms", step, time_s, timing.wait_ms());
    AddPoint("reduce_ms", step, time_s, timing.reduce_ms());
  };
  switch (event.kind_case()) {
    case v1::Event::kStep: {
      const v1::StepRecord& record = event.step();
      for (const v1::MetricSummary& metric : record.metrics()) {
        AddPoint(metric.name(), record.step(), time_s, metric.mean());
      }
      AddPoint("learning_rate", record.step(), time_s, record.learning_rate());
      AddPoint("gradient_norm", record.step(), time_s, record.gradient_norm());
      if (record.has_timing()) add_timing(record.step(), record.timing());
      return;
    }
    case v1::Event::kEpoch:
      for (const v1::Metric& metric : event.epoch().metrics()) {
        const bool validation = metric.name().starts_with("val_");
        AddPoint(validation ? metric.name() : absl::StrCat("epoch_", metric.name()),
                 event.epoch().step(), time_s, metric.value());
      }
      return;
    case v1::Event::kBatchNorm: {
      const v1::BatchNormReport& report = event.batch_norm();
      AddPoint("batch_norm/training_loss", report.step(), time_s, report.training_loss());
      AddPoint("batch_norm/inference_loss", report.step(), time_s, report.inference_loss());
      for (const v1::BatchNormLayer& layer : report.layers()) {
        const std::string prefix = absl::StrCat("batch_norm/", layer.layer());
        AddPoint(absl::StrCat(prefix, "/mean_drift"), report.step(), time_s, layer.mean_drift());
        AddPoint(absl::StrCat(prefix, "/dead_channels"), report.step(), time_s,
                 static_cast<double>(layer.dead_channels()));
      }
      return;
    }
    default:
      return;
  }
}

const Curve* Curves::Find(std::string_view name) const {
  const auto curve = curves_.find(name);
  return curve == curves_.end() ? nullptr : &curve->second;
}

v1::Curves Curves::Save() const {
  v1::Curves saved;
  for (const auto& [name, curve] : curves_) curve.Save(&(*saved.mutable_curves())[name]);
  saved.set_last_sequence(last_sequence_);
  return saved;
}

std::optional<Curves> Curves::Load(const v1::Curves& saved) {
  Curves curves;
  for (const auto& [name, curve] : saved.curves()) {
    std::optional<Curve> loaded = Curve::Load(curve);
    if (!loaded.has_value()) return std::nullopt;
    curves.curves_.emplace(name, *std::move(loaded));
  }
  curves.last_sequence_ = saved.last_sequence();
  return curves;
}

}  // namespace lockstep
