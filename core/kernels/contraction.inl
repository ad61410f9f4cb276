// Contractions (README rule 1): one microkernel for the rows of an activation (dense and convolution,
// forward and input gradient), one for weight gradients. Both keep a tile of accumulators in registers
// over a whole chunk; lanes run across output columns, never across k.

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

static inline const float* RowStart(const RowMap& map, int64_t row) {
  return map.base + row / map.width * map.outer + row % map.width * map.inner;
}

// Where one tile's columns of the right operand and of y lie.
struct ColumnTile {
  const float* b;
  int64_t b_stride;
  int64_t column;
  int last_lanes;  // of the last vector, when the tile is partial
};

template <int kRows, int kVectors, bool kPartial>
static void RowTile(const RowContraction& c, const ColumnTile& tile, int64_t row) {
  const float* a[kRows];
  float* y[kRows];
  UNROLL for (int i = 0; i < kRows; ++i) {
    a[i] = RowStart(c.a, row + i);
    y[i] = const_cast<float*>(RowStart(c.y, row + i)) + tile.column;
  }
  Vec total[kRows][kVectors];
  UNROLL for (int i = 0; i < kRows; ++i) {
    UNROLL for (int v = 0; v < kVectors; ++v) total[i][v] = Zero();
  }
  bool first_chunk = true;
  for (const Segment *s = c.segments, *end = s + c.segment_count; s != end;) {
    Vec sum[kRows][kVectors];
    UNROLL for (int i = 0; i < kRows; ++i) {
      UNROLL for (int v = 0; v < kVectors; ++v) sum[i][v] = Zero();
    }
    bool chunk_ended = false;
    for (; !chunk_ended; ++s) {
      chunk_ended = s->ends_chunk;
      const float* b = tile.b + s->b * tile.b_stride;
      const int64_t a_end = s->a + s->length;
      for (int64_t k = s->a; k < a_end; ++k, b += tile.b_stride) {
        Vec bv[kVectors];
        UNROLL for (int v = 0; v < kVectors; ++v) {
          bv[v] = LoadColumns<kPartial>(b, v, kVectors, tile.last_lanes);
        }
        UNROLL for (int i = 0; i < kRows; ++i) {
          const Vec av = Set(a[i][k]);
          UNROLL for (int v = 0; v < kVectors; ++v) sum[i][v] = Fma(av, bv[v], sum[i][v]);
        }
      }
    }
    UNROLL for (int i = 0; i < kRows; ++i) {
      UNROLL for (int v = 0; v < kVectors; ++v) {
        total[i][v] = first_chunk ? sum[i][v] : Add(total[i][v], sum[i][v]);
      }
    }
    first_chunk = false;
  }
  UNROLL for (int v = 0; v < kVectors; ++v) {
    const Vec bias = c.bias == nullptr
                         ? Zero()
                         : LoadColumns<kPartial>(c.bias + tile.column, v, kVectors, tile.last_lanes);
    UNROLL for (int i = 0; i < kRows; ++i) {
      Vec value = Add(total[i][v], Zero());
      if (c.bias != nullptr) value = Add(value, bias);
      if (c.relu) value = Select(Greater(Zero(), value), Zero(), value);
      StoreColumns<kPartial>(y[i], v, kVectors, tile.last_lanes, value);
    }
  }
}

template <int kRows, int kVectors, bool kPartial>
static void ColumnRowTile(const ColumnContraction& c, int64_t i0, int64_t j0, int last_lanes) {
  Vec sum[kRows][kVectors];
  UNROLL for (int i = 0; i < kRows; ++i) {
    UNROLL for (int v = 0; v < kVectors; ++v) sum[i][v] = Zero();
  }
  for (int64_t r = 0; r < c.run_count; ++r) {
    const float* x = c.runs[r].x + i0;
    const float* dy = c.runs[r].dy + j0;
    for (int64_t n = c.runs[r].length; n > 0; --n, x += c.x_stride, dy += c.dy_stride) {
      Vec dyv[kVectors];
      UNROLL for (int v = 0; v < kVectors; ++v) {
        dyv[v] = LoadColumns<kPartial>(dy, v, kVectors, last_lanes);
      }
      UNROLL for (int i = 0; i < kRows; ++i) {
        const Vec xv = Set(x[i]);
        UNROLL for (int v = 0; v < kVectors; ++v) sum[i][v] = Fma(xv, dyv[v], sum[i][v]);
      }
    }
  }
  UNROLL for (int i = 0; i < kRows; ++i) {
    float* w = c.w + (i0 + i) * c.columns + j0;
    UNROLL for (int v = 0; v < kVectors; ++v) {
      Vec value = sum[i][v];
      if (!c.first_chunk) {
        value = Add(LoadColumns<kPartial>(w, v, kVectors, last_lanes), value);
      }
      if (c.last_chunk) value = Add(value, Zero());
      StoreColumns<kPartial>(w, v, kVectors, last_lanes, value);
    }
  }
}

