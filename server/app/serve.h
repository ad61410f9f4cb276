#ifndef LOCKSTEP_SERVER_APP_SERVE_H_
#define LOCKSTEP_SERVER_APP_SERVE_H_

#include <cstdint>
#include <optional>
#include <string>

namespace lockstep {

inline constexpr int kExitUsage = 2;
inline constexpr int kExitCannotListen = 3;
inline constexpr int kExitBadDataDirectory = 4;
inline constexpr char kDefaultHttp[] = "127.0.0.1:8002";

struct ServeOptions {
  std::string data_directory = "./lockstep-data";
  std::string listen = "127.0.0.1:8001";
  // Of the dashboard, its API, /metrics, /healthz and /readyz; empty: none. Not given:
  // kDefaultHttp, or none if that is in use.
  std::optional<std::string> http;
  int local_workers = 1;
  int threads = 0;         // of each local worker; 0: all CPUs it may use
  std::string token_file;  // empty: clients need no token
  bool insecure = false;   // allows that beyond this machine
  int max_message_mb = 64;
  int64_t max_job_memory_mb = 0;     // 0: three quarters of the memory there is
  int max_queue = 256;               // inference requests waiting, for each model version
  double worker_grace_seconds = 10;  // a lost worker that the server did not start may come back
  int64_t keep_jobs = 0;             // ended jobs beyond the newest so many are deleted; 0: none
  double keep_jobs_days = 0;         // those that ended longer ago are deleted; 0: none
  std::string log_format = "text";   // of the local workers, too: "text" or "json"
};

// Runs a server until SIGTERM or SIGINT, which the caller must have blocked before any thread was
// started. Returns the exit code; says on stderr why it is not 0, and what to do.
int Serve(const ServeOptions& options);

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_APP_SERVE_H_
