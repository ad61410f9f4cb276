// Sums across samples (rule 2), BatchNorm's apply and backward (rule 6), pooling. Vectors run
// across channels. A block's rows go to four accumulators by row mod 4, combined (0+1)+(2+3).

// Rows are read far ahead of use: the hardware's prefetching ends at every page.
constexpr int64_t kPrefetchFloats = 768;

// Cuts the channels into groups of at most kMost vectors: body(first channel, vectors, partial,
// lanes of the last vector), vectors and partial as Constants.
template <int kMost, typename Body>
static inline void ForChannels(int64_t channels, Body body) {
  for (int64_t c = 0; c < channels; c += kMost * kLanes) {
    const int64_t rest = channels - c < kMost * kLanes ? channels - c : kMost * kLanes;
    WithConstant<kMost>((rest + kLanes - 1) / kLanes, [&](auto vectors) {
      const int last_lanes = static_cast<int>(rest - (vectors.value - 1) * kLanes);
      if (last_lanes == kLanes) {
        body(c, vectors, Constant<0>(), last_lanes);
      } else {
        body(c, vectors, Constant<1>(), last_lanes);
      }
    });
  }
}

// The vectors of one row's group of channels.
template <int kVectors>
struct Row {
  Vec v[kVectors];
};

template <int kVectors, bool kPartial>
static inline Row<kVectors> LoadRow(const float* p, int last_lanes) {
  Row<kVectors> row;
  UNROLL for (int v = 0; v < kVectors; ++v) {
    row.v[v] = LoadColumns<kPartial>(p, v, kVectors, last_lanes);
  }
  return row;
}

template <int kVectors, bool kPartial>
static inline void StoreRow(float* p, int last_lanes, const Row<kVectors>& row) {
  UNROLL for (int v = 0; v < kVectors; ++v) {
    StoreColumns<kPartial>(p, v, kVectors, last_lanes, row.v[v]);
  }
}

template <int kVectors>
static inline void PrefetchRow(const float* p) {
  UNROLL for (int v = 0; v < kVectors; ++v) Prefetch(p + v * kLanes + kPrefetchFloats);
}

// Adds body(row, v, lane) to accumulator row mod 4 of every vector v and sum, over the rows of a
// block: body changes lane[kSums].
template <int kSums, int kVectors, typename Body>
static inline void SumRows(int64_t rows, Body body, Row<kVectors> (&out)[kSums]) {
  Row<kVectors> sum[4][kSums];
  UNROLL for (int q = 0; q < 4; ++q) {
    UNROLL for (int s = 0; s < kSums; ++s) {
      UNROLL for (int v = 0; v < kVectors; ++v) sum[q][s].v[v] = Zero();
    }
  }
  int64_t r = 0;
  for (; r + 4 <= rows; r += 4) {
    UNROLL for (int q = 0; q < 4; ++q) body(r + q, sum[q]);
  }
  UNROLL for (int q = 0; q < 3; ++q) {
    if (r + q < rows) body(r + q, sum[q]);
  }
  UNROLL for (int s = 0; s < kSums; ++s) {
    UNROLL for (int v = 0; v < kVectors; ++v) {
      out[s].v[v] = Add(Add(sum[0][s].v[v], sum[1][s].v[v]), Add(sum[2][s].v[v], sum[3][s].v[v]));
    }
  }
}

static void BlockMoments(const float* x, int64_t rows, int64_t channels, float* s1, float* s2) {
  ForChannels<kSumVectors>(channels, [&](int64_t c, auto vectors, auto partial, int last_lanes) {
    constexpr int kVectors = vectors.value;
    constexpr bool kPartial = partial.value != 0;
    const Row<kVectors> x0 = LoadRow<kVectors, kPartial>(x + c, last_lanes);
    Row<kVectors> out[2];
    SumRows<2, kVectors>(
        rows,
        [&](int64_t r, Row<kVectors>(&sum)[2]) {
          const float* p = x + r * channels + c;
          PrefetchRow<kVectors>(p);
          const Row<kVectors> row = LoadRow<kVectors, kPartial>(p, last_lanes);
          UNROLL for (int v = 0; v < kVectors; ++v) {
            const Vec d = Sub(row.v[v], x0.v[v]);
            sum[0].v[v] = Add(sum[0].v[v], d);
            sum[1].v[v] = Fma(d, d, sum[1].v[v]);
          }
        },
        out);
    StoreRow<kVectors, kPartial>(s1 + c, last_lanes, out[0]);
    StoreRow<kVectors, kPartial>(s2 + c, last_lanes, out[1]);
  });
}

