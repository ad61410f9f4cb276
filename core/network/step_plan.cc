#include "core/network/step_plan.h"

#include <algorithm>
#include <numeric>

namespace lockstep {
namespace {

constexpr int64_t kFloat = sizeof(float);

// What the calls on a tile of samples may read and write, summed over the calls. Every call that
// touches a value counts it and few values live at once, so that they fit a core's L2 cache, or
// nearly: larger tiles win more by fewer borders of images, a contraction each, than they lose.
constexpr int64_t kTileBytes = 2 << 20;

// The least samples of a tile of rows, which reads the weights once, and the most of any.
constexpr int64_t kLeastRows = 32;
constexpr int64_t kMostSamples = 256;

void Extend(ArenaPiece& piece, int time) {
  piece.first = std::min(piece.first, time);
  piece.last = std::max(piece.last, time);
}

// The plan while it is made.
class Planner {
 public:
  Planner(const Network& network, const Capacity& capacity, StepPlan& plan)
      : network_(network),
        capacity_(capacity),
        plan_(plan),
        nodes_(static_cast<int>(network.nodes().size())),
        forward_phase_(nodes_),
        backward_phase_(nodes_, -1),
        last_backward_phase_(nodes_, -1),
        gather_phase_(nodes_, -1),
        readers_(nodes_ + 1) {}

  void Run() {
    FindReaders();
    ScheduleForward();
    ScheduleBackward();
    SizeTiles();
    PlaceBatch();
    PlaceTiles();
  }

 private:
  const Network::Node& node(int i) const { return network_.nodes()[i]; }
  LayerTraits traits(int i) const { return node(i).layer->traits(); }
  bool IsView(int i) const { return traits(i).is_view; }
  bool Rows(int i) const { return network_.of_rows(i); }
  int64_t SampleBytes(int value) const { return network_.shape(value).size() * kFloat; }
  int Output() const { return plan_.storage[nodes_]; }
  // Nodes whose Backward is called.
  bool RunsBackward(int i) const {
    return !IsView(i) && (node(i).trainable ||
                          std::any_of(node(i).inputs.begin(), node(i).inputs.end(), [&](int v) {
                            return plan_.needs_gradient[plan_.storage[v]];
                          }));
  }

  void FindReaders() {
    plan_.storage.resize(nodes_ + 1);
    plan_.needs_gradient.resize(nodes_ + 1);
    plan_.last_reader.resize(nodes_ + 1, -1);
    plan_.applied_relu.resize(nodes_, -1);
    plan_.reverts_relu.resize(nodes_);
    for (int i = 0; i < nodes_; ++i) {
      plan_.adds_gradient.push_back(traits(i).adds_gradient);
      plan_.storage[i + 1] = IsView(i) ? plan_.storage[node(i).inputs[0]] : i + 1;
      if (IsView(i)) continue;
      plan_.needs_gradient[i + 1] = RunsBackward(i);
      for (int input : node(i).inputs) {
        const int value = plan_.storage[input];
        readers_[value].push_back(i);
        plan_.last_reader[value] = i;
      }
    }
  }

  static Phase& PhaseAt(std::vector<Phase>& phases, int number) {
    if (std::ssize(phases) <= number) phases.resize(number + 1);
    return phases[number];
  }

  // The node that can apply the ReLU that node i is; else -1.
  int AppliesRelu(int i) const {
    const int value = plan_.storage[node(i).inputs[0]];
    const bool applies = traits(i).is_relu && value > 0 && readers_[value].size() == 1 &&
                         traits(value - 1).applies_relu && Rows(i) == Rows(value - 1);
    return applies ? value - 1 : -1;
  }

  // Whether node i is a ReLU of which nobody calls anything.
  bool IsReverted(int i) const {
    if (!traits(i).is_relu) return false;
    const int value = plan_.storage[node(i).inputs[0]];
    return value > 0 && plan_.applied_relu[value - 1] == i && plan_.reverts_relu[value - 1];
  }

