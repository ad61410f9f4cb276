#ifndef LOCKSTEP_SERVER_APP_MEMORY_LIMIT_H_
#define LOCKSTEP_SERVER_APP_MEMORY_LIMIT_H_

#include <cstdint>
#include <string>

namespace lockstep {

// Bytes this process may use: the machine's memory, or its control group's limit (a container's)
// when that is less. `cgroup_root` is where the control groups are mounted.
int64_t MemoryLimitBytes(const std::string& cgroup_root = "/sys/fs/cgroup");

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_APP_MEMORY_LIMIT_H_