// A ChannelMap's vectors for a group of channels.
template <int kVectors>
struct MapRow {
  Row<kVectors> m, a, b;
};

template <int kVectors, bool kPartial>
static inline MapRow<kVectors> LoadMap(const ChannelMap& map, int64_t c, int last_lanes) {
  MapRow<kVectors> row;
  UNROLL for (int v = 0; v < kVectors; ++v) row.m.v[v] = row.a.v[v] = row.b.v[v] = Zero();
  if (map.m != nullptr) row.m = LoadRow<kVectors, kPartial>(map.m + c, last_lanes);
  if (map.a == nullptr) return row;
  row.a = LoadRow<kVectors, kPartial>(map.a + c, last_lanes);
  row.b = LoadRow<kVectors, kPartial>(map.b + c, last_lanes);
  return row;
}

// What of dy comes through the ReLU that may have followed the map; d is x - m.
template <bool kRelu, int kVectors>
static inline Vec ThroughRelu(const MapRow<kVectors>& map, int v, Vec d, Vec dy) {
  if (!kRelu) return dy;
  return Select(Greater(Fma(d, map.a.v[v], map.b.v[v]), Zero()), dy, Zero());
}

static void BlockSum(const float* dy, int64_t rows, int64_t channels, float* s1) {
  ForChannels<kSumVectors>(channels, [&](int64_t c, auto vectors, auto partial, int last_lanes) {
    constexpr int kVectors = vectors.value;
    constexpr bool kPartial = partial.value != 0;
    Row<kVectors> out[1];
    SumRows<1, kVectors>(
        rows,
        [&](int64_t r, Row<kVectors>(&sum)[1]) {
          const Row<kVectors> g = LoadRow<kVectors, kPartial>(dy + r * channels + c, last_lanes);
          UNROLL for (int v = 0; v < kVectors; ++v) sum[0].v[v] = Add(sum[0].v[v], g.v[v]);
        },
        out);
    StoreRow<kVectors, kPartial>(s1 + c, last_lanes, out[0]);
  });
}

template <bool kRelu>
static void BlockSumsAround(const float* dy, const float* x, const ChannelMap& map, int64_t rows,
                            int64_t channels, float* s1, float* s2) {
  ForChannels<kSumVectors>(channels, [&](int64_t c, auto vectors, auto partial, int last_lanes) {
    constexpr int kVectors = vectors.value;
    constexpr bool kPartial = partial.value != 0;
    const MapRow<kVectors> mv = LoadMap<kVectors, kPartial>(map, c, last_lanes);
    Row<kVectors> out[2];
    SumRows<2, kVectors>(
        rows,
        [&](int64_t r, Row<kVectors>(&sum)[2]) {
          const float* p = x + r * channels + c;
          PrefetchRow<kVectors>(p);
          const Row<kVectors> g = LoadRow<kVectors, kPartial>(dy + r * channels + c, last_lanes);
          const Row<kVectors> row = LoadRow<kVectors, kPartial>(p, last_lanes);
          UNROLL for (int v = 0; v < kVectors; ++v) {
            const Vec d = Sub(row.v[v], mv.m.v[v]);
            const Vec through = ThroughRelu<kRelu>(mv, v, d, g.v[v]);
            sum[0].v[v] = Add(sum[0].v[v], through);
            sum[1].v[v] = Fma(through, d, sum[1].v[v]);
          }
        },
        out);
    StoreRow<kVectors, kPartial>(s1 + c, last_lanes, out[0]);
    StoreRow<kVectors, kPartial>(s2 + c, last_lanes, out[1]);
  });
}

static void BlockSums(const float* dy, const float* x, const ChannelMap& map, int64_t rows,
                      int64_t channels, float* s1, float* s2) {
  if (x == nullptr) return BlockSum(dy, rows, channels, s1);
  (map.a == nullptr ? BlockSumsAround<false> : BlockSumsAround<true>)(dy, x, map, rows, channels,
                                                                      s1, s2);
}

