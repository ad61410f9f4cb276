#include "core/network/row_layers.h"

#include "core/tensor/columns.h"

namespace lockstep {
namespace {

class RowSlice final : public Layer {
 public:
  RowSlice(Shape shape, int64_t begin, int64_t row_size)
      : shape_(std::move(shape)), begin_(begin), row_size_(row_size) {}

  Shape output_shape() const override { return shape_; }

  void Forward(const ForwardContext& c) const override { Copy(c.tile.samples, c.x(), c.y); }
  void Infer(const InferContext& c) const override { Copy(c.samples, c.x(), c.y); }
  // A network's input needs no gradient.
  void Backward(const BackwardContext&) const override {}

 private:
  void Copy(int64_t samples, const float* x, float* y) const {
    CopyColumns(samples, shape_.size(), x + begin_, row_size_, y, shape_.size());
  }

  const Shape shape_;
  const int64_t begin_;
  const int64_t row_size_;
};

class RowJoin final : public Layer {
 public:
  explicit RowJoin(const std::vector<Shape>& inputs) {
    for (const Shape& shape : inputs) {
      sizes_.push_back(shape.size());
      row_size_ += shape.size();
    }
  }

  Shape output_shape() const override { return {row_size_}; }

  void Forward(const ForwardContext& c) const override { Join(c.tile.samples, c.inputs, c.y); }
  void Infer(const InferContext& c) const override { Join(c.samples, c.inputs, c.y); }

  void Backward(const BackwardContext& c) const override {
    const float* dy = c.dy;
    for (size_t i = 0; i < sizes_.size(); ++i) {
      float* dx = c.input_gradients[i];
      if (dx != nullptr) CopyColumns(c.tile.samples, sizes_[i], dy, row_size_, dx, sizes_[i]);
      dy += sizes_[i];
    }
  }

 private:
  void Join(int64_t samples, std::span<const float* const> inputs, float* y) const {
    for (size_t i = 0; i < sizes_.size(); ++i) {
      CopyColumns(samples, sizes_[i], inputs[i], sizes_[i], y, row_size_);
      y += sizes_[i];
    }
  }

  std::vector<int64_t> sizes_;
  int64_t row_size_ = 0;
};

}  // namespace

std::unique_ptr<const Layer> MakeRowSlice(Shape shape, int64_t begin, int64_t row_size) {
  return std::make_unique<RowSlice>(std::move(shape), begin, row_size);
}

std::unique_ptr<const Layer> MakeRowJoin(const std::vector<Shape>& inputs) {
  return std::make_unique<RowJoin>(inputs);
}

}  // namespace lockstep
