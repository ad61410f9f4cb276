#include "server/events/curves.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace lockstep {
namespace {

bool Less(const CurvePoint& a, const CurvePoint& b) {
  if (std::isnan(a.value)) return false;
  return std::isnan(b.value) || a.value < b.value;
}

}  // namespace

Curve::Bucket Curve::Merge(const Bucket& a, const Bucket& b) {
  return {Less(b.least, a.least) ? b.least : a.least,
          Less(a.greatest, b.greatest) ? b.greatest : a.greatest};
}

void Curve::Add(const CurvePoint& point) {
  newest_ = point;
  const Bucket alone = {point, point};
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

std::vector<CurvePoint> Curve::Points(int limit, int64_t first_step, int64_t last_step) const {
  std::vector<CurvePoint> points;
  const auto add = [&](const CurvePoint& point) {
    if (point.step < first_step || point.step > last_step) return;
    if (points.empty() || points.back().step < point.step) points.push_back(point);
  };
  const auto add_bucket = [&](const Bucket& bucket) {
    const bool rises = bucket.least.step < bucket.greatest.step;
    add(rises ? bucket.least : bucket.greatest);
    add(rises ? bucket.greatest : bucket.least);
  };
  for (const Bucket& bucket : buckets_) add_bucket(bucket);
  if (!buckets_.empty()) add(newest_);
  if (points.size() <= static_cast<size_t>(std::max(limit, 0))) return points;

  const std::vector<CurvePoint> all = std::move(points);
  points.clear();
  if (limit < 1) return points;
  // One place is the newest's; two are each group's.
  const size_t groups = static_cast<size_t>(limit - 1) / 2;
  for (size_t i = 0; i < groups; ++i) {
    const size_t begin = i * all.size() / groups;
    const size_t end = (i + 1) * all.size() / groups;
    Bucket group = {all[begin], all[begin]};
    for (size_t j = begin + 1; j < end; ++j) group = Merge(group, {all[j], all[j]});
    add_bucket(group);
  }
  add(all.back());
  return points;
}

void Curve::Save(v1::Curve* saved) const {
  for (const CurvePoint& point : Points(std::numeric_limits<int>::max())) {
    saved->add_step(point.step);
    saved->add_time(point.time_s);
    saved->add_value(point.value);
  }
  saved->set_complete(complete());
}

Curve Curve::Load(const v1::Curve& saved) {
  Curve curve;
  const int count = std::min({saved.step_size(), saved.time_size(), saved.value_size()});
  for (int i = 0; i < count; ++i) {
    curve.newest_ = {saved.step(i), saved.time(i), saved.value(i)};
    curve.buckets_.push_back({curve.newest_, curve.newest_});
  }
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

Curves Curves::Load(const v1::Curves& saved) {
  Curves curves;
  for (const auto& [name, curve] : saved.curves()) {
    curves.curves_.emplace(name, Curve::Load(curve));
  }
  curves.last_sequence_ = saved.last_sequence();
  return curves;
}

}  // namespace lockstep
