// Rows normalised each by itself (rule 19): layer normalization.

// The first lanes of x; zero in the others.
static inline Vec KeepFirst(int lanes, Vec x) {
  if (lanes == kLanes) return x;
  float kept[kLanes] = {};
  StoreFirst(kept, lanes, x);
  return Load(kept);
}

// Sums over a row of n values, read as rows of 16 and summed as rule 2 sums rows: body(offset,
// lanes, sum) adds a vector's terms to sum[kSums], zeros beyond `lanes`. The 16 sums of a block are
// added in order in double.
template <int kSums, typename Body>
static inline void SumRow(int64_t n, Body body, double (&total)[kSums]) {
  constexpr int kWidth = 16;
  constexpr int kVectors = kWidth / kLanes;
  for (double& t : total) t = 0.0;
  for (int64_t begin = 0; begin < n; begin += kWidth * kBlockRows) {
    const int64_t end = n - begin < kWidth * kBlockRows ? n : begin + kWidth * kBlockRows;
    Vec sum[4][kVectors][kSums];
    UNROLL for (int q = 0; q < 4; ++q) {
      UNROLL for (int v = 0; v < kVectors; ++v) {
        UNROLL for (int s = 0; s < kSums; ++s) sum[q][v][s] = Zero();
      }
    }
    int64_t j = begin;
    for (; j + 4 * kWidth <= end; j += 4 * kWidth) {
      UNROLL for (int q = 0; q < 4; ++q) {
        UNROLL for (int v = 0; v < kVectors; ++v) {
          body(j + q * kWidth + v * kLanes, kLanes, sum[q][v]);
        }
      }
    }
    UNROLL for (int q = 0; q < 4; ++q) {
      UNROLL for (int v = 0; v < kVectors; ++v) {
        const int64_t at = j + q * kWidth + v * kLanes;
        const int64_t rest = end - at;
        if (rest > 0) body(at, rest < kLanes ? static_cast<int>(rest) : kLanes, sum[q][v]);
      }
    }
    UNROLL for (int s = 0; s < kSums; ++s) {
      float lanes[kWidth];
      UNROLL for (int v = 0; v < kVectors; ++v) {
        Store(lanes + v * kLanes,
              Add(Add(sum[0][v][s], sum[1][v][s]), Add(sum[2][v][s], sum[3][v][s])));
      }
      for (float lane : lanes) total[s] += lane;
    }
  }
}

static inline Vec LoadLanesOr(float otherwise, const float* p, int64_t i, int lanes) {
  return p == nullptr ? Set(otherwise) : LoadLanes(p + i, lanes);
}

static void NormalizeEachRow(const float* x, int64_t rows, int64_t columns, double epsilon,
                             const float* gamma, const float* beta, float* normalized,
                             float* inverses, float* y) {
  const auto n = static_cast<double>(columns);
  for (int64_t r = 0; r < rows; ++r, x += columns, normalized += columns, y += columns) {
    double sum[1];
    const Vec first = Set(x[0]);
    SumRow<1>(columns, [&](int64_t j, int lanes, Vec (&s)[1]) {
      s[0] = Add(s[0], KeepFirst(lanes, Sub(LoadLanes(x + j, lanes), first)));
    }, sum);
    const double mean = x[0] + sum[0] / n;
    const float rounded = static_cast<float>(mean);
    const Vec m = Set(rounded);
    SumRow<1>(columns, [&](int64_t j, int lanes, Vec (&s)[1]) {
      const Vec d = KeepFirst(lanes, Sub(LoadLanes(x + j, lanes), m));
      s[0] = Fma(d, d, s[0]);
    }, sum);
    const double off = mean - rounded;
    double variance = sum[0] / n - off * off;
    if (0.0 > variance) variance = 0.0;
    const double inverse = 1.0 / __builtin_sqrt(variance + epsilon);
    if (inverses != nullptr) inverses[r] = static_cast<float>(inverse);
    const Vec a = Set(static_cast<float>(inverse));
    const Vec b = Set(static_cast<float>((rounded - mean) * inverse));
    ForVectors(columns, [&](int64_t j, int lanes) {
      const Vec h = Fma(Sub(LoadLanes(x + j, lanes), m), a, b);
      StoreLanes(normalized + j, lanes, h);
      StoreLanes(y + j, lanes,
                 Fma(h, LoadLanesOr(1.0f, gamma, j, lanes), LoadLanesOr(0.0f, beta, j, lanes)));
    });
  }
}

static void NormalizeEachRowBackward(const float* dy, const float* normalized, int64_t rows,
                                     int64_t columns, const float* gamma, const float* inverses,
                                     float* dx) {
  const auto n = static_cast<double>(columns);
  for (int64_t r = 0; r < rows; ++r, dy += columns, normalized += columns, dx += columns) {
    const auto scaled = [&](int64_t j, int lanes) {
      return Mul(LoadLanes(dy + j, lanes), LoadLanesOr(1.0f, gamma, j, lanes));
    };
    double sum[2];
    SumRow<2>(columns, [&](int64_t j, int lanes, Vec (&s)[2]) {
      const Vec g = scaled(j, lanes);
      s[0] = Add(s[0], g);
      s[1] = Fma(g, LoadLanes(normalized + j, lanes), s[1]);
    }, sum);
    const Vec a = Set(static_cast<float>(-sum[0] / n));
    const Vec b = Set(static_cast<float>(-sum[1] / n));
    const Vec inverse = Set(inverses[r]);
    ForVectors(columns, [&](int64_t j, int lanes) {
      const Vec h = LoadLanes(normalized + j, lanes);
      StoreLanes(dx + j, lanes, Mul(Fma(h, b, Add(scaled(j, lanes), a)), inverse));
    });
  }
}
