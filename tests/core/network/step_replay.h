#ifndef LOCKSTEP_TESTS_CORE_NETWORK_STEP_REPLAY_H_
#define LOCKSTEP_TESTS_CORE_NETWORK_STEP_REPLAY_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "core/network/step_plan.h"

namespace lockstep {

// Walks through a StepPlan with memory in which every word holds the number of what was written
// there last instead of its value. Each call reads and writes what core/layers/layer.h says; a read
// finds out whether what it wants is still there, or was ever written. So lifetimes follow from the
// calls alone, and whatever the planner gets wrong shows as a read of something else.
//
// Tiles have one sample in shared memory and the planned number in their thread's.
class StepReplay {
 public:
  // Of the tiles of a phase: one after the other, or all of them at once, call by call, as on a
  // thread each.
  enum class Tiles { kOneByOne, kAtOnce };

  StepReplay(const Network& network, const Capacity& capacity, const StepPlan& plan, Tiles tiles)
      : network_(network),
        plan_(plan),
        tiles_(tiles),
        nodes_(static_cast<int>(network.nodes().size())),
        samples_(capacity.samples),
        arena_(plan.batch_bytes / kWord),
        values_(nodes_ + 1, std::vector<int>(samples_)),
        gradients_(values_),
        summands_(nodes_ + 1, std::vector<std::vector<int>>(samples_)) {
    FindStorage();
  }

  void Run() {
    CheckCalls();
    for (const ArenaPiece& piece : plan_.forward_packed) Store(piece);
    for (const Phase& phase : plan_.forward) RunPhase(phase, &phase == &plan_.forward.front());

    // The loss.
    const int output = storage_[nodes_];
    const auto write = [&](int64_t n) {
      Write(plan_.gradients[output], output, n, gradients_[output][n]);
    };
    for (int64_t n = 0; n < samples_; ++n) write(n);
    for (int64_t n = 0; n < samples_; ++n) {
      Read(plan_.values[output], output, n, values_[output][n], "the loss reads the output");
    }

    for (const ArenaPiece& piece : plan_.backward_packed) Store(piece);
    for (const Phase& phase : plan_.backward) RunPhase(phase, false);
  }

 private:
  static constexpr int64_t kWord = sizeof(float);

  const Network::Node& node(int i) const { return network_.nodes()[i]; }
  LayerTraits traits(int i) const { return node(i).layer->traits(); }
  int64_t SampleWords(int value) const { return network_.shape(value).size(); }

  // What the plan must agree with, from the network alone.
  void FindStorage() {
    std::vector<bool> trainable(nodes_ + 1);
    for (int v = 0; v <= nodes_; ++v) {
      storage_.push_back(v > 0 && traits(v - 1).is_view ? storage_[node(v - 1).inputs[0]] : v);
      readers_.emplace_back();
      if (v == 0) continue;
      trainable[v] = node(v - 1).trainable;
      for (int input : node(v - 1).inputs) {
        trainable[v] = trainable[v] || trainable[input];
        if (storage_[v] == v) readers_[storage_[input]].push_back(v - 1);
      }
    }
    needs_gradient_ = trainable;
  }

  bool RunsBackward(int i) const { return storage_[i + 1] == i + 1 && needs_gradient_[i + 1]; }

  // Whether node i is a ReLU that the node before it applies, which must be allowed to.
  bool IsApplied(int i) const {
    const int v = storage_[node(i).inputs[0]];
    if (v == 0 || plan_.applied_relu[v - 1] != i) return false;
    EXPECT_TRUE(traits(i).is_relu && traits(v - 1).applies_relu) << node(i).name;
    EXPECT_FALSE(traits(v - 1).backward_reads_y) << node(i).name;
    EXPECT_EQ(readers_[v], std::vector<int>{i}) << node(i).name;
    return true;
  }

  // Whether that node takes the gradient through it, too.
  bool IsReverted(int i) const {
    const int v = storage_[node(i).inputs[0]];
    if (!IsApplied(i) || !plan_.reverts_relu[v - 1]) return false;
    EXPECT_TRUE(traits(v - 1).reverts_relu) << node(i).name;
    return true;
  }

