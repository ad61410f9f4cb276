#include "server/telemetry/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <map>
#include <set>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/ascii.h"
#include "absl/synchronization/mutex.h"
#include "core/numerics/contract.h"
#include "server/telemetry/process_figures.h"

namespace lockstep {
namespace {

using prometheus::ClientMetric;
using prometheus::Counter;
using prometheus::Family;
using prometheus::Gauge;
using prometheus::Histogram;
using prometheus::MetricFamily;
using prometheus::MetricType;
using prometheus::Registry;
using Buckets = Histogram::BucketBoundaries;

constexpr size_t kMaxModelNames = 100;
constexpr char kOtherModels[] = "other";

// Of a model that answers from memory to a watcher that stays for an hour.
const Buckets kRpcSeconds = {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25,
                             0.5,    1,     2.5,    5,     10,   30,    60,   600, 3600};
const Buckets kJobQueueSeconds = {0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 14400, 86400};
const Buckets kInferenceQueueSeconds = {0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005,
                                        0.01,   0.025,   0.05,   0.1,   0.25,   1};
const Buckets kBatchSamples = {1, 2, 4, 8, 16, 32, 64};

Family<Counter>& Counters(const char* name, const char* help, Registry& registry) {
  return prometheus::BuildCounter().Name(name).Help(help).Register(registry);
}
Family<Gauge>& Gauges(const char* name, const char* help, Registry& registry) {
  return prometheus::BuildGauge().Name(name).Help(help).Register(registry);
}
Family<Histogram>& Histograms(const char* name, const char* help, Registry& registry) {
  return prometheus::BuildHistogram().Name(name).Help(help).Register(registry);
}

// A figure that is asked for when it is wanted, not kept.
ClientMetric Sampled(double value, std::vector<ClientMetric::Label> labels = {}) {
  ClientMetric metric;
  metric.label = std::move(labels);
  metric.counter.value = value;
  metric.gauge.value = value;
  return metric;
}

void AddProcess(std::vector<MetricFamily>& families) {
  const ProcessFigures figures = ReadProcessFigures();
  families.push_back({"process_cpu_seconds_total",
                      "User and system CPU time of the server.",
                      MetricType::Counter,
                      {Sampled(figures.cpu_seconds)}});
  families.push_back({"process_resident_memory_bytes",
                      "Resident memory of the server.",
                      MetricType::Gauge,
                      {Sampled(static_cast<double>(figures.resident_memory_bytes))}});
  families.push_back({"process_open_fds",
                      "File descriptors that the server has open.",
                      MetricType::Gauge,
                      {Sampled(static_cast<double>(figures.open_fds))}});
  families.push_back({"process_max_fds",
                      "File descriptors that the server may have open.",
                      MetricType::Gauge,
                      {Sampled(static_cast<double>(figures.max_fds))}});
  families.push_back({"process_start_time_seconds",
                      "When the server started, since 1970.",
                      MetricType::Gauge,
                      {Sampled(figures.start_time_seconds)}});
}

void AddWorkers(const Metrics::Workers& workers, std::vector<MetricFamily>& families) {
  families.push_back({"lockstep_workers",
                      "Connected workers by what they are at.",
                      MetricType::Gauge,
                      {Sampled(static_cast<double>(workers.idle), {{"state", "idle"}}),
                       Sampled(static_cast<double>(workers.busy), {{"state", "busy"}}),
                       Sampled(static_cast<double>(workers.held), {{"state", "held"}})}});
  families.push_back({"lockstep_worker_last_message_age_seconds",
                      "Longest time since the last message of a worker that has a job.",
                      MetricType::Gauge,
                      {Sampled(absl::ToDoubleSeconds(workers.longest_silence))}});
}

}  // namespace

struct Metrics::Impl {
  // The figures of one method, found once.
  struct Rpc {
    Histogram* seconds;
    Counter* received_bytes;
    Counter* sent_bytes;
    std::map<absl::StatusCode, Counter*> ended;
  };
  Rpc& RpcOf(std::string_view method) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);

