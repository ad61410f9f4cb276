#ifndef LOCKSTEP_CORE_KERAS_LAYER_CLASSES_H_
#define LOCKSTEP_CORE_KERAS_LAYER_CLASSES_H_

#include <span>

#include "core/keras/object_reader.h"
#include "lockstep/v1/model.pb.h"

namespace lockstep {

// A layer class of Keras: what it is here, and how its config differs from our message's fields,
// if it does.
struct LayerClass {
  absl::string_view name;             // "Conv2D"
  absl::string_view field;            // of v1::Layer: "conv2d"
  absl::string_view activation = {};  // of a class that is an Activation: "relu"
  // What ReadFields, before it, cannot do.
  void (*read)(ObjectReader& config, v1::Layer& layer) = nullptr;
};

// Every class there is. Where several stand for one kind of layer, the first is the one to write.
std::span<const LayerClass> LayerClasses();

// Fills in the layer's kind from the config of such a layer. The caller has taken what all layers
// have.
void ReadKind(const LayerClass& layer_class, ObjectReader& config, v1::Layer& layer);

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_KERAS_LAYER_CLASSES_H_