  // A node runs in the phase of its inputs unless something must be known of the whole batch first,
  // or it belongs to the other kind of phase.
  void ScheduleForward() {
    for (int i = 0; i < nodes_; ++i) {
      if (IsView(i)) continue;
      if (const int producer = AppliesRelu(i); producer >= 0) {
        plan_.applied_relu[producer] = i;
        plan_.reverts_relu[producer] = traits(producer).reverts_relu;
        forward_phase_[i] = forward_phase_[producer];
        continue;
      }
      const bool synchronizes = traits(i).synchronizes;
      int ready = 0;
      int phase = synchronizes ? 1 : 0;
      for (int input : node(i).inputs) {
        const int value = plan_.storage[input];
        if (value == 0) continue;
        const int producer = value - 1;
        ready = std::max(ready, forward_phase_[producer]);
        const bool apart = synchronizes || Rows(i) != Rows(producer);
        phase = std::max(phase, forward_phase_[producer] + (apart ? 1 : 0));
      }
      forward_phase_[i] = phase;
      if (synchronizes) {
        PhaseAt(plan_.forward, ready).tile_calls.push_back({i, Call::kGatherForward});
        PhaseAt(plan_.forward, phase - 1).batch_calls.push_back({i, Call::kCombineForward});
      }
      PhaseAt(plan_.forward, phase).tile_calls.push_back({i, Call::kForward});
    }
  }

  void ScheduleBackward() {
    for (int i = nodes_ - 1; i >= 0; --i) {
      if (!RunsBackward(i)) continue;
      const LayerTraits traits = this->traits(i);
      int ready = 0;
      int phase = traits.synchronizes ? 1 : 0;
      for (int reader : readers_[i + 1]) {
        ready = std::max(ready, backward_phase_[reader]);
        const bool apart = traits.synchronizes || Rows(i) != Rows(reader);
        phase = std::max(phase, backward_phase_[reader] + (apart ? 1 : 0));
      }
      // A value's readers add to its gradient from the last to the first (core/README.md, rule 7).
      for (int input : node(i).inputs) {
        for (int reader : readers_[plan_.storage[input]]) {
          if (reader > i) phase = std::max(phase, backward_phase_[reader]);
        }
      }
      backward_phase_[i] = phase;
      gather_phase_[i] = ready;
      if (IsReverted(i)) continue;
      if (plan_.reverts_relu[i]) last_backward_phase_[plan_.applied_relu[i]] = phase;
      if (traits.synchronizes) {
        const int spreader = CheapReader(i);
        if (spreader >= 0) {
          PhaseAt(plan_.backward, phase).tile_calls.push_back({spreader, Call::kBackward});
          last_backward_phase_[spreader] = phase;
        }
        PhaseAt(plan_.backward, ready).tile_calls.push_back({i, Call::kGatherBackward});
        PhaseAt(plan_.backward, phase - 1).batch_calls.push_back({i, Call::kCombineBackward});
      }
      for (int input : node(i).inputs) {
        const int producer = CheapProducer(plan_.storage[input]);
        if (producer >= 0) {
          PhaseAt(plan_.backward, phase).tile_calls.push_back({producer, Call::kForwardAgain});
        }
      }
      PhaseAt(plan_.backward, phase).tile_calls.push_back({i, Call::kBackward});
      if (node(i).trainable) {
        PhaseAt(plan_.backward, phase).batch_calls.push_back({i, Call::kFinishBackward});
      }
    }
  }

  // The only reader of a node's output, if its Backward can be called again to save keeping the
  // node's dy from one phase to the next; else -1.
  int CheapReader(int i) const {
    if (readers_[i + 1].size() != 1) return -1;
    const int reader = readers_[i + 1][0];
    const bool cheap =
        traits(reader).cheap_backward && SampleBytes(i + 1) > SampleBytes(reader + 1);
    return cheap ? reader : -1;
  }

  // The node whose Forward can be called again to save keeping the value for its only reader's
  // Backward: the node keeps its x for its own. Else -1.
  int CheapProducer(int v) const {
    if (v == 0 || v == Output() || readers_[v].size() != 1) return -1;
    int producer = v - 1;
    if (IsReverted(producer)) producer = plan_.storage[node(producer).inputs[0]] - 1;
    const int reader = readers_[v][0];
    const bool cheap = plan_.Output(producer) == v && traits(producer).cheap_forward &&
                       RunsBackward(producer) && traits(producer).backward_reads_x &&
                       !traits(producer).backward_reads_y;
    const bool reads_once = RunsBackward(reader) && traits(reader).backward_reads_x &&
                            !traits(reader).finish_reads_dy && !traits(reader).synchronizes;
    return cheap && reads_once && forward_phase_[reader] == forward_phase_[producer] ? producer
                                                                                     : -1;
  }

