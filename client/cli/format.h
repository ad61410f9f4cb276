#ifndef LOCKSTEP_CLIENT_CLI_FORMAT_H_
#define LOCKSTEP_CLIENT_CLI_FORMAT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "google/protobuf/message.h"
#include "google/protobuf/timestamp.pb.h"
#include "lockstep/v1/event.pb.h"

// How values look in tables and lines for people.
namespace lockstep {

absl::Time ToTime(const google::protobuf::Timestamp& timestamp);

// "12 s ago", "3 min ago", "5 h ago", "2 days ago"; "-" for a time that is not set.
std::string FormatAge(const google::protobuf::Timestamp& timestamp, absl::Time now);
// "512 B", "1.5 kB", "47.0 MB": powers of 1000.
std::string FormatBytes(int64_t bytes);
// The first 12 digits: enough to tell two apart.
std::string ShortHash(const std::string& hash);
// "succeeded"
std::string StateName(v1::JobState state);

// The fields that are set, "batch_size=128 optimizer=adam(learning_rate=0.001)": shorter to read
// than protobuf's own text, and not to be parsed.
std::string Describe(const google::protobuf::Message& message);

// Rows below a header, in columns as wide as their widest cell, two spaces apart. Cells that look
// like numbers are set to the right. Every row has as many cells as the header.
class Table {
 public:
  explicit Table(std::vector<std::string> header);
  void AddRow(std::vector<std::string> cells);
  std::string ToString() const;

 private:
  std::vector<std::vector<std::string>> rows_;  // the header first
};

}  // namespace lockstep

#endif  // LOCKSTEP_CLIENT_CLI_FORMAT_H_