  // Every call of every layer exactly once, but that a layer which only spreads out its gradient
  // may do so a second time.
  void CheckCalls() const {
    std::map<std::pair<int, Call>, int> calls;
    for (const std::vector<Phase>* phases : {&plan_.forward, &plan_.backward}) {
      for (const Phase& phase : *phases) {
        for (const PlannedCall& call : phase.tile_calls) {
          ++calls[{call.node, call.call}];
          const int64_t chunk = node(call.node).layer->chunk_samples();
          if (call.call == Call::kBackward && chunk > 0) {
            EXPECT_EQ(phase.chunk_samples % chunk, 0) << Name(call);
          }
        }
        for (const PlannedCall& call : phase.batch_calls) ++calls[{call.node, call.call}];
      }
    }
    for (int i = 0; i < nodes_; ++i) {
      const bool called = storage_[i + 1] == i + 1;
      const bool synchronizes = called && traits(i).synchronizes;
      const bool backward = RunsBackward(i);
      const auto expect = [&](Call call, bool once) {
        int& count = calls[{i, call}];
        if (call == Call::kBackward && once && traits(i).cheap_backward) count = std::min(count, 1);
        EXPECT_EQ(count, once ? 1 : 0) << Name({i, call});
      };
      expect(Call::kGatherForward, synchronizes);
      expect(Call::kCombineForward, synchronizes);
      expect(Call::kForward, called && !IsApplied(i));
      if (!traits(i).cheap_forward) expect(Call::kForwardAgain, false);
      EXPECT_LE(calls[std::pair(i, Call::kForwardAgain)], 1) << node(i).name;
      expect(Call::kGatherBackward, synchronizes && backward);
      expect(Call::kCombineBackward, synchronizes && backward);
      expect(Call::kBackward, backward && !IsReverted(i));
      expect(Call::kFinishBackward, backward && node(i).trainable);
    }
  }

  // `loads`: each tile begins with the network's input.
  void RunPhase(const Phase& phase, bool loads) {
    tile_samples_ = phase.tile_samples;
    // Nothing in a thread's memory outlives a phase.
    threads_.assign(samples_, std::vector<int>(plan_.scratch_offset / kWord));
    const int64_t steps = std::ssize(phase.tile_calls) + (loads ? 1 : 0);
    for (int64_t i = 0; i < samples_ * steps; ++i) {
      const bool one_by_one = tiles_ == Tiles::kOneByOne;
      const int64_t n = one_by_one ? i / steps : i % samples_;
      const int64_t call = (one_by_one ? i % steps : i / samples_) - (loads ? 1 : 0);
      if (call < 0) {
        Write(plan_.values[0], 0, n, values_[0][n]);
      } else {
        RunCall(phase.tile_calls[call], n, n + 1);
      }
    }
    for (const PlannedCall& call : phase.batch_calls) RunCall(call, 0, samples_);
  }

  // On the samples [begin, end).
  void RunCall(const PlannedCall& call, int64_t begin, int64_t end) {
    const std::string name = Name(call);
    const int i = call.node;
    const LayerTraits traits = this->traits(i);
    const bool of_rows = node(i).output.positions() == 1;
    switch (call.call) {
      case Call::kGatherForward:
        ReadInputs(i, begin, end, name);
        Continue(plan_.forward_sums[i], name);
        return;
      case Call::kCombineForward:
        ReadInputs(i, begin, end, name);
        Load(plan_.forward_sums[i], name);
        Store(plan_.saved[i]);
        return;
      case Call::kForward:
      case Call::kForwardAgain:
        ReadInputs(i, begin, end, name);
        Load(plan_.forward_packed[i], name);
        traits.synchronizes ? Load(plan_.saved[i], name) : Continue(plan_.saved[i], name);
        for (int64_t n = begin; n < end; ++n) {
          const int y = plan_.Output(i);
          const bool again = call.call == Call::kForwardAgain;
          Write((again ? plan_.backward_values : plan_.values)[y], y, n, values_[y][n]);
        }
        CheckScratch(call);
        return;
      case Call::kGatherBackward:
        ReadForBackward(i, begin, end, name);
        Load(plan_.saved[i], name);
        Continue(plan_.backward_sums[i], name);
        return;
      case Call::kCombineBackward:
        // The sums of single rows are made here, those of images when they were gathered.
        if (of_rows) ReadForBackward(i, begin, end, name);
        Load(plan_.saved[i], name);
        Load(plan_.backward_sums[i], name);
        Store(plan_.saved[i]);
        return;
      case Call::kBackward:
        ReadForBackward(i, begin, end, name);
        Load(plan_.saved[i], name);
        if (!traits.synchronizes) Continue(plan_.backward_sums[i], name);
        for (int64_t n = begin; n < end; ++n) RunBackward(i, n, name);
        CheckScratch(call);
        return;
      case Call::kFinishBackward:
        if (traits.finish_reads_dy) ReadForBackward(i, begin, end, name);
        Load(plan_.saved[i], name);
        if (!traits.synchronizes) Load(plan_.backward_sums[i], name);
        return;
    }
  }

