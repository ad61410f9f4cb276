// What goes between HTTP's texts and the server's own types.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>

#include "core/formats/json_value.h"
#include "server/web/http_message.h"
#include "server/web/infer_json.h"
#include "server/web/series_json.h"

namespace lockstep {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

TEST(ParseTargetTest, DecodesPathAndQuery) {
  HttpRequest request;
  ASSERT_TRUE(ParseTarget("/api/a%2Fb%20+/?label=k%3Dv+w&x&label=last&y=1=2", &request).ok());
  EXPECT_THAT(request.path, ElementsAre("api", "a/b +", ""));
  EXPECT_THAT(request.query, ElementsAre(Pair("label", "last"), Pair("x", ""), Pair("y", "1=2")));
  HttpRequest root;
  ASSERT_TRUE(ParseTarget("/", &root).ok());
  EXPECT_THAT(root.path, ElementsAre(""));
}

TEST(ParseTargetTest, RefusesWhatIsNoPathAndWhatIsNotUtf8) {
  for (const char* target : {"", "*", "http://host/", "/%", "/%4", "/%zz", "/%ff", "/a?b=%c3%28"}) {
    HttpRequest request;
    EXPECT_TRUE(absl::IsInvalidArgument(ParseTarget(target, &request))) << target;
  }
}

TEST(SeriesJsonTest, NumbersComeBackAsTheSameBits) {
  std::mt19937_64 random(1);
  JobCurves::Answer answer;
  answer.last_sequence = 7;
  JobCurves::Series series{"a \"name\"", {}};
  while (series.points.size() < 2000) {
    const uint64_t bits = random();
    double value;
    std::memcpy(&value, &bits, sizeof value);
    if (std::isfinite(value)) {
      series.points.push_back({static_cast<int64_t>(series.points.size()), 1e9 + 0.1, value});
    }
  }
  answer.series.push_back(series);
  const JsonValue json = JsonValue::Parse(SeriesJson(answer)).value();
  const auto& curves = std::get<JsonValue::Object>(
      std::get<JsonValue::Object>(json.value).find("curves")->second.value);
  const auto& columns = std::get<JsonValue::Object>(curves.find("a \"name\"")->second.value);
  const auto& values = std::get<JsonValue::Array>(columns.find("value")->second.value);
  ASSERT_EQ(values.size(), series.points.size());
  for (size_t i = 0; i < values.size(); ++i) {
    const std::string& text = std::get<JsonValue::Number>(values[i].value).text;
    EXPECT_EQ(std::strtod(text.c_str(), nullptr), series.points[i].value);
  }
}

TEST(SeriesJsonTest, WhatJsonHasNoNumberForIsText) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  JobCurves::Answer answer;
  answer.series.push_back({"loss", {{1, 0, std::nan("")}, {2, 0, kInfinity}, {3, 0, -kInfinity}}});
  EXPECT_THAT(SeriesJson(answer), HasSubstr(R"("value":["NaN","Infinity","-Infinity"])"));
  EXPECT_EQ(SeriesJson({}), R"({"curves":{},"last_sequence":0})");
}

TEST(InferJsonTest, NestedAndFlatDataAreTheSame) {
  const auto read = [](const std::string& data) {
    return ReadInferJson(R"({"version":3,"inputs":[{"name":"x","shape":[2,2],"datatype":"FP32",)"
                         R"("data":)" +
                         data + "}]}")
        .value();
  };
  const inference::ModelInferRequest flat = read("[1, 2.5, -3e-2, 4]");
  EXPECT_EQ(flat.model_version(), "3");
  EXPECT_THAT(flat.inputs(0).shape(), ElementsAre(2, 2));
  EXPECT_THAT(flat.inputs(0).contents().fp32_contents(), ElementsAre(1, 2.5f, -0.03f, 4));
  EXPECT_EQ(read("[[1, 2.5], [-3e-2, 4]]").SerializeAsString(), flat.SerializeAsString());
}

TEST(InferJsonTest, AnswersKeepTheirBits) {
  inference::ModelInferResponse response;
  auto* output = response.add_outputs();
  output->set_name("y");
  output->add_shape(1);
  output->mutable_contents()->add_fp32_contents(0.1f);
  output->mutable_contents()->add_fp32_contents(std::numeric_limits<float>::quiet_NaN());
  EXPECT_THAT(WriteInferJson(response), HasSubstr("0.1, null"));
}

}  // namespace
}  // namespace lockstep