  void SizeTiles() {
    for (std::vector<Phase>* phases : {&plan_.forward, &plan_.backward}) {
      for (Phase& phase : *phases) {
        int64_t sample_bytes = 1;
        phase.rows = true;
        for (const PlannedCall& call : phase.tile_calls) {
          const Network::Node& n = node(call.node);
          phase.rows &= Rows(call.node);
          sample_bytes += SampleBytes(call.node + 1);
          for (int value : n.inputs) sample_bytes += SampleBytes(value);
          if (call.call == Call::kBackward) {
            phase.chunk_samples = std::max(phase.chunk_samples, n.layer->chunk_samples());
          }
        }
        phase.tile_samples = std::clamp<int64_t>(kTileBytes / sample_bytes,
                                                 phase.rows ? kLeastRows : 1, kMostSamples);
        if (const int64_t chunk = phase.chunk_samples; chunk > 0 && phase.tile_samples > chunk) {
          phase.tile_samples -= phase.tile_samples % chunk;
        }
        phase.tile_samples = std::min(phase.tile_samples, std::max<int64_t>(1, capacity_.samples));
      }
    }
  }

  // Times: forward phases from 0, backward phases after them; the loss comes between.
  int LastBackwardTime(int i) const {
    return BackwardTime(std::max(backward_phase_[i], last_backward_phase_[i]));
  }
  int BackwardTime(int phase) const { return static_cast<int>(plan_.forward.size()) + phase; }

  void PlaceBatch() {
    const int turn = BackwardTime(0);
    const int end = BackwardTime(static_cast<int>(plan_.backward.size()));
    plan_.values.resize(nodes_ + 1);
    plan_.backward_values.resize(nodes_ + 1);
    plan_.gradients.resize(nodes_ + 1);
    std::vector<ArenaPiece*> pieces;
    for (int v = 0; v <= nodes_; ++v) {
      if (plan_.storage[v] != v) continue;
      PlaceValue(v, turn);
      if (plan_.needs_gradient[v]) PlaceGradient(v, turn);
    }
    ShareGradients();
    std::vector<int> replaced;  // values by their gradients
    for (int v = 0; v <= nodes_; ++v) {
      if (plan_.storage[v] != v) continue;
      if (plan_.values[v].kind == Place::Kind::kBatch) pieces.push_back(&plan_.values[v].piece);
      if (gradient_of_[v] == v && plan_.gradients[v].kind == Place::Kind::kBatch) {
        if (ReplacesValue(v)) {
          Extend(plan_.values[v].piece, plan_.gradients[v].piece.last);
          replaced.push_back(v);
        } else {
          pieces.push_back(&plan_.gradients[v].piece);
        }
      }
    }
    for (std::vector<ArenaPiece>* list :
         {&plan_.forward_packed, &plan_.backward_packed, &plan_.saved, &plan_.forward_sums,
          &plan_.backward_sums}) {
      list->resize(nodes_);
    }
    for (int i = 0; i < nodes_; ++i) {
      if (IsView(i)) continue;
      const Layer& layer = *node(i).layer;
      const int before = std::max(0, forward_phase_[i] - 1);
      plan_.forward_packed[i] = {layer.packed_bytes(Pass::kForward), 0, turn - 1};
      // A layer that synchronizes gathers when its input comes, perhaps several phases before.
      plan_.forward_sums[i] = {layer.forward_sums_bytes(capacity_), 0, forward_phase_[i]};
      plan_.saved[i] = {layer.saved_bytes(capacity_), before, forward_phase_[i]};
      if (RunsBackward(i)) {
        const bool computes_gradient =
            std::any_of(node(i).inputs.begin(), node(i).inputs.end(),
                        [&](int v) { return plan_.needs_gradient[plan_.storage[v]]; });
        if (computes_gradient || layer.traits().backward_reads_packed) {
          plan_.backward_packed[i] = {layer.packed_bytes(Pass::kBackward), turn, end};
        }
        plan_.saved[i].last = LastBackwardTime(i);
        plan_.backward_sums[i] = {layer.backward_sums_bytes(capacity_),
                                  BackwardTime(gather_phase_[i]), BackwardTime(backward_phase_[i])};
      }
      for (ArenaPiece* piece : {&plan_.forward_packed[i], &plan_.backward_packed[i],
                                &plan_.saved[i], &plan_.forward_sums[i], &plan_.backward_sums[i]}) {
        if (piece->bytes > 0) pieces.push_back(piece);
      }
    }
    plan_.batch_bytes = PlanArena(pieces);
    for (int v = 0; v <= nodes_; ++v) {
      plan_.backward_values[v] =
          CheapProducer(v) < 0 ? plan_.values[v] : Place{Place::Kind::kTile, {}};
    }
    for (int v : replaced) plan_.gradients[v].piece.offset = plan_.values[v].piece.offset;
  }

