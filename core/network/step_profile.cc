#include "core/network/step_profile.h"

#include <algorithm>

#include "core/network/step_cost.h"

namespace lockstep {
namespace {

// Rows below this share of the step are added up in one, which bounds their number.
constexpr double kLeastShare = 0.0005;

double Milliseconds(std::chrono::steady_clock::duration time) {
  return std::chrono::duration<double, std::milli>(time).count();
}

// One thread makes these for the whole batch, and has the pool to do it.
bool IsBatchCall(Call call) {
  return call == Call::kCombineForward || call == Call::kCombineBackward ||
         call == Call::kFinishBackward;
}

const char* PhaseName(Call call) {
  switch (call) {
    case Call::kGatherForward:
    case Call::kCombineForward:
      return "forward sums";
    case Call::kForward:
    case Call::kForwardAgain:
      return "forward";
    case Call::kGatherBackward:
    case Call::kCombineBackward:
      return "backward sums";
    case Call::kBackward:
      return "backward";
    case Call::kFinishBackward:
      return "weights";
  }
  return "";
}

const char* PartName(StepPart part) {
  switch (part) {
    case StepPart::kStep:
      return "step";
    case StepPart::kBatch:
      return "batch";
    case StepPart::kPacking:
      return "packing";
    case StepPart::kLoss:
      return "loss";
    case StepPart::kReduction:
      return "reduction";
    case StepPart::kOptimizer:
      return "optimizer";
  }
  return "";
}

}  // namespace

StepProfile::StepProfile(const Network& network, const StepPlan& plan, int threads)
    : network_(network),
      plan_(plan),
      calls_(threads, std::vector<Counter>(network.nodes().size() * kCalls)),
      parts_(threads) {}

StepProfile::Counter StepProfile::Sum(StepPart part) const {
  Counter sum;
  for (const auto& thread : parts_) {
    sum.time += thread[static_cast<int>(part)].time;
    sum.amount += thread[static_cast<int>(part)].amount;
  }
  return sum;
}

v1::ProfileRow StepProfile::DescribeCall(int node, Call call, double steps) const {
  Counter all;
  for (const std::vector<Counter>& thread : calls_) {
    const Counter& counter = thread[node * kCalls + static_cast<int>(call)];
    all.time += counter.time;
    all.amount += counter.amount;
  }
  const CallCost cost = CostOf(network_, plan_, node, call);
  const double samples = static_cast<double>(all.amount) / steps;
  const double sharing = IsBatchCall(call) ? 1 : static_cast<double>(calls_.size());
  v1::ProfileRow row;
  row.set_layer(network_.nodes()[node].name);
  row.set_phase(PhaseName(call));
  row.set_ms(Milliseconds(all.time) / steps / sharing);
  row.set_flops(samples * cost.sample_flops);
  if (samples > 0) {
    row.set_bytes((samples * cost.sample_floats + cost.step_floats) * sizeof(float));
  }
  return row;
}

v1::Profile StepProfile::Describe(int64_t first_step, int64_t last_step, const Peaks& peaks) const {
  const auto steps = static_cast<double>(last_step - first_step + 1);
  const Counter whole = Sum(StepPart::kStep);
  v1::Profile profile;
  profile.set_first_step(first_step);
  profile.set_last_step(last_step);
  profile.set_step_ms(Milliseconds(whole.time) / steps);
  profile.set_samples(static_cast<double>(whole.amount) / steps);
  profile.set_threads(static_cast<int>(calls_.size()));
  profile.set_peak_gflops(peaks.flops_per_second / 1e9);
  profile.set_peak_gb_per_s(peaks.bytes_per_second / 1e9);

  v1::ProfileRow others;
  others.set_phase("others");
  v1::ProfileRow waiting;
  waiting.set_phase("waiting");
  waiting.set_ms(profile.step_ms());
  const auto add = [](const v1::ProfileRow& row, v1::ProfileRow& sum) {
    sum.set_ms(sum.ms() + row.ms());
    sum.set_flops(sum.flops() + row.flops());
    sum.set_bytes(sum.bytes() + row.bytes());
  };
  const auto keep = [&](const v1::ProfileRow& row) {
    waiting.set_ms(waiting.ms() - row.ms());
    if (row.ms() < kLeastShare * profile.step_ms()) return add(row, others);
    *profile.add_rows() = row;
  };
  for (int i = 0; i < std::ssize(network_.nodes()); ++i) {
    // Calls of the same phase are one row.
    for (int c = 0; c < kCalls;) {
      v1::ProfileRow row = DescribeCall(i, static_cast<Call>(c), steps);
      for (++c; c < kCalls && row.phase() == PhaseName(static_cast<Call>(c)); ++c) {
        add(DescribeCall(i, static_cast<Call>(c), steps), row);
      }
      keep(row);
    }
  }
  for (int p = static_cast<int>(StepPart::kStep) + 1; p < kParts; ++p) {
    const auto part = static_cast<StepPart>(p);
    const Counter sum = Sum(part);
    const double sharing = part == StepPart::kBatch ? profile.threads() : 1;
    v1::ProfileRow row;
    row.set_phase(PartName(part));
    row.set_ms(Milliseconds(sum.time) / steps / sharing);
    row.set_bytes(static_cast<double>(sum.amount) / steps);
    keep(row);
  }
  waiting.set_ms(std::max(0.0, waiting.ms()));
  *profile.add_rows() = others;
  *profile.add_rows() = waiting;
  return profile;
}

}  // namespace lockstep