  void RunBackward(int i, int64_t n, const std::string& name) {
    const LayerTraits traits = this->traits(i);
    const int output = plan_.OutputGradient(i);
    const Place& own = plan_.gradients[output];
    const int dy = gradients_[output][n];
    bool computes = false;
    for (int input : node(i).inputs) {
      const int v = storage_[input];
      if (!needs_gradient_[v]) {
        EXPECT_EQ(plan_.gradients[v].kind, Place::Kind::kNowhere) << name;
        continue;
      }
      computes = true;
      const Place& place = plan_.gradients[v];
      std::vector<int>& summands = summands_[v][n];
      const bool stores = i == readers_[v].back();
      if (stores) {
        summands = {i};
      } else {
        Read(place, v, n, gradients_[v][n], name + " adds to a gradient");
        summands.push_back(i);
      }
      const bool in_place = place.kind == own.kind && place.piece.offset == own.piece.offset;
      if (stores && traits.passes_gradient && in_place) {
        gradients_[v][n] = dy;  // is there already
        continue;
      }
      EXPECT_FALSE(in_place) << name << " writes its input's gradient over its own";
      const Place& x = plan_.values[v];
      if (place.kind == Place::Kind::kBatch && x.kind == Place::Kind::kBatch &&
          place.piece.offset == x.piece.offset && traits.backward_reads_x) {
        EXPECT_TRUE(traits.dx_may_be_x) << name << " writes its input's gradient over its input";
      }
      Write(place, v, n, gradients_[v][n]);
    }
    if (computes) Load(plan_.backward_packed[i], name);
    if (traits.overwrites_dy) Write(own, output, n, gradients_[output][n]);
  }

  void ReadInputs(int i, int64_t begin, int64_t end, const std::string& name) {
    for (int input : node(i).inputs) {
      const int v = storage_[input];
      for (int64_t n = begin; n < end; ++n) {
        Read(plan_.values[v], v, n, values_[v][n], name + " reads value " + std::to_string(v));
      }
    }
  }

  // The layer's dy, whole, and what it reads again.
  void ReadForBackward(int i, int64_t begin, int64_t end, const std::string& name) {
    const LayerTraits traits = this->traits(i);
    const int x = storage_[node(i).inputs[0]];
    const int dy = plan_.OutputGradient(i);
    const std::vector<int> descending(readers_[dy].rbegin(), readers_[dy].rend());
    for (int64_t n = begin; n < end; ++n) {
      EXPECT_EQ(summands_[dy][n], descending) << name << ": its gradient is not the whole sum";
      Read(plan_.gradients[dy], dy, n, gradients_[dy][n], name + " reads dy");
      if (traits.backward_reads_x) {
        Read(plan_.backward_values[x], x, n, values_[x][n], name + " reads x");
      }
      if (traits.backward_reads_y) {
        Read(plan_.backward_values[i + 1], i + 1, n, values_[i + 1][n], name + " reads y");
      }
    }
  }

