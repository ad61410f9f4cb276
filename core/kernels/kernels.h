#ifndef LOCKSTEP_CORE_KERNELS_KERNELS_H_
#define LOCKSTEP_CORE_KERNELS_KERNELS_H_

#include <cstddef>
#include <cstdint>

// The loops that the contract's bits are defined by (../README.md states each as a formula; the
// tests hold them as scalar loops). Built once an instruction set; Kernels() is the set for this
// CPU. All functions run on the calling thread, allocate nothing, and give every output element the
// same bits whatever the instruction set, the split of rows over calls, or the alignment of the
// pointers.
//
// Plain C types only: this header is compiled for every instruction set, and an inline function in
// it could be merged by the linker into code that an older CPU runs.
namespace lockstep::kernels {

// Where row r of a matrix starts, in floats from `base`. A plain matrix has width 1 and outer = its
// row stride. The rows may be some pixels of one image: `width` a line, `inner` apart, lines
// `outer` apart. Or of several: then an image has `height` such lines, and images are `image`
// apart.
struct RowMap {
  const float* base;
  int64_t width;
  int64_t outer;
  int64_t inner;
  int64_t height = 0;  // 0: no end of lines
  int64_t image = 0;
};

// A run of consecutive k of a contraction: the left operand's values at row + a, a + 1, ..., and
// the right operand's rows b, b + 1, ...
struct Segment {
  int64_t a;
  int64_t b;
  int64_t length;
  bool ends_chunk;
};

// The right operand [depth, columns]: rows `stride` floats apart, or as KernelTable::pack made it.
struct RightOperand {
  const float* data;
  int64_t columns;
  int64_t stride;
  int64_t packed_depth = 0;  // 0: not packed
};

enum class Activation : uint8_t {
  kLinear,
  kRelu,
  kSigmoid,
  kTanh,
  kSoftmax,
  kRectifier,  // ReLU with a slope below zero and a limit above
  kElu,        // times `scale`, which makes it SELU
  kGelu,       // exact
  kGeluTanh,
  kSilu,
  kHardSigmoid,
  kSoftplus,
};

// An activation with its arguments.
struct ActivationFunction {
  Activation kind;
  float negative_slope = 0.0f;         // of kRectifier
  float max_value = __builtin_inff();  // of kRectifier; > 0
  float alpha = 1.0f;                  // of kElu
  float scale = 1.0f;                  // of kElu
};

// y[r, j] = sum over k of a[r, k] * b[k, j], then + bias[j], then ReLU if asked for, then
// + y[r, j] if asked for (rules 1 and 7).
struct RowContraction {
  RowMap a;
  RightOperand b;
  const Segment* segments;
  int64_t segment_count;
  RowMap y;           // rows of b.columns floats
  const float* bias;  // [columns] or null
  bool relu;
  bool adds = false;  // to what is in y
  // What the rows a line later read for the first time, which is fetched meanwhile: so many
  // stretches of `ahead_floats` floats, the first at row + ahead, each `ahead_step` after the one
  // before.
  int64_t ahead_stretches = 0;
  int64_t ahead = 0;
  int64_t ahead_step = 0;
  int64_t ahead_floats = 0;
};

// A run of rows over which a weight gradient sums: offsets in floats of its first row, which later
// rows follow at the contraction's strides.
struct RowRun {
  int64_t x;
  int64_t dy;
  int64_t length;
  bool ends_chunk;
  // -1: the shard goes on. Otherwise it ends here: its sum is pushed on a stack, then the two
  // topmost values are merged (left + right) so many times, as TreeReducer says
  // (core/parallel/shards.h). An empty shard is one run of length 0.
  int merges;
};

// w[i, j] = sum over the runs' rows r of x[r, i] * dy[r, j] (rule 1), runs in order. Shards are
// combined inside a tile of w; one value is left at the end of the list, which also ends the last
// chunk and shard, and +0 is added to it.
struct ColumnContraction {
  const float* x;
  const float* dy;
  const RowRun* runs;
  int64_t run_count;
  int64_t x_stride;
  int64_t dy_stride;
  int64_t rows;     // of w
  int64_t columns;  // of w
  float* w;
  int64_t w_stride;
  bool continues;  // the first chunk goes on from the values in w
  // x[r, i] lies i floats after x[r, 0]; or, if not 0, so many i lie together and the next ones
  // `group_step` after those. Not depthwise.
  int64_t group = 0;
  int64_t group_step = 0;
};

// x -> fma(x - m, a, b), a channel (rule 6).
struct ChannelMap {
  const float* m;
  const float* a = nullptr;
  const float* b = nullptr;
};

struct PoolGeometry {
  int64_t height, width, channels;  // of x
  int64_t out_height, out_width;
  int64_t pool_height, pool_width;
  int64_t stride_height, stride_width;
  // Rows and columns that the first window begins before the image. What is outside does not count;
  // every window has a pixel inside.
  int64_t pad_height = 0, pad_width = 0;

