#include "client/cli/job_file.h"

#include <fmt/format.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/util/json_util.h>

#include "absl/strings/str_split.h"

namespace lockstep {
namespace {

// Prefixes `message` with the line of `path`, if the file has it.
std::string AtLine(const JsonIndex& index, const std::string& path, const std::string& message) {
  const int line = index.LineOf(path);
  return line == 0 ? message : fmt::format("line {}: {}", line, message);
}

// The fields of the message at `path` ("model.layers[0].dense"), for people.
std::string FieldsOf(const std::string& path) {
  const google::protobuf::Descriptor* type = v1::JobSpec::descriptor();
  const std::vector<std::string> names = absl::StrSplit(path, '.', absl::SkipEmpty());
  for (const std::string& name : names) {
    const auto* field = type->FindFieldByName(name.substr(0, name.find('[')));
    if (field == nullptr || field->message_type() == nullptr) return "";
    type = field->message_type();
  }
  std::string fields;
  for (int i = 0; i < type->field_count(); ++i) {
    fields += (i == 0 ? "" : ", ") + type->field(i)->name();
  }
  return fields;
}

// protobuf's messages are "(PATH) NAME: WHY", "(PATH): WHY" or "NAME: WHY"; ours are "PATH: WHY".
absl::Status Explain(const JsonIndex& index, const std::string& message) {
  std::string parent;
  std::string rest = message;
  if (!rest.empty() && rest[0] == '(') {
    const size_t close = rest.find(')');
    parent = rest.substr(1, close - 1);
    rest = rest.substr(close + 1);
    rest.erase(0, rest.find_first_not_of(' '));
  }
  const size_t colon = rest.find(": ");
  if (colon == std::string::npos) return absl::InvalidArgumentError(message);
  const std::string name = rest.substr(0, colon);
  std::string why = rest.substr(colon + 2);
  std::string path = parent;
  if (!name.empty()) path += (parent.empty() ? "" : ".") + name;
  if (why == "Cannot find field.") {
    why = "no such field; there are " + FieldsOf(parent);
  }
  return absl::InvalidArgumentError(AtLine(index, path, path.empty() ? why : path + ": " + why));
}

}  // namespace

absl::StatusOr<JobFile> ParseJobFile(const std::string& json) {
  absl::StatusOr<JsonIndex> index = JsonIndex::Parse(json);
  if (!index.ok()) return index.status();
  JobFile file{.spec = {}, .index = *std::move(index)};
  const auto parsed = google::protobuf::util::JsonStringToMessage(json, &file.spec);
  if (!parsed.ok()) return Explain(file.index, std::string(parsed.message()));
  return file;
}

std::string WithLine(const JobFile& file, const absl::Status& refusal) {
  const std::string message(refusal.message());
  const size_t colon = message.find(": ");
  return colon == std::string::npos ? message
                                    : AtLine(file.index, message.substr(0, colon), message);
}

}  // namespace lockstep
