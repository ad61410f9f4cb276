// Lines of the log: the same events for people and for programs, and nothing that a client says can
// look like a line or a field of ours.

#include "server/telemetry/log.h"

#include <gmock/gmock.h>
#include <google/protobuf/struct.pb.h>
#include <google/protobuf/util/json_util.h>
#include <gtest/gtest.h>

#include <limits>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "tests/server/telemetry/captured_log.h"

namespace lockstep {
namespace {

using testing::ElementsAre;
using testing::EndsWith;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::MatchesRegex;
using testing::SizeIs;

constexpr char kTime[] =
    "20[0-9][0-9]-[0-1][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-6][0-9]"
    "\\.[0-9][0-9][0-9]Z";

TEST(LogTest, ALineForPeopleHasTimeLevelMessageAndFields) {
  CapturedLog log(LogFormat::kText);
  LogLine(LogLevel::kInfo, "job changed",
          {{"job", "cnn"}, {"attempt", 2}, {"seconds", 0.25}, {"reason", "its worker is gone"}});
  ASSERT_THAT(log.Lines(), SizeIs(1));
  EXPECT_THAT(log.Lines()[0], MatchesRegex(std::string(kTime) +
                                           " info job changed job=cnn attempt=2 seconds=0\\.25 "
                                           "reason=\"its worker is gone\""));
}

TEST(LogTest, ALineOfJsonHasTheSame) {
  CapturedLog log(LogFormat::kJson);
  LogLine(LogLevel::kWarning, "job changed",
          {{"job", "cnn"}, {"attempt", 2}, {"seconds", 0.25}, {"reason", "its worker is gone"}});
  ASSERT_THAT(log.Lines(), SizeIs(1));
  EXPECT_THAT(
      log.Lines()[0],
      MatchesRegex("\\{\"time\":\"" + std::string(kTime) +
                   "\",\"level\":\"warning\",\"message\":\"job changed\",\"job\":\"cnn\","
                   "\"attempt\":2,\"seconds\":0\\.25,\"reason\":\"its worker is gone\"\\}"));
}

TEST(LogTest, EmptyTextsAreLeftOut) {
  CapturedLog log(LogFormat::kText);
  LogLine(LogLevel::kInfo, "rpc", {{"trace_id", ""}, {"id", 0}});
  EXPECT_THAT(log.Lines(), ElementsAre(HasSubstr("info rpc id=0")));
}

// Whatever a client puts into a name or a message.
const std::vector<std::string>& Hostile() {
  static const std::vector<std::string> texts = {
      "a\n2026-11-23T10:00:00.000Z info job changed job=forged",
      "a\r\nb",
      "a\" level=\"critical",
      "a job=forged",
      "a=b",
      "\\",
      "\\\"",
      "\",\"level\":\"critical",
      std::string("nul \0 byte", 10),
      "\x1b[2J\x1b]0;title\x07",
      "C1 \xc2\x9b[2J",
      "\x7f",
      "line \xe2\x80\xa8 paragraph \xe2\x80\xa9",
      "\xff\xfe not UTF-8 \xc0\x80 \xed\xa0\x80 \xf4\x90\x80\x80 \xe2\x82",
      "\xc3\xa4 is fine, as are \xe2\x82\xac and \xf0\x9f\x98\x80",
  };
  return texts;
}

TEST(LogTest, NoValueLooksLikeALineAFieldOrATerminalsCommand) {
  for (const LogFormat format : {LogFormat::kText, LogFormat::kJson}) {
    CapturedLog log(format);
    for (const std::string& text : Hostile()) {
      LogLine(LogLevel::kInfo, "said", {{"job", text}, {"last", 1}});
    }
    ASSERT_THAT(log.Lines(), SizeIs(Hostile().size()));
    for (const std::string& line : log.Lines()) {
      EXPECT_EQ(line.find_first_of(std::string("\x1b\x07\r\x7f\0", 5)), std::string::npos) << line;
      EXPECT_EQ(line.find("\xc2\x9b"), std::string::npos) << line;
      if (format == LogFormat::kText) {
        EXPECT_THAT(line, HasSubstr(" info said job=\""));
      }
    }
  }
}

TEST(LogTest, JsonGivesEveryValueBack) {
  CapturedLog log(LogFormat::kJson);
  for (const std::string& text : Hostile()) LogLine(LogLevel::kInfo, "said", {{"job", text}});
  const std::vector<std::string> lines = log.Lines();
  ASSERT_THAT(lines, SizeIs(Hostile().size()));
  for (size_t i = 0; i < lines.size(); ++i) {
    google::protobuf::Struct object;
    ASSERT_TRUE(google::protobuf::util::JsonStringToMessage(lines[i], &object).ok()) << lines[i];
    EXPECT_EQ(object.fields_size(), 4) << lines[i];
    EXPECT_EQ(object.fields().at("level").string_value(), "info");
    const std::string given = object.fields().at("job").string_value();
    if (Hostile()[i][0] == '\xff') {
      const std::string r = "\xef\xbf\xbd";
      EXPECT_EQ(given, r + r + " not UTF-8 " + r + r + " " + r + r + r + " " + r + r + r + r + " " +
                           r + r);
    } else {
      EXPECT_EQ(given, Hostile()[i]);
    }
  }
}

TEST(LogTest, WhatIsNoNumberInJsonIsText) {
  CapturedLog log(LogFormat::kJson);
  LogLine(LogLevel::kInfo, "x", {{"a", std::numeric_limits<double>::quiet_NaN()}, {"b", 1e300}});
  EXPECT_THAT(log.Lines(), ElementsAre(HasSubstr("\"a\":\"nan\",\"b\":1e+300}")));
}

TEST(LogTest, AJobsLineHasItsTraceIfThereIsOne) {
  CapturedLog log(LogFormat::kText);
  v1::Job job;
  job.set_id("cnn");
  const LogScope another({{"rpc", 7}, {"trace_id", "another"}});
  LogJob(LogLevel::kInfo, "job changed", job, {{"state", "RUNNING"}});
  job.set_trace_id("0af7651916cd43dd8448eb211c80319c");
  LogJob(LogLevel::kInfo, "job changed", job, {{"state", "RUNNING"}});
  EXPECT_THAT(
      log.Lines(),
      ElementsAre(EndsWith(" info job changed job=cnn state=RUNNING rpc=7"),
                  EndsWith("job=cnn trace_id=0af7651916cd43dd8448eb211c80319c state=RUNNING "
                           "rpc=7")));
}

TEST(LogTest, AScopesFieldsAreInEveryLineOfItsThreadAndTheLinesOwnCount) {
  CapturedLog log(LogFormat::kText);
  {
    const LogScope outer({{"worker", "host:1"}, {"job", "outer"}});
    const LogScope inner({{"job", "inner"}});
    LogLine(LogLevel::kInfo, "a", {{"x", 1}});
    LogLine(LogLevel::kInfo, "b", {{"job", "own"}});
    std::thread([] { LogLine(LogLevel::kInfo, "c"); }).join();
    std::thread([fields = LogScope::Fields()] {
      const LogScope scope(fields);
      LogLine(LogLevel::kInfo, "d");
    }).join();
  }
  LogLine(LogLevel::kInfo, "e");
  std::vector<std::string> said;
  for (const std::string& line : log.Lines()) said.push_back(line.substr(line.find(" info ") + 6));
  EXPECT_THAT(said, ElementsAre("a x=1 job=inner worker=host:1", "b job=own worker=host:1", "c",
                                "d job=inner worker=host:1", "e"));
}

TEST(LogTest, DebugLinesAreNotWrittenUnlessAskedFor) {
  CapturedLog log(LogFormat::kText);
  EXPECT_FALSE(WritesLog(LogLevel::kDebug));
  EXPECT_TRUE(WritesLog(LogLevel::kInfo));
  LogLine(LogLevel::kDebug, "rpc");
  EXPECT_THAT(log.Lines(), IsEmpty());
}

}  // namespace
}  // namespace lockstep
