// Sums across samples (rule 2), BatchNorm's apply and backward (rule 6), pooling. Vectors run across
// channels. A block's rows go to four accumulators by row mod 4, combined (0+1)+(2+3).

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
        [&](int64_t r, Vec (&sum)[2]) {
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
          [&](int64_t r, Vec (&sum)[1]) {
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
        [&](int64_t r, Vec (&sum)[2]) {
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

// Largest value of the window at `x` and the number of its tap, in (kh, kw) order: a later tap wins
// only if it is greater, or NaN.
static inline Vec WindowMax(const PoolGeometry& g, const float* x, int lanes, Vec* tap) {
  Vec best = LoadLanes(x, lanes);
  Vec best_tap = Zero();
  float number = 0.0f;
  for (int64_t i = 0; i < g.pool_height; ++i) {
    for (int64_t j = 0; j < g.pool_width; ++j, number += 1.0f) {
      if (i == 0 && j == 0) continue;
      const Vec v = LoadLanes(x + (i * g.width + j) * g.channels, lanes);
      const Mask wins = Or(Greater(v, best), IsNan(v));
      best = Select(wins, v, best);
      best_tap = Select(wins, Set(number), best_tap);
    }
  }
  *tap = best_tap;
  return best;
}

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

static void MaxPool(const PoolGeometry& g, const float* x, float* y) {
  ForWindows(g, [&](int64_t in, int64_t out, int lanes) {
    Vec tap;
    StoreLanes(y + out, lanes, WindowMax(g, x + in, lanes, &tap));
  });
}

static void MaxPoolBackward(const PoolGeometry& g, const float* x, const float* dy, float* dx) {
  const bool overlap = g.stride_height < g.pool_height || g.stride_width < g.pool_width;
  const bool cover = g.out_height * g.pool_height == g.height &&
                     g.out_width * g.pool_width == g.width;
  if (overlap || !cover) {
    ForVectors(g.height * g.width * g.channels,
               [&](int64_t i, int lanes) { StoreLanes(dx + i, lanes, Zero()); });
  }
  ForWindows(g, [&](int64_t in, int64_t out, int lanes) {
    Vec tap;
    WindowMax(g, x + in, lanes, &tap);
    const Vec gradient = LoadLanes(dy + out, lanes);
    float number = 0.0f;
    for (int64_t i = 0; i < g.pool_height; ++i) {
      for (int64_t j = 0; j < g.pool_width; ++j, number += 1.0f) {
        float* p = dx + in + (i * g.width + j) * g.channels;
        const Vec part = Select(Equal(tap, Set(number)), gradient, Zero());
        StoreLanes(p, lanes, Add(overlap ? LoadLanes(p, lanes) : Zero(), part));
      }
    }
  });
}
