// Elementwise functions (rule 7), sums for softmax (rule 3).

// Calls body(offset, lanes) for each vector of [0, n); lanes < kLanes at the end only.
template <typename Body>
static inline void ForVectors(int64_t n, Body body) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) body(i, kLanes);
  if (i < n) body(i, static_cast<int>(n - i));
}

static inline Vec LoadLanes(const float* p, int lanes) {
  return lanes == kLanes ? Load(p) : LoadFirst(p, lanes);
}
static inline void StoreLanes(float* p, int lanes, Vec x) {
  if (lanes == kLanes) {
    Store(p, x);
  } else {
    StoreFirst(p, lanes, x);
  }
}

// The lanes of x that are above `most` or below `least` become that; NaN passes.
static inline Vec AtMost(Vec most, Vec x) { return Select(Greater(x, most), most, x); }
static inline Vec AtLeast(Vec least, Vec x) { return Select(Greater(least, x), least, x); }

// e^x = (fraction + 1) * power for x clamped to [-87, 87], where neither result nor reciprocal
// leaves the normal range; NaN passes in the fraction. Cephes' expf polynomial: within 1 ulp.
struct ExpParts {
  Vec fraction;
  Vec power;  // 2^n
};
static inline ExpParts SplitExp(Vec x) {
  x = AtLeast(Set(-87.0f), AtMost(Set(87.0f), x));
  const Vec n = Round(Mul(x, Set(1.44269504088896341f)));
  Vec r = Fma(n, Set(-0.693359375f), x);
  r = Fma(n, Set(2.12194440e-4f), r);
  Vec p = Set(1.9875691500e-4f);
  p = Fma(p, r, Set(1.3981999507e-3f));
  p = Fma(p, r, Set(8.3334519073e-3f));
  p = Fma(p, r, Set(4.1665795894e-2f));
  p = Fma(p, r, Set(1.6666665459e-1f));
  p = Fma(p, r, Set(5.0000001201e-1f));
  return {Fma(p, Mul(r, r), r), PowerOfTwo(Select(IsNan(x), Zero(), n))};
}

static inline Vec Exp(Vec x) {
  const ExpParts e = SplitExp(x);
  return Mul(Add(e.fraction, Set(1.0f)), e.power);
}

static inline Vec Sigmoid(Vec x) { return Div(Set(1.0f), Add(Set(1.0f), Exp(Sub(Zero(), x)))); }

// Cephes' tanhf: a polynomial near 0, by exp elsewhere.
static inline Vec Tanh(Vec x) {
  const Vec z = Mul(x, x);
  Vec p = Set(-5.70498872745e-3f);
  p = Fma(p, z, Set(2.06390887954e-2f));
  p = Fma(p, z, Set(-5.37397155531e-2f));
  p = Fma(p, z, Set(1.33314422036e-1f));
  p = Fma(p, z, Set(-3.33332819422e-1f));
  const Vec small = Fma(Mul(p, z), x, x);
  const Vec a = Abs(x);
  const Vec e = Exp(Add(a, a));
  const Vec magnitude = Sub(Set(1.0f), Div(Set(2.0f), Add(e, Set(1.0f))));
  const Vec large = Select(Greater(Zero(), x), Sub(Zero(), magnitude), magnitude);
  return Select(Greater(a, Set(0.625f)), large, small);
}

// ReLU where it is asked for: AtLeast(Least(relu), x).
static inline Vec Least(bool relu) { return relu ? Zero() : Set(-__builtin_inff()); }
static inline Vec Relu(Vec x) { return AtLeast(Zero(), x); }

