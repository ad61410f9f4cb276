#include "client/cli/json_object.h"

#include <fmt/format.h>

#include <cmath>
#include <cstdio>

namespace lockstep {
namespace {

std::string Quote(const std::string& text) {
  std::string quoted = "\"";
  for (char c : text) {
    if (c == '"' || c == '\\') {
      quoted += '\\';
      quoted += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      quoted += fmt::format("\\u{:04x}", static_cast<int>(c));
    } else {
      quoted += c;
    }
  }
  return quoted + "\"";
}

}  // namespace

JsonObject& JsonObject::Add(const std::string& name, const std::string& value) {
  if (!members_.empty()) members_ += ",";
  members_ += Quote(name) + ":" + value;
  return *this;
}

JsonObject& JsonObject::Text(const std::string& name, const std::string& value) {
  return Add(name, Quote(value));
}

JsonObject& JsonObject::Integer(const std::string& name, int64_t value) {
  return Add(name, std::to_string(value));
}

JsonObject& JsonObject::Number(const std::string& name, double value) {
  return Add(name, std::isfinite(value) ? fmt::format("{}", value) : "null");
}

JsonObject& JsonObject::Metrics(const std::vector<std::pair<std::string, double>>& metrics) {
  std::string list;
  for (const auto& [name, value] : metrics) {
    if (!list.empty()) list += ",";
    list += JsonObject().Text("name", name).Number("value", value).ToString();
  }
  return Add("metrics", "[" + list + "]");
}

void JsonObject::Print() const {
  std::printf("%s\n", ToString().c_str());
  std::fflush(stdout);
}

}  // namespace lockstep
