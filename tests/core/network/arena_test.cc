// Pieces of an arena: none in another's memory while both are in use, and little memory wasted.

#include "core/network/arena.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

namespace lockstep {
namespace {

int64_t Plan(std::vector<ArenaPiece>& pieces) {
  std::vector<ArenaPiece*> pointers;
  for (ArenaPiece& piece : pieces) pointers.push_back(&piece);
  return PlanArena(pointers);
}

int64_t Rounded(const ArenaPiece& piece) { return (piece.bytes + 63) / 64 * 64; }

TEST(PlanArena, KeepsPiecesApartThatAreInUseAtOnce) {
  std::mt19937 random(3);
  for (int round = 0; round < 500; ++round) {
    SCOPED_TRACE(round);
    const int times = 1 + static_cast<int>(random() % 12);
    std::vector<ArenaPiece> pieces(random() % 40);
    for (ArenaPiece& piece : pieces) {
      piece.bytes = static_cast<int64_t>(1 + random() % 1000);
      piece.first = static_cast<int>(random() % times);
      piece.last = piece.first + static_cast<int>(random() % (times - piece.first));
    }
    const int64_t total = Plan(pieces);

    int64_t sum = 0;
    int64_t most_at_once = 0;
    for (int time = 0; time < times; ++time) {
      int64_t now = 0;
      for (const ArenaPiece& piece : pieces) {
        if (piece.first <= time && time <= piece.last) now += Rounded(piece);
      }
      most_at_once = std::max(most_at_once, now);
    }
    for (const ArenaPiece& a : pieces) {
      sum += Rounded(a);
      EXPECT_EQ(a.offset % 64, 0);
      EXPECT_LE(a.offset + a.bytes, total);
      for (const ArenaPiece& b : pieces) {
        if (&a == &b || a.last < b.first || b.last < a.first) continue;
        EXPECT_TRUE(a.offset + a.bytes <= b.offset || b.offset + b.bytes <= a.offset);
      }
    }
    EXPECT_LE(total, sum);
    EXPECT_GE(total, most_at_once);
    EXPECT_LE(total, 2 * most_at_once) << "twice what is in use at any one time";
  }
}

TEST(PlanArena, ReusesMemoryOfWhatIsOver) {
  std::vector<ArenaPiece> pieces = {{100, 0, 1}, {100, 2, 3}, {64, 4, 4}};
  EXPECT_EQ(Plan(pieces), 128);
  for (const ArenaPiece& piece : pieces) EXPECT_EQ(piece.offset, 0);
}

TEST(PlanArena, NeedsNothingForNothing) {
  std::vector<ArenaPiece> pieces;
  EXPECT_EQ(Plan(pieces), 0);
}

}  // namespace
}  // namespace lockstep
