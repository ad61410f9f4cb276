#ifndef LOCKSTEP_CLIENT_LIB_CLIENT_H_
#define LOCKSTEP_CLIENT_LIB_CLIENT_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/lib/blob_reader.h"
#include "client/lib/event_stream.h"
#include "lockstep/v1/dataset.pb.h"
#include "lockstep/v1/job.pb.h"
#include "lockstep/v1/registry.pb.h"

namespace lockstep {

// How often and how patiently a broken transfer or watch is taken up again. Progress starts the
// count anew; the defaults outlast a server's restart (about half a minute).
struct RetryPolicy {
  int attempts = 10;
  absl::Duration first_pause = absl::Milliseconds(200);  // doubles each time
  absl::Duration longest_pause = absl::Seconds(5);
};

struct ClientOptions {
  std::string address;  // "HOST:PORT" or "unix:PATH"
  std::string token;    // empty: none is sent
  absl::Duration connect_timeout = absl::Seconds(5);
  absl::Duration call_timeout = absl::Seconds(30);  // of every unary call
  RetryPolicy retry;
};

// One inference answer: `values` is row-major with `shape`, whose first dimension counts samples.
// What a model is asked about: `shape` has the samples first.
struct InputTensor {
  std::string name;
  std::vector<int64_t> shape;
  std::vector<float> values;
};

struct Prediction {
  std::string model_version;
  std::vector<int64_t> shape;
  std::vector<float> values;
};

// A connection to a Lockstep server. Errors are the server's own status, or UNAVAILABLE when it
// does not answer. Thread-safe; must outlive the readers and event streams it hands out.
class Client {
 public:
  // UNAVAILABLE when nothing answers at the address within connect_timeout.
  static absl::StatusOr<std::unique_ptr<Client>> Connect(const ClientOptions& options);
  ~Client();

  // False once the connection has been lost: tells UNAVAILABLE as a server's answer from
  // UNAVAILABLE because there is no server.
  bool connected() const;

  // Where the server's dashboard is, "http://HOST:PORT", as the newest reply of a unary call said;
  // empty when none did.
  std::string dashboard() const;

  // Jobs. See job.proto for what the server answers.
  // With `reuse`, an earlier job of the same result answers, if there is one.
  absl::StatusOr<v1::Job> SubmitJob(const v1::JobSpec& spec, const std::string& id, bool reuse);
  absl::StatusOr<v1::ValidateJobResponse> ValidateJob(const v1::JobSpec& spec);
  absl::StatusOr<v1::Job> GetJob(const std::string& id);
  // One page; the next is asked for with its next_page_token.
  absl::StatusOr<v1::ListJobsResponse> ListJobs(const v1::ListJobsRequest& request);
  absl::StatusOr<v1::ListWorkersResponse> ListWorkers();
  absl::StatusOr<v1::Job> CancelJob(const std::string& id);
  absl::StatusOr<v1::Job> PauseJob(const std::string& id);
  absl::StatusOr<v1::Job> ResumeJob(const std::string& id);
  absl::StatusOr<v1::Job> SetJobPriority(const std::string& id, int32_t priority);
  absl::Status DeleteJob(const std::string& id);
  absl::StatusOr<v1::Weights> GetJobWeights(const std::string& id);
  // The job's events from a sequence number on (0 and 1: the beginning).
  std::unique_ptr<EventStream> WatchJob(const std::string& id, int64_t from_sequence);

  // Data sets.
  absl::StatusOr<v1::Dataset> CreateDataset(const v1::Dataset& dataset);
  absl::StatusOr<v1::Dataset> GetDataset(const std::string& name);
  absl::StatusOr<std::vector<v1::Dataset>> ListDatasets();

  // Models. Version 0: the newest.
  absl::StatusOr<v1::ModelVersion> GetModel(const std::string& name, int64_t version);
  absl::StatusOr<std::vector<v1::ModelVersion>> ListModels();

  // Asks `model` for predictions of raw values (the model applies its own scale and offset). Model
  // version 0: the newest. RESOURCE_EXHAUSTED: the server is busy, ask again.
  absl::StatusOr<Prediction> Infer(const std::string& model, int64_t version,
                                   const std::vector<InputTensor>& inputs,
                                   const std::string& output);

  // Called with the bytes the other side has so far and their total.
  using TransferProgress = std::function<void(int64_t done_bytes, int64_t total_bytes)>;

  // Brings `bytes` to the server unless it holds them already, in chunks of 1 MiB. A broken upload
  // goes on where the server says it stopped.
  absl::StatusOr<v1::Blob> UploadBlob(std::span<const std::byte> bytes,
                                      const TransferProgress& progress);
  // Reads a blob from an offset on. A broken stream goes on where it stopped.
  std::unique_ptr<BlobReader> ReadBlob(const std::string& sha256, int64_t offset);
  // Hands a whole blob to `sink`, chunk by chunk, and then checks size and SHA-256: DATA_LOSS when
  // they differ. An error of `sink` ends the transfer.
  absl::Status DownloadBlob(const v1::Blob& blob,
                            const std::function<absl::Status(std::string_view)>& sink,
                            const TransferProgress& progress);

 private:
  explicit Client(std::unique_ptr<Connection> connection);

  const std::unique_ptr<Connection> connection_;
};

}  // namespace lockstep

#endif  // LOCKSTEP_CLIENT_LIB_CLIENT_H_
