#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <vector>

#include "client/cli/profile_view.h"
#include "client/cli/progress_line.h"

namespace lockstep {
namespace {

constexpr int kPhaseColumns = 13;   // "backward sums"
constexpr int kFigureColumns = 46;  // of a row's figures
constexpr int kLeastSubject = 12;   // columns that a layer's name has at least
constexpr int kLeastBar = 5;
constexpr int kWidestBar = 30;

// The end of a name that is too long: that is where names differ.
std::string CutName(const std::string& name, int columns) {
  if (std::ssize(name) <= columns) return name;
  return "~" + name.substr(name.size() - columns + 1);
}

std::string Percent(double share) { return fmt::format("{:.0f}%", share * 100); }

const char* Colour(const std::string& phase) {
  static const std::map<std::string, const char*, std::less<>> colours = {{"forward", "34"},
                                                                          {"forward sums", "36"},
                                                                          {"backward", "31"},
                                                                          {"backward sums", "35"},
                                                                          {"weights", "33"}};
  const auto colour = colours.find(phase);
  return colour == colours.end() ? "90" : colour->second;
}

// Milliseconds, share of the step, and both rates with their shares of the peaks.
std::string Figures(const v1::ProfileRow& row, const v1::Profile& profile) {
  const ProfileRate rate = Rate(row, profile);
  const auto pair = [](double value, double share) {
    return std::array<std::string, 2>{value > 0 ? FormatShort(value) : "-",
                                      share > 0 ? Percent(share) : "-"};
  };
  const auto [gflops, of_gflops] = pair(rate.gflops, rate.of_gflops);
  const auto [gb_per_s, of_gb_per_s] = pair(rate.gb_per_s, rate.of_gb_per_s);
  return fmt::format("{:>8} {:>5.1f}%  {:>7} {:>5}  {:>7} {:>5}", FormatShort(row.ms()),
                     profile.step_ms() > 0 ? 100 * row.ms() / profile.step_ms() : 0, gflops,
                     of_gflops, gb_per_s, of_gb_per_s);
}

}  // namespace

ProfileRate Rate(const v1::ProfileRow& row, const v1::Profile& profile) {
  ProfileRate rate;
  if (!(row.ms() > 0)) return rate;
  rate.gflops = row.flops() / row.ms() / 1e6;
  rate.gb_per_s = row.bytes() / row.ms() / 1e6;
  if (profile.peak_gflops() > 0) rate.of_gflops = rate.gflops / profile.peak_gflops();
  if (profile.peak_gb_per_s() > 0) rate.of_gb_per_s = rate.gb_per_s / profile.peak_gb_per_s();
  return rate;
}

const std::string& ProfileSubject(const v1::ProfileRow& row) {
  return row.layer().empty() ? row.phase() : row.layer();
}

std::string FormatShort(double value) {
  return fmt::format("{:.{}f}", value, value < 0.9995 ? 3 : value < 9.995 ? 2 : 1);
}

std::string DescribeSteps(const v1::Profile& profile) {
  return fmt::format("steps {} to {}: {} ms a step of {:.0f} samples ({}), {} thread{}",
                     profile.first_step(), profile.last_step(), FormatShort(profile.step_ms()),
                     profile.samples(),
                     FormatRate(1e3 * profile.samples() / profile.step_ms(), "sample"),
                     profile.threads(), profile.threads() == 1 ? "" : "s");
}

std::string ProfileTable(const v1::Profile& profile, const LineStyle& style) {
  int subject_columns = kLeastSubject;
  double most_ms = 0;
  std::vector<std::pair<std::string, double>> phases;  // of layers, in order of appearance
  v1::ProfileRow whole;
  whole.set_ms(profile.step_ms());
  for (const v1::ProfileRow& row : profile.rows()) {
    subject_columns = std::max(subject_columns, static_cast<int>(ProfileSubject(row).size()));
    most_ms = std::max(most_ms, row.ms());
    whole.set_flops(whole.flops() + row.flops());
    whole.set_bytes(whole.bytes() + row.bytes());
    if (row.layer().empty()) continue;
    auto phase = std::find_if(phases.begin(), phases.end(),
                              [&](const auto& p) { return p.first == row.phase(); });
    if (phase == phases.end()) phase = phases.insert(phase, {row.phase(), 0.0});
    phase->second += row.ms();
  }
  const int fixed = 2 + kPhaseColumns + kFigureColumns;
  subject_columns = std::clamp(style.width - fixed, kLeastSubject, subject_columns);
  const int space = style.width - fixed - subject_columns - 2;
  const int bar_columns = space < kLeastBar ? 0 : std::min(space, kWidestBar);

  std::string text = DescribeSteps(profile) + "\n";
  text +=
      fmt::format("peaks: {:.0f} GFLOP/s of fused multiply-adds, {:.1f} GB/s read from memory\n\n",
                  profile.peak_gflops(), profile.peak_gb_per_s());
  text +=
      fmt::format("{:<{}}  {:<{}}{:>8} {:>6}  {:>7} {:>5}  {:>7} {:>5}\n", "LAYER", subject_columns,
                  "PHASE", kPhaseColumns, "MS", "STEP", "GFLOP/S", "PEAK", "GB/S", "PEAK");
  std::string last;
  for (const v1::ProfileRow& row : profile.rows()) {
    // A layer is named once.
    const std::string& subject = ProfileSubject(row);
    const bool again = !row.layer().empty() && subject == last;
    last = subject;
    text += fmt::format("{:<{}}  {:<{}}{}", again ? "" : CutName(subject, subject_columns),
                        subject_columns, row.layer().empty() ? "" : row.phase(), kPhaseColumns,
                        Figures(row, profile));
    if (bar_columns > 0 && most_ms > 0) {
      std::string bar = Bar(row.ms() / most_ms, bar_columns, style.unicode);
      bar.erase(bar.find_last_not_of(' ') + 1);
      if (!bar.empty()) {
        text +=
            style.color ? fmt::format("  \x1b[{}m{}\x1b[0m", Colour(row.phase()), bar) : "  " + bar;
      }
    }
    text += "\n";
  }
  text += fmt::format("{:<{}}{}\n\n", "step", subject_columns + 2 + kPhaseColumns,
                      Figures(whole, profile));
  std::string summary;
  for (const auto& [phase, ms] : phases) {
    summary +=
        fmt::format("{}{} {}", summary.empty() ? "" : ", ", phase, Percent(ms / profile.step_ms()));
  }
  text += fmt::format("by phase: {}\n", summary);
  text +=
      "GFLOP/s: taps in a convolution's padding count, though they are skipped.\n"
      "GB/s: every operand counts once; above the peak, it came from a cache.\n";
  return text;
}

}  // namespace lockstep
