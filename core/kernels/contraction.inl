// Contractions (README rule 1): one microkernel for the rows of an activation (dense and
// convolution, forward and input gradient), one for weight gradients. Both keep a tile of
// accumulators in registers over a whole chunk; lanes run across output columns, never across k.

#include "core/kernels/packing.inl"
#include "core/kernels/row_addressing.inl"

template <bool kPartial>
static inline Vec LoadColumns(const float* p, int vector, int vectors, int last_lanes) {
  if (kPartial && vector == vectors - 1) return LoadFirst(p + vector * kLanes, last_lanes);
  return Load(p + vector * kLanes);
}

template <bool kPartial>
static inline void StoreColumns(float* p, int vector, int vectors, int last_lanes, Vec x) {
  if (kPartial && vector == vectors - 1) {
    StoreFirst(p + vector * kLanes, last_lanes, x);
  } else {
    Store(p + vector * kLanes, x);
  }
}

// Where a tile's operands are: the next rows of a and y, and the columns of b and y it covers.
struct RowTileArea {
  RowCursor a, y;
  RightOperand b;
  int64_t column;
  int last_lanes;  // of the last vector, when the tile is partial
};

// How the left operand's values for the rows of a weight gradient lie.
enum class LeftLayout { kTogether, kGroups, kDepthwise };

// What multiplies vector v of the right operand's row k: one value of the left operand, or,
// depthwise, as many as there are columns.
template <bool kDepthwise, bool kPartial>
static inline Vec LoadLeft(const float* p, int vector, int vectors, int last_lanes) {
  return kDepthwise ? LoadColumns<kPartial>(p, vector, vectors, last_lanes) : Set(*p);
}

// The inner loop of dense layers and convolutions, forward and input gradient: a tile of y in
// registers over all k.
template <bool kDepthwise, template <int> class Rows, int kRows, int kVectors, bool kPartial>
NOINLINE static void RowTile(const RowContraction& c, RowTileArea& area) {
  Rows<kRows> a(area.a);
  const float* y[kRows];
  area.y.Take(y);
  UNROLL for (int i = 0; i < kRows; ++i) Prefetch(y[i] + area.column);
  for (int64_t j = 0; j < c.ahead_stretches && area.column == 0; ++j) {
    a.Seek(c.ahead + j * c.ahead_step);
    for (int64_t l = 0; l < c.ahead_floats; l += kLineFloats, a.Advance(kLineFloats)) {
      UNROLL for (int i = 0; i < kRows; ++i) Prefetch(a[i]);
    }
  }
  Vec sum[kRows][kVectors];
  Vec total[kRows][kVectors];  // of the chunks before
  UNROLL for (int i = 0; i < kRows; ++i) {
    UNROLL for (int v = 0; v < kVectors; ++v) sum[i][v] = Zero();
  }
  bool first_chunk = true;
  for (const Segment *s = c.segments, *end = s + c.segment_count; s != end; ++s) {
    const float* b = area.b.data + s->b * area.b.stride;
    const int64_t step = kDepthwise ? c.b.columns : 1;
    a.Seek(s->a + (kDepthwise ? area.column : 0));
    for (int64_t k = s->length; k > 0; --k, a.Advance(step), b += area.b.stride) {
      Vec bv[kVectors];
      UNROLL for (int v = 0; v < kVectors; ++v) {
        bv[v] = LoadColumns<kPartial>(b, v, kVectors, area.last_lanes);
      }
      UNROLL for (int i = 0; i < kRows; ++i) {
        UNROLL for (int v = 0; v < kVectors; ++v) {
          const Vec av = LoadLeft<kDepthwise, kPartial>(a[i], v, kVectors, area.last_lanes);
          sum[i][v] = Fma(av, bv[v], sum[i][v]);
        }
      }
    }
    if (!s->ends_chunk || s + 1 == end) continue;
    UNROLL for (int i = 0; i < kRows; ++i) {
      UNROLL for (int v = 0; v < kVectors; ++v) {
        total[i][v] = first_chunk ? sum[i][v] : Add(total[i][v], sum[i][v]);
        sum[i][v] = Zero();
      }
    }
    first_chunk = false;
  }
  if (!first_chunk) {
    UNROLL for (int i = 0; i < kRows; ++i) {
      UNROLL for (int v = 0; v < kVectors; ++v) sum[i][v] = Add(total[i][v], sum[i][v]);
    }
  }
  const auto for_sums = [&](auto body) {
    UNROLL for (int v = 0; v < kVectors; ++v) {
      UNROLL for (int i = 0; i < kRows; ++i) sum[i][v] = body(i, v, sum[i][v]);
    }
  };
  const auto y_at = [&](int i) { return const_cast<float*>(y[i]) + area.column; };
  for_sums([](int, int, Vec x) { return Add(x, Zero()); });
  if (c.bias != nullptr) {
    for_sums([&](int, int v, Vec x) {
      return Add(x, LoadColumns<kPartial>(c.bias + area.column, v, kVectors, area.last_lanes));
    });
  }
  if (c.relu) {
    for_sums([](int, int, Vec x) { return Select(Greater(Zero(), x), Zero(), x); });
  }
  if (c.adds) {
    for_sums([&](int i, int v, Vec x) {
      return Add(LoadColumns<kPartial>(y_at(i), v, kVectors, area.last_lanes), x);
    });
  }
  for_sums([&](int i, int v, Vec x) {
    StoreColumns<kPartial>(y_at(i), v, kVectors, area.last_lanes, x);
    return x;
  });
}

