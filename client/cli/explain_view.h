#ifndef LOCKSTEP_CLIENT_CLI_EXPLAIN_VIEW_H_
#define LOCKSTEP_CLIENT_CLI_EXPLAIN_VIEW_H_

#include <string>

#include "lockstep/v1/job.pb.h"

namespace lockstep {

// A job as a table of its layers, in the manner of Keras' model.summary(), with what it takes
// below.
std::string ExplainTable(const v1::ValidateJobResponse& job);

}  // namespace lockstep

#endif  // LOCKSTEP_CLIENT_CLI_EXPLAIN_VIEW_H_
