// One instruction set's kernels: included by kernels_<set>.cc after it has defined
// LOCKSTEP_INSTRUCTION_SET (the namespace) and LOCKSTEP_SIMD (the header of
// vector operations). Everything here is static and in that namespace, and nothing uses the
// standard library: an inline function shared with code for an older CPU would be merged by the
// linker.

#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

// A tile's loop keeps its registers to itself.
#define NOINLINE __attribute__((noinline))

namespace lockstep::kernels {
namespace LOCKSTEP_INSTRUCTION_SET {
namespace {

#include LOCKSTEP_SIMD
#include "core/kernels/contraction.inl"
#include "core/kernels/elementwise.inl"
#include "core/kernels/activations.inl"
#include "core/kernels/losses.inl"
#include "core/kernels/optimizers.inl"
#include "core/kernels/statistics.inl"
#include "core/kernels/pooling.inl"
#include "core/kernels/row_normalization.inl"

}  // namespace

extern const KernelTable kTable;
const KernelTable kTable = {
    .name = LOCKSTEP_INSTRUCTION_SET_NAME,
    .pack = Pack,
    .pack_transposed = PackTransposed,
    .contract_rows = ContractRows<false>,
    .contract_columns = ContractColumnsDense,
    .contract_rows_depthwise = ContractRows<true>,
    .contract_columns_depthwise = ContractColumns<LeftLayout::kDepthwise>,
    .block_moments = BlockMoments,
    .block_sums = BlockSums,
    .normalize = Normalize,
    .normalize_backward = NormalizeBackward,
    .normalize_rows = NormalizeEachRow,
    .normalize_rows_backward = NormalizeEachRowBackward,
    .max_pool = MaxPool,
    .max_pool_backward = MaxPoolBackward,
    .average_pool = AveragePool,
    .average_pool_backward = AveragePoolBackward,
    .add = AddVectors,
    .activate = Activate,
    .activate_backward = ActivateBackward,
    .cross_entropy = CrossEntropy,
    .scale_uint8 = ScaleUint8,
    .scale_float = ScaleFloat,
    .adam = Adam,
    .sgd = Sgd,
    .rmsprop = RmsProp,
    .soft_cross_entropy = SoftCrossEntropy,
    .binary_cross_entropy = BinaryCrossEntropy,
};

}  // namespace LOCKSTEP_INSTRUCTION_SET
}  // namespace lockstep::kernels
