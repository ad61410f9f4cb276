#include "core/training/early_stopping.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace lockstep {
namespace {

constexpr char kBestParameters[] = "best.parameters";
constexpr char kBestBuffers[] = "best.buffers";

}  // namespace

EarlyStopping::EarlyStopping(const v1::EarlyStopping& spec, const Network& network)
    : spec_(spec),
      monitor_(spec.monitor(), spec.mode(), spec.min_delta()),
      best_parameters_(spec.restore_best_weights() ? network.parameters_size() : 0),
      best_buffers_(spec.restore_best_weights() ? network.buffers_size() : 0) {}

bool EarlyStopping::EndEpoch(const v1::EpochRecord& epoch, std::span<const float> parameters,
                             std::span<const float> buffers) {
  epoch_ = epoch.epoch();
  if (epoch_ - 1 < spec_.start_from_epoch()) return false;
  if (monitor_.Improves(epoch)) {
    epochs_without_ = 0;
    best_epoch_ = epoch_;
    best_step_ = epoch.step();
    if (spec_.restore_best_weights()) {
      std::copy(parameters.begin(), parameters.end(), best_parameters_.data());
      std::copy(buffers.begin(), buffers.end(), best_buffers_.data());
    }
    return false;
  }
  ++epochs_without_;
  stopped_ = epochs_without_ >= spec_.patience();
  return stopped_;
}

std::string EarlyStopping::Finish(std::span<float> parameters, std::span<float> buffers) const {
  std::string text;
  if (stopped_) {
    text = absl::StrCat("training stopped after epoch ", epoch_, ": ", monitor_.metric(),
                        best_epoch_ == 0 ? " has not been a number"
                                         : absl::StrCat(" was best after epoch ", best_epoch_));
  }
  if (spec_.restore_best_weights() && best_epoch_ != 0 && best_epoch_ != epoch_) {
    std::copy_n(best_parameters_.data(), best_parameters_.size(), parameters.data());
    std::copy_n(best_buffers_.data(), best_buffers_.size(), buffers.data());
    absl::StrAppend(&text, text.empty() ? "" : "; ", "the weights are those of epoch ", best_epoch_,
                    " (step ", best_step_, "), the best by ", monitor_.metric());
  }
  return text;
}

void EarlyStopping::Save(RunSnapshot* snapshot) const {
  v1::EarlyStoppingState& state = *snapshot->state.mutable_early_stopping();
  monitor_.Save(state.mutable_monitor());
  state.set_epoch(epoch_);
  state.set_best_epoch(best_epoch_);
  state.set_best_step(best_step_);
  state.set_epochs_without_improvement(epochs_without_);
  state.set_stopped(stopped_);
  if (!spec_.restore_best_weights() || best_epoch_ == 0) return;
  snapshot->Add(kBestParameters, best_parameters_.span());
  snapshot->Add(kBestBuffers, best_buffers_.span());
}

absl::Status EarlyStopping::Restore(const RunSnapshot& snapshot) {
  const v1::EarlyStoppingState& state = snapshot.state.early_stopping();
  if (!state.has_monitor()) {
    return absl::InvalidArgumentError("checkpoint: has nothing for early_stopping");
  }
  monitor_.Restore(state.monitor());
  epoch_ = state.epoch();
  best_epoch_ = state.best_epoch();
  best_step_ = state.best_step();
  epochs_without_ = state.epochs_without_improvement();
  stopped_ = state.stopped();
  if (!spec_.restore_best_weights() || best_epoch_ == 0) return absl::OkStatus();
  absl::Status status = snapshot.CopyTo(kBestParameters, best_parameters_.span());
  status.Update(snapshot.CopyTo(kBestBuffers, best_buffers_.span()));
  return status;
}

}  // namespace lockstep
