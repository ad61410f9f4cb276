#ifndef LOCKSTEP_SERVER_TENSORBOARD_HYPERPARAMETERS_H_
#define LOCKSTEP_SERVER_TENSORBOARD_HYPERPARAMETERS_H_

#include "lockstep/v1/job.pb.h"
#include "tensorboard/hparams.pb.h"

namespace lockstep {

// What one would compare jobs by: all fields of the training spec, the data set and the job's
// labels, as flat names: "batch_size", "optimizer" ("adam"), "optimizer.learning_rate",
// "losses", "dataset", "label.KEY". A choice of one of several messages is the name of the chosen
// one, and its fields do not repeat it: optimizers have the same name for their learning rate.
tensorboard::hparams::SessionStartInfo Hyperparameters(const v1::JobSpec& spec);

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_TENSORBOARD_HYPERPARAMETERS_H_