// Natural logarithm of a normal x > 0 (Cephes' logf).
static inline float Log(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, 4);
  int exponent = static_cast<int>(bits >> 23) - 126;
  bits = (bits & 0x007fffffu) | 0x3f000000u;
  float m;  // within [0.5, 1)
  __builtin_memcpy(&m, &bits, 4);
  if (m < 0.707106781186547524f) {
    exponent -= 1;
    m = m + m - 1.0f;
  } else {
    m = m - 1.0f;
  }
  const float z = m * m;
  float p = 7.0376836292e-2f;
  p = __builtin_fmaf(p, m, -1.1514610310e-1f);
  p = __builtin_fmaf(p, m, 1.1676998740e-1f);
  p = __builtin_fmaf(p, m, -1.2420140846e-1f);
  p = __builtin_fmaf(p, m, 1.4249322787e-1f);
  p = __builtin_fmaf(p, m, -1.6668057665e-1f);
  p = __builtin_fmaf(p, m, 2.0000714765e-1f);
  p = __builtin_fmaf(p, m, -2.4999993993e-1f);
  p = __builtin_fmaf(p, m, 3.3333331174e-1f);
  const float e = static_cast<float>(exponent);
  float y = m * z * p;
  y = __builtin_fmaf(e, -2.12194440e-4f, y);
  y = __builtin_fmaf(z, -0.5f, y);
  return __builtin_fmaf(e, 0.693359375f, m + y);
}

// The greatest of x, and the sum of exp(x[j] - max), one ascending chain.
static float ExpSum(int64_t n, const float* x, float* max) {
  float best = x[0];
  for (int64_t j = 1; j < n; ++j) best = x[j] > best ? x[j] : best;
  *max = best;
  const Vec shift = Set(best);
  float sum = 0.0f;
  ForVectors(n, [&](int64_t j, int lanes) {
    float e[kLanes];
    Store(e, Exp(Sub(LoadLanes(x + j, lanes), shift)));
    for (int lane = 0; lane < lanes; ++lane) sum += e[lane];
  });
  return sum;
}

// The same for kLanes rows or fewer, side by side, one a lane: alone, each would wait for every one
// of its additions.
static void ExpSums(int rows, int64_t n, const float* x, float* max, float* sum) {
  constexpr int64_t kBlock = 64;
  float columns[kBlock * kLanes];
  const auto for_columns = [&](auto body) {
    for (int64_t begin = 0; begin < n; begin += kBlock) {
      const int64_t count = n - begin < kBlock ? n - begin : kBlock;
      PackTransposedPanel(x + begin, n, count, rows, columns);
      for (int64_t j = 0; j < count; ++j) body(begin + j == 0, Load(columns + j * kLanes));
    }
  };
  Vec best = Zero();
  for_columns([&](bool first, Vec v) { best = first ? v : Select(Greater(v, best), v, best); });
  Vec total = Zero();
  for_columns([&](bool, Vec v) { total = Add(total, Exp(Sub(v, best))); });
  Store(max, best);
  Store(sum, total);
}

// Calls body(first row, rows, max[rows], sum[rows]) for groups of rows.
template <typename Body>
static inline void ForExpSums(int64_t rows, int64_t n, const float* x, Body body) {
  for (int64_t r = 0; r < rows; r += kLanes) {
    const int count = static_cast<int>(rows - r < kLanes ? rows - r : kLanes);
    float max[kLanes] = {}, sum[kLanes] = {};
    if (count >= kLanes / 4) {
      ExpSums(count, n, x + r * n, max, sum);
    } else {
      for (int i = 0; i < count; ++i) sum[i] = ExpSum(n, x + (r + i) * n, &max[i]);
    }
    body(r, count, max, sum);
  }
}

static void AddVectors(int64_t n, const float* a, const float* b, bool relu, float* y) {
  const Vec least = Least(relu);
  ForVectors(n, [&](int64_t i, int lanes) {
    StoreLanes(y + i, lanes, AtLeast(least, Add(LoadLanes(a + i, lanes), LoadLanes(b + i, lanes))));
  });
}

static void ScaleUint8(const uint8_t* src, int64_t n, float scale, float offset, float* x) {
  const Vec s = Set(scale);
  const Vec o = Set(offset);
  ForVectors(n, [&](int64_t i, int lanes) {
    StoreLanes(x + i, lanes, Fma(IntegersToFloats(LoadBytes(src + i, lanes)), s, o));
  });
}

static void ScaleFloat(const float* src, int64_t n, float scale, float offset, float* x) {
  const Vec s = Set(scale);
  const Vec o = Set(offset);
  ForVectors(n, [&](int64_t i, int lanes) {
    StoreLanes(x + i, lanes, Fma(LoadLanes(src + i, lanes), s, o));
  });
}
