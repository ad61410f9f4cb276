#include "server/app/memory_limit.h"

#include <unistd.h>

#include <algorithm>
#include <fstream>

namespace lockstep {

int64_t MemoryLimitBytes(const std::string& cgroup_root) {
  int64_t limit = int64_t{sysconf(_SC_PHYS_PAGES)} * sysconf(_SC_PAGE_SIZE);
  // Version 2, which says "max" where there is no limit, and version 1.
  for (const char* file : {"/memory.max", "/memory/memory.limit_in_bytes"}) {
    std::ifstream stream(cgroup_root + file);
    int64_t bytes;
    if (stream >> bytes && bytes > 0) limit = std::min(limit, bytes);
  }
  return limit;
}

}  // namespace lockstep