// The accumulators are the running chunk. Its shard's earlier chunks, and the shards before it that
// wait for their right neighbour in the tree, lie on a stack.
template <LeftLayout kLeft, int kRows, int kVectors, bool kPartial>
NOINLINE static void ColumnTile(const ColumnContraction& c, int64_t i0, int64_t j0,
                                int last_lanes) {
  using Sums = Vec[kRows][kVectors];
  Sums sum, stack[kMaxTreeDepth];
  float* w = c.w + i0 * c.w_stride + j0;
  UNROLL for (int i = 0; i < kRows; ++i) {
    UNROLL for (int v = 0; v < kVectors; ++v) {
      sum[i][v] =
          c.continues ? LoadColumns<kPartial>(w + i * c.w_stride, v, kVectors, last_lanes) : Zero();
    }
  }
  // The left operand of the tree's next merge, or the chunks before this one.
  const auto add_below = [&sum](const Sums& left) {
    UNROLL for (int i = 0; i < kRows; ++i) {
      UNROLL for (int v = 0; v < kVectors; ++v) sum[i][v] = Add(left[i][v], sum[i][v]);
    }
  };
  int depth = 0;
  bool first_chunk = true;
  constexpr bool kDepthwise = kLeft == LeftLayout::kDepthwise;
  int64_t offsets[kRows];  // in x
  UNROLL for (int i = 0; i < kRows; ++i) {
    const int64_t row = i0 + i;
    if (kLeft == LeftLayout::kGroups) {
      offsets[i] = row / c.group * c.group_step + row % c.group;
    } else {
      offsets[i] = kDepthwise ? i * c.columns : i;
    }
  }
  for (const RowRun *run = c.runs, *end = run + c.run_count; run != end; ++run) {
    const float* x = c.x + run->x;
    if (kLeft == LeftLayout::kTogether) x += i0;
    if (kDepthwise) x += i0 * c.columns + j0;
    const float* dy = c.dy + run->dy + j0;
    for (int64_t n = run->length; n > 0; --n, x += c.x_stride, dy += c.dy_stride) {
      Vec dyv[kVectors];
      UNROLL for (int v = 0; v < kVectors; ++v) {
        dyv[v] = LoadColumns<kPartial>(dy, v, kVectors, last_lanes);
      }
      UNROLL for (int i = 0; i < kRows; ++i) {
        UNROLL for (int v = 0; v < kVectors; ++v) {
          const Vec xv = LoadLeft<kDepthwise, kPartial>(x + offsets[i], v, kVectors, last_lanes);
          sum[i][v] = Fma(xv, dyv[v], sum[i][v]);
        }
      }
    }
    const bool last = run + 1 == end;
    if (!run->ends_chunk && run->merges < 0 && !last) continue;
    if (!first_chunk) add_below(stack[depth]);
    first_chunk = false;
    if (run->merges >= 0) {
      for (int m = 0; m < run->merges; ++m) add_below(stack[--depth]);
      first_chunk = true;
    }
    if (last) break;
    UNROLL for (int i = 0; i < kRows; ++i) {
      UNROLL for (int v = 0; v < kVectors; ++v) {
        stack[depth][i][v] = sum[i][v];
        sum[i][v] = Zero();
      }
    }
    if (run->merges >= 0) ++depth;
  }
  UNROLL for (int i = 0; i < kRows; ++i) {
    UNROLL for (int v = 0; v < kVectors; ++v) {
      StoreColumns<kPartial>(w + i * c.w_stride, v, kVectors, last_lanes, Add(sum[i][v], Zero()));
    }
  }
}

