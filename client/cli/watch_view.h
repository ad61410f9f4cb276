#ifndef LOCKSTEP_CLIENT_CLI_WATCH_VIEW_H_
#define LOCKSTEP_CLIENT_CLI_WATCH_VIEW_H_

#include <cstdint>

#include "client/cli/new_file.h"
#include "client/cli/session.h"
#include "lockstep/v1/job.pb.h"

namespace lockstep {

struct WatchOptions {
  int64_t from_sequence = 1;
  bool until_profile = false;  // ends with the first profile; the job goes on
  NewFile* image = nullptr;    // if not null, open: gets the first profile's picture
  v1::Job* end = nullptr;      // if not null, gets the job as it ended, if it has
};

// Shows a job's events from a sequence number on until it ends: a live line on a terminal, plain
// lines elsewhere, JSON lines with --json. Then says how it ended and what to try next. Ctrl-C
// detaches; the job goes on.
ExitCode Watch(Session& session, Client& client, const v1::Job& job, const WatchOptions& options);

}  // namespace lockstep

#endif  // LOCKSTEP_CLIENT_CLI_WATCH_VIEW_H_
