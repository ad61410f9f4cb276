#include "core/training/optimizer.h"

#include <cmath>

#include "core/layers/rows.h"
#include "core/numerics/scalar_math.h"

namespace lockstep {

Optimizer::Optimizer(const v1::Optimizer& spec, int64_t parameters) : spec_(spec) {
  for (int i = 0; i < SlotCount(spec); ++i) slots_.emplace_back(parameters);
}

int Optimizer::SlotCount(const v1::Optimizer& spec) {
  if (spec.has_adam()) return 2;
  if (spec.has_rmsprop()) {
    return 1 + (spec.rmsprop().centered() ? 1 : 0) + (spec.rmsprop().momentum() > 0 ? 1 : 0);
  }
  return spec.sgd().momentum() > 0 ? 1 : 0;
}

void Optimizer::Apply(const kernels::KernelTable& kernels, ThreadPool& pool, int64_t step,
                      double learning_rate, FlatRange range, std::span<const float> gradient,
                      std::span<float> parameters) {
  constexpr int64_t kLeast = 4096;  // parameters worth a piece of their own
  // Calls body(first, count) for pieces of the range.
  const auto for_pieces = [&](auto body) {
    ParallelRows(pool, range.end - range.begin, kLeast,
                 [&](int64_t begin, int64_t end) { body(range.begin + begin, end - begin); });
  };
  if (spec_.has_adam()) {
    const v1::Adam& adam = spec_.adam();
    const double correction =
        std::sqrt(1.0 - Power(adam.beta_2(), step)) / (1.0 - Power(adam.beta_1(), step));
    const kernels::AdamStep scalars = {.alpha = static_cast<float>(learning_rate * correction),
                                       .one_minus_beta_1 = static_cast<float>(1.0 - adam.beta_1()),
                                       .one_minus_beta_2 = static_cast<float>(1.0 - adam.beta_2()),
                                       .epsilon = static_cast<float>(adam.epsilon())};
    for_pieces([&](int64_t begin, int64_t count) {
      kernels.adam(scalars, count, gradient.data() + begin, slots_[0].data() + begin,
                   slots_[1].data() + begin, parameters.data() + begin);
    });
    return;
  }
  if (spec_.has_rmsprop()) {
    const v1::RmsProp& rmsprop = spec_.rmsprop();
    const kernels::RmsPropStep scalars = {.learning_rate = static_cast<float>(learning_rate),
                                          .one_minus_rho = static_cast<float>(1.0 - rmsprop.rho()),
                                          .momentum = static_cast<float>(rmsprop.momentum()),
                                          .epsilon = static_cast<float>(rmsprop.epsilon())};
    float* const average = rmsprop.centered() ? slots_[1].data() : nullptr;
    float* const change = rmsprop.momentum() > 0 ? slots_.back().data() : nullptr;
    for_pieces([&](int64_t begin, int64_t count) {
      kernels.rmsprop(scalars, count, gradient.data() + begin, slots_[0].data() + begin,
                      average == nullptr ? nullptr : average + begin,
                      change == nullptr ? nullptr : change + begin, parameters.data() + begin);
    });
    return;
  }
  const v1::Sgd& sgd = spec_.sgd();
  const kernels::SgdStep scalars = {.learning_rate = static_cast<float>(learning_rate),
                                    .momentum = static_cast<float>(sgd.momentum()),
                                    .nesterov = sgd.nesterov()};
  for_pieces([&](int64_t begin, int64_t count) {
    kernels.sgd(scalars, count, gradient.data() + begin,
                slots_.empty() ? nullptr : slots_[0].data() + begin, parameters.data() + begin);
  });
}

}  // namespace lockstep
