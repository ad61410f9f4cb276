#ifndef LOCKSTEP_SERVER_TENSORBOARD_EVENT_RECORD_H_
#define LOCKSTEP_SERVER_TENSORBOARD_EVENT_RECORD_H_

#include <string>

#include "tensorboard/event.pb.h"

namespace lockstep {

// Appends an event as a record of an event file; proto/tensorboard/event.proto says how.
void AppendRecord(const ::tensorboard::Event& event, std::string* out);

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_TENSORBOARD_EVENT_RECORD_H_
