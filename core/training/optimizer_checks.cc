#include "core/training/optimizer_checks.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/training/learning_rate.h"
#include "core/training/monitor.h"

namespace lockstep {
namespace {

template <typename... Parts>
absl::Status Invalid(const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat("training.", parts...));
}

absl::Status CheckPositive(absl::string_view field, double value) {
  if (value > 0 && std::isfinite(value)) return absl::OkStatus();
  return Invalid(field, ": must be > 0 and finite, got ", value);
}

absl::Status CheckNotNegative(absl::string_view field, double value) {
  if (value >= 0 && std::isfinite(value)) return absl::OkStatus();
  return Invalid(field, ": must be >= 0 and finite, got ", value);
}

// Within [0, 1), of what weighs old values against new ones.
absl::Status CheckDecay(absl::string_view field, double value) {
  if (value >= 0 && value < 1) return absl::OkStatus();
  return Invalid(field, ": must be within [0, 1), got ", value);
}

absl::Status CheckFraction(absl::string_view field, double value) {
  if (value >= 0 && value <= 1) return absl::OkStatus();
  return Invalid(field, ": must be within [0, 1], got ", value);
}

// Of what is multiplied again and again.
absl::Status CheckFactor(absl::string_view field, double value) {
  if (value > 0 && value <= 1) return absl::OkStatus();
  return Invalid(field, ": must be within (0, 1], got ", value);
}

absl::Status CheckAtLeast(absl::string_view field, int64_t value, int64_t least) {
  if (value >= least) return absl::OkStatus();
  return Invalid(field, ": must be >= ", least, ", got ", value);
}

absl::Status CheckOptimizer(v1::Optimizer* optimizer) {
  absl::Status status;
  if (optimizer->kind_case() == v1::Optimizer::KIND_NOT_SET) optimizer->mutable_adam();
  if (optimizer->has_adam()) {
    v1::Adam& adam = *optimizer->mutable_adam();
    if (!adam.has_learning_rate()) adam.set_learning_rate(0.001);
    if (!adam.has_beta_1()) adam.set_beta_1(0.9);
    if (!adam.has_beta_2()) adam.set_beta_2(0.999);
    if (!adam.has_epsilon()) adam.set_epsilon(1e-7);
    status.Update(CheckPositive("optimizer.adam.learning_rate", adam.learning_rate()));
    status.Update(CheckDecay("optimizer.adam.beta_1", adam.beta_1()));
    status.Update(CheckDecay("optimizer.adam.beta_2", adam.beta_2()));
    status.Update(CheckPositive("optimizer.adam.epsilon", adam.epsilon()));
  } else if (optimizer->has_rmsprop()) {
    v1::RmsProp& rmsprop = *optimizer->mutable_rmsprop();
    if (!rmsprop.has_learning_rate()) rmsprop.set_learning_rate(0.001);
    if (!rmsprop.has_rho()) rmsprop.set_rho(0.9);
    if (!rmsprop.has_epsilon()) rmsprop.set_epsilon(1e-7);
    status.Update(CheckPositive("optimizer.rmsprop.learning_rate", rmsprop.learning_rate()));
    status.Update(CheckDecay("optimizer.rmsprop.rho", rmsprop.rho()));
    status.Update(CheckFraction("optimizer.rmsprop.momentum", rmsprop.momentum()));
    status.Update(CheckPositive("optimizer.rmsprop.epsilon", rmsprop.epsilon()));
  } else {
    v1::Sgd& sgd = *optimizer->mutable_sgd();
    if (!sgd.has_learning_rate()) sgd.set_learning_rate(0.01);
    status.Update(CheckPositive("optimizer.sgd.learning_rate", sgd.learning_rate()));
    status.Update(CheckFraction("optimizer.sgd.momentum", sgd.momentum()));
  }
  return status;
}

// What an epoch record may be asked for: the loss and the metrics, of training and of validation.
absl::Status CheckMonitor(absl::string_view path, const v1::TrainingSpec& training, bool validates,
                          std::string* monitor, std::string* mode) {
  if (monitor->empty()) *monitor = "val_loss";
  if (absl::StartsWith(*monitor, "val_") && !validates) {
    return Invalid(path, ".monitor: \"", *monitor, "\" needs validation data (data.validation)");
  }
  std::vector<std::string> known = {"loss"};
  known.insert(known.end(), training.metrics().begin(), training.metrics().end());
  if (validates) {
    const size_t count = known.size();
    for (size_t i = 0; i < count; ++i) known.push_back(absl::StrCat("val_", known[i]));
  }
  if (std::find(known.begin(), known.end(), *monitor) == known.end()) {
    return Invalid(path, ".monitor: \"", *monitor, "\" is unknown; there is ",
                   absl::StrJoin(known, ", "));
  }
  if (mode->empty()) *mode = DefaultMode(*monitor);
  if (*mode == "min" || *mode == "max") return absl::OkStatus();
  return Invalid(path, ".mode: must be min or max; got \"", *mode, "\"");
}

absl::Status CheckMultiStep(v1::MultiStepDecay* multi_step) {
  constexpr char kPath[] = "learning_rate_schedule.multi_step";
  if (!multi_step->has_gamma()) multi_step->set_gamma(0.1);
  const auto& milestones = multi_step->milestones();
  if (milestones.empty()) return Invalid(kPath, ".milestones: must have at least one epoch");
  int64_t before = 0;
  for (int i = 0; i < milestones.size(); ++i) {
    if (milestones[i] <= before) {
      return Invalid(kPath, ".milestones[", i, "]: must be > ", before,
                     i == 0 ? "" : ", the one before it", ", got ", milestones[i]);
    }
    before = milestones[i];
  }
  return CheckFactor(absl::StrCat(kPath, ".gamma"), multi_step->gamma());
}

absl::Status CheckCosine(int64_t total_steps, v1::CosineDecay* cosine) {
  constexpr char kPath[] = "learning_rate_schedule.cosine";
  if (auto s = CheckAtLeast(absl::StrCat(kPath, ".decay_steps"), cosine->decay_steps(), 0);
      !s.ok()) {
    return s;
  }
  if (cosine->decay_steps() == 0) cosine->set_decay_steps(total_steps);
  if (cosine->warmup_steps() < 0 || cosine->warmup_steps() >= cosine->decay_steps()) {
    return Invalid(kPath, ".warmup_steps: must be within [0, decay_steps), decay_steps being ",
                   cosine->decay_steps(), ", got ", cosine->warmup_steps());
  }
  return CheckFraction(absl::StrCat(kPath, ".alpha"), cosine->alpha());
}

absl::Status CheckOneCycle(int64_t total_steps, v1::OneCycle* cycle) {
  constexpr char kPath[] = "learning_rate_schedule.one_cycle";
  if (!cycle->has_pct_start()) cycle->set_pct_start(0.3);
  if (!cycle->has_div_factor()) cycle->set_div_factor(25);
  if (!cycle->has_final_div_factor()) cycle->set_final_div_factor(1e4);
  if (!(cycle->pct_start() > 0 && cycle->pct_start() < 1)) {
    return Invalid(kPath, ".pct_start: must be within (0, 1), got ", cycle->pct_start());
  }
  if (!(OneCyclePeak(*cycle, total_steps) > 0)) {
    return Invalid(kPath, ".pct_start: ", cycle->pct_start(), " of the job's ", total_steps,
                   " steps must be more than one step");
  }
  absl::Status status = CheckPositive(absl::StrCat(kPath, ".div_factor"), cycle->div_factor());
  status.Update(CheckPositive(absl::StrCat(kPath, ".final_div_factor"), cycle->final_div_factor()));
  return status;
}

absl::Status CheckPlateau(const v1::TrainingSpec& training, bool validates,
                          v1::ReduceOnPlateau* plateau) {
  const std::string path = "learning_rate_schedule.reduce_on_plateau";
  if (!plateau->has_factor()) plateau->set_factor(0.1);
  if (!plateau->has_patience()) plateau->set_patience(10);
  if (!plateau->has_min_delta()) plateau->set_min_delta(1e-4);
  absl::Status status =
      CheckMonitor(path, training, validates, plateau->mutable_monitor(), plateau->mutable_mode());
  if (!(plateau->factor() > 0 && plateau->factor() < 1)) {
    status.Update(Invalid(path, ".factor: must be within (0, 1), got ", plateau->factor()));
  }
  status.Update(CheckAtLeast(path + ".patience", plateau->patience(), 0));
  status.Update(CheckNotNegative(path + ".min_delta", plateau->min_delta()));
  status.Update(CheckAtLeast(path + ".cooldown", plateau->cooldown(), 0));
  status.Update(CheckNotNegative(path + ".min_learning_rate", plateau->min_learning_rate()));
  return status;
}

absl::Status CheckSchedule(bool validates, int64_t total_steps, v1::TrainingSpec* training) {
  v1::LearningRateSchedule& schedule = *training->mutable_learning_rate_schedule();
  switch (schedule.kind_case()) {
    case v1::LearningRateSchedule::kStep: {
      v1::StepDecay& step = *schedule.mutable_step();
      if (!step.has_gamma()) step.set_gamma(0.1);
      absl::Status status = CheckAtLeast("learning_rate_schedule.step.epochs", step.epochs(), 1);
      status.Update(CheckFactor("learning_rate_schedule.step.gamma", step.gamma()));
      return status;
    }
    case v1::LearningRateSchedule::kMultiStep:
      return CheckMultiStep(schedule.mutable_multi_step());
    case v1::LearningRateSchedule::kCosine:
      return CheckCosine(total_steps, schedule.mutable_cosine());
    case v1::LearningRateSchedule::kExponential: {
      const v1::ExponentialDecay& decay = schedule.exponential();
      absl::Status status =
          CheckAtLeast("learning_rate_schedule.exponential.decay_steps", decay.decay_steps(), 1);
      status.Update(
          CheckFactor("learning_rate_schedule.exponential.decay_rate", decay.decay_rate()));
      return status;
    }
    case v1::LearningRateSchedule::kOneCycle:
      return CheckOneCycle(total_steps, schedule.mutable_one_cycle());
    case v1::LearningRateSchedule::kReduceOnPlateau:
      return CheckPlateau(*training, validates, schedule.mutable_reduce_on_plateau());
    case v1::LearningRateSchedule::KIND_NOT_SET:
      return Invalid(
          "learning_rate_schedule: must be one of step, multi_step, cosine, exponential, "
          "one_cycle, reduce_on_plateau");
  }
  return absl::OkStatus();
}

absl::Status CheckWeightDecay(const v1::WeightDecay& decay, const Network& network) {
  absl::Status status = CheckNotNegative("weight_decay.rate", decay.rate());
  for (int g = 0; g < decay.groups_size(); ++g) {
    const v1::WeightDecay::Group& group = decay.groups(g);
    const std::string path = absl::StrCat("weight_decay.groups[", g, "]");
    status.Update(CheckNotNegative(path + ".rate", group.rate()));
    if (group.layers().empty()) status.Update(Invalid(path, ".layers: must name a layer"));
    for (int i = 0; i < group.layers_size(); ++i) {
      const auto& nodes = network.nodes();
      const auto is_named = [&](const Network::Node& n) { return n.name == group.layers(i); };
      if (std::none_of(nodes.begin(), nodes.end(), is_named)) {
        status.Update(
            Invalid(path, ".layers[", i, "]: the model has no layer \"", group.layers(i), "\""));
      }
    }
  }
  return status;
}

absl::Status CheckClipping(const v1::GradientClipping& clipping) {
  absl::Status status = CheckNotNegative("gradient_clipping.value", clipping.value());
  status.Update(CheckNotNegative("gradient_clipping.norm", clipping.norm()));
  status.Update(CheckNotNegative("gradient_clipping.global_norm", clipping.global_norm()));
  const int set = (clipping.value() > 0) + (clipping.norm() > 0) + (clipping.global_norm() > 0);
  if (set != 1) {
    status.Update(Invalid("gradient_clipping: must have one of value, norm and global_norm, got ",
                          set == 0 ? "none" : absl::StrCat(set)));
  }
  return status;
}

absl::Status CheckEarlyStopping(bool validates, v1::TrainingSpec* training) {
  v1::EarlyStopping& stopping = *training->mutable_early_stopping();
  absl::Status status = CheckMonitor("early_stopping", *training, validates,
                                     stopping.mutable_monitor(), stopping.mutable_mode());
  status.Update(CheckAtLeast("early_stopping.patience", stopping.patience(), 0));
  status.Update(CheckNotNegative("early_stopping.min_delta", stopping.min_delta()));
  status.Update(CheckAtLeast("early_stopping.start_from_epoch", stopping.start_from_epoch(), 0));
  return status;
}

absl::Status CheckAugmentation(const v1::Augmentation& augmentation, const Network& network) {
  int64_t side = std::numeric_limits<int64_t>::max();
  bool images = false;
  for (const NetworkInput& input : network.inputs()) {
    if (input.shape.rank() != 3) continue;
    images = true;
    side = std::min({side, input.shape[0], input.shape[1]});
  }
  if (!images) {
    return Invalid("augmentation: needs an input [N, H, W, C], but the model's has ",
                   network.inputs()[0].shape.rank(), " dimension(s) a sample");
  }
  if (augmentation.shift() < 0 || augmentation.shift() >= side) {
    return Invalid("augmentation.shift: must be within [0, ", side, "), the image's shorter side, ",
                   "got ", augmentation.shift());
  }
  if (augmentation.cutout() < 0 || augmentation.cutout() > side) {
    return Invalid("augmentation.cutout: must be within [0, ", side,
                   "], the image's shorter side, got ", augmentation.cutout());
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckOptimization(const Network& network, bool validates, int64_t total_steps,
                               v1::TrainingSpec* training) {
  absl::Status status = CheckOptimizer(training->mutable_optimizer());
  if (training->has_learning_rate_schedule()) {
    status.Update(CheckSchedule(validates, total_steps, training));
  }
  if (training->has_weight_decay()) {
    status.Update(CheckWeightDecay(training->weight_decay(), network));
  }
  if (training->has_gradient_clipping()) {
    status.Update(CheckClipping(training->gradient_clipping()));
  }
  if (training->has_early_stopping()) status.Update(CheckEarlyStopping(validates, training));
  if (training->has_ema()) {
    v1::ExponentialMovingAverage& ema = *training->mutable_ema();
    if (!ema.has_momentum()) ema.set_momentum(0.99);
    status.Update(CheckFraction("ema.momentum", ema.momentum()));
  }
  if (training->has_augmentation()) {
    status.Update(CheckAugmentation(training->augmentation(), network));
  }
  return status;
}

}  // namespace lockstep
