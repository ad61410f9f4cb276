// What people see of a job before it is trained.

#include "client/cli/explain_view.h"

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

namespace lockstep {
namespace {

using testing::HasSubstr;
using testing::Not;

v1::ValidateJobResponse Job() {
  v1::ValidateJobResponse job;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(
      R"pb(spec {
             model { inputs { name: "image" } }
             training { batch_size: 100 }
           }
           layers {
             name: "conv"
             kind: "conv2d"
             inputs: "image"
             output_shape: 26
             output_shape: 26
             output_shape: 32
             parameters: 1234567
             flops_per_sample: 389376
             trainable: true
           }
           layers {
             name: "top"
             kind: "dense"
             inputs: "conv"
             output_shape: 10
             parameters: 330
             flops_per_sample: 999
           }
           parameters: 1234897
           trainable_parameters: 1234567
           buffers: 64
           flops_per_sample: 390375
           memory_bytes: 43700000
           steps_per_epoch: 16
           total_steps: 6400
           step_ms: 12.5
           total_seconds: 80
           threads: 2)pb",
      &job));
  return job;
}

TEST(ExplainTableTest, SaysWhatALayerIsAndWhatTheJobTakes) {
  EXPECT_EQ(ExplainTable(Job()),
            "LAYER  KIND    OUTPUT           PARAMETERS  FLOPS\n"
            "conv   conv2d  [N, 26, 26, 32]   1,234,567  389 k\n"
            "top    dense   [N, 10]          330 frozen    999\n"
            "\n"
            "parameters    1,234,897 (4.9 MB)\n"
            "  trained     1,234,567 (4.9 MB)\n"
            "buffers       64 (256 B)\n"
            "arithmetic    390 kFLOP forward, a sample\n"
            "memory        about 43.7 MB on the worker\n"
            "steps         6,400 (16 an epoch)\n"
            "time          about 12.5 ms a step (8.00k samples/s), 01:20 in all, with 2 threads\n");
}

TEST(ExplainTableTest, SaysWhatIsReadOnlyWhereItIsNotTheLayerBefore) {
  v1::ValidateJobResponse job = Job();
  EXPECT_THAT(ExplainTable(job), Not(HasSubstr("READS")));
  job.mutable_layers(1)->add_inputs("image");
  EXPECT_THAT(ExplainTable(job), HasSubstr("  READS\n"));
  EXPECT_THAT(ExplainTable(job), HasSubstr("  389 k\n"));
  EXPECT_THAT(ExplainTable(job), HasSubstr("  conv, image\n"));
}

TEST(ExplainTableTest, PromisesNoTimeWithoutAWorker) {
  v1::ValidateJobResponse job = Job();
  job.set_step_ms(0);
  EXPECT_THAT(ExplainTable(job), HasSubstr("not known: no worker is there to judge by\n"));
}

}  // namespace
}  // namespace lockstep
