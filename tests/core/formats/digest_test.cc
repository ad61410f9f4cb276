#include "core/data/digest.h"

#include <gtest/gtest.h>

#include "core/data/tensor.h"

namespace lockstep {
namespace {

// FIPS 180-2, appendix B.1, and the empty message.
TEST(DigestTest, Sha256IsTheStandards) {
  EXPECT_EQ(Sha256("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(Sha256(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

// RFC 7693, appendix B.
TEST(DigestTest, Blake2sIsTheStandards) {
  Hasher hasher(Hasher::Algorithm::kBlake2s256);
  hasher.Update("abc");
  EXPECT_EQ(hasher.Finish(), "508c5e8c327c14e2e1a72ba34eeb452f37458b209ed63a294d999b4c86675982");
}

TEST(DigestTest, PiecesHashAsTheWhole) {
  Hasher hasher(Hasher::Algorithm::kSha256);
  hasher.Update("a");
  Hasher moved = std::move(hasher);
  moved.Update("");
  moved.Update("bc");
  EXPECT_EQ(moved.Finish(), Sha256("abc"));
}

// dataset.proto: one line a tensor, by ascending name, whatever the order in the message.
TEST(DigestTest, DatasetDigestIsAsTheProtoSays) {
  v1::Dataset dataset;
  v1::Tensor* y = dataset.add_tensors();
  y->set_name("y");
  y->set_dtype("int64");
  y->add_shape(3);
  y->mutable_blob()->set_sha256(Sha256("labels"));
  v1::Tensor* x = dataset.add_tensors();
  x->set_name("x");
  x->set_dtype("uint8");
  for (int64_t dimension : {3, 28, 28}) x->add_shape(dimension);
  x->mutable_blob()->set_sha256(Sha256("images"));
  EXPECT_EQ(DatasetDigest(dataset), Sha256("x uint8 3,28,28 " + Sha256("images") + "\ny int64 3 " +
                                           Sha256("labels") + "\n"));
}

TEST(TensorTest, ElementCountKnowsItsLimits) {
  EXPECT_EQ(ElementCount({}), 1);
  EXPECT_EQ(ElementCount(std::vector<int64_t>{3, 4}), 12);
  EXPECT_EQ(ElementCount(std::vector<int64_t>{3, 0, 4}), 0);
  EXPECT_EQ(ElementCount(std::vector<int64_t>{3, -1}), -1);
  EXPECT_EQ(ElementCount(std::vector<int64_t>{0, -1}), -1);
  const int64_t big = int64_t{1} << 31;
  EXPECT_EQ(ElementCount(std::vector<int64_t>{big, big}), int64_t{1} << 62);
  EXPECT_EQ(ElementCount(std::vector<int64_t>{big, big, 2}), -1);
  EXPECT_EQ(ElementCount(std::vector<int64_t>{0, big, big, 2}), -1);
}

TEST(TensorTest, TypeNamesAreNumPys) {
  for (const char* name :
       {"uint8", "int8", "uint16", "int16", "int32", "int64", "float32", "float64"}) {
    const std::optional<DType> dtype = ParseDType(name);
    ASSERT_TRUE(dtype.has_value()) << name;
    EXPECT_EQ(DTypeName(*dtype), name);
    const std::string digits = std::string(name).substr(std::string(name).find_first_of("1368"));
    EXPECT_EQ(DTypeSize(*dtype) * 8, std::stoi(digits));
  }
  EXPECT_FALSE(ParseDType("float16").has_value());
  EXPECT_EQ(ShapeString(std::vector<int64_t>{28, 28, 1}), "[28, 28, 1]");
}

}  // namespace
}  // namespace lockstep