template <bool kRelu>
static void NormalizeRows(const float* x, int64_t rows, int64_t channels, const ChannelMap& map,
                          float* y) {
  ForChannels<kNormalizeVectors>(
      channels, [&](int64_t c, auto vectors, auto partial, int last_lanes) {
        constexpr int kVectors = vectors.value;
        constexpr bool kPartial = partial.value != 0;
        const MapRow<kVectors> mv = LoadMap<kVectors, kPartial>(map, c, last_lanes);
        for (int64_t i = c; i < rows * channels; i += channels) {
          PrefetchRow<kVectors>(x + i);
          Row<kVectors> row = LoadRow<kVectors, kPartial>(x + i, last_lanes);
          UNROLL for (int v = 0; v < kVectors; ++v) {
            row.v[v] = Fma(Sub(row.v[v], mv.m.v[v]), mv.a.v[v], mv.b.v[v]);
            if (kRelu) row.v[v] = Relu(row.v[v]);
          }
          StoreRow<kVectors, kPartial>(y + i, last_lanes, row);
        }
      });
}

static void Normalize(const float* x, int64_t rows, int64_t channels, const ChannelMap& map,
                      bool relu, float* y) {
  (relu ? NormalizeRows<true> : NormalizeRows<false>)(x, rows, channels, map, y);
}

template <bool kRelu>
static void NormalizeRowsBackward(const float* dy, const float* x, int64_t rows, int64_t channels,
                                  const ChannelMap& map, const float* k0, const float* k1,
                                  const float* k2, float* dx) {
  ForChannels<kNormalizeVectors>(
      channels, [&](int64_t c, auto vectors, auto partial, int last_lanes) {
        constexpr int kVectors = vectors.value;
        constexpr bool kPartial = partial.value != 0;
        const MapRow<kVectors> mv = LoadMap<kVectors, kPartial>(map, c, last_lanes);
        const Row<kVectors> k0v = LoadRow<kVectors, kPartial>(k0 + c, last_lanes);
        const Row<kVectors> k1v = LoadRow<kVectors, kPartial>(k1 + c, last_lanes);
        const Row<kVectors> k2v = LoadRow<kVectors, kPartial>(k2 + c, last_lanes);
        for (int64_t i = c; i < rows * channels; i += channels) {
          PrefetchRow<kVectors>(x + i);
          PrefetchRow<kVectors>(dy + i);
          Row<kVectors> row = LoadRow<kVectors, kPartial>(x + i, last_lanes);
          const Row<kVectors> g = LoadRow<kVectors, kPartial>(dy + i, last_lanes);
          UNROLL for (int v = 0; v < kVectors; ++v) {
            const Vec d = Sub(row.v[v], mv.m.v[v]);
            const Vec through = ThroughRelu<kRelu>(mv, v, d, g.v[v]);
            row.v[v] = Fma(d, k2v.v[v], Fma(through, k1v.v[v], k0v.v[v]));
          }
          StoreRow<kVectors, kPartial>(dx + i, last_lanes, row);
        }
      });
}

static void NormalizeBackward(const float* dy, const float* x, int64_t rows, int64_t channels,
                              const ChannelMap& map, const float* k0, const float* k1,
                              const float* k2, float* dx) {
  (map.a == nullptr ? NormalizeRowsBackward<false> : NormalizeRowsBackward<true>)(
      dy, x, rows, channels, map, k0, k1, k2, dx);
}

// The taps of a pooling window that are inside the image: rows [top, bottom), columns [left, right).
struct Taps {
  int64_t top, bottom, left, right;
};

// In (kh, kw) order: kSide x kSide taps, or with kSide 0 as `taps` says. Two by two is what nearly
// all networks use.
template <int kSide, typename Body>
static inline void ForTaps(const PoolGeometry& g, const Taps& taps, Body body) {
  if constexpr (kSide > 0) {
    UNROLL for (int i = 0; i < kSide; ++i) {
      UNROLL for (int j = 0; j < kSide; ++j) {
        body(i * kSide + j, (i * g.width + j) * g.channels);
      }
    }
  } else {
    for (int64_t i = taps.top; i < taps.bottom; ++i) {
      for (int64_t j = taps.left; j < taps.right; ++j) {
        body(static_cast<int32_t>(i * g.pool_width + j), (i * g.width + j) * g.channels);
      }
    }
  }
}

// The taps of a window that begins at pixel `start` of an axis: [*first, *last).
static inline void CutTaps(int64_t start, int64_t pool, int64_t size, int64_t* first,
                           int64_t* last) {
  *first = start < 0 ? -start : 0;
  *last = size - start < pool ? size - start : pool;
}

