#include "absl/strings/match.h"
#include "core/formats/readers.h"
#include "tests/core/formats/hostile.h"

namespace lockstep {
namespace {

template <typename T>
void ExpectCounting(const char* name, DType dtype) {
  absl::StatusOr<Tensor> tensor = ReadNpy(TestFile(name));
  ASSERT_TRUE(tensor.ok()) << name << ": " << tensor.status();
  EXPECT_EQ(tensor->dtype, dtype) << name;
  EXPECT_EQ(tensor->shape, (std::vector<int64_t>{2, 3})) << name;
  EXPECT_EQ(Values<T>(*tensor), (std::vector<T>{0, 1, 2, 3, 4, 5})) << name;
}

TEST(NpyTest, ReadsWhatNumPyWrites) {
  ExpectCounting<uint8_t>("uint8.npy", DType::kUint8);
  ExpectCounting<int8_t>("int8.npy", DType::kInt8);
  ExpectCounting<uint16_t>("uint16.npy", DType::kUint16);
  ExpectCounting<int16_t>("int16.npy", DType::kInt16);
  ExpectCounting<int32_t>("int32.npy", DType::kInt32);
  ExpectCounting<int64_t>("int64.npy", DType::kInt64);
  ExpectCounting<float>("float32.npy", DType::kFloat32);
  ExpectCounting<double>("float64.npy", DType::kFloat64);
  ExpectCounting<float>("version2.npy", DType::kFloat32);
  ExpectCounting<float>("version3.npy", DType::kFloat32);
}

TEST(NpyTest, ReadsEveryRank) {
  absl::StatusOr<Tensor> scalar = ReadNpy(TestFile("scalar.npy"));
  ASSERT_TRUE(scalar.ok()) << scalar.status();
  EXPECT_TRUE(scalar->shape.empty());
  EXPECT_EQ(Values<float>(*scalar), std::vector<float>{5});
  absl::StatusOr<Tensor> vector = ReadNpy(TestFile("vector.npy"));
  ASSERT_TRUE(vector.ok()) << vector.status();
  EXPECT_EQ(vector->shape, std::vector<int64_t>{3});
  absl::StatusOr<Tensor> empty = ReadNpy(TestFile("empty.npy"));
  ASSERT_TRUE(empty.ok()) << empty.status();
  EXPECT_EQ(empty->shape, (std::vector<int64_t>{0, 4}));
}

TEST(NpyTest, RefusalsSayWhatToDo) {
  const auto message = [](const char* name) { return Refusal(ReadNpy(TestFile(name))); };
  EXPECT_TRUE(absl::StrContains(message("big_endian.npy"), "newbyteorder('<')"));
  EXPECT_TRUE(absl::StrContains(message("fortran.npy"), "numpy.ascontiguousarray"));
  EXPECT_TRUE(absl::StrContains(message("object.npy"), "Python objects"));
  EXPECT_TRUE(absl::StrContains(message("bool.npy"), "'|b1' is not supported; convert to uint8"));
  EXPECT_TRUE(absl::StrContains(message("structured.npy"), "structured element types"));
  EXPECT_EQ(Refusal(ReadNpy("hello")), "npy: the file does not start with the NumPy signature");
  EXPECT_EQ(Refusal(ReadNpy(TestFile("float32.npy") + "x")),
            "npy: the header claims float32 [2, 3], but 25 bytes follow it");
}

TEST(NpyTest, TruncatedAndDamagedFilesDoNoHarm) {
  ExpectEveryPrefixRefused(TestFile("float32.npy"), ReadNpy);
  ExpectEveryPrefixRefused(TestFile("version2.npy"), ReadNpy);
  EXPECT_GT(RefusedAmongDamaged(TestFile("float32.npy"), ReadNpy), 0);
}

std::string WithHeader(const std::string& header) {
  std::string file = "\x93NUMPY";
  file += {1, 0, static_cast<char>(header.size()), static_cast<char>(header.size() >> 8)};
  return file + header;
}

TEST(NpyTest, HostileHeadersAreRefused) {
  for (const char* header :
       {"", "{", "{}", "{'descr': '<f4'}", "[1, 2]", "{'descr': '<f4', 'fortran_order': False}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1 2), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 4), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,), }",
        "{'descr': '<f4', 'fortran_order': 0, 'shape': (1,), }",
        "{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (0,), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (0,), 'x': 1}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (0,), } {"}) {
    EXPECT_FALSE(ReadNpy(WithHeader(header)).ok()) << header;
  }
  EXPECT_TRUE(ReadNpy(WithHeader("{\"shape\":(0,),\"fortran_order\":False,'descr':'<f4'}\n")).ok());
}

TEST(NpzTest, ReadsWhatNumPyAndZipfileWrite) {
  for (const char* name : {"stored.npz", "deflated.npz", "streamed.npz", "zip64.npz"}) {
    absl::StatusOr<std::map<std::string, Tensor>> tensors = ReadNpz(TestFile(name));
    ASSERT_TRUE(tensors.ok()) << name << ": " << tensors.status();
    ASSERT_EQ(tensors->size(), 2) << name;
    const Tensor& x = tensors->at("x");
    EXPECT_EQ(x.dtype, DType::kUint8);
    EXPECT_EQ(x.shape, (std::vector<int64_t>{3, 2, 2}));
    EXPECT_EQ(Values<uint8_t>(x), (std::vector<uint8_t>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}));
    EXPECT_EQ(Values<int64_t>(tensors->at("y")), (std::vector<int64_t>{2, 0, 1}));
  }
}

TEST(NpzTest, TruncatedAndDamagedFilesDoNoHarm) {
  for (const char* name : {"stored.npz", "deflated.npz", "streamed.npz", "zip64.npz"}) {
    const std::string file = TestFile(name);
    ExpectEveryPrefixRefused(file, ReadNpz);
    // Dates, versions and the like may change; all that says what the arrays are is checked.
    EXPECT_GT(RefusedAmongDamaged(file, ReadNpz), static_cast<int>(2 * file.size())) << name;
  }
}

TEST(NpzTest, RefusalsNameTheEntry) {
  std::string file = TestFile("stored.npz");
  file[file.find("NUMPY")] = 'X';
  EXPECT_EQ(Refusal(ReadNpz(file)),
            "npz: entry 'x.npy': its size or checksum is not what the zip directory says");
  EXPECT_EQ(Refusal(ReadNpz("no zip at all, but long enough")),
            "npz: no zip directory: not a zip file, or truncated");
}

// 100 entries that share one megabyte of zeros, deflated to one kilobyte.
TEST(NpzTest, OverlappingEntriesAreRefusedBeforeAnyIsRead) {
  EXPECT_EQ(Refusal(ReadNpz(TestFile("overlap.npz"))),
            "npz: its entries claim more bytes than the file has");
}

// An entry whose directory claims four gigabytes for 100 bytes.
TEST(NpzTest, AbsurdSizesAreRefused) {
  std::string file = TestFile("deflated.npz");
  const size_t entry = file.rfind("PK\x01\x02");
  file.replace(entry + 24, 4, "\xfe\xff\xff\xff");
  EXPECT_TRUE(absl::StrContains(Refusal(ReadNpz(file)), "its size (4294967294) cannot come from"));
}

}  // namespace
}  // namespace lockstep
