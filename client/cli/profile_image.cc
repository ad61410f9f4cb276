#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <vector>

#include "client/cli/profile_view.h"

namespace lockstep {
namespace {

// In pixels.
constexpr int kWidth = 1120;
constexpr int kMargin = 24;
constexpr int kTop = 124;  // of the first row
constexpr int kRow = 22;
constexpr int kBar = 14;
constexpr int kBarsLeft = 210;
constexpr int kBarsWidth = 400;
constexpr int kMsRight = 690;
constexpr int kStepRight = 750;
constexpr int kGaugeWidth = 90;
constexpr int kFlopsLeft = 786;
constexpr int kBytesLeft = 952;

struct PhaseColour {
  std::string_view phase;
  std::string_view colour;
};
constexpr std::array<PhaseColour, 5> kPhases = {{{"forward", "#3b76b8"},
                                                 {"forward sums", "#8fbbe3"},
                                                 {"backward", "#c8553d"},
                                                 {"backward sums", "#eda892"},
                                                 {"weights", "#d9a521"}}};
constexpr std::string_view kOtherColour = "#8a8f98";

std::string_view Colour(std::string_view phase) {
  for (const PhaseColour& p : kPhases) {
    if (p.phase == phase) return p.colour;
  }
  return kOtherColour;
}

std::string Escape(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    switch (c) {
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '&':
        escaped += "&amp;";
        break;
      default:
        escaped += c;
    }
  }
  return escaped;
}

std::string Text(double x, double y, std::string_view style, std::string_view text) {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" {}>{}</text>\n", x, y, style, Escape(text));
}

std::string Rectangle(double x, double y, double width, double height, std::string_view colour,
                      std::string_view tip = "") {
  return fmt::format(
      "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" fill=\"{}\"{}\n", x, y,
      width, height, colour,
      tip.empty() ? "/>" : fmt::format("><title>{}</title></rect>", Escape(tip)));
}

// How much of a peak was reached; full from 100 % on.
std::string Gauge(double x, double y, double share, std::string_view colour) {
  if (!(share > 0)) return "";
  return Rectangle(x, y, kGaugeWidth, kBar, "#eceef1") +
         Rectangle(x, y, kGaugeWidth * std::min(share, 1.0), kBar, colour) +
         Text(x + kGaugeWidth + 6, y + kBar - 3, "", fmt::format("{:.0f}%", share * 100));
}

// Rows of the same layer, which lie together.
struct Group {
  v1::ProfileRow sum;
  std::vector<const v1::ProfileRow*> rows;
};

std::vector<Group> GroupByLayer(const v1::Profile& profile) {
  std::vector<Group> groups;
  for (const v1::ProfileRow& row : profile.rows()) {
    if (groups.empty() || row.layer().empty() || groups.back().sum.layer() != row.layer()) {
      v1::ProfileRow& sum = groups.emplace_back().sum;
      sum.set_layer(row.layer());
      sum.set_phase(row.phase());
    }
    Group& group = groups.back();
    group.sum.set_ms(group.sum.ms() + row.ms());
    group.sum.set_flops(group.sum.flops() + row.flops());
    group.sum.set_bytes(group.sum.bytes() + row.bytes());
    group.rows.push_back(&row);
  }
  return groups;
}

std::string Legend() {
  std::string legend;
  double x = kBarsLeft;
  for (const PhaseColour& p : kPhases) {
    legend += Rectangle(x, 82, 12, 12, p.colour) + Text(x + 17, 92, "", p.phase);
    x += 34 + 7.0 * static_cast<double>(p.phase.size());
  }
  return legend;
}

}  // namespace

std::string ProfileImage(const v1::Profile& profile, const std::string& title) {
  const std::vector<Group> groups = GroupByLayer(profile);
  double most_ms = 0;
  for (const Group& group : groups) most_ms = std::max(most_ms, group.sum.ms());
  const int height = kTop + kRow * static_cast<int>(groups.size()) + 2 * kMargin;

  std::string svg = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" viewBox=\"0 0 {0} "
      "{1}\" "
      "font-family=\"DejaVu Sans, Verdana, sans-serif\" font-size=\"12\" fill=\"#24292f\">\n",
      kWidth, height);
  svg += Rectangle(0, 0, kWidth, height, "#ffffff");
  svg += Text(kMargin, 34, "font-size=\"17\" font-weight=\"bold\"", title);
  svg += Text(kMargin, 58, "", DescribeSteps(profile));
  svg += Legend();
  const std::string_view heading = "fill=\"#57606a\"";
  const std::string_view heading_right = "fill=\"#57606a\" text-anchor=\"end\"";
  svg += Text(kMsRight, kTop - 12, heading_right, "ms a step");
  svg += Text(kStepRight, kTop - 12, heading_right, "share");
  svg += Text(kFlopsLeft, kTop - 26, heading, "of the multiply-add");
  svg += Text(kFlopsLeft, kTop - 12, heading,
              fmt::format("peak, {:.0f} GFLOP/s", profile.peak_gflops()));
  svg += Text(kBytesLeft, kTop - 26, heading, "of the memory");
  svg += Text(kBytesLeft, kTop - 12, heading,
              fmt::format("peak, {:.1f} GB/s", profile.peak_gb_per_s()));

  double y = kTop;
  for (const Group& group : groups) {
    const v1::ProfileRow& sum = group.sum;
    const double base = y + kBar - 3;
    svg += Text(kBarsLeft - 8, base, "text-anchor=\"end\"", ProfileSubject(sum));
    double x = kBarsLeft;
    for (const v1::ProfileRow* row : group.rows) {
      const double width = most_ms > 0 ? kBarsWidth * row->ms() / most_ms : 0;
      svg += Rectangle(x, y, width, kBar, Colour(row->phase()),
                       fmt::format("{}: {} ms", row->phase(), FormatShort(row->ms())));
      x += width;
    }
    const ProfileRate rate = Rate(sum, profile);
    svg += Text(kMsRight, base, "text-anchor=\"end\"", FormatShort(sum.ms()));
    svg += Text(
        kStepRight, base, "text-anchor=\"end\"",
        fmt::format("{:.1f}%", profile.step_ms() > 0 ? 100 * sum.ms() / profile.step_ms() : 0));
    svg += Gauge(kFlopsLeft, y, rate.of_gflops, "#4c9a6a");
    svg += Gauge(kBytesLeft, y, rate.of_gb_per_s, "#7a68a6");
    y += kRow;
  }
  svg +=
      Text(kMargin, y + kMargin, heading,
           "Multiply-adds: taps in a convolution's padding count, though they are skipped. Bytes: "
           "every operand counts once, wherever it lies; above the peak it came from a cache.");
  return svg + "</svg>\n";
}

}  // namespace lockstep
