#ifndef LOCKSTEP_SERVER_SERVING_BATCHER_H_
#define LOCKSTEP_SERVER_SERVING_BATCHER_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "core/inference/inference_model.h"
#include "server/telemetry/metrics.h"

namespace lockstep {

// Requests for one network share forward passes: one thread takes whatever is waiting, computes it
// in one pass and hands each request its rows. There is no timer; a lone request is computed at
// once. Which requests share a pass changes no bit of an answer (core/README.md, rule 11).
// Thread-safe.
class Batcher {
 public:
  struct Options {
    // What may wait. A request that finds an empty queue is taken whatever its size.
    int max_queued_requests = 256;
    int64_t max_queued_bytes = int64_t{256} << 20;
    // Samples in one pass, which bounds the arena. A larger request takes several passes.
    int64_t max_batch_samples = 64;
    Metrics* metrics = Metrics::Unread();
  };

  using Answer = absl::StatusOr<std::vector<float>>;

  struct Request {
    int64_t samples = 0;  // may be 0
    // The samples' FP32 values for each input of the network, at any alignment. Must stay until
    // `done` is called.
    std::vector<std::span<const std::byte>> x;
    // Asked before each pass: OK while somebody waits for the answer, else the status to end with.
    absl::AnyInvocable<absl::Status() const> wanted;
    // Called exactly once, from the batch thread or within Submit; must not block.
    absl::AnyInvocable<void(Answer answer) &&> done;
  };

  // `network` must outlive the batcher.
  Batcher(const InferenceModel* network, const Options& options);
  // Answers everything that waits, then returns.
  ~Batcher();
  Batcher(const Batcher&) = delete;
  Batcher& operator=(const Batcher&) = delete;

  // Ends with RESOURCE_EXHAUSTED at once when the queue is full.
  void Submit(Request request);

 private:
  struct Waiting {
    Request request;
    absl::Time since;
  };
  // A request that is being computed.
  struct Running {
    explicit Running(Request request) : request(std::move(request)) {}
    int64_t samples_left() const { return request.samples - samples_done; }

    Request request;
    int64_t samples_done = 0;
    int64_t rows = 0;  // samples in the present pass; less than what is left only for the last one
    std::vector<float> y;
  };

  void Run();
  // Waits for work, then moves requests into `running` until a pass is full. False: stop.
  bool Admit(std::vector<Running>& running);
  // Ends the requests whose answer nobody waits for: nothing is computed for them.
  static void DropUnwanted(std::vector<Running>& running);
  // Chooses the rows of the next pass and copies them together. Returns their number.
  int64_t Gather(std::vector<Running>& running, std::vector<float>& x) const;
  // Hands out the rows of a pass and ends the requests that are complete.
  void Scatter(std::span<const float> y, std::vector<Running>& running) const;
  bool HasWork() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return stopping_ || !queue_.empty();
  }

  const InferenceModel* const network_;
  const Options options_;
  const size_t input_size_;  // values of one sample, over all inputs
  const size_t output_size_;

  absl::Mutex mutex_;
  std::deque<Waiting> queue_ ABSL_GUARDED_BY(mutex_);
  int64_t queued_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_SERVING_BATCHER_H_