// Calls tile<kRows, kVectors, kPartial>(...) for the run-time rows and vectors.
#define LOCKSTEP_TILE_ROWS(TILE, VECTORS, PARTIAL, rows, ...)              \
  switch (rows) {                                                          \
    case 1: return TILE<1, VECTORS, PARTIAL>(__VA_ARGS__);                 \
    case 2: return TILE<2, VECTORS, PARTIAL>(__VA_ARGS__);                 \
    case 3: return TILE<3, VECTORS, PARTIAL>(__VA_ARGS__);                 \
    case 4: return TILE<4, VECTORS, PARTIAL>(__VA_ARGS__);                 \
    case 5: return TILE<5, VECTORS, PARTIAL>(__VA_ARGS__);                 \
    case 6: return TILE<6, VECTORS, PARTIAL>(__VA_ARGS__);                 \
    case 7: return TILE<7, VECTORS, PARTIAL>(__VA_ARGS__);                 \
    default: return TILE<8, VECTORS, PARTIAL>(__VA_ARGS__);                \
  }

template <int kVectors, bool kPartial>
static void DispatchRowTile(int rows, const RowContraction& c, const ColumnTile& tile,
                            int64_t row) {
  LOCKSTEP_TILE_ROWS(RowTile, kVectors, kPartial, rows, c, tile, row)
}

template <int kVectors, bool kPartial>
static void DispatchColumnTile(int rows, const ColumnContraction& c, int64_t i0, int64_t j0,
                               int last_lanes) {
  LOCKSTEP_TILE_ROWS(ColumnRowTile, kVectors, kPartial, rows, c, i0, j0, last_lanes)
}

// Splits [begin, end) into tiles of nearly equal size, none above `most`, and calls body(start, size).
template <typename Body>
static inline void ForTiles(int64_t begin, int64_t end, int64_t most, Body body) {
  const int64_t count = end - begin;
  const int64_t tiles = (count + most - 1) / most;
  for (int64_t t = 0; t < tiles; ++t) {
    const int64_t start = begin + t * count / tiles;
    body(start, begin + (t + 1) * count / tiles - start);
  }
}

// Splits columns into full tiles and one last, narrower one: body(first column, vectors, lanes of the
// last vector).
template <typename Body>
static inline void ForColumnTiles(int64_t columns, Body body) {
  constexpr int64_t kFull = kTileVectors * kLanes;
  for (int64_t j = 0; j < columns; j += kFull) {
    const int64_t rest = columns - j < kFull ? columns - j : kFull;
    const int vectors = static_cast<int>((rest + kLanes - 1) / kLanes);
    body(j, vectors, static_cast<int>(rest - (vectors - 1) * kLanes));
  }
}

template <int kVectors>
static void RowTiles(const RowContraction& c, const ColumnTile& tile, int64_t begin, int64_t end) {
  ForTiles(begin, end, kTileRows[kVectors], [&](int64_t row, int64_t rows) {
    if (tile.last_lanes == kLanes) {
      DispatchRowTile<kVectors, false>(static_cast<int>(rows), c, tile, row);
    } else {
      DispatchRowTile<kVectors, true>(static_cast<int>(rows), c, tile, row);
    }
  });
}

template <int kVectors>
static void ColumnTiles(const ColumnContraction& c, int64_t j, int last_lanes) {
  ForTiles(0, c.rows, kTileRows[kVectors], [&](int64_t i, int64_t rows) {
    if (last_lanes == kLanes) {
      DispatchColumnTile<kVectors, false>(static_cast<int>(rows), c, i, j, last_lanes);
    } else {
      DispatchColumnTile<kVectors, true>(static_cast<int>(rows), c, i, j, last_lanes);
    }
  });
}

static void ContractRows(const RowContraction& c, int64_t row_begin, int64_t row_end) {
  ForColumnTiles(c.b.columns, [&](int64_t j, int vectors, int last_lanes) {
    const ColumnTile tile = {c.b.data + j, c.b.columns, j, last_lanes};
    switch (vectors) {
      case 1: return RowTiles<1>(c, tile, row_begin, row_end);
      case 2: return RowTiles<2>(c, tile, row_begin, row_end);
#if LOCKSTEP_TILE_VECTORS >= 4
      case 3: return RowTiles<3>(c, tile, row_begin, row_end);
      case 4: return RowTiles<4>(c, tile, row_begin, row_end);
#endif
    }
  });
}

static void ContractColumns(const ColumnContraction& c) {
  ForColumnTiles(c.columns, [&](int64_t j, int vectors, int last_lanes) {
    switch (vectors) {
      case 1: return ColumnTiles<1>(c, j, last_lanes);
      case 2: return ColumnTiles<2>(c, j, last_lanes);
#if LOCKSTEP_TILE_VECTORS >= 4
      case 3: return ColumnTiles<3>(c, j, last_lanes);
      case 4: return ColumnTiles<4>(c, j, last_lanes);
#endif
    }
  });
}