  // Of the number of a tap: one where that is enough, which is less to keep of a step.
  int winner_bytes() const { return pool_height * pool_width <= 256 ? 1 : 4; }
};

struct AdamStep {
  float alpha;  // learning rate with both bias corrections
  float one_minus_beta_1;
  float one_minus_beta_2;
  float epsilon;
};

struct SgdStep {
  float learning_rate;
  float momentum;
  bool nesterov;
};

struct RmsPropStep {
  float learning_rate;
  float one_minus_rho;
  float momentum;
  float epsilon;
};

// Label smoothing: a target t counts as fma(t, keep, add).
struct Smoothing {
  float keep = 1.0f;
  float add = 0.0f;
};

// Rows in a block of a sum across samples (rule 2).
inline constexpr int64_t kBlockRows = 128;
// k in a chunk of a contraction (rule 1).
inline constexpr int64_t kDenseChunk = 384;
inline constexpr int64_t kConvChunk = 576;
// A convolution's weight gradient takes whole samples until it has this many rows (rule 1).
inline constexpr int64_t kConvGradientRows = 512;
// Sums of shards that wait on the stack of the tree at once: enough for 256 shards.
inline constexpr int kMaxTreeDepth = 9;

struct KernelTable {
  const char* name;

  // A right operand in the order that contract_rows reads it fastest; `packed` has PackedFloats of
  // it and must stay. The matrix [depth, columns] at `src`, rows `stride` apart; it is not copied
  // where it is in that order already.
  RightOperand (*pack)(const float* src, int64_t stride, int64_t depth, int64_t columns,
                       float* packed);
  // `blocks` matrices [depth, columns], one below the other, each the transpose of a matrix
  // [columns, depth]: those lie at `src` one behind the other, rows `stride` apart.
  RightOperand (*pack_transposed)(const float* src, int64_t stride, int64_t blocks, int64_t depth,
                                  int64_t columns, float* packed);
  // Rows [row_begin, row_end) of y.
  void (*contract_rows)(const RowContraction& c, int64_t row_begin, int64_t row_end);
  // At most kMaxTreeDepth values at once on the stack of shards.
  void (*contract_columns)(const ColumnContraction& c);
  // The same where every column j has a left operand of its own, as in a depthwise convolution:
  // y[r, j] = sum over k of a[r, k * b.columns + j] * b[k, j]; a segment's `a` is in floats;
  // w[i, j] = sum over r of x[r, i * columns + j] * dy[r, j].
  void (*contract_rows_depthwise)(const RowContraction& c, int64_t row_begin, int64_t row_end);
  void (*contract_columns_depthwise)(const ColumnContraction& c);

  // One block of at most kBlockRows rows, [rows, channels]: with x0 = its first row,
  // s1 = sum of x - x0 and s2 = sum of (x - x0)^2 a channel.
  void (*block_moments)(const float* x, int64_t rows, int64_t channels, float* s1, float* s2);
  // One block: s1 = sum of dy; with x also s2 = sum of dy * (x - m), a null m being zeros. With an
  // a, dy is the gradient after a ReLU that followed the map: where that gave no more than 0, dy
  // counts as +0.
  void (*block_sums)(const float* dy, const float* x, const ChannelMap& map, int64_t rows,
                     int64_t channels, float* s1, float* s2);
  // y = the map of x, then ReLU if asked for; y may be x.
  void (*normalize)(const float* x, int64_t rows, int64_t channels, const ChannelMap& map,
                    bool relu, float* y);
  // dx = fma(x - m, k2, fma(dy, k1, k0)); dx may be dy. An a means the same as in block_sums.
  void (*normalize_backward)(const float* dy, const float* x, int64_t rows, int64_t channels,
                             const ChannelMap& map, const float* k0, const float* k1,
                             const float* k2, float* dx);

