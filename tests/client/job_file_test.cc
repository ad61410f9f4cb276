// What is wrong with a job file is said with its line and the field's path.

#include "client/cli/job_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lockstep {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string ErrorOf(const std::string& json) {
  const absl::StatusOr<JobFile> file = ParseJobFile(json);
  EXPECT_TRUE(absl::IsInvalidArgument(file.status())) << file.status();
  return std::string(file.status().message());
}

TEST(JobFileTest, ReadsBothSpellingsOfAField) {
  const auto file = ParseJobFile(R"({"training": {"batch_size": 32, "logEvery": "10"},
                                     "publish_as": "m"})");
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->spec.training().batch_size(), 32);
  EXPECT_EQ(file->spec.training().log_every(), 10);
  EXPECT_EQ(file->spec.publish_as(), "m");
}

TEST(JobFileTest, UnknownFieldNamesLinePathAndTheFieldsThereAre) {
  const std::string error = ErrorOf(R"({
  "model": {
    "layers": [
      {"dense": {"units": 64}},
      {"dense": {
        "unitz": 10
      }}
    ]
  }
})");
  EXPECT_THAT(error, StartsWith("line 6: model.layers[1].dense.unitz: no such field"));
  EXPECT_THAT(error, HasSubstr("units, activation, use_bias"));
}

TEST(JobFileTest, UnknownFieldAtTheTop) {
  EXPECT_THAT(ErrorOf(R"({"modell": {}})"), StartsWith("line 1: modell: no such field; there are "
                                                       "model, data, training"));
}

TEST(JobFileTest, ValueOfTheWrongKindNamesItsPlace) {
  EXPECT_THAT(ErrorOf("{\"model\":\n {\"layers\": [{\"dense\":\n {\"units\": 1.5}}]}}"),
              StartsWith("line 3: model.layers[0].dense.units: invalid value 1.5"));
  EXPECT_THAT(ErrorOf("{\n\"model\": []}"), StartsWith("line 2: model: "));
  EXPECT_THAT(ErrorOf("{\"model\": {\"inputs\": [{\n\"shape\": [1,\n\"a\"]}]}}"),
              StartsWith("line 3: model.inputs[0].shape[1]: "));
}

TEST(JobFileTest, TwoKindsOfOneLayer) {
  EXPECT_THAT(ErrorOf("{\"model\": {\"layers\": [\n{\"dense\": {}, \"flatten\": {}}]}}"),
              StartsWith("line 2: model.layers[0]: "));
}

TEST(JobFileTest, BrokenJsonNamesLineAndColumn) {
  EXPECT_THAT(ErrorOf("{\n  \"model\": {,}\n}"), StartsWith("line 2, column 13: "));
  EXPECT_THAT(ErrorOf("{\"a\": 1"), StartsWith("line 1, column 8: "));
  EXPECT_THAT(ErrorOf(""), StartsWith("line 1, column 1: "));
  EXPECT_THAT(ErrorOf("{\n\"a\": \"b\n}"), StartsWith("line 2, column 6: a string without an end"));
  EXPECT_THAT(ErrorOf("{} {}"), StartsWith("line 1, column 4: nothing more"));
  EXPECT_THAT(ErrorOf("{\"a\": maybe}"), HasSubstr("not maybe"));
}

TEST(JobFileTest, MemberGivenTwiceIsAnError) {
  EXPECT_THAT(ErrorOf("{\"publish_as\": \"a\",\n \"publishAs\": \"b\"}"),
              StartsWith("line 2, column 2: \"publishAs\" stands here a second time"));
}

TEST(JobFileTest, HostileDepthIsAnErrorAndNoCrash) {
  EXPECT_THAT(ErrorOf(std::string(100000, '[')), HasSubstr("nested too deeply"));
  EXPECT_THAT(ErrorOf(R"({"a": "\)"), HasSubstr("a string without an end"));
}

TEST(JobFileTest, RefusalOfTheServerGetsItsLine) {
  const auto file = ParseJobFile("{\"model\": {\"layers\": [\n{\"dense\":\n{\"units\": 0}}]}}");
  ASSERT_TRUE(file.ok());
  const auto with_line = [&](const char* message) {
    return WithLine(*file, absl::InvalidArgumentError(message));
  };
  EXPECT_EQ(with_line("model.layers[0].dense.units: must be >= 1, got 0"),
            "line 3: model.layers[0].dense.units: must be >= 1, got 0");
  // A field that is missing stands where its message does.
  EXPECT_EQ(with_line("model.layers[0].name: taken"), "line 2: model.layers[0].name: taken");
  EXPECT_EQ(with_line("training.loss: required"), "training.loss: required");
  EXPECT_EQ(with_line("no path at all"), "no path at all");
}

}  // namespace
}  // namespace lockstep
