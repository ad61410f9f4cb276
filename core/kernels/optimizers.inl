// Optimizer steps (rule 9).

// Where gradients end, as of units that no longer fire, m and v shrink until they are subnormal, with
// which a step takes twice as long. Below this they count as zero, wherever that changes no bit:
// alpha * m / (sqrt(v) + epsilon) < 2^-86 takes nothing from a weight above 2^-60, and sqrt(v) < 2^-55
// adds nothing to epsilon.
constexpr float kVanishing = 0x1p-110f;
constexpr float kLeastWeight = 0x1p-60f;
static inline float Vanishing(const AdamStep& step) {
  const bool usual = step.epsilon >= 0x1p-28f && step.alpha <= step.epsilon * 0x1p24f;
  return usual ? kVanishing : 0.0f;
}

static void Adam(const AdamStep& step, int64_t n, const float* gradient, float* m, float* v,
                 float* w) {
  const Vec vanishing = Set(Vanishing(step));
  const Vec least_weight = Set(kLeastWeight);
  const Vec alpha = Set(step.alpha);
  const Vec b1 = Set(step.one_minus_beta_1);
  const Vec b2 = Set(step.one_minus_beta_2);
  const Vec epsilon = Set(step.epsilon);
  ForVectors(n, [&](int64_t i, int lanes) {
    const Vec g = LoadLanes(gradient + i, lanes);
    const Vec m0 = LoadLanes(m + i, lanes);
    const Vec v0 = LoadLanes(v + i, lanes);
    const Vec m1 = Fma(Sub(g, m0), b1, m0);
    const Vec v1 = Fma(Sub(Mul(g, g), v0), b2, v0);
    StoreLanes(m + i, lanes, m1);
    StoreLanes(v + i, lanes, v1);
    const Vec w0 = LoadLanes(w + i, lanes);
    const Vec small = Select(Greater(Abs(w0), least_weight), Zero(), m1);
    const Vec numerator = Mul(alpha, Select(Greater(vanishing, Abs(m1)), small, m1));
    const Vec root = Sqrt(Select(Greater(vanishing, v1), Zero(), v1));
    StoreLanes(w + i, lanes, Sub(w0, Div(numerator, Add(root, epsilon))));
  });
}

static void Sgd(const SgdStep& step, int64_t n, const float* gradient, float* velocity, float* w) {
  const Vec rate = Set(step.learning_rate);
  const Vec momentum = Set(step.momentum);
  ForVectors(n, [&](int64_t i, int lanes) {
    const Vec d = Mul(rate, LoadLanes(gradient + i, lanes));
    Vec change = Sub(Zero(), d);
    if (velocity != nullptr) {
      const Vec v = Sub(Mul(momentum, LoadLanes(velocity + i, lanes)), d);
      StoreLanes(velocity + i, lanes, v);
      change = step.nesterov ? Sub(Mul(momentum, v), d) : v;
    }
    StoreLanes(w + i, lanes, Add(LoadLanes(w + i, lanes), change));
  });
}

static void RmsProp(const RmsPropStep& step, int64_t n, const float* gradient, float* square,
                    float* average, float* change, float* w) {
  const Vec rate = Set(step.learning_rate);
  const Vec weight = Set(step.one_minus_rho);
  const Vec momentum = Set(step.momentum);
  const Vec epsilon = Set(step.epsilon);
  ForVectors(n, [&](int64_t i, int lanes) {
    const Vec g = LoadLanes(gradient + i, lanes);
    const Vec s0 = LoadLanes(square + i, lanes);
    const Vec s = Fma(Sub(Mul(g, g), s0), weight, s0);
    StoreLanes(square + i, lanes, s);
    Vec variance = s;
    if (average != nullptr) {
      const Vec a0 = LoadLanes(average + i, lanes);
      const Vec a = Fma(Sub(g, a0), weight, a0);
      StoreLanes(average + i, lanes, a);
      // Rounding alone can make it negative.
      variance = Relu(Fma(Sub(Zero(), a), a, s));
    }
    Vec d = Div(Mul(rate, g), Sqrt(Add(variance, epsilon)));
    if (change != nullptr) {
      d = Add(Mul(momentum, LoadLanes(change + i, lanes)), d);
      StoreLanes(change + i, lanes, d);
    }
    StoreLanes(w + i, lanes, Sub(LoadLanes(w + i, lanes), d));
  });
}