  Registry registry;
  Family<Counter>& rpcs =
      Counters("lockstep_rpcs_total", "Calls that ended, by method and status code.", registry);
  Family<Histogram>& rpc_seconds = Histograms(
      "lockstep_rpc_seconds", "Time from a call's arrival to its end, by method.", registry);
  Family<Counter>& rpc_received_bytes = Counters(
      "lockstep_rpc_received_bytes_total", "Size of the clients' messages, by method.", registry);
  Family<Counter>& rpc_sent_bytes = Counters("lockstep_rpc_sent_bytes_total",
                                             "Size of the server's messages, by method.", registry);

  Family<Gauge>& jobs = Gauges("lockstep_jobs", "Jobs that are in the store, by state.", registry);
  Histogram& queue_seconds =
      Histograms("lockstep_queue_seconds",
                 "Time that jobs were queued before a worker got them, since the server's start at "
                 "most.",
                 registry)
          .Add({}, kJobQueueSeconds);
  Counter& steps = Counters("lockstep_steps_total",
                            "Optimizer steps in the jobs' event logs; what is repeated after a "
                            "loss does not count.",
                            registry)
                       .Add({});
  Counter& samples =
      Counters("lockstep_samples_total", "The same steps, times their batch size.", registry)
          .Add({});
  Counter& checkpoints =
      Counters("lockstep_checkpoints_total", "Checkpoints taken down.", registry).Add({});
  Counter& checkpoint_bytes =
      Counters("lockstep_checkpoint_bytes_total", "Size of the checkpoints taken down.", registry)
          .Add({});
  Counter& attempts_lost =
      Counters("lockstep_attempts_lost_total",
               "Attempts at jobs that ended because their worker was gone.", registry)
          .Add({});
  Counter& events =
      Counters("lockstep_events_total", "Events appended to the jobs' logs.", registry).Add({});
  Counter& event_bytes = Counters("lockstep_event_bytes_total",
                                  "Size of the events appended to the jobs' logs.", registry)
                             .Add({});

  Family<Counter>& inference_requests =
      Counters("lockstep_inference_requests_total",
               "Requests for predictions that ended, by model and status code; the model is "
               "\"other\" beyond the first 100, and when there is no such model.",
               registry);
  Histogram& inference_queue_seconds =
      Histograms("lockstep_inference_queue_seconds",
                 "Time that requests for predictions waited for a pass through the network.",
                 registry)
          .Add({}, kInferenceQueueSeconds);
  Histogram& inference_batch_size =
      Histograms("lockstep_inference_batch_size",
                 "Samples that shared a pass through an inference network.", registry)
          .Add({}, kBatchSamples);

  absl::Mutex mutex;
  std::map<std::string, Rpc, std::less<>> rpc_by_method ABSL_GUARDED_BY(mutex);
  std::set<std::string, std::less<>> models ABSL_GUARDED_BY(mutex);
  std::function<Workers()> workers ABSL_GUARDED_BY(mutex);
};

Metrics::Impl::Rpc& Metrics::Impl::RpcOf(std::string_view method) {
  const auto known = rpc_by_method.find(method);
  if (known != rpc_by_method.end()) return known->second;
  const std::string name(method);
  return rpc_by_method[name] = {.seconds = &rpc_seconds.Add({{"method", name}}, kRpcSeconds),
                                .received_bytes = &rpc_received_bytes.Add({{"method", name}}),
                                .sent_bytes = &rpc_sent_bytes.Add({{"method", name}}),
                                .ended = {}};
}

Metrics::Metrics() : impl_(std::make_unique<Impl>()) {
  Gauges("lockstep_build_info", "1; the labels say what runs.", impl_->registry)
      .Add({{"version", LOCKSTEP_VERSION}, {"contract", kContract}})
      .Set(1);
  for (int state = v1::QUEUED; state <= v1::JobState_MAX; ++state) {
    SetJobs(static_cast<v1::JobState>(state), 0);
  }
}

Metrics::~Metrics() = default;

