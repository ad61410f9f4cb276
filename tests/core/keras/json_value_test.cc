// Any text becomes a tree or an error with its place, quickly, whatever it is.

#include "core/formats/json_value.h"

#include <gtest/gtest.h>

namespace lockstep {
namespace {

TEST(JsonValue, KeepsWhatStandsThere) {
  const auto value = JsonValue::Parse(
      R"( {"b": [1, -0.5e-3, 18446744073709551615, true, false, null], "a": {"\u00e9\n": "\"x\\"}} )");
  ASSERT_TRUE(value.ok()) << value.status();
  EXPECT_EQ(value->ToString(),
            "{\"a\": {\"\xc3\xa9\\u000a\": \"\\\"x\\\\\"}, "
            "\"b\": [1, -0.5e-3, 18446744073709551615, true, false, null]}");
}

TEST(JsonValue, RefusesWhatIsNoJson) {
  for (const char* text :
       {"",        " ",  "{",       "[1,", "[1 2]", "{\"a\"}", "{\"a\":}", "{a: 1}",
        "[1,]",    "\"", "\"\\x\"", "tru", "nul",   "NaN",     "Infinity", "-",
        "01",      "1.", ".5",      "1e",  "+1",    "[] []",   "'a'",      "{\"a\": 1, \"a\": 2}",
        "\"\xff\""}) {
    const auto value = JsonValue::Parse(text);
    EXPECT_TRUE(absl::IsInvalidArgument(value.status())) << text;
    EXPECT_NE(value.status().message().find("at byte "), std::string::npos) << text;
  }
}

TEST(JsonValue, RefusesDeepNesting) {
  const std::string deepest = std::string(64, '[') + std::string(64, ']');
  EXPECT_TRUE(JsonValue::Parse(deepest).ok());
  for (int depth : {65, 10'000, 3'000'000}) {
    for (const char* open : {"[", "{\"a\":"}) {
      std::string text;
      for (int i = 0; i < depth; ++i) text += open;
      EXPECT_EQ(JsonValue::Parse(text).status().message(),
                "more than 64 levels of nesting at byte " +
                    std::to_string(64 * std::string(open).size()) + " of the JSON text");
    }
  }
}

}  // namespace
}  // namespace lockstep
