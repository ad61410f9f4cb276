#ifndef LOCKSTEP_SERVER_EVENTS_CURVES_H_
#define LOCKSTEP_SERVER_EVENTS_CURVES_H_

#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lockstep/v1/curves.pb.h"
#include "lockstep/v1/event.pb.h"

namespace lockstep {

struct CurvePoint {
  int64_t step = 0;
  double time_s = 0;  // since 1970
  double value = 0;

  friend bool operator==(const CurvePoint&, const CurvePoint&) = default;
};

// A point that was logged, for itself and for its neighbours that are left out.
struct ShownPoint : CurvePoint {
  double mean = 0;  // of the values of all of them

  friend bool operator==(const ShownPoint&, const ShownPoint&) = default;
};

// A quantity over the steps of a job, in bounded memory however long the job is. Its points lie in
// buckets of equally many, of which only the least and the greatest are kept: what is shown are
// points that were logged, and no extreme is lost. When the buckets are full, neighbours become
// one. A NaN counts as greater than any number. Not thread-safe.
class Curve {
 public:
  // `point.step` is beyond all before it.
  void Add(const CurvePoint& point);

  // At most `limit` points with steps in [first_step, last_step], ascending; the newest of them is
  // always there, of the others those that are least or greatest among their neighbours.
  std::vector<ShownPoint> Points(int limit,
                                 int64_t first_step = std::numeric_limits<int64_t>::min(),
                                 int64_t last_step = std::numeric_limits<int64_t>::max()) const;

  // No points were left out: there are none beside those that Points can give.
  bool complete() const { return bucket_size_ <= 2; }
  const CurvePoint& newest() const { return newest_; }

  void Save(v1::Curve* saved) const;
  // A curve of which Points() gives what it gave before Save; nothing if the columns do not fit
  // together. Nothing can be added to it.
  static std::optional<Curve> Load(const v1::Curve& saved);

 private:
  static constexpr size_t kBuckets = 1024;

  struct Bucket {
    CurvePoint least;
    CurvePoint greatest;
    double sum = 0;      // of the values
    int64_t weight = 0;  // how many they are
  };
  static Bucket Merge(const Bucket& a, const Bucket& b);

  std::vector<Bucket> buckets_;  // none empty
  int64_t bucket_size_ = 1;      // points in each but the last
  int64_t in_last_ = 0;          // points in the last
  CurvePoint newest_;            // if there are buckets
};

// All curves of a job's log, by name:
//   loss, accuracy, ...            means of step records
//   val_loss, ...                  the validation set's, of epoch records
//   epoch_loss, ...                the training set's, of epoch records
//   learning_rate, gradient_norm, samples_per_second, step_ms, compute_ms, wait_ms, reduce_ms
//   batch_norm/training_loss, batch_norm/inference_loss, batch_norm/LAYER/mean_drift,
//   batch_norm/LAYER/dead_channels of BatchNorm reports
// Not thread-safe.
class Curves {
 public:
  // The event after `last_sequence()`.
  void Add(const v1::Event& event);

  const std::map<std::string, Curve, std::less<>>& all() const { return curves_; }
  // Null when the job has no such curve (yet).
  const Curve* Find(std::string_view name) const;
  // Of the newest event; 0: none.
  int64_t last_sequence() const { return last_sequence_; }

  v1::Curves Save() const;
  static std::optional<Curves> Load(const v1::Curves& saved);

 private:
  void AddPoint(std::string_view name, int64_t step, double time_s, double value);

  std::map<std::string, Curve, std::less<>> curves_;
  int64_t last_sequence_ = 0;
};

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_EVENTS_CURVES_H_