// Calls body(side, taps, offset in x, offset in y, lanes) for every window and vector of channels;
// side, a Constant, and taps are for ForTaps. The offset in x is tap (0, 0)'s, which may be outside.
template <typename Body>
static inline void ForWindows(const PoolGeometry& g, Body body) {
  const auto walk = [&](auto side) {
    for (int64_t i = 0; i < g.out_height; ++i) {
      for (int64_t j = 0; j < g.out_width; ++j) {
        const int64_t row = i * g.stride_height - g.pad_height;
        const int64_t column = j * g.stride_width - g.pad_width;
        Taps taps = {0, side.value, 0, side.value};
        if constexpr (side.value == 0) {
          CutTaps(row, g.pool_height, g.height, &taps.top, &taps.bottom);
          CutTaps(column, g.pool_width, g.width, &taps.left, &taps.right);
        }
        const int64_t in = (row * g.width + column) * g.channels;
        const int64_t out = (i * g.out_width + j) * g.channels;
        ForVectors(g.channels,
                   [&](int64_t c, int lanes) { body(side, taps, in + c, out + c, lanes); });
      }
    }
  };
  const bool inside = g.pad_height == 0 && g.pad_width == 0 &&
                      (g.out_height - 1) * g.stride_height + g.pool_height <= g.height &&
                      (g.out_width - 1) * g.stride_width + g.pool_width <= g.width;
  if (g.pool_height == 2 && g.pool_width == 2 && inside) {
    walk(Constant<2>());
  } else {
    walk(Constant<0>());
  }
}

// A later tap wins only if it is greater, or NaN (rule 7).
static void MaxPool(const PoolGeometry& g, const float* x, float* y, int32_t* winners) {
  ForWindows(g, [&](auto side, const Taps& taps, int64_t in, int64_t out, int lanes) {
    const auto first = static_cast<int32_t>(taps.top * g.pool_width + taps.left);
    Vec best = LoadLanes(x + (in + (taps.top * g.width + taps.left) * g.channels), lanes);
    Vec winner = SetBits(first);
    ForTaps<side.value>(g, taps, [&](int32_t tap, int64_t offset) {
      if (tap == first) return;
      const Vec v = LoadLanes(x + (in + offset), lanes);
      const Mask wins = Or(Greater(v, best), IsNan(v));
      best = Select(wins, v, best);
      winner = Select(wins, SetBits(tap), winner);
    });
    StoreLanes(y + out, lanes, best);
    if (winners != nullptr) StoreLanes(reinterpret_cast<float*>(winners + out), lanes, winner);
  });
}

static void MaxPoolBackward(const PoolGeometry& g, const int32_t* winners, const float* dy,
                            float* dx) {
  const bool overlap = g.stride_height < g.pool_height || g.stride_width < g.pool_width;
  const bool cover = g.stride_height == g.pool_height && g.stride_width == g.pool_width &&
                     g.out_height * g.pool_height == g.height &&
                     g.out_width * g.pool_width == g.width;
  if (!cover) {
    ForVectors(g.height * g.width * g.channels,
               [&](int64_t i, int lanes) { StoreLanes(dx + i, lanes, Zero()); });
  }
  ForWindows(g, [&](auto side, const Taps& taps, int64_t in, int64_t out, int lanes) {
    const Vec winner = LoadLanes(reinterpret_cast<const float*>(winners + out), lanes);
    const Vec gradient = LoadLanes(dy + out, lanes);
    ForTaps<side.value>(g, taps, [&](int32_t tap, int64_t offset) {
      float* p = dx + (in + offset);
      const Vec part = Select(EqualBits(winner, SetBits(tap)), gradient, Zero());
      StoreLanes(p, lanes, Add(overlap ? LoadLanes(p, lanes) : Zero(), part));
    });
  });
}

static void AveragePool(int64_t positions, int64_t channels, const float* x, float* y) {
  const Vec count = Set(static_cast<float>(positions));
  ForVectors(channels, [&](int64_t c, int lanes) {
    Vec sum = LoadLanes(x + c, lanes);
    for (int64_t i = 1; i < positions; ++i) sum = Add(sum, LoadLanes(x + i * channels + c, lanes));
    StoreLanes(y + c, lanes, Div(sum, count));
  });
}

static void AveragePoolBackward(int64_t positions, int64_t channels, const float* dy, float* dx) {
  const Vec count = Set(static_cast<float>(positions));
  ForVectors(channels, [&](int64_t c, int lanes) {
    const Vec gradient = Div(LoadLanes(dy + c, lanes), count);
    for (int64_t i = 0; i < positions; ++i) StoreLanes(dx + i * channels + c, lanes, gradient);
  });
}
