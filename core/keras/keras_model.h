#ifndef LOCKSTEP_CORE_KERAS_KERAS_MODEL_H_
#define LOCKSTEP_CORE_KERAS_KERAS_MODEL_H_

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "lockstep/v1/model.pb.h"

namespace lockstep {

// The longest Keras JSON that is read. It leaves room for the rest of a job in a gRPC message of
// 4 MiB; a ResNet-152 has half a megabyte.
inline constexpr size_t kMaxKerasJsonBytes = 3 << 20;

// The model that Keras' to_json() describes: Keras 3, tf_keras, or Keras 2 before that; Sequential
// or Functional. INVALID_ARGUMENT with the member's path in the JSON,
// "config.layers[3].config.kernel_constraint: ...", for whatever cannot be honoured; members that
// this reader does not know may be null, false or have their default. What says how Keras would
// train (compile_config) is not looked at.
//
// Layers keep their names. The spec's defaults are not filled in, and its numbers are not checked:
// that is Network::Build's part. `path` is that of the JSON itself, put before its members'.
absl::StatusOr<v1::ModelSpec> ModelFromKeras(std::string_view json, const std::string& path = "");

// A checked spec (its defaults filled in) as Keras 3's JSON, always a Functional model, for
// keras.models.model_from_json. It predicts what our network predicts once it has its weights. What
// Keras has no word for, and predictions do not depend on, is left out: BatchNormalization's
// convention, cumulative_average and group_shards. An input's scale and offset become a Rescaling
// layer, explicit padding a ZeroPadding layer; a slash in a name becomes an underscore.
// INVALID_ARGUMENT with the field's path for what Keras cannot say.
absl::StatusOr<std::string> ModelToKeras(const v1::ModelSpec& spec);

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_KERAS_KERAS_MODEL_H_