Metrics* Metrics::Unread() {
  static Metrics* const unread = new Metrics;
  return unread;
}

void Metrics::RpcReceived(std::string_view method, size_t bytes) {
  absl::MutexLock lock(&impl_->mutex);
  impl_->RpcOf(method).received_bytes->Increment(static_cast<double>(bytes));
}

void Metrics::RpcSent(std::string_view method, size_t bytes) {
  absl::MutexLock lock(&impl_->mutex);
  impl_->RpcOf(method).sent_bytes->Increment(static_cast<double>(bytes));
}

void Metrics::RpcEnded(std::string_view method, absl::StatusCode code, absl::Duration took) {
  absl::MutexLock lock(&impl_->mutex);
  Impl::Rpc& rpc = impl_->RpcOf(method);
  Counter*& ended = rpc.ended[code];
  if (ended == nullptr) {
    ended = &impl_->rpcs.Add(
        {{"method", std::string(method)}, {"code", absl::StatusCodeToString(code)}});
  }
  ended->Increment();
  rpc.seconds->Observe(absl::ToDoubleSeconds(took));
}

void Metrics::SetJobs(v1::JobState state, int64_t jobs) {
  impl_->jobs.Add({{"state", absl::AsciiStrToLower(v1::JobState_Name(state))}})
      .Set(static_cast<double>(jobs));
}

void Metrics::JobMoved(v1::JobState from, v1::JobState to) {
  const auto jobs_in = [this](v1::JobState state) -> Gauge& {
    return impl_->jobs.Add({{"state", absl::AsciiStrToLower(v1::JobState_Name(state))}});
  };
  if (from != v1::JOB_STATE_UNSPECIFIED) jobs_in(from).Decrement();
  if (to != v1::JOB_STATE_UNSPECIFIED) jobs_in(to).Increment();
}

void Metrics::JobStarted(absl::Duration queued) {
  impl_->queue_seconds.Observe(absl::ToDoubleSeconds(queued));
}

void Metrics::Trained(int64_t steps, int64_t samples) {
  impl_->steps.Increment(static_cast<double>(steps));
  impl_->samples.Increment(static_cast<double>(samples));
}

void Metrics::CheckpointStored(int64_t bytes) {
  impl_->checkpoints.Increment();
  impl_->checkpoint_bytes.Increment(static_cast<double>(bytes));
}

void Metrics::AttemptLost() { impl_->attempts_lost.Increment(); }

void Metrics::EventsLogged(int64_t events, int64_t bytes) {
  impl_->events.Increment(static_cast<double>(events));
  impl_->event_bytes.Increment(static_cast<double>(bytes));
}

void Metrics::InferenceEnded(std::string_view model, absl::StatusCode code) {
  std::string label(model);
  {
    absl::MutexLock lock(&impl_->mutex);
    if (!impl_->models.contains(model)) {
      if (model.empty() || impl_->models.size() == kMaxModelNames) {
        label = kOtherModels;
      } else {
        impl_->models.insert(label);
      }
    }
  }
  impl_->inference_requests
      .Add({{"model", std::move(label)}, {"code", absl::StatusCodeToString(code)}})
      .Increment();
}

void Metrics::InferenceWaited(absl::Duration queued) {
  impl_->inference_queue_seconds.Observe(absl::ToDoubleSeconds(queued));
}

void Metrics::InferencePass(int64_t samples) {
  impl_->inference_batch_size.Observe(static_cast<double>(samples));
}

void Metrics::CollectWorkers(std::function<Workers()> workers) {
  absl::MutexLock lock(&impl_->mutex);
  impl_->workers = std::move(workers);
}

std::string Metrics::Text() const {
  std::function<Workers()> workers;
  {
    absl::MutexLock lock(&impl_->mutex);
    workers = impl_->workers;
  }
  std::vector<MetricFamily> families = impl_->registry.Collect();
  AddWorkers(workers ? workers() : Workers(), families);
  AddProcess(families);
  return prometheus::TextSerializer().Serialize(families);
}

}  // namespace lockstep
