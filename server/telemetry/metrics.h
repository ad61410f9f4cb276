#ifndef LOCKSTEP_SERVER_TELEMETRY_METRICS_H_
#define LOCKSTEP_SERVER_TELEMETRY_METRICS_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "lockstep/v1/event.pb.h"

namespace lockstep {

// What a server counts, for Prometheus; README.md lists every metric. Those to whom something
// happens say so here, in their own words; names, units and buckets are in metrics.cc alone.
//
// Thread-safe. Counting neither blocks nor calls anybody, so it may be done with any lock held.
class Metrics {
 public:
  Metrics();
  ~Metrics();
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  // For whoever is not told where to count: one that nobody reads. Never null.
  static Metrics* Unread();

  // RPCs. `method` is one of a fixed set: nothing a client can choose.
  void RpcReceived(std::string_view method, size_t bytes);
  void RpcSent(std::string_view method, size_t bytes);
  void RpcEnded(std::string_view method, absl::StatusCode code, absl::Duration took);

  // Jobs. A job that is not in the store is JOB_STATE_UNSPECIFIED.
  void SetJobs(v1::JobState state, int64_t jobs);
  void JobMoved(v1::JobState from, v1::JobState to);
  void JobStarted(absl::Duration queued);
  void Trained(int64_t steps, int64_t samples);
  void CheckpointStored(int64_t bytes);
  void AttemptLost();
  void EventsLogged(int64_t events, int64_t bytes);

  // Inference. `model` must be one that is served: each of the first 100 names has figures of its
  // own, the others, and the empty one, share "other".
  void InferenceEnded(std::string_view model, absl::StatusCode code);
  void InferenceWaited(absl::Duration queued);
  void InferencePass(int64_t samples);

  // The workers that are connected; each is counted once.
  struct Workers {
    int64_t idle = 0;
    int64_t busy = 0;
    int64_t held = 0;  // busy, but the disk does not take what they say
    // Of all that have a job: the longest time since the last message.
    absl::Duration longest_silence = absl::ZeroDuration();
  };
  // `workers` is called for every Text() from now on, by its thread; it may wait.
  void CollectWorkers(std::function<Workers()> workers);

  // Everything, in Prometheus' text format 0.0.4. May wait for what CollectWorkers was given.
  std::string Text() const;

 private:
  struct Impl;
  const std::unique_ptr<Impl> impl_;
};

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_TELEMETRY_METRICS_H_
