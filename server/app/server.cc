#include "server/app/server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>
#include <sys/un.h>

#include <chrono>
#include <tuple>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "server/api/blob_service.h"
#include "server/api/dataset_service.h"
#include "server/api/model_service.h"
#include "server/app/memory_limit.h"
#include "server/app/token_file.h"
#include "server/jobs/job_service.h"
#include "server/jobs/job_state.h"
#include "server/serving/inference_service.h"
#include "server/store/files.h"
#include "server/telemetry/log.h"
#include "server/tensorboard/data_provider.h"
#include "server/web/api.h"

namespace lockstep {
namespace {

// Of one connection; more wait at the client.
constexpr int kMaxConcurrentStreams = 1024;
// For calls that are under way when the server stops; then they are cancelled.
constexpr std::chrono::seconds kDrain{2};
constexpr absl::Duration kTick = absl::Milliseconds(200);

}  // namespace

std::optional<Refusal> Server::CheckOptions() {
  absl::StatusOr<ListenAddress> listen = ParseListenAddress(options_.listen);
  if (!listen.ok()) {
    return Refusal{kExitUsage, absl::StrCat("--listen: ", listen.status().message())};
  }
  listen_ = *std::move(listen);
  const std::string http = options_.http.value_or(kDefaultHttp);
  if (!http.empty()) {
    listen = ParseListenAddress(http);
    if (!listen.ok()) {
      return Refusal{kExitUsage, absl::StrCat("--http: ", listen.status().message())};
    }
    http_listen_ = *std::move(listen);
  }
  if (!options_.token_file.empty()) {
    absl::StatusOr<std::string> token = ReadTokenFile(options_.token_file);
    if (!token.ok()) {
      return Refusal{kExitUsage, absl::StrCat("--token-file: ", token.status().message())};
    }
    token_ = *std::move(token);
  }
  for (const auto& [option, address, loopback] :
       {std::tuple("--listen ", options_.listen, listen_.loopback),
        std::tuple("--http ", http, !http_listen_.has_value() || http_listen_->loopback)}) {
    if (loopback || !token_.empty() || options_.insecure) continue;
    return Refusal{kExitUsage,
                   absl::StrCat(option, address,
                                " lets other machines in: give --token-file FILE so that only "
                                "those who know the token may call, or --insecure to let in all")};
  }
  return std::nullopt;
}

absl::Status Server::OpenStores() {
  absl::StatusOr<DataDirectory> directory = DataDirectory::Open(options_.data_directory);
  if (!directory.ok()) return directory.status();
  directory_ = std::make_unique<DataDirectory>(*std::move(directory));
  const size_t longest = sizeof(sockaddr_un::sun_path) - 1;
  if (directory_->worker_socket().size() > longest) {
    return absl::InvalidArgumentError(
        absl::StrCat("the path of the socket for workers, ", directory_->worker_socket(),
                     ", is longer than the ", longest,
                     " bytes that sockets may have; choose a shorter --data-dir"));
  }
  absl::StatusOr<std::unique_ptr<Store>> store = Store::Open(directory_->database());
  if (!store.ok()) return store.status();
  store_ = *std::move(store);
  absl::StatusOr<std::unique_ptr<BlobStore>> blobs = BlobStore::Open(directory_->blobs());
  if (!blobs.ok()) return blobs.status();
  blobs_ = *std::move(blobs);
  absl::StatusOr<std::string> token = WriteNewToken(directory_->worker_token());
  if (!token.ok()) return token.status();
  worker_token_ = *std::move(token);

  published_ = std::make_unique<PublishedModels>(store_.get(), blobs_.get());
  ModelRepository::Options serving;
  serving.batcher.max_queued_requests = options_.max_queue;
  serving.batcher.metrics = &metrics_;
  absl::StatusOr<std::unique_ptr<ModelRepository>> models =
      ModelRepository::Start(published_.get(), serving);
  if (!models.ok()) return models.status();
  models_ = *std::move(models);

  JobManager::Options jobs;
  jobs.runs_directory = directory_->runs();
  jobs.metrics = &metrics_;
  jobs.max_job_memory_bytes = options_.max_job_memory_mb > 0 ? options_.max_job_memory_mb << 20
                                                             : MemoryLimitBytes() / 4 * 3;
  jobs.worker_grace =
      std::chrono::milliseconds(static_cast<int64_t>(1e3 * options_.worker_grace_seconds));
  jobs.keep_jobs = options_.keep_jobs;
  jobs.keep_jobs_for = absl::Hours(24) * options_.keep_jobs_days;
  jobs.on_published = [models = models_.get()](const std::string& name, int64_t version) {
    models->Published(name, version);
  };
  jobs.on_changed = [this](const v1::Job& job) {
    if (!HasEnded(job.state()) || curves_ == nullptr) return;
    // What is not kept now is when somebody asks for it.
    (void)executor_.Post([this, id = job.id()] { curves_->Read(id, {}).status().IgnoreError(); });
  };
  jobs.on_log = [this](const std::string& id) {
    if (event_files_ != nullptr) event_files_->Follow(id);
  };
  absl::StatusOr<std::unique_ptr<JobManager>> manager =
      JobManager::Create(std::move(jobs), store_.get(), blobs_.get());
  if (!manager.ok()) return manager.status();
  jobs_ = *std::move(manager);
  metrics_.CollectWorkers([this] { return jobs_->CountWorkers(); });
  curves_ = std::make_unique<JobCurves>(directory_->runs(), jobs_.get());
  // What the manager has done to logs before, this finds by itself.
  event_files_ = std::make_unique<EventFiles>(
      EventFiles::Options{.runs_directory = directory_->runs()}, jobs_.get());
  return absl::OkStatus();
}

std::optional<Refusal> Server::OpenData() {
  absl::Status opened = OpenStores();
  if (opened.ok()) return std::nullopt;
  return Refusal{kExitBadDataDirectory,
                 absl::StrCat("--data-dir ", options_.data_directory, ": ", opened.message())};
}

// Workers find only what they need, on a socket that only this user can open (see Serve).
std::unique_ptr<grpc::Server> Server::ListenForWorkers() {
  worker_gate_ = std::make_unique<Gate>(worker_token_, &executor_, "", &metrics_);
  auto workers = std::make_unique<WorkerService>(worker_token_, jobs_.get());
  workers_ = workers.get();
  services_.push_back(std::move(workers));
  grpc::ServerBuilder builder;
  builder.RegisterService(workers_);
  services_.push_back(std::make_unique<BlobService>(worker_gate_.get(), blobs_.get()));
  builder.RegisterService(services_.back().get());
  builder.AddListeningPort("unix:" + directory_->worker_socket(),
                           grpc::InsecureServerCredentials());
  return builder.BuildAndStart();
}

std::unique_ptr<grpc::Server> Server::ListenForClients(int* port) {
  gate_ = std::make_unique<Gate>(token_, &executor_, DashboardUrl(), &metrics_);
  const int max_message_bytes = options_.max_message_mb << 20;
  std::vector<std::unique_ptr<grpc::Service>> services;
  services.push_back(std::make_unique<BlobService>(gate_.get(), blobs_.get()));
  services.push_back(std::make_unique<DatasetService>(gate_.get(), store_.get(), blobs_.get()));
  services.push_back(std::make_unique<JobService>(gate_.get(), jobs_.get()));
  services.push_back(std::make_unique<ModelService>(gate_.get(), store_.get()));
  services.push_back(
      std::make_unique<InferenceService>(gate_.get(), models_.get(), max_message_bytes));
  services.push_back(
      std::make_unique<DataProvider>(gate_.get(), jobs_.get(), curves_.get(), max_message_bytes));

  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  grpc::ServerBuilder builder;
  // Otherwise a second server could take the same port, and half of the clients.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kMaxConcurrentStreams);
  builder.SetMaxReceiveMessageSize(max_message_bytes);
  builder.SetMaxSendMessageSize(max_message_bytes);
  builder.AddListeningPort(options_.listen, grpc::InsecureServerCredentials(), port);
  for (std::unique_ptr<grpc::Service>& service : services) {
    builder.RegisterService(service.get());
    services_.push_back(std::move(service));
  }
  return builder.BuildAndStart();
}

std::optional<Refusal> Server::Listen() {
  worker_server_ = ListenForWorkers();
  if (worker_server_ == nullptr) {
    return Refusal{kExitBadDataDirectory,
                   absl::StrCat("cannot listen on ", directory_->worker_socket())};
  }
  if (std::optional<Refusal> refusal = ListenForBrowsers(); refusal.has_value()) return refusal;
  int port = 0;
  server_ = ListenForClients(&port);
  if (server_ == nullptr || port == 0) {
    return Refusal{kExitCannotListen,
                   absl::StrCat("cannot listen on ", options_.listen,
                                ": the port is in use, not allowed, or the address is not this "
                                "machine's; choose another --listen")};
  }
  StartHttp();
  const std::string address = absl::StrCat(listen_.host, ":", port);
  if (absl::Status s = WriteFileAtomically(directory_->address(), address + "\n", 0644); !s.ok()) {
    return Refusal{kExitBadDataDirectory, std::string(s.message())};
  }
  LogLine(LogLevel::kInfo, "server ready",
          {{"address", address},
           {"data_dir", directory_->path()},
           {"token", token_.empty() ? "none" : "required"}});
  return std::nullopt;
}

std::optional<Refusal> Server::ListenForBrowsers() {
  if (!http_listen_.has_value()) return std::nullopt;
  HttpServer::Options options;
  options.host = http_listen_->host;
  options.port = http_listen_->port;
  options.token = token_;
  options.loopback = http_listen_->loopback;
  options.metrics = [this] { return metrics_.Text(); };
  options.not_ready = [this]() -> std::vector<std::string> {
    if (models_->Ready()) return {};
    return {"models are being loaded"};
  };
  absl::StatusOr<std::unique_ptr<HttpServer>> http =
      HttpServer::Listen(std::move(options), &executor_);
  if (!http.ok()) {
    const std::string message =
        absl::StrCat("cannot listen on ", http_listen_->host, ":", http_listen_->port, ": ",
                     http.status().message(), "; choose another --http");
    if (options_.http.has_value()) return Refusal{kExitCannotListen, message};
    LogLine(LogLevel::kWarning, "no dashboard", {{"reason", message}});
    return std::nullopt;
  }
  http_ = *std::move(http);
  const std::string address = absl::StrCat(http_listen_->host, ":", http_->port());
  if (absl::Status s = WriteFileAtomically(directory_->http_address(), address + "\n", 0644);
      !s.ok()) {
    return Refusal{kExitBadDataDirectory, std::string(s.message())};
  }
  return std::nullopt;
}

std::string Server::DashboardUrl() const {
  if (http_ == nullptr) return "";
  const std::string& host = http_listen_->host;
  const bool any = host == "0.0.0.0" || host == "[::]";
  return absl::StrCat("http://", any ? "" : host, ":", http_->port());
}

void Server::StartHttp() {
  if (http_ == nullptr) return;
  Api::Parts parts;
  grpc::ChannelArguments channel;
  channel.SetMaxReceiveMessageSize(options_.max_message_mb << 20);
  parts.channel = server_->InProcessChannel(channel);
  parts.token = token_;
  parts.jobs = jobs_.get();
  parts.curves = curves_.get();
  parts.blobs = blobs_.get();
  parts.executor = &executor_;
  http_->Start(std::make_unique<Api>(std::move(parts)));
  LogLine(LogLevel::kInfo, "dashboard ready", {{"url", DashboardUrl()}});
}

void Server::StartWork() {
  ticker_ = std::make_unique<Ticker>(kTick, [this] { jobs_->Tick(); });
  if (options_.local_workers == 0) return;
  Supervisor::Options workers;
  workers.workers = options_.local_workers;
  workers.arguments = {"work",         "--die-with-parent",
                       "--server",     "unix:" + directory_->worker_socket(),
                       "--token-file", directory_->worker_token(),
                       "--cache-dir",  directory_->cache(),
                       "--threads",    absl::StrCat(options_.threads),
                       "--log-format", options_.log_format};
  supervisor_ = std::make_unique<Supervisor>(std::move(workers));
}

void Server::Stop() {
  if (directory_ != nullptr) {
    RemoveFile(directory_->address()).IgnoreError();
    RemoveFile(directory_->http_address()).IgnoreError();
  }
  if (http_ != nullptr) http_->Stop();
  if (server_ != nullptr) server_->GetHealthCheckService()->SetServingStatus(false);
  // Jobs stay as they are: the next server takes them up.
  ticker_.reset();
  if (jobs_ != nullptr) jobs_->Stop();
  if (workers_ != nullptr) workers_->Stop();
  supervisor_.reset();
  if (server_ != nullptr) server_->Shutdown(std::chrono::system_clock::now() + kDrain);
  if (worker_server_ != nullptr) worker_server_->Shutdown(std::chrono::system_clock::now());
}

}  // namespace lockstep
