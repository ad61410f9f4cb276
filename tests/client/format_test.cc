#include "client/cli/format.h"

#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include "client/cli/json_object.h"
#include "client/cli/session.h"
#include "lockstep/v1/training.pb.h"

namespace lockstep {
namespace {

TEST(TableTest, AlignsColumnsAndSetsNumbersToTheRight) {
  Table table({"JOB", "STEPS", "MODEL"});
  table.AddRow({"a-long-name", "5/400", "-"});
  table.AddRow({"b", "1200/2400", "m:1"});
  EXPECT_EQ(table.ToString(),
            "JOB              STEPS  MODEL\n"
            "a-long-name      5/400  -\n"
            "b            1200/2400  m:1\n");
}

TEST(AgeTest, IsInTheUnitPeopleWouldUse) {
  const absl::Time now = absl::FromUnixSeconds(10'000'000);
  const auto age = [&](int64_t seconds) {
    google::protobuf::Timestamp time;
    time.set_seconds(10'000'000 - seconds);
    return FormatAge(time, now);
  };
  EXPECT_EQ(age(0), "0 s ago");
  EXPECT_EQ(age(-30), "0 s ago");  // a server whose clock is ahead
  EXPECT_EQ(age(119), "119 s ago");
  EXPECT_EQ(age(120), "2 min ago");
  EXPECT_EQ(age(5 * 3600), "5 h ago");
  EXPECT_EQ(age(3 * 86400), "3 days ago");
  EXPECT_EQ(FormatAge({}, now), "-");
}

TEST(BytesTest, PowersOfAThousand) {
  EXPECT_EQ(FormatBytes(999), "999 B");
  EXPECT_EQ(FormatBytes(47'040'000), "47.0 MB");
  EXPECT_EQ(FormatBytes(999'960), "1.0 MB");
}

TEST(DescribeTest, IsShort) {
  v1::TrainingSpec spec;
  ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(
      "batch_size: 128 optimizer { adam { learning_rate: 0.001 } } shuffle: false "
      "losses { mean_squared_error {} } metrics: 'a' metrics: 'b'",
      &spec));
  EXPECT_EQ(Describe(spec),
            "batch_size=128 optimizer=adam(learning_rate=0.001) losses=[mean_squared_error] "
            "metrics=[a, b] shuffle=false");
}

TEST(ModelNameTest, VersionIsOptionalAndPositive) {
  EXPECT_EQ(ParseModelName("cnn")->version, 0);
  EXPECT_EQ(ParseModelName("cnn:12")->version, 12);
  EXPECT_EQ(ParseModelName("cnn:12")->name, "cnn");
  for (const char* bad : {"", ":1", "cnn:", "cnn:0", "cnn:-1", "cnn:x", "cnn:1:2"}) {
    EXPECT_FALSE(ParseModelName(bad).ok()) << bad;
  }
}

TEST(JsonObjectTest, EscapesTextAndKnowsNoNan) {
  EXPECT_EQ(JsonObject()
                .Text("file", "a\"b\\c\n")
                .Integer("size", -3)
                .Number("loss", 1.0 / 0.0)
                .Metrics({{"loss", 0.5}})
                .ToString(),
            R"({"file":"a\"b\\c\u000a","size":-3,"loss":null,)"
            R"("metrics":[{"name":"loss","value":0.5}]})");
}

}  // namespace
}  // namespace lockstep
