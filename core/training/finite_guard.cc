#include "core/training/finite_guard.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"

namespace lockstep {

absl::Status FiniteGuard::SeeLoss(int64_t step, double loss,
                                  absl::FunctionRef<const Network::Node*()> first_bad) {
  if (std::isfinite(loss)) {
    losses_[step % kTold] = loss;
    return absl::OkStatus();
  }
  const Network::Node* node = first_bad();
  return absl::FailedPreconditionError(
      absl::StrCat("the loss is no longer finite at step ", step + 1,
                   node == nullptr ? ""
                                   : absl::StrCat("; the first layer with such values is \"",
                                                  node->name, "\" (", node->path, ")"),
                   LossesBefore(step), "; a smaller learning_rate may help"));
}

absl::Status FiniteGuard::CheckState(int64_t steps, const Network& network,
                                     std::span<const float> parameters,
                                     std::span<const float> buffers) const {
  const auto check = [&](std::span<const NetworkTensor> tensors, std::span<const float> flat) {
    for (const NetworkTensor& tensor : tensors) {
      if (!std::ranges::all_of(flat.subspan(tensor.offset, tensor.size),
                               [](float v) { return std::isfinite(v); })) {
        return absl::FailedPreconditionError(
            absl::StrCat("\"", tensor.name, "\" has values that are not finite after step ", steps,
                         LossesBefore(steps), "; a smaller learning_rate may help"));
      }
    }
    return absl::OkStatus();
  };
  absl::Status status = check(network.parameters(), parameters);
  status.Update(check(network.buffers(), buffers));
  return status;
}

std::string FiniteGuard::LossesBefore(int64_t step) const {
  const int64_t told = std::min<int64_t>(step, kTold);
  if (told == 0) return "";
  std::string text = told == 1 ? "; the loss before it was " : "; the losses before it were ";
  for (int64_t s = step - told; s < step; ++s) {
    absl::StrAppend(&text, s == step - told ? "" : ", ", losses_[s % kTold]);
  }
  return text;
}

void FiniteGuard::Save(v1::RunState* state) const {
  state->mutable_last_losses()->Add(losses_.begin(), losses_.end());
}

absl::Status FiniteGuard::Restore(const v1::RunState& state) {
  if (state.last_losses_size() != std::ssize(losses_)) {
    return absl::InvalidArgumentError(
        absl::StrCat("checkpoint: does not fit the job: ", state.last_losses_size(),
                     " losses, not ", losses_.size()));
  }
  std::ranges::copy(state.last_losses(), losses_.begin());
  return absl::OkStatus();
}

}  // namespace lockstep
