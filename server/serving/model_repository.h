#ifndef LOCKSTEP_SERVER_SERVING_MODEL_REPOSITORY_H_
#define LOCKSTEP_SERVER_SERVING_MODEL_REPOSITORY_H_

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "core/inference/inference_model.h"
#include "lockstep/v1/registry.pb.h"
#include "server/serving/batcher.h"
#include "server/serving/model_source.h"

namespace lockstep {

// One model version in memory, with the queue of requests for it.
struct ServedModel {
  v1::ModelVersion record;
  std::unique_ptr<const InferenceModel> network;
  std::unique_ptr<Batcher> batcher;  // after the network, which it reads
};

// The model versions that can be asked for predictions. The newest version of every model is in
// memory from start or publication on; older ones are loaded on first use, and the least recently
// used of them leave again. One thread loads and unloads, so that no caller ever waits for the
// disk. Thread-safe.
class ModelRepository {
 public:
  struct Options {
    Batcher::Options batcher;
    // Versions in memory that are not the newest of their model.
    int max_older_versions = 4;
  };

  // Kept for as long as it is used, whatever the repository does meanwhile.
  using Handle = std::shared_ptr<const ServedModel>;
  using Found = absl::AnyInvocable<void(absl::StatusOr<Handle> model) &&>;

  // Learns what there is and begins to load the newest versions. `source` must outlive it.
  static absl::StatusOr<std::unique_ptr<ModelRepository>> Start(ModelSource* source,
                                                                const Options& options);
  // Finishes loads, answers queued requests, and waits until nobody holds a handle; so shut the
  // gRPC server down first.
  ~ModelRepository();
  ModelRepository(const ModelRepository&) = delete;
  ModelRepository& operator=(const ModelRepository&) = delete;

  // A new version is in the source. Returns at once; from then on the version can be found. Call it
  // before the job's end is announced, so that who hears of the model can use it.
  void Published(const std::string& name, int64_t version);

  // Calls `found` once: here when the version is in memory or cannot be had, else from the loading
  // thread once it is; it must not block. Version 0: the newest. NOT_FOUND for unknown models and
  // versions, UNAVAILABLE with the reason for one that cannot be loaded, RESOURCE_EXHAUSTED when
  // too many wait for the same load.
  void Find(const std::string& name, int64_t version, Found found);

  // Ascending; empty for an unknown model.
  std::vector<int64_t> Versions(const std::string& name) const;

  // The newest version of every model is in memory.
  bool Ready() const;

 private:
  struct Entry {
    Handle model;                // null: not in memory
    bool loading = false;        // stands in to_load_
    std::vector<Found> waiting;  // for the end of that load
    int64_t last_use = 0;        // by the count of uses_
  };
  using Versioned = std::map<int64_t, Entry>;
  using Key = std::pair<std::string, int64_t>;

  ModelRepository(ModelSource* source, const ModelSource::VersionList& versions,
                  const Options& options);

  // Adds the version if it is new, and has it loaded if it is not in memory.
  void Enqueue(const std::string& name, int64_t version) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The loading thread.
  void Run();
  void Load(const Key& key);
  // Takes the least recently used older versions out of models_ until few enough are left; the
  // caller drops them after it has released the lock.
  std::vector<Handle> Evict() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Handle MakeHandle(LoadedModel loaded);
  bool NothingToLoad() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return to_load_.empty(); }
  bool HasWork() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return !to_load_.empty() || !retired_.empty() || (stopping_ && live_models_ == 0);
  }

  ModelSource* const source_;
  const Options options_;

  mutable absl::Mutex mutex_;
  std::map<std::string, Versioned> models_ ABSL_GUARDED_BY(mutex_);
  std::deque<Key> to_load_ ABSL_GUARDED_BY(mutex_);  // the first one is being loaded
  // Nobody holds these any more. Their end waits for their batch thread, so it is the loading
  // thread's task, not that of whoever happened to drop the last handle.
  std::vector<std::unique_ptr<const ServedModel>> retired_ ABSL_GUARDED_BY(mutex_);
  int64_t live_models_ ABSL_GUARDED_BY(mutex_) = 0;  // handed out or retired, not yet destroyed
  int64_t uses_ ABSL_GUARDED_BY(mutex_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_SERVING_MODEL_REPOSITORY_H_
