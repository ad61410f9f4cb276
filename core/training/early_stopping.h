#ifndef LOCKSTEP_CORE_TRAINING_EARLY_STOPPING_H_
#define LOCKSTEP_CORE_TRAINING_EARLY_STOPPING_H_

#include <cstdint>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "core/network/network.h"
#include "core/tensor/aligned_buffer.h"
#include "core/training/checkpoint.h"
#include "core/training/monitor.h"
#include "lockstep/v1/event.pb.h"
#include "lockstep/v1/training.pb.h"

namespace lockstep {

// Decides after each epoch whether training has ended (as Keras' EarlyStopping), and keeps the best
// epoch's weights if they are wanted. Not thread-safe.
class EarlyStopping {
 public:
  // `spec` has been checked and its defaults filled in.
  EarlyStopping(const v1::EarlyStopping& spec, const Network& network);

  // The epoch's metrics and weights. True: training ends here.
  bool EndEpoch(const v1::EpochRecord& epoch, std::span<const float> parameters,
                std::span<const float> buffers);

  // Once training has ended: puts the best epoch's weights there, if that is wanted and another
  // epoch was the last. Returns what there is to tell about it and about the end; often nothing.
  std::string Finish(std::span<float> parameters, std::span<float> buffers) const;

  // The best epoch's weights are in it once there is one.
  void Save(RunSnapshot* snapshot) const;
  // INVALID_ARGUMENT when it does not fit.
  absl::Status Restore(const RunSnapshot& snapshot);

 private:
  const v1::EarlyStopping spec_;
  Monitor monitor_;
  int64_t epoch_ = 0;  // the last one, from 1
  int64_t best_epoch_ = 0;
  int64_t best_step_ = 0;
  int64_t epochs_without_ = 0;  // improvement
  bool stopped_ = false;
  // Of the best epoch; empty unless they are to be restored.
  AlignedBuffer<float> best_parameters_;
  AlignedBuffer<float> best_buffers_;
};

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_TRAINING_EARLY_STOPPING_H_
