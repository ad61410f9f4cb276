#include "core/training/learning_rate.h"

#include <algorithm>

#include "core/numerics/scalar_math.h"

namespace lockstep {
namespace {

// From `begin` (p = 0) to `end` (p = 1) along half a cosine.
double HalfCosine(double begin, double end, double p) {
  return end + (begin - end) * ((1.0 + CosPi(p)) / 2.0);
}

double CosineFactor(const v1::CosineDecay& cosine, int64_t step) {
  const int64_t warmup = cosine.warmup_steps();
  if (step < warmup) return static_cast<double>(step + 1) / static_cast<double>(warmup);
  const double p =
      static_cast<double>(step - warmup) / static_cast<double>(cosine.decay_steps() - warmup);
  return HalfCosine(1.0, cosine.alpha(), std::min(p, 1.0));
}

double ExponentialFactor(const v1::ExponentialDecay& decay, int64_t step) {
  const double whole = Power(decay.decay_rate(), step / decay.decay_steps());
  if (decay.staircase()) return whole;
  const double rest = static_cast<double>(step % decay.decay_steps());
  return whole * RootPower(decay.decay_rate(), rest / static_cast<double>(decay.decay_steps()));
}

double OneCycleFactor(const v1::OneCycle& cycle, int64_t step, int64_t total_steps) {
  const double first = 1.0 / cycle.div_factor();
  const double peak = OneCyclePeak(cycle, total_steps);
  const auto t = static_cast<double>(step);
  if (t <= peak) return HalfCosine(first, 1.0, t / peak);
  const double p = (t - peak) / (static_cast<double>(total_steps - 1) - peak);
  return HalfCosine(1.0, first / cycle.final_div_factor(), std::min(p, 1.0));
}

}  // namespace

LearningRate::LearningRate(const v1::TrainingSpec& spec, int64_t steps_per_epoch,
                           int64_t total_steps)
    : schedule_(spec.learning_rate_schedule()),
      steps_per_epoch_(steps_per_epoch),
      total_steps_(total_steps),
      base_(BaseLearningRate(spec.optimizer())) {
  if (schedule_.has_reduce_on_plateau()) {
    const v1::ReduceOnPlateau& plateau = schedule_.reduce_on_plateau();
    monitor_.emplace(plateau.monitor(), plateau.mode(), plateau.min_delta());
  }
}

double LearningRate::At(int64_t step) const { return base_ * Factor(step); }

double LearningRate::Factor(int64_t step) const {
  const int64_t epoch = step / steps_per_epoch_;
  switch (schedule_.kind_case()) {
    case v1::LearningRateSchedule::kStep:
      return Power(schedule_.step().gamma(), epoch / schedule_.step().epochs());
    case v1::LearningRateSchedule::kMultiStep: {
      const auto& milestones = schedule_.multi_step().milestones();
      return Power(
          schedule_.multi_step().gamma(),
          std::upper_bound(milestones.begin(), milestones.end(), epoch) - milestones.begin());
    }
    case v1::LearningRateSchedule::kCosine:
      return CosineFactor(schedule_.cosine(), step);
    case v1::LearningRateSchedule::kExponential:
      return ExponentialFactor(schedule_.exponential(), step);
    case v1::LearningRateSchedule::kOneCycle:
      return OneCycleFactor(schedule_.one_cycle(), step, total_steps_);
    case v1::LearningRateSchedule::kReduceOnPlateau:  // changes base_
    case v1::LearningRateSchedule::KIND_NOT_SET:
      return 1.0;
  }
  return 1.0;
}

// As Keras' ReduceLROnPlateau.
void LearningRate::EndEpoch(const v1::EpochRecord& epoch) {
  if (!monitor_) return;
  const v1::ReduceOnPlateau& plateau = schedule_.reduce_on_plateau();
  if (cooldown_ > 0) {
    --cooldown_;
    epochs_without_ = 0;
  }
  if (monitor_->Improves(epoch)) {
    epochs_without_ = 0;
  } else if (cooldown_ == 0 && ++epochs_without_ >= plateau.patience() &&
             base_ > plateau.min_learning_rate()) {
    base_ = std::max(base_ * plateau.factor(), plateau.min_learning_rate());
    cooldown_ = plateau.cooldown();
    epochs_without_ = 0;
  }
}

void LearningRate::Save(v1::LearningRateState* state) const {
  state->set_base(base_);
  if (monitor_) monitor_->Save(state->mutable_monitor());
  state->set_epochs_without_improvement(epochs_without_);
  state->set_cooldown(cooldown_);
}

absl::Status LearningRate::Restore(const v1::LearningRateState& state) {
  if (state.has_monitor() != monitor_.has_value()) {
    return absl::InvalidArgumentError("checkpoint: learning_rate is of another schedule");
  }
  base_ = state.base();
  if (monitor_) monitor_->Restore(state.monitor());
  epochs_without_ = state.epochs_without_improvement();
  cooldown_ = state.cooldown();
  return absl::OkStatus();
}

double BaseLearningRate(const v1::Optimizer& optimizer) {
  if (optimizer.has_adam()) return optimizer.adam().learning_rate();
  if (optimizer.has_rmsprop()) return optimizer.rmsprop().learning_rate();
  return optimizer.sgd().learning_rate();
}

double OneCyclePeak(const v1::OneCycle& cycle, int64_t total_steps) {
  return cycle.pct_start() * static_cast<double>(total_steps) - 1.0;
}

}  // namespace lockstep
