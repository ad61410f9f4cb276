#include "client/cli/terminal.h"

#include <langinfo.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string_view>

namespace lockstep {
namespace {

constexpr int kMargin = 3;
constexpr char kEraseLine[] = "\r\x1b[2K";

}  // namespace

Terminal::Terminal() : interactive_(isatty(STDOUT_FILENO) == 1) {
  unicode_ = std::string_view(nl_langinfo(CODESET)) == "UTF-8";
  const char* no_color = std::getenv("NO_COLOR");
  color_ = interactive_ && (no_color == nullptr || *no_color == '\0');
}

Terminal::~Terminal() { Clear(); }

LineStyle Terminal::style() const {
  winsize size = {};
  const bool known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > kMargin;
  return {.width = (known ? size.ws_col : 80) - kMargin, .unicode = unicode_, .color = color_};
}

void Terminal::Draw(const std::string& line) {
  if (line == drawn_) return;
  std::fputs(kEraseLine, stdout);
  std::fputs(line.c_str(), stdout);
  std::fflush(stdout);
  drawn_ = line;
}

void Terminal::Clear() {
  if (drawn_.empty()) return;
  std::fputs(kEraseLine, stdout);
  std::fflush(stdout);
  drawn_.clear();
}

void Terminal::Print(const std::string& line) {
  if (!drawn_.empty()) std::fputs(kEraseLine, stdout);
  std::fputs(line.c_str(), stdout);
  std::fputc('\n', stdout);
  std::fputs(drawn_.c_str(), stdout);
  std::fflush(stdout);
}

}  // namespace lockstep
