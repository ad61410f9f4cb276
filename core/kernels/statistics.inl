// Sums across samples (rule 2), BatchNorm's apply and backward (rule 6), pooling. Vectors run
// across channels. A block's rows go to four accumulators by row mod 4, combined (0+1)+(2+3).

// sums[q] += body(row) over the block's rows, q = row mod 4, for kSums sums at once.
template <int kSums, typename Body>
static inline void SumRows(int64_t rows, Body body, Vec (&out)[kSums]) {
  Vec sum[kSums][4];
  for (int s = 0; s < kSums; ++s) {
    for (int q = 0; q < 4; ++q) sum[s][q] = Zero();
  }
  int64_t r = 0;
  for (; r + 4 <= rows; r += 4) {
    UNROLL for (int q = 0; q < 4; ++q) {
      Vec lane[kSums];
      for (int s = 0; s < kSums; ++s) lane[s] = sum[s][q];
      body(r + q, lane);
      for (int s = 0; s < kSums; ++s) sum[s][q] = lane[s];
    }
  }
  UNROLL for (int q = 0; q < 3; ++q) {
    if (r + q < rows) {
      Vec lane[kSums];
      for (int s = 0; s < kSums; ++s) lane[s] = sum[s][q];
      body(r + q, lane);
      for (int s = 0; s < kSums; ++s) sum[s][q] = lane[s];
    }
  }
  for (int s = 0; s < kSums; ++s) {
    out[s] = Add(Add(sum[s][0], sum[s][1]), Add(sum[s][2], sum[s][3]));
  }
}

static void BlockMoments(const float* x, int64_t rows, int64_t channels, float* s1, float* s2) {
  ForVectors(channels, [&](int64_t c, int lanes) {
    const Vec x0 = LoadLanes(x + c, lanes);
    Vec out[2];
    SumRows<2>(
        rows,
        [&](int64_t r, Vec(&sum)[2]) {
          const Vec d = Sub(LoadLanes(x + r * channels + c, lanes), x0);
          sum[0] = Add(sum[0], d);
          sum[1] = Fma(d, d, sum[1]);
        },
        out);
    StoreLanes(s1 + c, lanes, out[0]);
    StoreLanes(s2 + c, lanes, out[1]);
  });
}

static void BlockSums(const float* dy, const float* x, const float* m, int64_t rows,
                      int64_t channels, float* s1, float* s2) {
  ForVectors(channels, [&](int64_t c, int lanes) {
    if (x == nullptr) {
      Vec out[1];
      SumRows<1>(
          rows,
          [&](int64_t r, Vec(&sum)[1]) {
            sum[0] = Add(sum[0], LoadLanes(dy + r * channels + c, lanes));
          },
          out);
      StoreLanes(s1 + c, lanes, out[0]);
      return;
    }
    const Vec mean = LoadLanes(m + c, lanes);
    Vec out[2];
    SumRows<2>(
        rows,
        [&](int64_t r, Vec(&sum)[2]) {
          const Vec g = LoadLanes(dy + r * channels + c, lanes);
          const Vec d = Sub(LoadLanes(x + r * channels + c, lanes), mean);
          sum[0] = Add(sum[0], g);
          sum[1] = Fma(g, d, sum[1]);
        },
        out);
    StoreLanes(s1 + c, lanes, out[0]);
    StoreLanes(s2 + c, lanes, out[1]);
  });
}

static void Normalize(const float* x, int64_t rows, int64_t channels, const float* m,
                      const float* a, const float* b, float* y) {
  ForVectors(channels, [&](int64_t c, int lanes) {
    const Vec mv = LoadLanes(m + c, lanes);
    const Vec av = LoadLanes(a + c, lanes);
    const Vec bv = LoadLanes(b + c, lanes);
    for (int64_t i = c; i < rows * channels; i += channels) {
      StoreLanes(y + i, lanes, Fma(Sub(LoadLanes(x + i, lanes), mv), av, bv));
    }
  });
}

static void NormalizeBackward(const float* dy, const float* x, int64_t rows, int64_t channels,
                              const float* m, const float* k0, const float* k1, const float* k2,
                              float* dx) {
  ForVectors(channels, [&](int64_t c, int lanes) {
    const Vec mv = LoadLanes(m + c, lanes);
    const Vec k0v = LoadLanes(k0 + c, lanes);
    const Vec k1v = LoadLanes(k1 + c, lanes);
    const Vec k2v = LoadLanes(k2 + c, lanes);
    for (int64_t i = c; i < rows * channels; i += channels) {
      const Vec inner = Fma(LoadLanes(dy + i, lanes), k1v, k0v);
      StoreLanes(dx + i, lanes, Fma(Sub(LoadLanes(x + i, lanes), mv), k2v, inner));
    }
  });
}

// Calls body(tap, offset in x) for the taps of a window in (kh, kw) order.
template <typename Body>
static inline void ForTaps(const PoolGeometry& g, Body body) {
  int32_t tap = 0;
  for (int64_t i = 0; i < g.pool_height; ++i) {
    for (int64_t j = 0; j < g.pool_width; ++j) body(tap++, (i * g.width + j) * g.channels);
  }
}

// Calls body(offset in x, offset in y, lanes) for every window and vector of channels.
template <typename Body>
static inline void ForWindows(const PoolGeometry& g, Body body) {
  for (int64_t i = 0; i < g.out_height; ++i) {
    for (int64_t j = 0; j < g.out_width; ++j) {
      const int64_t in = (i * g.stride_height * g.width + j * g.stride_width) * g.channels;
      const int64_t out = (i * g.out_width + j) * g.channels;
      ForVectors(g.channels, [&](int64_t c, int lanes) { body(in + c, out + c, lanes); });
    }
  }
}

// A later tap wins only if it is greater, or NaN (rule 7).
static void MaxPool(const PoolGeometry& g, const float* x, float* y, int32_t* winners) {
  ForWindows(g, [&](int64_t in, int64_t out, int lanes) {
    Vec best = LoadLanes(x + in, lanes);
    Vec winner = SetBits(0);
    ForTaps(g, [&](int32_t tap, int64_t offset) {
      if (tap == 0) return;
      const Vec v = LoadLanes(x + in + offset, lanes);
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
  const bool cover =
      g.out_height * g.pool_height == g.height && g.out_width * g.pool_width == g.width;
  if (overlap || !cover) {
    ForVectors(g.height * g.width * g.channels,
               [&](int64_t i, int lanes) { StoreLanes(dx + i, lanes, Zero()); });
  }
  ForWindows(g, [&](int64_t in, int64_t out, int lanes) {
    const Vec winner = LoadLanes(reinterpret_cast<const float*>(winners + out), lanes);
    const Vec gradient = LoadLanes(dy + out, lanes);
    ForTaps(g, [&](int32_t tap, int64_t offset) {
      float* p = dx + in + offset;
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
