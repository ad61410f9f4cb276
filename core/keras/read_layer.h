#ifndef LOCKSTEP_CORE_KERAS_READ_LAYER_H_
#define LOCKSTEP_CORE_KERAS_READ_LAYER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "core/keras/object_reader.h"
#include "lockstep/v1/model.pb.h"

namespace lockstep {

// One entry of a model's list of layers.
struct KerasLayer {
  std::string path;
  bool is_input = false;
  v1::Layer spec;                    // of an input only the name
  std::vector<int64_t> input_shape;  // of a sample, if the layer says so
  std::vector<std::string> sources;  // the layers that it reads, of Functional models
};

// A member of a model's "layers".
KerasLayer ReadLayer(KerasConversion& conversion, const std::string& path, const JsonValue& value);

// The names of the layers that tensors come from, appended to `sources`: "__keras_tensor__" objects
// of Keras 3, ["name", node, tensor, {arguments}] before it, in whatever lists.
void ReadSources(KerasConversion& conversion, const std::string& path, const JsonValue& value,
                 std::vector<std::string>& sources);

// What models and layers have in common. A policy's name, or the word itself, has to be "float32".
void CheckDType(ObjectReader& config);
// Refuses what is not Keras' own layer or model: a registered object, one of another module, a
// function on tensors (but + and *).
void CheckOrigin(ObjectReader& object, const std::string& class_name);
// A shape with the batch, [null, 28, 28, 1], without it; empty if there is none.
std::vector<int64_t> ReadInputShape(ObjectReader& config, absl::string_view member);

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_KERAS_READ_LAYER_H_