  // Whether the gradient of a value, both of the whole batch, takes the value's place: for the one
  // who reads the value last is its only reader, and allows it.
  bool ReplacesValue(int v) const {
    if (plan_.values[v].kind != Place::Kind::kBatch || readers_[v].size() != 1) return false;
    const int producer = v - 1;
    const bool is_read_after = traits(producer).backward_reads_y && !IsReverted(producer);
    return traits(readers_[v][0]).dx_may_be_x && !is_read_after &&
           plan_.values[v].piece.last <= plan_.gradients[v].piece.first;
  }

  void PlaceValue(int v, int turn) {
    if (v > 0 && plan_.applied_relu[v - 1] >= 0) return;
    ArenaPiece piece = {.bytes = capacity_.samples * SampleBytes(v)};
    piece.first = piece.last = v == 0 ? 0 : forward_phase_[v - 1];
    for (int reader : readers_[v]) {
      Extend(piece, forward_phase_[reader]);
      if (RunsBackward(reader) && traits(reader).backward_reads_x && CheapProducer(v) < 0) {
        Extend(piece, BackwardTime(backward_phase_[reader]));
      }
    }
    if (v > 0 && RunsBackward(v - 1) && traits(v - 1).backward_reads_y && !IsReverted(v - 1)) {
      Extend(piece, BackwardTime(backward_phase_[v - 1]));
    }
    if (v == Output()) Extend(piece, turn);
    const bool whole = piece.first < piece.last || v == 0 || v == Output();
    plan_.values[v] = {whole ? Place::Kind::kBatch : Place::Kind::kTile, piece};
  }

  void PlaceGradient(int v, int turn) {
    const int producer = v - 1;
    if (plan_.OutputGradient(producer) != v) return;
    ArenaPiece piece = {.bytes = capacity_.samples * SampleBytes(v)};
    piece.first = piece.last = LastBackwardTime(producer);
    for (int reader : readers_[v]) Extend(piece, BackwardTime(backward_phase_[reader]));
    if (v == Output()) Extend(piece, turn - 1);
    const bool again = traits(producer).synchronizes && CheapReader(producer) >= 0;
    const bool whole =
        (piece.first < piece.last && !again) || v == Output() || traits(producer).finish_reads_dy;
    plan_.gradients[v] = {whole ? Place::Kind::kBatch : Place::Kind::kTile, piece};
  }