// Calls body(Constant<value>()), so that a run-time value within [1, kMost] picks a template.
template <int kValue>
struct Constant {
  static constexpr int value = kValue;
};
template <int kMost, typename Body>
static inline void WithConstant(int64_t value, Body body) {
  if constexpr (kMost > 1) {
    if (value < kMost) return WithConstant<kMost - 1>(value, body);
  }
  body(Constant<kMost>());
}

// Cuts `columns` columns into full tiles and a last, narrower one: body(column, vectors, lanes of
// the last vector), vectors as a Constant.
template <typename Body>
static inline void ForColumns(int64_t columns, Body body) {
  for (int64_t j = 0; j < columns; j += kPanelColumns) {
    const int64_t rest = columns - j < kPanelColumns ? columns - j : kPanelColumns;
    WithConstant<kTileVectors>((rest + kLanes - 1) / kLanes, [&](auto vectors) {
      body(j, vectors, static_cast<int>(rest - (vectors.value - 1) * kLanes));
    });
  }
}

// Cuts [begin, end) into nearly equal tiles, rather than full ones and a small rest: body(row,
// rows), rows as a Constant of at most kMost.
template <int kMost, typename Body>
static inline void ForRows(int64_t begin, int64_t end, Body body) {
  const int64_t tiles = (end - begin + kMost - 1) / kMost;
  for (int64_t t = 0; t < tiles; ++t) {
    const int64_t row = begin + t * (end - begin) / tiles;
    const int64_t next = begin + (t + 1) * (end - begin) / tiles;
    WithConstant<kMost>(next - row, [&](auto rows) { body(row, rows); });
  }
}

// Whole tiles over the next rows of an area.
template <bool kDepthwise, template <int> class Rows, int kVectors>
static inline void RowTiles(const RowContraction& c, RowTileArea& area, int64_t rows) {
  ForRows<kTileRows[kVectors]>(0, rows, [&](int64_t, auto count) {
    if (area.last_lanes == kLanes) {
      RowTile<kDepthwise, Rows, count.value, kVectors, false>(c, area);
    } else {
      RowTile<kDepthwise, Rows, count.value, kVectors, true>(c, area);
    }
  });
}

template <bool kDepthwise>
static void ContractRows(const RowContraction& c, int64_t row_begin, int64_t row_end) {
  ForColumns(c.b.columns, [&](int64_t j, auto vectors, int last_lanes) {
    RowTileArea area = {RowCursor(c.a, row_begin), RowCursor(c.y, row_begin), PanelAt(c.b, j), j,
                        last_lanes};
    // Tiles with more rows than there are registers for pointers end where a line does, if that
    // leaves them nearly full.
    constexpr int kVectors = vectors.value;
    constexpr int64_t kMost = kTileRows[kVectors];
    if constexpr (kMost > 9 && !kDepthwise) {
      const int64_t width = area.a.width();
      if (width / ((width - 1) / kMost + 1) >= kMost * 3 / 4) {
        for (int64_t left = row_end - row_begin, rows; left > 0; left -= rows) {
          rows = area.a.left_in_line() < left ? area.a.left_in_line() : left;
          RowTiles<kDepthwise, EvenRows, kVectors>(c, area, rows);
        }
        return;
      }
    }
    RowTiles<kDepthwise, AnyRows, kVectors>(c, area, row_end - row_begin);
  });
}

template <LeftLayout kLeft>
static void ContractColumns(const ColumnContraction& c) {
  ForColumns(c.columns, [&](int64_t j, auto vectors, int last_lanes) {
    ForRows<kTileRows[vectors.value]>(0, c.rows, [&](int64_t i, auto rows) {
      if (last_lanes == kLanes) {
        ColumnTile<kLeft, rows.value, vectors.value, false>(c, i, j, last_lanes);
      } else {
        ColumnTile<kLeft, rows.value, vectors.value, true>(c, i, j, last_lanes);
      }
    });
  });
}

static void ContractColumnsDense(const ColumnContraction& c) {
  if (c.group == 0) return ContractColumns<LeftLayout::kTogether>(c);
  ContractColumns<LeftLayout::kGroups>(c);
}
