#include "server/tensorboard/event_record.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/escaping.h"

namespace lockstep {
namespace {

std::string Hex(const tensorboard::Event& event) {
  std::string record;
  AppendRecord(event, &record);
  return absl::BytesToHexString(record);
}

// Computed by hand with another program's CRC; the format has no other specification.
TEST(EventRecordTest, RecordsAreTheBytesThatTensorBoardExpects) {
  tensorboard::Event version;
  version.set_wall_time(1);
  version.set_file_version("brain.Event:2");
  EXPECT_EQ(Hex(version),
            "1800000000000000"
            "a37f4b22"
            "09000000000000f03f1a0d627261696e2e4576656e743a32"
            "86bf577a");

  tensorboard::Event point;
  point.set_wall_time(2);
  point.set_step(7);
  tensorboard::Summary::Value& value = *point.mutable_summary()->add_value();
  value.set_tag("loss");
  value.set_simple_value(0.5);
  EXPECT_EQ(Hex(point),
            "1a00000000000000"
            "129bd82d"
            "09000000000000004010072a0d0a0b0a046c6f7373150000003f"
            "c33fc24a");
}

}  // namespace
}  // namespace lockstep
