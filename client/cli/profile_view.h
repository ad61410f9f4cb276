#ifndef LOCKSTEP_CLIENT_CLI_PROFILE_VIEW_H_
#define LOCKSTEP_CLIENT_CLI_PROFILE_VIEW_H_

#include <string>

#include "client/cli/terminal.h"
#include "lockstep/v1/event.pb.h"

// Where the time of a job's steps goes, for people.
namespace lockstep {

// Work against the machine's peaks, which may be unknown (0): then so are the shares.
struct ProfileRate {
  double gflops = 0;
  double gb_per_s = 0;
  double of_gflops = 0;  // 1: all that the machine has
  double of_gb_per_s = 0;
};
ProfileRate Rate(const v1::ProfileRow& row, const v1::Profile& profile);

// Lines that end in a newline: a row a layer and phase, what they add up to, and a bar each where
// style.width leaves the columns for it.
std::string ProfileTable(const v1::Profile& profile, const LineStyle& style);

// The same as a picture that needs nothing else, an SVG file's text: a bar a layer, made of its
// phases.
std::string ProfileImage(const v1::Profile& profile, const std::string& title);

// The layer, or what a row that is no layer's is about.
const std::string& ProfileSubject(const v1::ProfileRow& row);
// "0.123", "1.23", "12.3": three digits that count, for a column of milliseconds or GB/s.
std::string FormatShort(double value);
// "11 to 60: 12.3 ms a step of 128 samples (10.4k samples/s), 2 threads"
std::string DescribeSteps(const v1::Profile& profile);

}  // namespace lockstep

#endif  // LOCKSTEP_CLIENT_CLI_PROFILE_VIEW_H_