  // Lets the inputs of a layer that passes its gradient on share the place of its own: those that
  // take it as it is, and at most one that others add to, or whose layer changes it, later.
  void ShareGradients() {
    gradient_of_.resize(nodes_ + 1);
    std::iota(gradient_of_.begin(), gradient_of_.end(), 0);
    for (int i = nodes_ - 1; i >= 0; --i) {
      const int own = i + 1;
      if (IsView(i) || !RunsBackward(i) || !traits(i).passes_gradient) continue;
      if (gradient_of_[own] != own) continue;
      std::vector<int> shared;
      int last_read = 0;
      int changing = 0;  // the input that is changed later, and when
      int changed = BackwardTime(static_cast<int>(plan_.backward.size()));
      for (int input : node(i).inputs) {
        const int v = plan_.storage[input];
        if (!plan_.needs_gradient[v] || plan_.last_reader[v] != i) continue;
        const bool overwritten = traits(v - 1).overwrites_dy;
        if (readers_[v].size() == 1 && !overwritten) {
          last_read = std::max(last_read, LastBackwardTime(v - 1));
          shared.push_back(v);
        } else if (changing == 0) {
          changing = v;
          if (overwritten) changed = BackwardTime(backward_phase_[v - 1]);
          for (int reader : readers_[v]) {
            if (reader != i) changed = std::min(changed, BackwardTime(backward_phase_[reader]));
          }
        }
      }
      if (changing > 0 && last_read < changed) shared.push_back(changing);
      Place& place = plan_.gradients[own];
      for (int v : shared) {
        const Place& other = plan_.gradients[v];
        Extend(place.piece, other.piece.first);
        Extend(place.piece, other.piece.last);
        if (other.kind == Place::Kind::kBatch || place.piece.first < place.piece.last) {
          place.kind = Place::Kind::kBatch;
        }
        gradient_of_[v] = own;
      }
    }
  }

  // What lives for one tile; times are the numbers of calls, counted over all phases.
  void PlaceTiles() {
    int64_t scratch = 0;
    std::vector<ArenaPiece*> pieces;
    int time = 0;
    const auto use = [&](Place& place, int64_t bytes) {
      if (place.kind != Place::Kind::kTile) return;
      if (std::find(pieces.begin(), pieces.end(), &place.piece) == pieces.end()) {
        place.piece = {.bytes = 0, .first = time, .last = time};
        pieces.push_back(&place.piece);
      }
      place.piece.bytes = std::max(place.piece.bytes, bytes);
      Extend(place.piece, time);
    };
    for (std::vector<Phase>* phases : {&plan_.forward, &plan_.backward}) {
      for (const Phase& phase : *phases) {
        for (const PlannedCall& call : phase.tile_calls) {
          const Network::Node& n = node(call.node);
          const bool backward = call.call >= Call::kGatherBackward;
          int64_t added = 0;
          for (size_t k = 0; k <= n.inputs.size(); ++k) {
            const int own = backward ? plan_.OutputGradient(call.node) : plan_.Output(call.node);
            const int v = k == 0 ? own : plan_.storage[n.inputs[k - 1]];
            const int64_t bytes = phase.tile_samples * SampleBytes(v);
            const bool adds = k > 0 && backward && plan_.Adds(call.node, v);
            if (adds && !plan_.adds_gradient[call.node]) added += RoundUp(bytes);
            const bool again = CheapProducer(v) >= 0;
            if (call.call == Call::kForwardAgain) {
              if (again) use(plan_.backward_values[v], bytes);
            } else if (backward) {
              use(plan_.gradients[gradient_of_[v]], bytes);
              if (again && k > 0) use(plan_.backward_values[v], bytes);
            } else {
              use(plan_.values[v], bytes);
            }
          }
          scratch = std::max(scratch, added + n.layer->scratch_bytes(phase.tile_samples));
          ++time;
        }
      }
    }
    plan_.scratch_offset = PlanArena(pieces);
    plan_.thread_bytes = plan_.scratch_offset + RoundUp(scratch);
    for (int v = 0; v <= nodes_; ++v) plan_.gradients[v] = plan_.gradients[gradient_of_[v]];
  }

  static int64_t RoundUp(int64_t bytes) { return (bytes + 63) / 64 * 64; }

  const Network& network_;
  const Capacity& capacity_;
  StepPlan& plan_;
  const int nodes_;
  // By node: the phases of its Forward, of its Backward (-1: none), of a second call of that (-1),
  // and of its GatherBackward.
  std::vector<int> forward_phase_;
  std::vector<int> backward_phase_;
  std::vector<int> last_backward_phase_;
  std::vector<int> gather_phase_;
  // By value that is not a view: nodes, ascending.
  std::vector<std::vector<int>> readers_;
  // By value: the one whose gradient's place its own shares, or itself.
  std::vector<int> gradient_of_;
};

}  // namespace

StepPlan::StepPlan(const Network& network, const Capacity& capacity) {
  Planner(network, capacity, *this).Run();
}

}  // namespace lockstep
