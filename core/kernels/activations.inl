// Activations (rules 3, 7 and 18) and their gradients.

// e^x - 1, with the relative error of e^x near 0 too.
static inline Vec Expm1(Vec x) {
  const ExpParts e = SplitExp(x);
  return Fma(e.fraction, e.power, Sub(e.power, Set(1.0f)));
}

// log(1 + z) for z within [0, 1]: Cephes' logf, whose argument 1 + z is never rounded.
static inline Vec Log1p(Vec z) {
  const Mask halves = Greater(z, Set(0.414213562f));  // 1 + z = 2 * (1 + m)
  const Vec m = Select(halves, Mul(Sub(z, Set(1.0f)), Set(0.5f)), z);
  const Vec e = Select(halves, Set(1.0f), Zero());
  const Vec m2 = Mul(m, m);
  Vec p = Set(7.0376836292e-2f);
  p = Fma(p, m, Set(-1.1514610310e-1f));
  p = Fma(p, m, Set(1.1676998740e-1f));
  p = Fma(p, m, Set(-1.2420140846e-1f));
  p = Fma(p, m, Set(1.4249322787e-1f));
  p = Fma(p, m, Set(-1.6668057665e-1f));
  p = Fma(p, m, Set(2.0000714765e-1f));
  p = Fma(p, m, Set(-2.4999993993e-1f));
  p = Fma(p, m, Set(3.3333331174e-1f));
  Vec y = Mul(Mul(m, m2), p);
  y = Fma(e, Set(-2.12194440e-4f), y);
  y = Fma(m2, Set(-0.5f), y);
  return Fma(e, Set(0.693359375f), Add(m, y));
}

static inline Vec Softplus(Vec x) {
  return Add(Relu(x), Log1p(Exp(Sub(Zero(), Abs(x)))));
}

// The normal distribution at x: its density, without 1 / sqrt(2 pi), and the probability below x.
// exp(-x^2 / 2) takes the error of the rounded square back; the rest of the tail's probability is a
// polynomial in 4 / (4 + |x|). Within a few ulp, in the tail too.
struct Normal {
  Vec density;
  Vec probability;
};
static inline Normal NormalAt(Vec x) {
  const Vec a = AtMost(Set(14.0f), Abs(x));
  const Vec square = Mul(a, a);
  const Vec rest = Fma(a, a, Sub(Zero(), square));
  const Vec e = Exp(Mul(square, Set(-0.5f)));
  const Vec density = Fma(Mul(rest, Set(-0.5f)), e, e);
  const Vec t = Div(Set(4.0f), Add(Set(4.0f), a));
  Vec p = Set(1.717727158e-2f);
  p = Fma(p, t, Set(-6.611965672e-2f));
  p = Fma(p, t, Set(5.969411939e-2f));
  p = Fma(p, t, Set(1.738347508e-2f));
  p = Fma(p, t, Set(2.221406327e-2f));
  p = Fma(p, t, Set(8.136698583e-2f));
  p = Fma(p, t, Set(7.390283937e-2f));
  p = Fma(p, t, Set(9.508956809e-2f));
  p = Fma(p, t, Set(9.954634883e-2f));
  p = Fma(p, t, Set(9.974498981e-2f));
  const Vec tail = Mul(density, Mul(p, t));
  return {density, Select(Greater(Zero(), x), tail, Sub(Set(1.0f), tail))};
}

static inline Vec Gelu(Vec x) { return Mul(AtLeast(Set(-14.0f), x), NormalAt(x).probability); }
static inline Vec GeluSlope(Vec x) {
  const Normal normal = NormalAt(x);
  const Vec v = AtLeast(Set(-14.0f), AtMost(Set(14.0f), x));
  return Fma(v, Mul(normal.density, Set(0.398942280f)), normal.probability);
}

// x * sigmoid(u(x)): SiLU with u = x, GELU's approximation with
// u = sqrt(8 / pi) * (x + 0.044715 x^3). Both are as good as 0 or x beyond `kMost`, up to which
// exp(-u) is within its range.
struct SiluArgument {
  static constexpr float kMost = 87.0f;
  static inline Vec At(Vec x) { return x; }
  static inline Vec SlopeAt(Vec) { return Set(1.0f); }
};
struct GeluArgument {
  static constexpr float kMost = 10.0f;
  static inline Vec At(Vec x) {
    return Mul(x, Fma(Mul(x, x), Set(7.13548163e-2f), Set(1.59576912f)));
  }
  static inline Vec SlopeAt(Vec x) { return Fma(Mul(x, x), Set(0.214064449f), Set(1.59576912f)); }
};

template <typename Argument>
static inline Vec Gated(Vec x) {
  const Vec v = AtLeast(Set(-Argument::kMost), x);
  return Mul(v, Sigmoid(Argument::At(AtMost(Set(Argument::kMost), v))));
}
// s + v * s * (1 - s) * u', where 1 - s = exp(-u) * s.
template <typename Argument>
static inline Vec GatedSlope(Vec x) {
  const Vec v = AtLeast(Set(-Argument::kMost), AtMost(Set(Argument::kMost), x));
  const Vec e = Exp(Sub(Zero(), Argument::At(v)));
  const Vec s = Div(Set(1.0f), Add(Set(1.0f), e));
  return Mul(s, Fma(Mul(v, Argument::SlopeAt(v)), Mul(e, s), Set(1.0f)));
}

static inline Vec HardSigmoid(Vec x) {
  return Div(AtMost(Set(6.0f), Relu(Add(x, Set(3.0f)))), Set(6.0f));
}

