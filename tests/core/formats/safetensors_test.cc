#include "core/formats/safetensors.h"

#include <algorithm>
#include <limits>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/core/formats/hostile.h"

namespace lockstep {
namespace {

// The file's bytes with the header padded, as writers do.
std::string File(std::string header, std::string_view data) {
  header.resize((header.size() + 7) / 8 * 8, ' ');
  const uint64_t size = header.size();
  std::string file(reinterpret_cast<const char*>(&size), sizeof(size));
  return file.append(header).append(data);
}

std::string Entry(const char* name, const char* shape, int begin, int end) {
  return absl::StrCat("\"", name, "\":{\"dtype\":\"F32\",\"shape\":", shape, ",\"data_offsets\":[",
                      begin, ",", end, "]}");
}

TEST(SafetensorsTest, RoundTripKeepsEveryBit) {
  const std::vector<float> kernel = {1.5f,
                                     -0.0f,
                                     std::numeric_limits<float>::denorm_min(),
                                     std::numeric_limits<float>::infinity(),
                                     std::numeric_limits<float>::quiet_NaN(),
                                     3e38f};
  const float scalar = 7;
  const std::vector<FloatTensorView> tensors = {{"dense.kernel", {2, 3}, kernel},
                                                {"empty", {0, 5}, {}},
                                                {"scalar", {}, std::span(&scalar, 1)}};
  const std::map<std::string, std::string> metadata = {{"spec", "{\"a\":\"b\\c\"}\n\t\x01"},
                                                       {"name",
                                                        "gr\xc3\xb6\xc3\x9f"
                                                        "er \xf0\x9f\x98\x80"}};
  const std::string bytes = WriteSafetensors(metadata, tensors);
  absl::StatusOr<SafetensorsFile> file = ReadSafetensors(bytes);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->metadata, metadata);
  ASSERT_EQ(file->tensors.size(), tensors.size());
  for (size_t i = 0; i < tensors.size(); ++i) {
    EXPECT_EQ(file->tensors[i].name, tensors[i].name);
    EXPECT_EQ(file->tensors[i].shape, tensors[i].shape);
    EXPECT_TRUE(std::ranges::equal(std::as_bytes(file->tensors[i].values),
                                   std::as_bytes(tensors[i].values)));
  }
  EXPECT_EQ(WriteSafetensors(metadata, file->tensors), bytes) << "writing is deterministic";
}

// Byte for byte what the format's description says.
TEST(SafetensorsTest, WritesTheFormat) {
  const float values[] = {1, 2};
  const std::vector<FloatTensorView> tensors = {{"w", {2}, values}};
  EXPECT_EQ(WriteSafetensors({{"k", "v"}}, tensors),
            File("{\"__metadata__\":{\"k\":\"v\"}," + Entry("w", "[2]", 0, 8) + "}",
                 {reinterpret_cast<const char*>(values), sizeof(values)}));
  EXPECT_EQ(WriteSafetensors({}, {}), File("{}", ""));
}

TEST(SafetensorsTest, AcceptsOtherWritersJson) {
  const std::string data(12, '\0');
  // Out of order, white space, escapes, both spellings of one character.
  absl::StatusOr<SafetensorsFile> file = ReadSafetensors(
      File("{ \"b\" :{\"data_offsets\":[ 4 , 12 ],\"shape\":[2,1],\"dtype\":\"F32\"},\n" +
               Entry("\\u0061\\ud83d\\ude00\\/", "[]", 0, 4) + "}",
           data));
  ASSERT_TRUE(file.ok()) << file.status();
  ASSERT_EQ(file->tensors.size(), 2);
  EXPECT_EQ(file->tensors[0].name, "a\xf0\x9f\x98\x80/");
  EXPECT_EQ(file->tensors[1].name, "b");
}

// As PyTorch stores num_batches_tracked.
TEST(SafetensorsTest, ReadsIntegersBesideFloats) {
  const int64_t count = int64_t{1} << 40;
  std::string data(4, '\0');
  data.append(reinterpret_cast<const char*>(&count), sizeof(count));
  const std::string header = "{" + Entry("w", "[1]", 0, 4) +
                             ",\"n\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[4,12]}}";
  absl::StatusOr<SafetensorsFile> file = ReadSafetensors(File(header, data));
  ASSERT_TRUE(file.ok()) << file.status();
  ASSERT_EQ(file->integers.size(), 1);
  EXPECT_EQ(file->integers[0].name, "n");
  EXPECT_EQ(file->integers[0].values, std::vector<int64_t>{count});
  EXPECT_EQ(file->tensors.size(), 1);
  EXPECT_FALSE(ReadSafetensors(File(header, data.substr(0, 11))).ok());
}

TEST(SafetensorsTest, HostileHeadersAreRefused) {
  const std::string data(8, '\0');
  const std::string good = Entry("w", "[2]", 0, 8);
  ASSERT_TRUE(ReadSafetensors(File("{" + good + "}", data)).ok());
  const std::vector<std::string> headers = {
      "",
      "[]",
      " {" + good + "}",
      "{" + good,
      "{" + good + "}}",
      "{" + good + ",}",
      "{" + good + "," + good + "}",                                        // twice the same name
      "{" + Entry("w", "[3]", 0, 8) + "}",                                  // shape against bytes
      "{" + Entry("w", "[1]", 0, 4) + "}",                                  // bytes left over
      "{" + Entry("w", "[1]", 4, 8) + "}",                                  // a hole in front
      "{" + Entry("a", "[2]", 0, 8) + "," + Entry("b", "[1]", 4, 8) + "}",  // overlap
      "{" + Entry("w", "[4611686018427387904,4]", 0, 8) + "}",
      "{" + Entry("w", "[4611686018427387903]", 0, 8) + "}",
      "{" + Entry("w", "[-2]", 0, 8) + "}",
      "{" + Entry("w", "[2e0]", 0, 8) + "}",
      "{" + Entry("w", "[02]", 0, 8) + "}",
      "{" + Entry("w", "[[2]]", 0, 8) + "}",
      "{" + Entry("w", "[2]", 8, 0) + "}",
      "{" + Entry("\xff", "[2]", 0, 8) + "}",     // not UTF-8
      "{" + Entry("\\ud800", "[2]", 0, 8) + "}",  // half a surrogate pair
      "{" + Entry("\\x", "[2]", 0, 8) + "}",
      "{" + Entry("a\nb", "[2]", 0, 8) + "}",
      "{\"w\":{\"dtype\":\"F32\",\"shape\":[2]}}",
      "{\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8],\"more\":1}}",
      "{\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4,8]}}",
      "{\"w\":{\"dtype\":\"F64\",\"shape\":[1],\"data_offsets\":[0,8]}}",
      "{\"__metadata__\":{\"a\":1}," + good + "}",
      "{\"__metadata__\":{\"a\":\"1\",\"a\":\"2\"}," + good + "}",
      "{\"__metadata__\":{},\"__metadata__\":{}," + good + "}",
      "{\"__metadata__\":{\"a\":{\"b\":{}}}," + good + "}",
      "{" + good + "}" + std::string(1, '\0'),
      std::string(100'000, '['),
      "{\"w\":" + std::string(100'000, '{'),
  };
  for (const std::string& header : headers) {
    const absl::StatusOr<SafetensorsFile> file = ReadSafetensors(File(header, data));
    EXPECT_FALSE(Refusal(file).empty()) << header.substr(0, 100);
  }
}

TEST(SafetensorsTest, RefusalsSayWhatAndWhere) {
  EXPECT_EQ(Refusal(ReadSafetensors("abc")),
            "safetensors: the file has 3 bytes, too few for a header");
  EXPECT_EQ(Refusal(ReadSafetensors(File("{" + Entry("w", "[3]", 0, 8) + "}", "12345678"))),
            "safetensors: tensor 'w' of shape [3] cannot lie at bytes 0 to 8 of 8, where the "
            "tensors before it end at 0");
  EXPECT_TRUE(absl::StrContains(Refusal(ReadSafetensors(File("{\"w\":1}", ""))),
                                "expected { at byte 5 of the JSON text"));
  const std::string huge = "\xff\xff\xff\xff\xff\xff\xff\x7f{}";
  EXPECT_EQ(Refusal(ReadSafetensors(huge)),
            "safetensors: the header claims 9223372036854775807 bytes, the file has 2 more");
}

TEST(SafetensorsTest, TruncatedAndDamagedFilesDoNoHarm) {
  const float values[] = {1, 2, 3};
  const std::vector<FloatTensorView> tensors = {{"a", {1, 2}, std::span(values, 2)},
                                                {"b\xc3\xb6", {1}, std::span(values + 2, 1)}};
  const std::string file = WriteSafetensors({{"k", "\n\"v"}}, tensors);
  ExpectEveryPrefixRefused(file, ReadSafetensors);
  EXPECT_GT(RefusedAmongDamaged(file, ReadSafetensors), 0);
}

}  // namespace
}  // namespace lockstep