  // Each row by itself (rule 19): normalized = (x - mean) / sqrt(variance + epsilon) over its
  // columns, y = fma(normalized, gamma, beta), where a null gamma is ones and a null beta zeros;
  // inverses[r] = 1 / sqrt(variance + epsilon), unless null. normalized may be y.
  void (*normalize_rows)(const float* x, int64_t rows, int64_t columns, double epsilon,
                         const float* gamma, const float* beta, float* normalized, float* inverses,
                         float* y);
  void (*normalize_rows_backward)(const float* dy, const float* normalized, int64_t rows,
                                  int64_t columns, const float* gamma, const float* inverses,
                                  float* dx);

  // One image [height, width, channels]. winners[i], an integer of winner_bytes(), is the number
  // kh * pool_width + kw of the tap that y[i] comes from; null when nobody asks.
  void (*max_pool)(const PoolGeometry& g, const float* x, float* y, std::byte* winners);
  // Writes all of dx: +0, to which each window adds its gradient at its winner.
  void (*max_pool_backward)(const PoolGeometry& g, const std::byte* winners, const float* dy,
                            float* dx);
  // y[c] = (x[0, c] + x[1, c] + ...) / positions (rule 3), and dx[i, c] = dy[c] / positions.
  void (*average_pool)(int64_t positions, int64_t channels, const float* x, float* y);
  void (*average_pool_backward)(int64_t positions, int64_t channels, const float* dy, float* dx);

  // y = a + b, then ReLU if asked for; y may be a or b.
  void (*add)(int64_t n, const float* a, const float* b, bool relu, float* y);
  // y = f(x) over [rows, columns]; columns matter to softmax only. y may be x.
  void (*activate)(const ActivationFunction& f, int64_t rows, int64_t columns, const float* x,
                   float* y);
  // dx = the gradient before the activation, given its output y, or, where DifferentiatesFromInput
  // says so, its input instead of y. dx may be dy.
  void (*activate_backward)(const ActivationFunction& f, int64_t rows, int64_t columns,
                            const float* y, const float* dy, float* dx);
  // losses[r] = log(sum of exp(logits[r])) - logits[r, labels[r]];
  // dlogits[r, j] = (softmax(logits[r])[j] - [j == labels[r]]) * scale, unless null.
  void (*cross_entropy)(int64_t rows, int64_t classes, const float* logits, const int32_t* labels,
                        float scale, float* losses, float* dlogits);

  // x[i] = fma(float(src[i]), scale, offset)
  void (*scale_uint8)(const uint8_t* src, int64_t n, float scale, float offset, float* x);
  void (*scale_float)(const float* src, int64_t n, float scale, float offset, float* x);

  void (*adam)(const AdamStep& step, int64_t n, const float* gradient, float* m, float* v,
               float* w);
  void (*sgd)(const SgdStep& step, int64_t n, const float* gradient, float* velocity, float* w);
  // `average` of the gradient: null unless it is centered; `change`: null without momentum.
  void (*rmsprop)(const RmsPropStep& step, int64_t n, const float* gradient, float* square,
                  float* average, float* change, float* w);

  // As cross_entropy, with a target t for every class: losses[r] = sum over j of t[j] *
  // -log(softmax(logits[r])[j]).
  void (*soft_cross_entropy)(int64_t rows, int64_t classes, const float* logits,
                             const float* targets, Smoothing smoothing, float scale, float* losses,
                             float* dlogits);
  // losses[r] = mean over j of -t * log(p) - (1 - t) * log(1 - p), p = sigmoid(logits[r, j]);
  // dlogits[r, j] = (p - t) * scale / columns, unless null.
  void (*binary_cross_entropy)(int64_t rows, int64_t columns, const float* logits,
                               const float* targets, Smoothing smoothing, float scale,
                               float* losses, float* dlogits);
};

// Whether the gradient of an activation is computed from its input rather than its output, which
// does not tell enough.
bool DifferentiatesFromInput(Activation activation);

// The widest set this CPU runs; null when it has not even AVX2 and FMA.
const KernelTable* Kernels();
// Floats that packing may need, for any instruction set.
int64_t PackedFloats(int64_t depth, int64_t columns);
// Every set this CPU runs, narrowest first, then null.
const KernelTable* const* AllKernels();

}  // namespace lockstep::kernels

#endif  // LOCKSTEP_CORE_KERNELS_KERNELS_H_
