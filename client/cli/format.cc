#include "client/cli/format.h"

#include <fmt/format.h>
#include <google/protobuf/text_format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <utility>

namespace lockstep {
namespace {

bool LooksNumeric(const std::string& cell) {
  return !cell.empty() &&
         (std::isdigit(static_cast<unsigned char>(cell[0])) || (cell[0] == '-' && cell.size() > 1));
}

// One value of a field; `index` counts in a repeated one.
std::string DescribeValue(const google::protobuf::Message& message,
                          const google::protobuf::FieldDescriptor* field, int index) {
  if (field->cpp_type() != google::protobuf::FieldDescriptor::CPPTYPE_MESSAGE) {
    std::string value;
    google::protobuf::TextFormat::PrintFieldValueToString(message, field, index, &value);
    return field->cpp_type() == google::protobuf::FieldDescriptor::CPPTYPE_STRING
               ? value.substr(1, value.size() - 2)
               : value;
  }
  const auto* reflection = message.GetReflection();
  return Describe(field->is_repeated() ? reflection->GetRepeatedMessage(message, field, index)
                                       : reflection->GetMessage(message, field));
}

std::string DescribeField(const google::protobuf::Message& message,
                          const google::protobuf::FieldDescriptor* field) {
  if (field->is_repeated()) {
    std::string list;
    for (int i = 0; i < message.GetReflection()->FieldSize(message, field); ++i) {
      list += (i == 0 ? "" : ", ") + DescribeValue(message, field, i);
    }
    return field->name() + "=[" + list + "]";
  }
  const std::string value = DescribeValue(message, field, -1);
  // Which of several kinds something is: "adam(beta_1=0.9)", "zeros".
  if (field->real_containing_oneof() != nullptr) {
    return value.empty() ? field->name() : field->name() + "(" + value + ")";
  }
  return field->name() + "=" + value;
}

}  // namespace

std::string Describe(const google::protobuf::Message& message) {
  std::vector<const google::protobuf::FieldDescriptor*> fields;
  message.GetReflection()->ListFields(message, &fields);
  std::string text;
  for (const auto* field : fields) {
    text += (text.empty() ? "" : " ") + DescribeField(message, field);
  }
  return text;
}

absl::Time ToTime(const google::protobuf::Timestamp& timestamp) {
  return absl::FromUnixSeconds(timestamp.seconds()) + absl::Nanoseconds(timestamp.nanos());
}

std::string FormatAge(const google::protobuf::Timestamp& timestamp, absl::Time now) {
  if (timestamp.seconds() == 0) return "-";
  const int64_t seconds = std::max<int64_t>(0, absl::ToInt64Seconds(now - ToTime(timestamp)));
  if (seconds < 120) return fmt::format("{} s ago", seconds);
  if (seconds < 120 * 60) return fmt::format("{} min ago", seconds / 60);
  if (seconds < 48 * 3600) return fmt::format("{} h ago", seconds / 3600);
  return fmt::format("{} days ago", seconds / 86400);
}

std::string FormatBytes(int64_t bytes) {
  static constexpr std::array<const char*, 5> kUnits = {"B", "kB", "MB", "GB", "TB"};
  double value = bytes;
  size_t unit = 0;
  while (value >= 999.95 && unit + 1 < kUnits.size()) {
    value /= 1000;
    ++unit;
  }
  return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.1f} {}", value, kUnits[unit]);
}

std::string ShortHash(const std::string& hash) { return hash.substr(0, 12); }

std::string StateName(v1::JobState state) {
  std::string name = v1::JobState_Name(state);
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  return name;
}

Table::Table(std::vector<std::string> header) { rows_.push_back(std::move(header)); }

void Table::AddRow(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }

std::string Table::ToString() const {
  std::vector<size_t> widths(rows_[0].size(), 0);
  std::vector<bool> numeric(rows_[0].size(), rows_.size() > 1);
  for (size_t r = 0; r < rows_.size(); ++r) {
    for (size_t c = 0; c < widths.size(); ++c) {
      widths[c] = std::max(widths[c], rows_[r][c].size());
      if (r > 0 && rows_[r][c] != "-" && !LooksNumeric(rows_[r][c])) numeric[c] = false;
    }
  }
  std::string text;
  for (const std::vector<std::string>& row : rows_) {
    std::string line;
    for (size_t c = 0; c < widths.size(); ++c) {
      if (c > 0) line += "  ";
      line += numeric[c] ? fmt::format("{:>{}}", row[c], widths[c])
                         : fmt::format("{:<{}}", row[c], widths[c]);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  }
  return text;
}

}  // namespace lockstep
