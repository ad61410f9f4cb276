#include "client/cli/watch_view.h"

#include <fmt/format.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <mutex>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "client/cli/format.h"
#include "client/cli/job_progress.h"
#include "client/cli/metric_curves.h"
#include "client/cli/profile_view.h"
#include "client/cli/terminal.h"
#include "client/cli/verification.h"

namespace lockstep {
namespace {

constexpr std::chrono::milliseconds kRedraw(100);
// Between plain lines, epochs aside.
constexpr absl::Duration kPlainPause = absl::Seconds(5);
constexpr int kPlainColumns = 200;
constexpr int kPlainProfileColumns = 110;

std::atomic<bool> interrupted = false;
static_assert(std::atomic<bool>::is_always_lock_free);  // or a signal handler must not set it

// Draws what arrives. Events come from one thread, redraws from another.
class WatchView {
 public:
  // `page`: the job's in the dashboard, if there is one.
  WatchView(const v1::Job& job, std::string page) : page_(std::move(page)), progress_(job) {}

  void PrintBeginning() ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    PrintDashboard("dashboard: ");
  }

  void Apply(const v1::Event& event) ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    const absl::Time now = absl::Now();
    progress_.Apply(event, now);
    curves_.Apply(event);
    switch (event.kind_case()) {
      case v1::Event::kState:
        PrintState(event.state());
        break;
      case v1::Event::kEpoch:
        terminal_.Print(progress_.EpochLine(
            event.epoch(), terminal_.interactive() ? terminal_.style().width : kPlainColumns));
        last_plain_ = now;
        break;
      case v1::Event::kText:
        terminal_.Print(TextLine(event.text(), terminal_.style()));
        break;
      case v1::Event::kCheckpoint:
        PrintCheckpoint(event);
        break;
      case v1::Event::kStep:
        if (!terminal_.interactive() && now - last_plain_ >= kPlainPause) {
          LineStyle style;
          style.width = kPlainColumns;
          ProgressLine line = progress_.Line(now);
          line.label += fmt::format(" {:.0f}%", line.fraction.value_or(0) * 100);
          line.fraction.reset();
          terminal_.Print(Render(line, style));
          last_plain_ = now;
        }
        break;
      case v1::Event::kProfile:
        PrintProfile(event.profile());
        break;
      default:
        break;
    }
  }

  void Redraw() ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    if (!terminal_.interactive() || progress_.ended()) return;
    terminal_.Draw(Render(progress_.Line(absl::Now()), terminal_.style()));
  }

  // Takes the live line away.
  void Clear() ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    terminal_.Clear();
  }

  void PrintDetached(const std::string& id, int64_t next_sequence) ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    terminal_.Clear();
    terminal_.Print("detached; the job goes on. Come back with:");
    terminal_.Print(fmt::format("  lockstep watch {} --from {}", id, next_sequence));
    PrintDashboard("or look at ");
  }

  // The watch was for the profile only.
  void PrintProfiled(const std::string& id) ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    terminal_.Clear();
    terminal_.Print("next:    lockstep watch " + id);
  }

  void PrintOutcome(const v1::Job& job) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  // On a terminal the live line says what needs no reason; PrintOutcome tells the end.
  void PrintState(const v1::StateChange& change) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const std::string line = progress_.StateLine(change);
    const bool obvious = line == StateName(change.state());
    if (!line.empty() && !(terminal_.interactive() && obvious)) terminal_.Print(line);
  }

  void PrintDashboard(const std::string& label) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (!page_.empty()) terminal_.Print(label + page_);
  }

  // Where there is a live line, that every checkpoint went well need not be said.
  void PrintCheckpoint(const v1::Event& event) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (terminal_.interactive()) return;
    const std::string line = progress_.CheckpointLine(event);
    if (!line.empty()) terminal_.Print(line);
  }

  void PrintProfile(const v1::Profile& profile) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    LineStyle style = terminal_.style();
    if (!terminal_.interactive()) style.width = kPlainProfileColumns;
    terminal_.Print(ProfileTable(profile, style));
  }

  const std::string page_;
  absl::Mutex mutex_;
  JobProgress progress_ ABSL_GUARDED_BY(mutex_);
  MetricCurves curves_ ABSL_GUARDED_BY(mutex_);
  Terminal terminal_ ABSL_GUARDED_BY(mutex_);
  absl::Time last_plain_ ABSL_GUARDED_BY(mutex_) = absl::Now();
};

