#ifndef LOCKSTEP_SERVER_TELEMETRY_PROCESS_FIGURES_H_
#define LOCKSTEP_SERVER_TELEMETRY_PROCESS_FIGURES_H_

#include <cstdint>

namespace lockstep {

// What Linux says of this process, by the names that Prometheus' own libraries give it.
struct ProcessFigures {
  double cpu_seconds = 0;  // user and system
  int64_t resident_memory_bytes = 0;
  int64_t open_fds = 0;
  int64_t max_fds = 0;            // the soft limit; -1: none
  double start_time_seconds = 0;  // since 1970
};

// What cannot be read stays 0. Thread-safe.
ProcessFigures ReadProcessFigures();

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_TELEMETRY_PROCESS_FIGURES_H_