static void Softmax(int64_t rows, int64_t columns, const float* x, float* y) {
  ForExpSums(rows, columns, x, [&](int64_t begin, int count, const float* max, const float* sum) {
    for (int i = 0; i < count; ++i) {
      const int64_t row = (begin + i) * columns;
      const Vec shift = Set(max[i]);
      const Vec divisor = Set(sum[i]);
      ForVectors(columns, [&](int64_t j, int lanes) {
        const Vec e = Exp(Sub(LoadLanes(x + row + j, lanes), shift));
        StoreLanes(y + row + j, lanes, Div(e, divisor));
      });
    }
  });
}

static void SoftmaxBackward(int64_t rows, int64_t columns, const float* y, const float* dy,
                            float* dx) {
  for (int64_t r = 0; r < rows; ++r, y += columns, dy += columns, dx += columns) {
    float dot = 0.0f;
    for (int64_t j = 0; j < columns; ++j) dot = __builtin_fmaf(dy[j], y[j], dot);
    for (int64_t j = 0; j < columns; ++j) dx[j] = (dy[j] - dot) * y[j];
  }
}

static void Activate(const ActivationFunction& f, int64_t rows, int64_t columns, const float* x,
                     float* y) {
  const auto map = [&](auto g) {
    ForVectors(rows * columns, [&](int64_t i, int lanes) {
      StoreLanes(y + i, lanes, g(LoadLanes(x + i, lanes)));
    });
  };
  switch (f.kind) {
    case Activation::kLinear: return map([](Vec v) { return v; });
    case Activation::kRelu: return map([](Vec v) { return Relu(v); });
    case Activation::kSigmoid: return map([](Vec v) { return Sigmoid(v); });
    case Activation::kTanh: return map([](Vec v) { return Tanh(v); });
    case Activation::kSoftmax: return Softmax(rows, columns, x, y);
    case Activation::kRectifier: {
      const Vec slope = Set(f.negative_slope);
      const Vec most = Set(f.max_value);
      const bool leaks = f.negative_slope != 0.0f;
      return map([=](Vec v) {
        const Vec below = leaks ? Mul(slope, v) : Zero();
        return AtMost(most, Select(Greater(Zero(), v), below, v));
      });
    }
    case Activation::kElu: {
      const Vec scale = Set(f.scale);
      const Vec below = Set(f.scale * f.alpha);
      return map([=](Vec v) {
        return Select(Greater(v, Zero()), Mul(scale, v), Mul(below, Expm1(v)));
      });
    }
    case Activation::kGelu: return map([](Vec v) { return Gelu(v); });
    case Activation::kGeluTanh: return map([](Vec v) { return Gated<GeluArgument>(v); });
    case Activation::kSilu: return map([](Vec v) { return Gated<SiluArgument>(v); });
    case Activation::kHardSigmoid: return map([](Vec v) { return HardSigmoid(v); });
    case Activation::kSoftplus: return map([](Vec v) { return Softplus(v); });
  }
}

static void ActivateBackward(const ActivationFunction& f, int64_t rows, int64_t columns,
                             const float* y, const float* dy, float* dx) {
  const auto map = [&](auto g) {
    ForVectors(rows * columns, [&](int64_t i, int lanes) {
      StoreLanes(dx + i, lanes, g(LoadLanes(y + i, lanes), LoadLanes(dy + i, lanes)));
    });
  };
  switch (f.kind) {
    case Activation::kLinear: return map([](Vec, Vec g) { return g; });
    case Activation::kRelu:
      return map([](Vec v, Vec g) { return Select(Greater(v, Zero()), g, Zero()); });
    case Activation::kSigmoid:
      return map([](Vec v, Vec g) { return Mul(g, Mul(v, Sub(Set(1.0f), v))); });
    case Activation::kTanh:
      return map([](Vec v, Vec g) { return Mul(g, Sub(Set(1.0f), Mul(v, v))); });
    case Activation::kSoftmax: return SoftmaxBackward(rows, columns, y, dy, dx);
    case Activation::kRectifier: {
      const Vec slope = Set(f.negative_slope);
      const Vec most = Set(f.max_value);
      const bool leaks = f.negative_slope != 0.0f;
      return map([=](Vec v, Vec g) {
        const Vec below = leaks ? Mul(slope, g) : Zero();
        return Select(Greater(v, Zero()), Select(Greater(most, v), g, Zero()), below);
      });
    }
    case Activation::kElu: {
      const Vec scale = Set(f.scale);
      const Vec below = Set(f.scale * f.alpha);
      return map([=](Vec v, Vec g) {
        return Mul(g, Select(Greater(v, Zero()), scale, Mul(below, Exp(v))));
      });
    }
    case Activation::kGelu: return map([](Vec v, Vec g) { return Mul(g, GeluSlope(v)); });
    case Activation::kGeluTanh:
      return map([](Vec v, Vec g) { return Mul(g, GatedSlope<GeluArgument>(v)); });
    case Activation::kSilu:
      return map([](Vec v, Vec g) { return Mul(g, GatedSlope<SiluArgument>(v)); });
    case Activation::kHardSigmoid:
      return map([](Vec v, Vec g) {
        const Mask inside = Greater(Mul(v, Sub(Set(1.0f), v)), Zero());
        return Select(inside, Div(g, Set(6.0f)), Zero());
      });
    case Activation::kSoftplus: return map([](Vec v, Vec g) { return Mul(g, Sigmoid(v)); });
  }
}
