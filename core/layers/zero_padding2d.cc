#include <algorithm>

#include "core/layers/build.h"

namespace lockstep {
namespace {

constexpr int64_t kMaxPadding = 1 << 16;  // bounds the output's size before it is checked

// Rows and columns of zeros around an image.
class ZeroPadding2D final : public Layer {
 public:
  ZeroPadding2D(const Shape& in, int64_t top, int64_t bottom, int64_t left, int64_t right)
      : height_(in[0]),
        line_(in[1] * in[2]),
        before_(left * in[2]),
        out_line_((left + in[1] + right) * in[2]),
        top_(top),
        output_{top + in[0] + bottom, left + in[1] + right, in[2]} {}

  Shape output_shape() const override { return output_; }

  void Forward(const ForwardContext& c) const override { Pad(c.tile.samples, c.x(), c.y); }

  void Infer(const InferContext& c) const override { Pad(c.samples, c.x(), c.y); }

  void Backward(const BackwardContext& c) const override {
    if (c.dx() == nullptr) return;
    ForLines(c.tile.samples,
             [&](int64_t in, int64_t out) { std::copy_n(c.dy + out, line_, c.dx() + in); });
  }

 private:
  void Pad(int64_t samples, const float* x, float* y) const {
    std::fill_n(y, samples * output_.size(), 0.0f);
    ForLines(samples, [&](int64_t in, int64_t out) { std::copy_n(x + in, line_, y + out); });
  }

  // Calls body(offset in x, offset in y) for each line of the images.
  template <typename Body>
  void ForLines(int64_t samples, Body body) const {
    for (int64_t n = 0; n < samples; ++n) {
      for (int64_t i = 0; i < height_; ++i) {
        body((n * height_ + i) * line_, n * output_.size() + (top_ + i) * out_line_ + before_);
      }
    }
  }

  const int64_t height_;
  const int64_t line_;  // floats
  const int64_t before_;
  const int64_t out_line_;
  const int64_t top_;
  const Shape output_;
};

}  // namespace

LayerOr BuildZeroPadding2D(const BuildContext& c, v1::Layer* layer) {
  if (auto s = CheckImage(c); !s.ok()) return s;
  auto& padding = *layer->mutable_zero_padding2d()->mutable_padding();
  if (padding.empty()) padding.Add(1);
  if (padding.size() == 1) padding.Add(padding[0]);
  if (padding.size() == 2) {
    const int64_t rows = padding[0], columns = padding[1];
    padding.Clear();
    for (int64_t value : {rows, rows, columns, columns}) padding.Add(value);
  }
  if (padding.size() != 4) {
    return FieldError(c, "padding",
                      absl::StrCat("must have one, two or four numbers, got ", padding.size()));
  }
  for (int64_t value : padding) {
    if (value >= 0 && value <= kMaxPadding) continue;
    return FieldError(c, "padding",
                      absl::StrCat("must be within [0, ", kMaxPadding, "], got ", value));
  }
  return std::make_unique<ZeroPadding2D>(c.input(), padding[0], padding[1], padding[2], padding[3]);
}

}  // namespace lockstep
