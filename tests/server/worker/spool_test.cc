#include "server/worker/spool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "tests/temporary_directory.h"

namespace lockstep {
namespace {

std::string Message(int64_t number) {
  return absl::StrCat(number, std::string(1000 + number % 7, 'x'));
}

TEST(SpoolTest, AHundredMegabytesComeBackInOrderAndDoNotStayInMemory) {
  constexpr int64_t kMemory = 1 << 20;
  constexpr int64_t kMessages = 100'000;
  TemporaryDirectory directory;
  Spool spool(directory.path(), kMemory);
  for (int64_t i = 1; i <= kMessages; ++i) {
    ASSERT_TRUE(spool.Append(Message(i)).ok());
    ASSERT_LE(spool.bytes_in_memory(), kMemory);
  }
  ASSERT_EQ(spool.last(), kMessages);
  for (int64_t i = 1; i <= kMessages; ++i) ASSERT_EQ(*spool.Read(i), Message(i));
}

TEST(SpoolTest, WhatIsNotDroppedCanBeReadAgainAndNumbersGoOn) {
  TemporaryDirectory directory;
  Spool spool(directory.path(), 3000);
  for (int64_t i = 1; i <= 10; ++i) ASSERT_TRUE(spool.Append(Message(i)).ok());
  spool.DropTo(5);
  EXPECT_EQ(spool.first(), 6);
  for (int64_t i = 11; i <= 20; ++i) ASSERT_TRUE(spool.Append(Message(i)).ok());
  for (int64_t i = 6; i <= 20; ++i) EXPECT_EQ(*spool.Read(i), Message(i));
  spool.DropTo(100);
  ASSERT_TRUE(spool.Append(Message(21)).ok());
  EXPECT_EQ(spool.last(), 21);
  spool.Clear();
  EXPECT_EQ(spool.first(), 1);
  EXPECT_EQ(spool.last(), 0);
}

TEST(SpoolTest, AMessageThatCannotBeWrittenIsRefusedAndNothingIsLost) {
  Spool spool("/no such directory", 3000);
  ASSERT_TRUE(spool.Append(Message(1)).ok());
  ASSERT_TRUE(spool.Append(Message(2)).ok());
  EXPECT_FALSE(spool.Append(Message(3)).ok());
  EXPECT_EQ(spool.last(), 2);
  spool.DropTo(1);
  EXPECT_TRUE(spool.Append(Message(3)).ok()) << "there is room again";
  EXPECT_EQ(*spool.Read(3), Message(3));
}

}  // namespace
}  // namespace lockstep
