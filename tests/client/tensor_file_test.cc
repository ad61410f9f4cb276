// Samples are read from files and data sets alike, and no more of them than asked for.

#include "client/cli/tensor_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "tests/temporary_directory.h"

namespace lockstep {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class TensorFileTest : public testing::Test {
 protected:
  std::string Write(const std::string& content) {
    std::ofstream(path_, std::ios::binary) << content;
    return path_;
  }

  const TemporaryDirectory directory_;
  const std::string path_ = directory_ / "file";
};

// IDX: 00 00 08 <dimensions>, sizes in big-endian, bytes.
const std::string kIdx("\0\0\x08\x02\0\0\0\x02\0\0\0\x03\x01\x02\x03\xfd\xfe\xff", 18);

TEST_F(TensorFileTest, KindOfFileIsToldByItsContent) {
  const auto tensor = ReadTensorFile(Write(kIdx));
  ASSERT_TRUE(tensor.ok()) << tensor.status();
  EXPECT_THAT(tensor->shape, ElementsAre(2, 3));
}

TEST_F(TensorFileTest, SamplesComeInOrderAndEndWhereTheFileDoes) {
  const auto tensor = ReadTensorFile(Write(kIdx));
  ASSERT_TRUE(tensor.ok()) << tensor.status();
  SampleReader reader(*tensor);
  EXPECT_EQ(reader.samples(), 2);
  EXPECT_EQ(reader.sample_size(), 3);
  EXPECT_TRUE(reader.is_integer());
  EXPECT_THAT(*reader.Next(1), ElementsAre(1, 2, 3));
  EXPECT_THAT(*reader.Next(1), ElementsAre(253, 254, 255));
  EXPECT_TRUE(absl::IsOutOfRange(reader.Next(1).status()));
}

TEST_F(TensorFileTest, ErrorsNameTheFile) {
  for (const std::string& content : {std::string("nonsense"), std::string(), kIdx.substr(0, 17)}) {
    const auto tensor = ReadTensorFile(Write(content));
    ASSERT_FALSE(tensor.ok());
    EXPECT_THAT(std::string(tensor.status().message()), HasSubstr(path_));
  }
  EXPECT_THAT(std::string(ReadTensorFile("/nowhere/x.npy").status().message()),
              HasSubstr("/nowhere/x.npy"));
}

TEST_F(TensorFileTest, FileWithoutSamplesIsAnError) {
  const std::string empty("\0\0\x08\x02\0\0\0\0\0\0\0\x03", 12);
  EXPECT_FALSE(ReadTensorFile(Write(empty)).ok());
}

}  // namespace
}  // namespace lockstep
