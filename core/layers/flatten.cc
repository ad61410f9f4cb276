#include "core/layers/build.h"

namespace lockstep {
namespace {

// [N, H, W, C] -> [N, H*W*C]: the same memory.
class Flatten final : public Layer {
 public:
  explicit Flatten(int64_t size) : size_(size) {}

  Shape output_shape() const override { return {size_}; }
  LayerTraits traits() const override { return {.is_view = true}; }
  void Forward(const ForwardContext&) const override {}
  void Backward(const BackwardContext&) const override {}
  void Infer(const InferContext&) const override {}

 private:
  const int64_t size_;
};

}  // namespace

LayerOr BuildFlatten(const BuildContext& c, v1::Layer*) {
  return std::make_unique<Flatten>(c.input().size());
}

}  // namespace lockstep
