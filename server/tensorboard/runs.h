#ifndef LOCKSTEP_SERVER_TENSORBOARD_RUNS_H_
#define LOCKSTEP_SERVER_TENSORBOARD_RUNS_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "lockstep/v1/job.pb.h"
#include "server/events/event_log.h"
#include "server/jobs/job_manager.h"
#include "server/tensorboard/projection.h"

namespace lockstep {

// Where in a log the values of a time series are, in bounded memory: when there are too many, every
// other one is forgotten. The newest is always there.
class Places {
 public:
  struct Place {
    int64_t sequence = 0;  // of the event; 0: what comes before the first
    int64_t step = 0;
    double wall_time = 0;
  };

  void Add(const Place& place);
  // At most `limit` of them, ascending, spread evenly, the newest among them.
  std::vector<Place> Pick(int64_t limit) const;
  const Place& newest() const { return newest_; }

 private:
  static constexpr size_t kMax = 1024;

  std::vector<Place> kept_;  // of all, each whose number is a multiple of stride_
  int64_t stride_ = 1;
  int64_t count_ = 0;
  Place newest_;
};

// Where in a job's log the histograms and texts are. Not thread-safe.
class Run {
 public:
  Run(v1::Job job, std::shared_ptr<EventLog> log);

  // Takes in what the log has beyond the last call's.
  absl::Status CatchUp();

  const v1::Job& job() const { return job_; }

  // The tensors that one of TensorBoard's plugins shows.
  struct Tensors {
    std::map<std::string, tb::SummaryMetadata> tags;
    Places places;
  };
  const std::map<std::string, Tensors, std::less<>>& tensors() const {
    return tensors_;
  }  // by plugin
  // Reads the events at a plugin's places again: `take` gets each value of the plugin's, in their
  // order, and says what is in the way of going on, if anything.
  absl::Status ReadTensors(
      std::string_view plugin, int64_t limit,
      absl::FunctionRef<absl::Status(const Places::Place&, const tb::Summary::Value&)> take) const;

 private:
  void Index(const std::vector<tb::Event>& events, int64_t sequence);

  const v1::Job job_;
  const std::shared_ptr<EventLog> log_;
  int64_t next_sequence_ = 1;
  std::map<std::string, Tensors, std::less<>> tensors_;
};

// The jobs that TensorBoard is shown, and what is known of those it has looked at lately, at most
// kMost of them. Not thread-safe.
class Runs {
 public:
  static constexpr int kMost = 100;

  explicit Runs(JobManager* jobs) : jobs_(jobs) {}

  // Those of these names, without names the newest; at most kMost.
  using Names = std::optional<std::set<std::string>>;
  absl::StatusOr<std::vector<v1::Job>> Jobs(const Names& names) const;
  // The same as runs with all that their logs have by now. They are there until the next call.
  absl::StatusOr<std::vector<const Run*>> Find(const Names& names);

 private:
  struct Entry {
    std::unique_ptr<Run> run;
    int64_t used = 0;  // the number of the call that asked for it last
  };

  absl::StatusOr<const Run*> Update(v1::Job job);

  JobManager* const jobs_;
  std::map<std::string, Entry> entries_;
  int64_t calls_ = 0;
};

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_TENSORBOARD_RUNS_H_