void WatchView::PrintOutcome(const v1::Job& job) {
  absl::MutexLock lock(&mutex_);
  terminal_.Clear();
  const double elapsed_s = job.run_seconds() > 0 ? job.run_seconds() : progress_.elapsed_s();
  std::string outcome = fmt::format("{} {} after {} steps in {}", job.id(), StateName(job.state()),
                                    job.progress().step(), FormatClock(elapsed_s));
  // What became of a verification has a line of its own.
  const bool verifies = job.spec().has_verification();
  if (!verifies && !job.state_reason().empty()) outcome += ": " + job.state_reason();
  terminal_.Print(outcome);
  for (const std::string& line : curves_.Table(terminal_.style())) terminal_.Print(line);
  PrintDashboard("  dashboard  ");
  if (verifies) {
    terminal_.Print(VerificationOutcome(job));
    if (job.state() == v1::SUCCEEDED) return;
  }
  if (job.state() != v1::SUCCEEDED) {
    terminal_.Print("next:    lockstep show " + job.id());
    return;
  }
  terminal_.Print("  state  " + job.state_hash());
  if (!job.has_published()) {
    terminal_.Print(fmt::format("next:    lockstep fetch {} -o weights.safetensors", job.id()));
    return;
  }
  const std::string model = fmt::format("{}:{}", job.published().name(), job.published().version());
  terminal_.Print("  model  " + model);
  const v1::DataSpec& data = job.spec().data();
  terminal_.Print(fmt::format("next:    lockstep fetch {} -o weights.safetensors", model));
  terminal_.Print(
      fmt::format("         lockstep predict {} --dataset {} --first 10", model,
                  data.has_validation() ? data.validation().dataset() : data.train().dataset()));
}

}  // namespace

ExitCode Watch(Session& session, Client& client, const v1::Job& job, const WatchOptions& options) {
  // As the dashboard writes its addresses; what ids are made of needs no escape there.
  const std::string dashboard = client.dashboard();
  WatchView view(job, dashboard.empty() ? "" : dashboard + "/#/jobs/" + job.id());
  interrupted = false;
  struct sigaction action = {};
  struct sigaction before = {};
  action.sa_handler = [](int) { interrupted = true; };
  sigaction(SIGINT, &action, &before);

  // Whoever has seen a line may press Ctrl-C.
  if (!session.json()) view.PrintBeginning();
  std::unique_ptr<EventStream> events = client.WatchJob(job.id(), options.from_sequence);

  absl::Status status;
  absl::Status drawn;
  bool profiled = false;
  {
    std::jthread redraw([&](std::stop_token stop) {
      std::mutex mutex;
      std::condition_variable_any tick;
      std::unique_lock lock(mutex);
      while (!stop.stop_requested()) {
        if (interrupted) events->Cancel();
        if (!session.json()) view.Redraw();
        tick.wait_for(lock, stop, kRedraw, [] { return false; });
      }
    });
    while (true) {
      absl::StatusOr<std::optional<v1::Event>> event = events->Next();
      status = event.status();
      if (!event.ok() || !event->has_value()) break;
      if (session.json()) {
        PrintJson(**event);
      } else {
        view.Apply(**event);
      }
      if (!(*event)->has_profile()) continue;
      if (!profiled && options.image != nullptr) {
        drawn = options.image->Append(ProfileImage((*event)->profile(), "job " + job.id()));
        if (drawn.ok()) drawn = options.image->Commit();
      }
      profiled = true;
      if (options.until_profile) break;
    }
  }
  sigaction(SIGINT, &before, nullptr);
  view.Clear();

  if (interrupted && absl::IsCancelled(status)) {
    if (!session.json()) view.PrintDetached(job.id(), events->next_sequence());
    return kDetached;
  }
  if (!status.ok()) {
    return session.Fail("watch " + job.id(), status,
                        fmt::format("come back with `lockstep watch {} --from {}`", job.id(),
                                    events->next_sequence()));
  }
  if (!drawn.ok()) return session.Fail("profile of " + job.id(), drawn, "");
  if (profiled && options.until_profile) {
    if (!session.json()) view.PrintProfiled(job.id());
    return kOk;
  }
  absl::StatusOr<v1::Job> end = client.GetJob(job.id());
  if (!end.ok()) return session.Fail("watch " + job.id(), end.status(), "");
  if (!session.json()) view.PrintOutcome(*end);
  if (options.end != nullptr) *options.end = *end;
  const bool good =
      end->spec().has_verification() ? IsVerified(*end) : end->state() == v1::SUCCEEDED;
  return good ? kOk : kRefused;
}

}  // namespace lockstep
