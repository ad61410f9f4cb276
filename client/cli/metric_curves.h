#ifndef LOCKSTEP_CLIENT_CLI_METRIC_CURVES_H_
#define LOCKSTEP_CLIENT_CLI_METRIC_CURVES_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "client/cli/terminal.h"
#include "lockstep/v1/event.pb.h"

namespace lockstep {

// The values of a series of any length in bounded memory: points that are each the mean of so many
// values in a row.
class SparkCurve {
 public:
  void Add(double value);
  // At most `columns` points, oldest first, the last up to the newest value.
  std::vector<double> Points(int columns) const;

 private:
  static constexpr size_t kMostPoints = 240;

  std::vector<double> points_;
  int64_t values_per_point_ = 1;
  double sum_ = 0;  // of the values after the last point
  int64_t count_ = 0;
};

// How each metric of a job went: what a watch ends with.
class MetricCurves {
 public:
  void Apply(const v1::Event& event);

  // A line a metric: its curve (by step records, where they have it, else by epochs), its newest
  // value and, if an earlier epoch had a better one, that. A validation metric comes after its
  // training one; all curves are over the same time.
  //   loss          █▆▅▄▃▃▂▂▁▁▁▁  0.3121
  //   val_loss      █▅▄▃▃▂▁▁▁▁▂▂  0.3310  best 0.3102 in epoch 3
  // Never wider than style.width; what does not fit goes in this order: the best values, the
  // curves, the ends of names.
  std::vector<std::string> Table(const LineStyle& style) const;

 private:
  struct Best {
    double value;
    int64_t epoch;
  };
  struct Metric {
    std::string name;
    bool by_steps = false;
    SparkCurve curve;
    double newest = 0;
    std::optional<Best> best;  // over epochs; of a metric whose better direction is known
  };

  Metric& Find(const std::string& name);
  static std::string BestText(const Metric& metric);

  std::vector<Metric> metrics_;            // in the table's order
  std::map<std::string, size_t> by_name_;  // in metrics_
};

}  // namespace lockstep

#endif  // LOCKSTEP_CLIENT_CLI_METRIC_CURVES_H_
