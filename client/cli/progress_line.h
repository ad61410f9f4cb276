#ifndef LOCKSTEP_CLIENT_CLI_PROGRESS_LINE_H_
#define LOCKSTEP_CLIENT_CLI_PROGRESS_LINE_H_

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "client/cli/terminal.h"
#include "lockstep/v1/event.pb.h"

namespace lockstep {

// How far something is, ready to be drawn.
struct ProgressLine {
  std::string label;               // "epoch 3/5"
  std::optional<double> fraction;  // 0 to 1; without it there is no bar
  std::string count;               // "1202/2345"
  double elapsed_s = 0;
  std::optional<double> remaining_s;  // unknown: "?" beside a fraction, else nothing
  std::string rate;                   // "1.62k samples/s"; may be empty
  std::vector<std::string> metrics;   // "loss=0.4312", the most important first
};

// One line as tqdm's readers know it:
//   epoch 3/5  51%|█████▏    | 1202/2345 [00:32<00:30, 1.62k samples/s, loss=0.4312]
// never wider than style.width columns. What does not fit goes in this order: metrics from the last
// on, the bar, the rate, and then the end of the line.
std::string Render(const ProgressLine& line, const LineStyle& style);

// What a job says, with its severity before it; where there is colour, warnings and errors have it.
std::string TextLine(const v1::Text& text, const LineStyle& style);

// A bar of so many columns, filled to a fraction of 0 to 1.
std::string Bar(double fraction, int width, bool unicode);

// "00:32", "1:02:03", "2d 03:04".
std::string FormatClock(double seconds);
// Three significant digits and an SI prefix, "1.62k samples/s"; when less than one a second, "1.8
// s/sample".
std::string FormatRate(double per_second, std::string_view unit);
// Four digits behind the point, or an exponent where they would say nothing.
std::string FormatMetric(double value);
// One character a value, from the smallest to the largest; one of its own for what is not finite.
// Green where there is colour.
std::string Sparkline(std::span<const double> values, const LineStyle& style);

}  // namespace lockstep

#endif  // LOCKSTEP_CLIENT_CLI_PROGRESS_LINE_H_
