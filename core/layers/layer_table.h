#ifndef LOCKSTEP_CORE_LAYERS_LAYER_TABLE_H_
#define LOCKSTEP_CORE_LAYERS_LAYER_TABLE_H_

#include <span>

#include "absl/strings/string_view.h"
#include "core/layers/build.h"

namespace lockstep {

struct LayerKind {
  v1::Layer::KindCase kind;
  absl::string_view name;  // the field's name in model.proto, and the stem of default layer names
  LayerOr (*build)(const BuildContext&, v1::Layer*);
  bool merges = false;  // takes two or more inputs; all others take one
};

// Every kind of layer there is.
std::span<const LayerKind> LayerKinds();

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_LAYERS_LAYER_TABLE_H_
