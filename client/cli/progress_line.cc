#include "client/cli/progress_line.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

namespace lockstep {
namespace {

constexpr int kWidestBar = 30;

// Columns of UTF-8 text without escapes or wide characters.
int Columns(std::string_view text) {
  return std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; });
}

// The first `columns` of a text.
std::string Cut(std::string_view text, int columns) {
  size_t end = 0;
  for (int seen = 0; end < text.size(); ++end) {
    if ((text[end] & 0xc0) != 0x80 && ++seen > columns) break;
  }
  return std::string(text.substr(0, end));
}

// What is drawn of a line.
struct Layout {
  size_t metrics = 0;
  int least_bar = 0;  // columns; 0: no bar
  bool rate = true;
};

std::string Tail(const ProgressLine& line, const Layout& layout) {
  std::string tail = line.count.empty() ? "" : line.count + " ";
  tail += "[" + FormatClock(line.elapsed_s);
  if (line.remaining_s.has_value()) {
    tail += "<" + FormatClock(*line.remaining_s);
  } else if (line.fraction.has_value()) {
    tail += "<?";
  }
  if (layout.rate && !line.rate.empty()) tail += ", " + line.rate;
  for (size_t i = 0; i < layout.metrics; ++i) tail += ", " + line.metrics[i];
  return tail + "]";
}

// The layouts to try, from everything to almost nothing.
std::vector<Layout> Layouts(const ProgressLine& line) {
  std::vector<Layout> layouts;
  for (size_t metrics = line.metrics.size(); metrics > 1; --metrics) {
    layouts.push_back({.metrics = metrics, .least_bar = 10});
  }
  const size_t first = std::min<size_t>(1, line.metrics.size());
  layouts.push_back({.metrics = first, .least_bar = 4});
  layouts.push_back({.metrics = first});
  layouts.push_back({.metrics = 0});
  layouts.push_back({.metrics = 0, .rate = false});
  return layouts;
}

}  // namespace

std::string Bar(double fraction, int width, bool unicode) {
  // Unicode has blocks of eighths; in ASCII a digit says how full the last cell is.
  static constexpr std::array<const char*, 8> kEighths = {" ", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
  const int parts = unicode ? 8 : 10;
  const int filled = static_cast<int>(std::clamp(fraction, 0.0, 1.0) * width * parts);
  std::string bar;
  for (int i = 0; i < width; ++i) {
    const int cell = std::clamp(filled - i * parts, 0, parts);
    if (cell == parts) {
      bar += unicode ? "█" : "#";
    } else if (unicode) {
      bar += kEighths[cell];
    } else {
      bar += cell == 0 ? ' ' : static_cast<char>('0' + cell);
    }
  }
  return bar;
}

std::string Render(const ProgressLine& line, const LineStyle& style) {
  std::string plain;
  for (const Layout& layout : Layouts(line)) {
    const std::string tail = Tail(line, layout);
    std::string head = line.label.empty() ? "" : line.label + " ";
    if (line.fraction.has_value()) {
      head += fmt::format("{:3.0f}%", std::floor(std::clamp(*line.fraction, 0.0, 1.0) * 100));
    }
    if (!line.fraction.has_value() || layout.least_bar == 0) {
      plain = line.fraction.has_value() ? head + " " + tail : head + tail;
      if (Columns(plain) <= style.width) return plain;
      continue;
    }
    const int space = style.width - Columns(head) - Columns(tail) - 3;  // 3: "|", "|" and " "
    if (space < layout.least_bar) continue;
    const std::string bar = Bar(*line.fraction, std::min(space, kWidestBar), style.unicode);
    return head + "|" + (style.color ? "\x1b[32m" + bar + "\x1b[0m" : bar) + "| " + tail;
  }
  return Cut(plain, style.width);
}

std::string TextLine(const v1::Text& text, const LineStyle& style) {
  if (text.severity() == v1::Text::INFO) return "note: " + text.text();
  const bool warns = text.severity() == v1::Text::WARNING;
  const std::string line = (warns ? "WARNING: " : "ERROR: ") + text.text();
  return style.color ? (warns ? "\x1b[1;33m" : "\x1b[1;31m") + line + "\x1b[0m" : line;
}

std::string FormatClock(double seconds) {
  const int64_t total = std::isfinite(seconds) && seconds > 0 ? std::llround(seconds) : 0;
  const int64_t days = total / 86400, hours = total / 3600 % 24, minutes = total / 60 % 60;
  if (days > 0) return fmt::format("{}d {:02}:{:02}", days, hours, minutes);
  if (hours > 0) return fmt::format("{}:{:02}:{:02}", hours, minutes, total % 60);
  return fmt::format("{:02}:{:02}", minutes, total % 60);
}

std::string FormatRate(double per_second, std::string_view unit) {
  if (!(per_second > 0) || !std::isfinite(per_second)) return fmt::format("? {}s/s", unit);
  if (per_second < 1) return fmt::format("{:.3g} s/{}", 1 / per_second, unit);
  static constexpr std::array<const char*, 4> kPrefixes = {"", "k", "M", "G"};
  size_t prefix = 0;
  while (per_second >= 999.5 && prefix + 1 < kPrefixes.size()) {
    per_second /= 1000;
    ++prefix;
  }
  const int decimals = per_second < 9.995 ? 2 : per_second < 99.95 ? 1 : 0;
  return fmt::format("{:.{}f}{} {}s/s", per_second, decimals, kPrefixes[prefix], unit);
}

std::string FormatMetric(double value) {
  const double size = std::abs(value);
  if (size != 0 && (size < 1e-3 || size >= 1e5)) return fmt::format("{:.3e}", value);
  return fmt::format("{:.4f}", value);
}

std::string Sparkline(std::span<const double> values, const LineStyle& style) {
  static constexpr int kLevels = 8;
  static constexpr std::array<const char*, kLevels> kBlocks = {"▁", "▂", "▃", "▄",
                                                               "▅", "▆", "▇", "█"};
  static constexpr std::array<const char*, kLevels> kAscii = {"_", ".", "-", "=",
                                                              "+", "*", "%", "#"};
  double least = std::numeric_limits<double>::infinity();
  double most = -least;
  for (double value : values) {
    if (!std::isfinite(value)) continue;
    least = std::min(least, value);
    most = std::max(most, value);
  }
  std::string line;
  for (double value : values) {
    if (!std::isfinite(value)) {
      line += style.unicode ? "×" : "!";
      continue;
    }
    // In halves, because a range may be beyond what a double holds.
    const double range = most / 2 - least / 2;
    const double level = range > 0 ? (value / 2 - least / 2) / range * (kLevels - 1) : 0;
    line += (style.unicode ? kBlocks : kAscii)[std::lround(level)];
  }
  return style.color ? "\x1b[32m" + line + "\x1b[0m" : line;
}

}  // namespace lockstep
