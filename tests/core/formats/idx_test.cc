#include "core/formats/readers.h"
#include "tests/core/formats/hostile.h"

namespace lockstep {
namespace {

std::vector<uint8_t> Counting(int n) {
  std::vector<uint8_t> values(n);
  for (int i = 0; i < n; ++i) values[i] = static_cast<uint8_t>(i);
  return values;
}

TEST(IdxTest, ReadsImagesPlainAndCompressed) {
  for (const char* name : {"images.idx", "images.idx.gz"}) {
    absl::StatusOr<Tensor> images = ReadIdx(TestFile(name));
    ASSERT_TRUE(images.ok()) << images.status();
    EXPECT_EQ(images->dtype, DType::kUint8);
    EXPECT_EQ(images->shape, (std::vector<int64_t>{2, 3, 4}));
    EXPECT_EQ(Values<uint8_t>(*images), Counting(24));
  }
}

TEST(IdxTest, TurnsBigEndianNumbersRound) {
  absl::StatusOr<Tensor> integers = ReadIdx(TestFile("int32.idx"));
  ASSERT_TRUE(integers.ok()) << integers.status();
  EXPECT_EQ(Values<int32_t>(*integers), (std::vector<int32_t>{1, -2, 70000}));
  absl::StatusOr<Tensor> floats = ReadIdx(TestFile("float32.idx"));
  ASSERT_TRUE(floats.ok()) << floats.status();
  EXPECT_EQ(floats->shape, (std::vector<int64_t>{1, 2}));
  EXPECT_EQ(Values<float>(*floats), (std::vector<float>{0.5f, -1.5f}));
}

TEST(IdxTest, TruncatedFilesAreRefused) {
  ExpectEveryPrefixRefused(TestFile("images.idx"), ReadIdx);
  ExpectEveryPrefixRefused(TestFile("images.idx.gz"), ReadIdx);
}

TEST(IdxTest, DamagedFilesDoNoHarm) {
  EXPECT_GT(RefusedAmongDamaged(TestFile("int32.idx"), ReadIdx), 0);
  // gzip's CRC sees every change of the data, so what is still read has a changed header field
  // (name, time, ...) only.
  const std::string file = TestFile("images.idx.gz");
  EXPECT_GE(RefusedAmongDamaged(file, ReadIdx), 4 * (static_cast<int>(file.size()) - 10));
}

TEST(IdxTest, RefusalsSayWhatIsWrong) {
  EXPECT_EQ(Refusal(ReadIdx("")), "idx: the file has 0 bytes, too few for a header");
  EXPECT_EQ(Refusal(ReadIdx("\x89PNG....")),
            "idx: the first bytes (89504e47) are not those of an IDX file");
  std::string file = TestFile("images.idx");
  EXPECT_EQ(Refusal(ReadIdx(file + "x")),
            "idx: the header claims uint8 [2, 3, 4], but 25 bytes follow it");
  file[4] = '\x7f';  // two thousand million images
  EXPECT_EQ(Refusal(ReadIdx(file)),
            "idx: the header claims uint8 [2130706434, 3, 4], but 24 bytes follow it");
}

// 255 dimensions of 2^32 - 1 each: the product passes every integer.
TEST(IdxTest, AbsurdShapesAllocateNothing) {
  std::string file = {0, 0, 8, '\xff'};
  file += std::string(4 * 255, '\xff');
  EXPECT_FALSE(ReadIdx(file).ok());
}

TEST(GunzipTest, JoinsMembers) {
  const std::string member = TestFile("images.idx.gz");
  absl::StatusOr<std::string> plain = Gunzip(member + member, 1 << 20);
  ASSERT_TRUE(plain.ok()) << plain.status();
  EXPECT_EQ(*plain, TestFile("images.idx") + TestFile("images.idx"));
}

TEST(GunzipTest, HoldsItsLimit) {
  const std::string member = TestFile("images.idx.gz");
  EXPECT_TRUE(Gunzip(member, 40).ok());
  EXPECT_EQ(Gunzip(member, 39).status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(Gunzip(member + member, 79).status().code(), absl::StatusCode::kResourceExhausted);
}

TEST(GunzipTest, RefusalsSayWhere) {
  const std::string member = TestFile("images.idx.gz");
  EXPECT_EQ(Refusal(Gunzip(member.substr(0, 30), 100)),
            "gzip: member at byte 0: compressed data is truncated after 30 bytes");
  EXPECT_EQ(Refusal(Gunzip(member + "tail", 100)), "gzip: no gzip header at byte 56 of 60");
  std::string damaged = member;
  damaged[50] ^= 1;  // in the CRC
  EXPECT_EQ(
      Refusal(Gunzip(damaged, 100)),
      "gzip: member at byte 0: compressed data is corrupt near byte 52 (incorrect data check)");
}

}  // namespace
}  // namespace lockstep
