// The right operand of a contraction as panels: all its rows for the columns of one register tile,
// then the next panel. A tile then reads memory straight on; rows of a wide matrix are far apart,
// at a multiple of 4096 bytes even in the same few lines of L1. The last panel has as many whole
// vectors as it needs, its columns beyond the matrix are zero.

constexpr int64_t kPanelColumns = kTileVectors * kLanes;

static inline int64_t PanelStride(int64_t columns_left) {
  const int64_t whole = (columns_left + kLanes - 1) / kLanes * kLanes;
  return whole < kPanelColumns ? whole : kPanelColumns;
}

static void PackPanel(const float* src, int64_t stride, int64_t depth, int64_t columns,
                      float* panel) {
  const int64_t panel_stride = PanelStride(columns);
  for (int64_t k = 0; k < depth; ++k, panel += panel_stride, src += stride) {
    for (int64_t j = 0; j < panel_stride; ++j) panel[j] = j < columns ? src[j] : 0.0f;
  }
}

static void PackTransposedPanel(const float* src, int64_t stride, int64_t depth, int64_t columns,
                                float* panel) {
  constexpr int64_t kSquare = kTransposeSize;
  const int64_t panel_stride = PanelStride(columns);
  const int64_t squares = columns / kSquare * kSquare;
  int64_t k = 0;
  for (; k + kSquare <= depth; k += kSquare) {
    for (int64_t j = 0; j < squares; j += kSquare) {
      TransposeSquare(src + j * stride + k, stride, panel + k * panel_stride + j, panel_stride);
    }
  }
  for (int64_t row = 0; row < depth; ++row) {
    for (int64_t j = row < k ? squares : 0; j < panel_stride; ++j) {
      panel[row * panel_stride + j] = j < columns ? src[j * stride + row] : 0.0f;
    }
  }
}

// Calls body(first column, columns, panel) for each panel.
template <typename Body>
static inline void ForPanels(int64_t depth, int64_t columns, float* packed, Body body) {
  for (int64_t j = 0; j < columns; j += kPanelColumns) {
    body(j, columns - j < kPanelColumns ? columns - j : kPanelColumns, packed + j * depth);
  }
}

static RightOperand Pack(const float* src, int64_t stride, int64_t depth, int64_t columns,
                         float* packed) {
  if (columns <= kPanelColumns && stride == PanelStride(columns)) return {src, columns, stride};
  ForPanels(depth, columns, packed, [&](int64_t j, int64_t panel_columns, float* panel) {
    PackPanel(src + j, stride, depth, panel_columns, panel);
  });
  return {packed, columns, 0, depth};
}

static RightOperand PackTransposed(const float* src, int64_t stride, int64_t blocks, int64_t depth,
                                   int64_t columns, float* packed) {
  const int64_t all = blocks * depth;
  ForPanels(all, columns, packed, [&](int64_t j, int64_t panel_columns, float* panel) {
    for (int64_t i = 0; i < blocks; ++i) {
      PackTransposedPanel(src + (i * columns + j) * stride, stride, depth, panel_columns,
                          panel + i * depth * PanelStride(panel_columns));
    }
  });
  return {packed, columns, 0, all};
}

// The part of the right operand from column j on, a multiple of kPanelColumns.
static inline RightOperand PanelAt(const RightOperand& b, int64_t j) {
  if (b.packed_depth == 0) return {b.data + j, b.columns - j, b.stride};
  return {b.data + j * b.packed_depth, b.columns - j, PanelStride(b.columns - j)};
}
