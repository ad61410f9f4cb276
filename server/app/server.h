#ifndef LOCKSTEP_SERVER_APP_SERVER_H_
#define LOCKSTEP_SERVER_APP_SERVER_H_

#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "server/api/executor.h"
#include "server/api/handler.h"
#include "server/api/listen_address.h"
#include "server/app/ticker.h"
#include "server/jobs/job_curves.h"
#include "server/jobs/job_manager.h"
#include "server/jobs/supervisor.h"
#include "server/jobs/worker_service.h"
#include "server/serving/model_repository.h"
#include "server/serving/model_source.h"
#include "server/store/blob_store.h"
#include "server/store/data_directory.h"
#include "server/store/store.h"
#include "server/telemetry/metrics.h"
#include "server/tensorboard/event_files.h"
#include "server/web/http_server.h"

namespace lockstep {

inline constexpr int kExitUsage = 2;
inline constexpr int kExitCannotListen = 3;
inline constexpr int kExitBadDataDirectory = 4;
inline constexpr char kDefaultHttp[] = "127.0.0.1:8002";

struct ServeOptions {
  std::string data_directory = "./lockstep-data";
  std::string listen = "127.0.0.1:8001";
  // Of the dashboard, its API, /metrics, /healthz and /readyz; empty: none. Not given:
  // kDefaultHttp, or none if that is in use.
  std::optional<std::string> http;
  int local_workers = 1;
  int threads = 0;         // of each local worker; 0: all CPUs it may use
  std::string token_file;  // empty: clients need no token
  bool insecure = false;   // allows that beyond this machine
  int max_message_mb = 64;
  int64_t max_job_memory_mb = 0;     // 0: three quarters of the memory there is
  int max_queue = 256;               // inference requests waiting, for each model version
  double worker_grace_seconds = 10;  // a lost worker that the server did not start may come back
  int64_t keep_jobs = 0;             // ended jobs beyond the newest so many are deleted; 0: none
  double keep_jobs_days = 0;         // those that ended longer ago are deleted; 0: none
  std::string log_format = "text";   // of the local workers, too: "text" or "json"
};

// Why a server cannot start, and with which exit code.
struct Refusal {
  int exit_code;
  std::string message;
};

// Everything that runs, in the order of its dependencies: members are destroyed in reverse.
class Server {
 public:
  explicit Server(const ServeOptions& options) : options_(options) {}

  // Each returns what is in the way, if anything.
  std::optional<Refusal> CheckOptions();
  std::optional<Refusal> OpenData();
  std::optional<Refusal> Listen();

  void StartWork();
  void Stop();

 private:
  absl::Status OpenStores();
  std::optional<Refusal> ListenForBrowsers();
  std::string DashboardUrl() const;
  void StartHttp();
  std::unique_ptr<grpc::Server> ListenForWorkers();
  std::unique_ptr<grpc::Server> ListenForClients(int* port);

  const ServeOptions options_;
  Metrics metrics_;
  ListenAddress listen_;
  std::optional<ListenAddress> http_listen_;
  std::string token_;
  std::string worker_token_;

  std::unique_ptr<DataDirectory> directory_;
  std::unique_ptr<Store> store_;
  std::unique_ptr<BlobStore> blobs_;
  std::unique_ptr<PublishedModels> published_;
  std::unique_ptr<ModelRepository> models_;
  std::unique_ptr<JobManager> jobs_;
  std::unique_ptr<JobCurves> curves_;
  std::unique_ptr<EventFiles> event_files_;

  std::unique_ptr<HttpServer> http_;  // the executor's tasks come back to it
  Executor executor_{/*threads=*/4};
  std::unique_ptr<Gate> gate_;
  std::unique_ptr<Gate> worker_gate_;
  std::vector<std::unique_ptr<grpc::Service>> services_;
  WorkerService* workers_ = nullptr;  // one of them
  std::unique_ptr<grpc::Server> worker_server_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<Supervisor> supervisor_;
  std::unique_ptr<Ticker> ticker_;
};

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_APP_SERVER_H_
