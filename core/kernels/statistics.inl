// Sums across samples (rule 2), BatchNorm's apply and backward (rule 6). Vectors run across
// channels. A block's rows go to four accumulators by row mod 4, combined (0+1)+(2+3).

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
