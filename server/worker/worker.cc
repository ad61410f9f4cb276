#include "server/worker/worker.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>
#include <malloc.h>
#include <signal.h>
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
#include "server/telemetry/log.h"
#include "server/worker/assignment.h"
#include "server/worker/blob_client.h"
#include "server/worker/data_cache.h"
#include "server/worker/server_link.h"

namespace lockstep {
namespace {

// A worker may be started before its server.
constexpr absl::Duration kConnectTimeout = absl::Seconds(30);

// Buffers of at least so many bytes have mappings of their own.
constexpr int kMappedBytes = 256 << 10;

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
    LogLine(LogLevel::kError, "the server refused this worker", {{"status", status}});
    return kWorkerRefused;
  }
  LogLine(LogLevel::kWarning, "the server is gone", {{"status", status}});
  return kWorkerServerGone;
}

}  // namespace

int RunWorker(const WorkerOptions& options) {
  // One heap, for a step allocates nothing that threads could contend for; and what is large
  // returns to the system when it is freed: left alone, the threshold rises with the first such
  // buffer.
  mallopt(M_ARENA_MAX, 1);
  mallopt(M_MMAP_THRESHOLD, kMappedBytes);
  if (options.die_with_parent) {
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    prctl(PR_SET_NAME, "lockstepd-work");  // the server started us as /proc/self/exe
  }

  if (absl::Status status = CheckKernels(); !status.ok()) {
    LogLine(LogLevel::kError, "cannot train", {{"status", status}});
    return kWorkerWrongBits;
  }
  absl::StatusOr<DataCache> cache = DataCache::Open(options.cache_directory);
  if (!cache.ok()) {
    LogLine(LogLevel::kError, "cannot use --cache-dir", {{"status", cache.status()}});
    return kWorkerBadCache;
  }
  const std::shared_ptr<grpc::Channel> channel = MakeChannel(options.server);
  if (!channel->WaitForConnected(absl::ToChronoTime(absl::Now() + kConnectTimeout))) {
    LogLine(LogLevel::kError, "no server answers", {{"server", options.server}});
    return kWorkerCannotConnect;
  }
  const int threads = options.threads > 0 ? options.threads : AvailableThreads();
  BlobClient blobs(channel);
  ServerLink::Options link_options;
  link_options.hello = MakeHello(threads, options.die_with_parent);
  const LogScope worker(
      {{"worker", absl::StrCat(link_options.hello.host(), ":", link_options.hello.pid())}});
  link_options.token = options.token;
  link_options.spool_directory = options.cache_directory;
  link_options.grace = absl::Seconds(options.die_with_parent ? 0 : options.grace_seconds);
  ServerLink link(channel, std::move(link_options), &blobs);
  LogLine(LogLevel::kInfo, "worker ready", {{"server", options.server}, {"threads", threads}});

  while (std::optional<v1::ServerMessage> message = link.NextAssignment()) {
    const LogScope job({{"job", message->job_id()},
                        {"attempt", message->attempt()},
                        {"trace_id", message->assignment().trace_id()}});
    LogLine(LogLevel::kInfo, "training");
    malloc_trim(0);  // what the job before has left in the heap
    absl::Status status = RunAssignment(message->assignment(), threads, *cache, blobs, link);
    if (!status.ok()) {
      LogLine(LogLevel::kError, "cannot work on a job", {{"status", status}});
      (void)link.Close();
      return kWorkerBadCache;
    }
  }
  return ExitCode(link.Close());
}

}  // namespace lockstep
