#include "server/web/series_json.h"

#include <charconv>
#include <cmath>
#include <cstdint>

#include "absl/strings/str_cat.h"
#include "core/formats/json_value.h"

namespace lockstep {
namespace {

// The shortest text that gives the same number again.
void AppendNumber(double value, std::string& json) {
  if (std::isnan(value)) {
    json += "\"NaN\"";
  } else if (std::isinf(value)) {
    json += value > 0 ? "\"Infinity\"" : "\"-Infinity\"";
  } else {
    char text[32];
    json.append(text, std::to_chars(text, text + sizeof text, value).ptr);
  }
}

void AppendNumber(int64_t value, std::string& json) { absl::StrAppend(&json, value); }

template <typename Get>
void AppendColumn(absl::string_view name, const std::vector<ShownPoint>& points, Get get,
                  std::string& json) {
  absl::StrAppend(&json, "\"", name, "\":[");
  for (size_t i = 0; i < points.size(); ++i) {
    if (i > 0) json += ',';
    AppendNumber(get(points[i]), json);
  }
  json += ']';
}

}  // namespace

std::string SeriesJson(const JobCurves::Answer& curves) {
  std::string json = "{\"curves\":{";
  for (size_t i = 0; i < curves.series.size(); ++i) {
    const auto& [name, points] = curves.series[i];
    absl::StrAppend(&json, i > 0 ? "," : "", JsonValue::Text(name).ToString(), ":{");
    AppendColumn(
        "step", points, [](const ShownPoint& p) { return p.step; }, json);
    json += ',';
    AppendColumn(
        "time", points, [](const ShownPoint& p) { return p.time_s; }, json);
    json += ',';
    AppendColumn(
        "value", points, [](const ShownPoint& p) { return p.value; }, json);
    json += ',';
    AppendColumn(
        "mean", points, [](const ShownPoint& p) { return p.mean; }, json);
    json += '}';
  }
  absl::StrAppend(&json, "},\"last_sequence\":", curves.last_sequence, "}");
  return json;
}

}  // namespace lockstep
