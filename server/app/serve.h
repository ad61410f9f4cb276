#ifndef LOCKSTEP_SERVER_APP_SERVE_H_
#define LOCKSTEP_SERVER_APP_SERVE_H_

#include "server/app/server.h"

namespace lockstep {

// Runs a server until SIGTERM or SIGINT, which the caller must have blocked before any thread was
// started. Returns the exit code; says on stderr why it is not 0, and what to do.
int Serve(const ServeOptions& options);

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_APP_SERVE_H_
