// A Keras model and a few options make a job that a person would have written.

#include "client/cli/job_options.h"

#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include "tests/core/parse_json.h"

namespace lockstep {
namespace {

std::string Keras(const std::string& activation) {
  return R"({"class_name": "Sequential", "config": {"layers": [{"class_name": "Dense", "config":
      {"name": "d", "units": 2, "batch_input_shape": [null, 4], "activation": ")" +
         activation + R"("}}]}})";
}

v1::JobSpec Applied(const JobOptions& options, const std::string& keras,
                    const std::string& file = "{}") {
  auto spec = ParseJson<v1::JobSpec>(file);
  const absl::Status status = ApplyJobOptions(options, keras, spec);
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(spec.keras_model(), keras);
  spec.clear_keras_model();
  return spec;
}

void ExpectJob(const v1::JobSpec& actual, const std::string& expected) {
  google::protobuf::util::MessageDifferencer differencer;
  std::string differences;
  differencer.ReportDifferencesToString(&differences);
  EXPECT_TRUE(differencer.Compare(ParseJson<v1::JobSpec>(expected), actual)) << differences;
}

TEST(JobOptionsTest, ChoosesWhatNobodySaid) {
  JobOptions options;
  options.keras = "model.json";
  options.data = "some/where/my digits.npz";
  ExpectJob(Applied(options, Keras("softmax")), R"({
      "data": {"train": {"dataset": "my-digits"}},
      "training": {"batch_size": 32, "epochs": 10, "metrics": ["accuracy"],
                   "losses": [{"sparse_categorical_crossentropy": {}}]}})");
  options.data = "digits";
  ExpectJob(Applied(options, Keras("sigmoid")), R"({
      "data": {"train": {"dataset": "digits"}},
      "training": {"batch_size": 32, "epochs": 10, "losses": [{"binary_crossentropy": {}}]}})");
  ExpectJob(Applied(options, Keras("linear")), R"({
      "data": {"train": {"dataset": "digits"}},
      "training": {"batch_size": 32, "epochs": 10, "losses": [{"mean_squared_error": {}}]}})");
}

TEST(JobOptionsTest, TakesWhatIsSaid) {
  JobOptions options;
  options.keras = "model.json";
  options.loss = "sparse_categorical_crossentropy";
  options.optimizer = "sgd";
  options.learning_rate = 0.5;
  options.epochs = 3;
  options.batch_size = 8;
  options.validation_split = 0.25;
  options.seed = 7;
  options.publish_as = "mine";
  ExpectJob(Applied(options, Keras("linear")), R"({
      "data": {"validation_split": 0.25}, "publish_as": "mine",
      "training": {"batch_size": 8, "epochs": 3, "seed": 7, "metrics": ["accuracy"],
                   "losses": [{"sparse_categorical_crossentropy": {"from_logits": true}}],
                   "optimizer": {"sgd": {"learning_rate": 0.5}}}})");
}

TEST(JobOptionsTest, ChangesOnlyWhatIsSaidOfAFile) {
  JobOptions options;
  options.learning_rate = 0.25;
  const std::string file = R"({"data": {"train": {"dataset": "d"}}, "training": {
      "batch_size": 4, "epochs": 2, "losses": [{"huber": {}}],
      "optimizer": {"sgd": {"momentum": 0.5}}}})";
  ExpectJob(Applied(options, "", file), R"({"data": {"train": {"dataset": "d"}}, "training": {
      "batch_size": 4, "epochs": 2, "losses": [{"huber": {}}],
      "optimizer": {"sgd": {"momentum": 0.5, "learning_rate": 0.25}}}})");
}

TEST(JobOptionsTest, RefusesAModelThatIsNone) {
  JobOptions options;
  options.keras = "model.json";
  v1::JobSpec spec;
  EXPECT_EQ(ApplyJobOptions(options, "[1", spec).message(),
            "expected , or ] at byte 2 of the JSON text");
}

}  // namespace
}  // namespace lockstep
