#ifndef LOCKSTEP_CORE_LAYERS_POOLING_H_
#define LOCKSTEP_CORE_LAYERS_POOLING_H_

#include <string>

#include "core/layers/build.h"

// What the pooling layers' specs have in common. A sequence [N, L, C] is an image of height 1.
namespace lockstep {

struct Pooling {
  kernels::PoolGeometry geometry;
  Shape output;
};

// Read from pool_size, strides and padding, filling in their defaults.
absl::StatusOr<Pooling> CheckImagePooling(const BuildContext& c,
                                          google::protobuf::RepeatedField<int64_t>* pool_size,
                                          google::protobuf::RepeatedField<int64_t>* strides,
                                          std::string* padding);
template <typename Spec>
absl::StatusOr<Pooling> CheckPooling2D(const BuildContext& c, Spec* spec) {
  return CheckImagePooling(c, spec->mutable_pool_size(), spec->mutable_strides(),
                           spec->mutable_padding());
}
absl::StatusOr<Pooling> CheckSequencePooling(const BuildContext& c, int64_t pool_size,
                                             int64_t strides, std::string* padding);
template <typename Spec>
absl::StatusOr<Pooling> CheckPooling1D(const BuildContext& c, Spec* spec) {
  if (!spec->has_pool_size()) spec->set_pool_size(2);
  if (!spec->has_strides()) spec->set_strides(spec->pool_size());
  return CheckSequencePooling(c, spec->pool_size(), spec->strides(), spec->mutable_padding());
}

// [C], or with keepdims as many dimensions as the input has.
Shape GlobalPoolingShape(const Shape& input, bool keepdims);

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_LAYERS_POOLING_H_
