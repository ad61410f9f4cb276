#include "server/telemetry/process_figures.h"

#include <sys/resource.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <system_error>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"

namespace lockstep {
namespace {

std::string ReadAll(const char* path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

// proc(5), /proc/self/stat. The second field is the program's name in parentheses, which may hold
// anything; `fields` are those after it, so the first is number 3.
struct Stat {
  explicit Stat(const std::string& text)
      : fields(absl::StrSplit(text.substr(text.rfind(')') + 1), ' ', absl::SkipWhitespace())) {}
  double Number(size_t field) const {
    double value = 0;
    if (field - 3 < fields.size()) (void)absl::SimpleAtod(fields[field - 3], &value);
    return value;
  }
  std::vector<std::string> fields;
};
constexpr size_t kUserTicks = 14, kSystemTicks = 15, kStartTicks = 22, kResidentPages = 24;

// When the machine started, in seconds since 1970.
double BootTimeSeconds() {
  const std::vector<std::string> lines = absl::StrSplit(ReadAll("/proc/stat"), '\n');
  for (const std::string& line : lines) {
    const std::vector<std::string> words = absl::StrSplit(line, ' ');
    double seconds = 0;
    if (words.size() == 2 && words[0] == "btime" && absl::SimpleAtod(words[1], &seconds)) {
      return seconds;
    }
  }
  return 0;
}

int64_t CountOpenFiles() {
  std::error_code error;
  int64_t files = -1;  // the listing has one open itself
  for (auto entry = std::filesystem::directory_iterator("/proc/self/fd", error);
       !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
    ++files;
  }
  return files < 0 ? 0 : files;
}

}  // namespace

ProcessFigures ReadProcessFigures() {
  static const double boot_time_seconds = BootTimeSeconds();
  const double ticks_per_second = static_cast<double>(sysconf(_SC_CLK_TCK));
  const Stat stat(ReadAll("/proc/self/stat"));
  ProcessFigures figures;
  figures.cpu_seconds = (stat.Number(kUserTicks) + stat.Number(kSystemTicks)) / ticks_per_second;
  figures.resident_memory_bytes =
      static_cast<int64_t>(stat.Number(kResidentPages)) * sysconf(_SC_PAGESIZE);
  figures.start_time_seconds = boot_time_seconds + stat.Number(kStartTicks) / ticks_per_second;
  figures.open_fds = CountOpenFiles();
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    figures.max_fds = limit.rlim_cur == RLIM_INFINITY ? -1 : static_cast<int64_t>(limit.rlim_cur);
  }
  return figures;
}

}  // namespace lockstep
