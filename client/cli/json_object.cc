#include "client/cli/json_object.h"

#include <fmt/format.h>

#include <cmath>
#include <cstdio>

#include "core/formats/json_scanner.h"

namespace lockstep {

JsonObject& JsonObject::Add(const std::string& name, const std::string& value) {
  if (!members_.empty()) members_ += ",";
  members_ += JsonQuote(name) + ":" + value;
  return *this;
}

JsonObject& JsonObject::Text(const std::string& name, const std::string& value) {
  return Add(name, JsonQuote(value));
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
