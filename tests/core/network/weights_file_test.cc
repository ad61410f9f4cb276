// Weights leave and come back as safetensors.

#include "core/network/weights_file.h"

#include <gtest/gtest.h>

#include <numeric>
#include <string>
#include <vector>

#include "core/formats/safetensors.h"
#include "tests/core/parse_json.h"

namespace lockstep {
namespace {

class WeightsFileTest : public testing::Test {
 protected:
  WeightsFileTest()
      : spec_(ParseJson<v1::ModelSpec>(R"({"inputs":[{"shape":[6,6,1]}],"layers":[
            {"conv2d":{"filters":3,"kernelSize":[3]}}, {"batchNormalization":{}}, {"flatten":{}},
            {"dense":{"units":2}}]})")),
        network_(*Network::Build(&spec_)),
        parameters_(network_.parameters_size()),
        buffers_(network_.buffers_size()) {
    network_.Initialize(3, parameters_, buffers_);
    std::iota(buffers_.begin(), buffers_.end(), 0.5f);
  }

  std::string Write() const { return WriteWeights(network_, spec_, 17, parameters_, buffers_); }

  v1::ModelSpec spec_;
  Network network_;
  std::vector<float> parameters_;
  std::vector<float> buffers_;
};

TEST_F(WeightsFileTest, ComesBackBitForBit) {
  std::vector<float> parameters(parameters_.size());
  std::vector<float> buffers(buffers_.size());
  const std::string file = Write();
  ASSERT_TRUE(ReadWeights(network_, file, parameters, buffers).ok());
  EXPECT_EQ(parameters, parameters_);
  for (const NetworkTensor& t : network_.buffers()) {
    EXPECT_TRUE(std::equal(buffers.begin() + t.offset, buffers.begin() + t.offset + t.size,
                           buffers_.begin() + t.offset))
        << t.name;
  }
  EXPECT_EQ(Write(), file) << "the same weights gave other bytes";
}

TEST_F(WeightsFileTest, SaysWhatItHolds) {
  const std::string file = Write();
  const auto read = ReadSafetensors(file);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->metadata.at("format"), "lockstep");
  EXPECT_EQ(read->metadata.at("contract"), "lockstep-1");
  EXPECT_EQ(read->metadata.at("step"), "17");
  EXPECT_NE(read->metadata.at("batch_normalization").find("momentum weighs the old value"),
            std::string::npos);
  EXPECT_EQ(ParseJson<v1::ModelSpec>(read->metadata.at("model")).DebugString(),
            spec_.DebugString());
  std::vector<std::string> names;
  for (const FloatTensorView& tensor : read->tensors) names.push_back(tensor.name);
  EXPECT_EQ(names, (std::vector<std::string>{
                       "conv2d.kernel", "conv2d.bias", "batch_normalization.gamma",
                       "batch_normalization.beta", "dense.kernel", "dense.bias",
                       "batch_normalization.moving_mean", "batch_normalization.moving_variance"}));
  EXPECT_EQ(read->tensors[0].shape, (std::vector<int64_t>{3, 3, 1, 3}));
}

TEST_F(WeightsFileTest, ListsEverythingThatDoesNotFit) {
  const std::string file = Write();
  const auto read = ReadSafetensors(file);
  ASSERT_TRUE(read.ok());
  std::vector<FloatTensorView> tensors;
  const std::vector<float> values(12);
  for (const FloatTensorView& tensor : read->tensors) {
    if (tensor.name == "conv2d.bias" || tensor.name == "batch_normalization.moving_mean") continue;
    tensors.push_back(tensor);
    if (tensor.name == "dense.kernel") tensors.back().shape = {2, 48};
    if (tensor.name == "dense.bias") tensors.back().name = "dense_1.bias";
  }
  tensors.push_back({"extra.kernel", {3, 4}, values});
  const absl::Status status =
      ReadWeights(network_, WriteSafetensors({}, tensors), parameters_, buffers_);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  for (const char* part :
       {"conv2d.bias is missing", "batch_normalization.moving_mean is missing",
        "dense.kernel is [2, 48], not [48, 2]", "dense.bias is missing",
        "dense_1.bias belongs to no layer", "extra.kernel belongs to no layer"}) {
    EXPECT_NE(status.message().find(part), std::string::npos) << part << "\n" << status;
  }
  EXPECT_EQ(status.message().find("conv2d.kernel"), std::string::npos) << status;
}

TEST_F(WeightsFileTest, RefusesWhatIsNoSafetensorsFile) {
  std::string file = Write();
  file.resize(file.size() - 1);
  for (const std::string& bytes : {std::string(), std::string("no weights at all"), file}) {
    EXPECT_EQ(ReadWeights(network_, bytes, parameters_, buffers_).code(),
              absl::StatusCode::kInvalidArgument);
  }
}

}  // namespace
}  // namespace lockstep
