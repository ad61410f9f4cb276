#ifndef LOCKSTEP_CORE_NETWORK_NETWORK_H_
#define LOCKSTEP_CORE_NETWORK_NETWORK_H_

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/layers/layer.h"
#include "lockstep/v1/model.pb.h"

namespace lockstep {

// A tensor of the network in the flat vector of parameters or of buffers.
struct NetworkTensor {
  std::string name;  // "conv2d.kernel"
  TensorSpec spec;
  bool trainable;  // of a parameter: false when its layer is frozen
  int64_t offset;  // in floats; a multiple of 16
  int64_t size;
};

// One of the network's inputs: columns [begin, begin + shape.size()) of a sample's row. What enters
// is value * scale + offset.
struct NetworkInput {
  std::string name;
  Shape shape;
  float scale = 1.0f;
  float offset = 0.0f;
  int64_t begin = 0;
};

// One of its outputs, likewise: of node `node`, whose layer's name it has.
struct NetworkOutput {
  std::string name;
  Shape shape;
  int node = 0;
  int64_t begin = 0;
};

// Values [begin, end) of a flat vector.
struct FlatRange {
  int64_t begin;
  int64_t end;
};

// A graph of layers with everything that follows from their specs: shapes, and where each tensor
// lies. Nodes come after the nodes that they read; the last one's output is the network's, and
// every other is read by some node. A sample's inputs lie one after another in one row, and so do
// its outputs: where there are several, nodes at the edges take the row apart and put it together
// (row_layers.h). Immutable after Build and free of weights, so one network
// serves any number of threads.
//
// All parameters form one flat vector and all buffers another; optimizer, reduction, hash and
// checkpoints are loops over them. Tensors start at multiples of 16 floats; the gaps stay zero.
class Network {
 public:
  static constexpr size_t kMaxInputs = 16;  // of a layer
  struct Node {
    std::string name;
    std::string path;  // of its spec, for messages: "model.layers[3].conv2d"; empty at the edges
    std::unique_ptr<const Layer> layer;
    // Values that it reads: 0 is the row of the network's inputs, i + 1 the output of node i.
    std::vector<int> inputs;
    Shape output;
    bool trainable;  // has parameters, and they learn
    int first_parameter;
    int parameter_count;
    int first_buffer;
    int buffer_count;
  };

  // Checks the spec and fills in its defaults. INVALID_ARGUMENT with the field's path, starting at
  // "model.". Allocates nothing that grows with the spec's numbers.
  static absl::StatusOr<Network> Build(v1::ModelSpec* spec);

  std::span<const NetworkInput> inputs() const { return inputs_; }
  std::span<const NetworkOutput> outputs() const { return outputs_; }
  // Flags by output, as flags by node.
  std::vector<bool> AtOutputs(const std::vector<bool>& flags) const;
  // Of the rows of all inputs and of all outputs; of a single one its own shape.
  const Shape& input() const { return input_; }
  const Shape& output() const { return nodes_.back().output; }
  std::span<const Node> nodes() const { return nodes_; }
  // Of a value, numbered as in Node::inputs.
  const Shape& shape(int value) const { return value == 0 ? input_ : nodes_[value - 1].output; }
  // Node i reads and writes single rows rather than images.
  bool of_rows(int i) const;
  std::span<const NetworkTensor> parameters() const { return parameters_; }
  std::span<const NetworkTensor> buffers() const { return buffers_; }
  // Floats of the flat vectors.
  int64_t parameters_size() const { return parameters_size_; }
  int64_t buffers_size() const { return buffers_size_; }

  // Scales a sample's row of inputs: x[i] = raw[i] * scale + offset. In place if raw is x.
  void ScaleInputs(const kernels::KernelTable& kernels, int64_t samples, const float* raw,
                   float* x) const;

  // Where the parameters that learn lie: as few ranges as possible, ascending.
  std::vector<FlatRange> trainable_ranges() const;

  // Fills both vectors with their initial values.
  void Initialize(uint64_t seed, std::span<float> parameters, std::span<float> buffers) const;

 private:
  absl::Status AddInputs(std::map<std::string, int>* values);
  absl::Status AddOutputs(int first, v1::ModelSpec* spec);

  std::vector<NetworkInput> inputs_;
  std::vector<NetworkOutput> outputs_;
  Shape input_;
  std::vector<Node> nodes_;
  std::vector<NetworkTensor> parameters_;
  std::vector<NetworkTensor> buffers_;
  int64_t parameters_size_ = 0;
  int64_t buffers_size_ = 0;
};

// Pointers to each tensor of a flat vector, in the order of `tensors`.
template <typename T>
std::vector<T*> TensorPointers(std::span<const NetworkTensor> tensors, T* flat) {
  std::vector<T*> pointers;
  for (const NetworkTensor& tensor : tensors) pointers.push_back(flat + tensor.offset);
  return pointers;
}

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_NETWORK_NETWORK_H_
