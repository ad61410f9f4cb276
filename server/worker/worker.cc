#include "server/worker/worker.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>
#include <signal.h>
#include <spdlog/spdlog.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <climits>
#include <memory>
#include <optional>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "core/kernels/peaks.h"
#include "core/kernels/self_test.h"
#include "core/parallel/thread_pool.h"
#include "core/training/job_plan.h"
#include "server/worker/assignment.h"
#include "server/worker/blob_client.h"
#include "server/worker/data_cache.h"
#include "server/worker/server_link.h"

namespace lockstep {
namespace {

// A worker may be started before its server.
constexpr absl::Duration kConnectTimeout = absl::Seconds(30);

std::shared_ptr<grpc::Channel> MakeChannel(const std::string& server) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 2000);
  arguments.SetMaxReceiveMessageSize(-1);  // the server has bounded what it takes
  return grpc::CreateCustomChannel(server, grpc::InsecureChannelCredentials(), arguments);
}

v1::Hello MakeHello(int threads, bool supervised) {
  char host[HOST_NAME_MAX + 1] = {};
  gethostname(host, HOST_NAME_MAX);
  v1::Hello hello;
  hello.set_contract(kContract);
  hello.set_host(host);
  hello.set_pid(getpid());
  hello.set_threads(threads);
  hello.set_cores(AvailableThreads());
  hello.set_supervised(supervised);
  const Peaks peaks = MeasureCorePeaks();
  hello.set_core_gflops(peaks.flops_per_second / 1e9);
  hello.set_core_gb_per_s(peaks.bytes_per_second / 1e9);
  hello.set_build(absl::StrCat(__builtin_cpu_supports("avx512f") ? "avx512" : "avx2",
#ifdef __clang__
                               " clang-", __clang_major__
#else
                               " g++-", __GNUC__
#endif
                               ));
  return hello;
}

// A worker with other bits than its peers would spoil what they train together.
absl::Status CheckKernels() {
  const kernels::KernelTable* kernels = kernels::Kernels();
  if (kernels == nullptr) {
    return absl::FailedPreconditionError("this CPU has no AVX2 and FMA, which Lockstep needs");
  }
  return kernels::SelfTest(*kernels);
}

int ExitCode(const absl::Status& status) {
  if (absl::IsPermissionDenied(status) || absl::IsFailedPrecondition(status)) {
    spdlog::error("the server refused this worker: {}", std::string(status.message()));
    return kWorkerRefused;
  }
  spdlog::warn("the server is gone: {}", status.ToString());
  return kWorkerServerGone;
}

}  // namespace

int RunWorker(const WorkerOptions& options) {
  if (options.die_with_parent) {
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    prctl(PR_SET_NAME, "lockstepd-work");  // the server started us as /proc/self/exe
  }

  if (absl::Status status = CheckKernels(); !status.ok()) {
    spdlog::error("cannot train: {}", std::string(status.message()));
    return kWorkerWrongBits;
  }
  absl::StatusOr<DataCache> cache = DataCache::Open(options.cache_directory);
  if (!cache.ok()) {
    spdlog::error("cannot use --cache-dir: {}", cache.status().ToString());
    return kWorkerBadCache;
  }
  const std::shared_ptr<grpc::Channel> channel = MakeChannel(options.server);
  if (!channel->WaitForConnected(absl::ToChronoTime(absl::Now() + kConnectTimeout))) {
    spdlog::error("no server answers at {}", options.server);
    return kWorkerCannotConnect;
  }
  const int threads = options.threads > 0 ? options.threads : AvailableThreads();
  BlobClient blobs(channel);
  ServerLink::Options link_options;
  link_options.hello = MakeHello(threads, options.die_with_parent);
  link_options.token = options.token;
  link_options.spool_directory = options.cache_directory;
  link_options.grace = absl::Seconds(options.die_with_parent ? 0 : options.grace_seconds);
  ServerLink link(channel, std::move(link_options), &blobs);
  spdlog::info("worker ready server={} threads={}", options.server, threads);

  while (std::optional<v1::ServerMessage> message = link.NextAssignment()) {
    spdlog::info("training job={} attempt={}", message->job_id(), message->attempt());
    absl::Status status = RunAssignment(message->assignment(), threads, *cache, blobs, link);
    if (!status.ok()) {
      spdlog::error("cannot work job={} status=\"{}\"", message->job_id(), status.ToString());
      (void)link.Close();
      return kWorkerBadCache;
    }
  }
  return ExitCode(link.Close());
}

}  // namespace lockstep