  // Scratch memory after the gradients that are to be added.
  void CheckScratch(const PlannedCall& call) const {
    int64_t bytes = node(call.node).layer->scratch_bytes(tile_samples_);
    if (call.call == Call::kBackward && !traits(call.node).adds_gradient) {
      for (int input : node(call.node).inputs) {
        const int v = storage_[input];
        if (!needs_gradient_[v] || readers_[v].back() == call.node) continue;
        bytes += (tile_samples_ * SampleWords(v) * kWord + 63) / 64 * 64;
      }
    }
    EXPECT_LE(plan_.scratch_offset + bytes, plan_.thread_bytes) << Name(call);
  }

  // Memory of a sample's value or gradient.
  std::span<int> At(const Place& place, int value, int64_t sample) {
    const int64_t first = place.piece.offset / kWord;
    const int64_t words = SampleWords(value);
    const bool whole = place.kind == Place::Kind::kBatch;
    std::vector<int>& memory = whole ? arena_ : threads_[sample];
    const int64_t begin = whole ? first + sample * words : first;
    const int64_t size = whole ? words : tile_samples_ * words;
    if (place.kind == Place::Kind::kNowhere || begin + size > std::ssize(memory)) {
      ADD_FAILURE() << "no memory for value or gradient " << value;
      return {};
    }
    return {memory.data() + begin, static_cast<size_t>(size)};
  }

  void Write(const Place& place, int value, int64_t sample, int& content) {
    content = ++last_content_;
    std::ranges::fill(At(place, value, sample), content);
  }

  void Read(const Place& place, int value, int64_t sample, int content, const std::string& who) {
    const std::span<int> memory = At(place, value, sample);
    const bool there =
        content != 0 && std::ranges::all_of(memory, [&](int word) { return word == content; });
    EXPECT_TRUE(there) << who << ", but it is not there: sample " << sample;
  }

  // Memory of a layer as a whole: Store begins it, Continue goes on with what is there if the same
  // memory was begun before, Load wants it as it was left.
  void Store(const ArenaPiece& piece) {
    const int content = begun_[&piece] = ++last_content_;
    std::ranges::fill(Bytes(piece), content);
  }
  void Load(const ArenaPiece& piece, const std::string& who) {
    const int content = begun_[&piece];
    const bool there = content != 0 &&
                       std::ranges::all_of(Bytes(piece), [&](int word) { return word == content; });
    EXPECT_TRUE(piece.bytes == 0 || there) << who << " needs its own memory, but it is not there";
  }
  void Continue(const ArenaPiece& piece, const std::string& who) {
    begun_[&piece] == 0 ? Store(piece) : Load(piece, who);
  }
  std::span<int> Bytes(const ArenaPiece& piece) {
    const int64_t words = (piece.bytes + kWord - 1) / kWord;
    if (piece.offset / kWord + words > std::ssize(arena_)) {
      ADD_FAILURE() << "a layer's memory ends beyond the arena";
      return {};
    }
    return {arena_.data() + piece.offset / kWord, static_cast<size_t>(words)};
  }

  std::string Name(const PlannedCall& call) const {
    static constexpr const char* kCalls[] = {"GatherForward", "CombineForward", "Forward",
                                             "ForwardAgain",  "GatherBackward", "CombineBackward",
                                             "Backward",      "FinishBackward"};
    return node(call.node).name + "." + kCalls[static_cast<int>(call.call)];
  }

  const Network& network_;
  const StepPlan& plan_;
  const Tiles tiles_;
  const int nodes_;
  const int64_t samples_;
  std::vector<int> storage_;
  std::vector<std::vector<int>> readers_;
  std::vector<bool> needs_gradient_;
  int64_t tile_samples_ = 0;
  // The numbers in memory; 0: nothing. Threads by sample.
  std::vector<int> arena_;
  std::vector<std::vector<int>> threads_;
  int last_content_ = 0;
  // By value and sample: what must be found there; the readers that have added to its gradient.
  std::vector<std::vector<int>> values_;
  std::vector<std::vector<int>> gradients_;
  std::vector<std::vector<std::vector<int>>> summands_;
  std::map<const ArenaPiece*, int> begun_;
};

}  // namespace lockstep

#endif  // LOCKSTEP_TESTS_CORE_NETWORK_STEP_REPLAY_H_
