// Losses on logits (rule 8): they take a network's last softmax or sigmoid over, so that no
// probability is rounded to 0 or 1 before its logarithm is taken.

static inline float LogOrNan(float x) { return x != x ? x : Log(x); }

// As ExpRow, where nobody wants the exponentials: the same chain, a stack buffer at a time.
static float ExpSum(int64_t n, const float* x, float* max) {
  constexpr int64_t kMost = 4096;
  float e[kMost];
  float best = x[0];
  for (int64_t j = 1; j < n; ++j) best = x[j] > best ? x[j] : best;
  *max = best;
  const Vec shift = Set(best);
  float sum = 0.0f;
  for (int64_t begin = 0; begin < n; begin += kMost) {
    const int64_t count = n - begin < kMost ? n - begin : kMost;
    ForVectors(count, [&](int64_t j, int lanes) {
      StoreLanes(e + j, lanes, Exp(Sub(LoadLanes(x + begin + j, lanes), shift)));
    });
    for (int64_t j = 0; j < count; ++j) sum += e[j];
  }
  return sum;
}

static void CrossEntropy(int64_t rows, int64_t classes, const float* logits, const int32_t* labels,
                         float scale, float* losses, float* dlogits) {
  for (int64_t r = 0; r < rows; ++r) {
    const float* x = logits + r * classes;
    float* e = dlogits != nullptr ? dlogits + r * classes : nullptr;
    float max;
    const float sum = e != nullptr ? ExpRow(classes, x, e, &max) : ExpSum(classes, x, &max);
    losses[r] = LogOrNan(sum) + (max - x[labels[r]]);
    if (e == nullptr) continue;
    const Vec divisor = Set(sum);
    const Vec factor = Set(scale);
    const float at_label = (e[labels[r]] / sum - 1.0f) * scale;
    ForVectors(classes, [&](int64_t j, int lanes) {
      StoreLanes(e + j, lanes, Mul(Div(LoadLanes(e + j, lanes), divisor), factor));
    });
    e[labels[r]] = at_label;
  }
}

static void SoftCrossEntropy(int64_t rows, int64_t classes, const float* logits,
                             const float* targets, Smoothing smoothing, float scale, float* losses,
                             float* dlogits) {
  const Vec keep = Set(smoothing.keep);
  const Vec add = Set(smoothing.add);
  for (int64_t r = 0; r < rows; ++r) {
    const float* x = logits + r * classes;
    const float* target = targets + r * classes;
    float* e = dlogits != nullptr ? dlogits + r * classes : nullptr;
    float max;
    const float sum = e != nullptr ? ExpRow(classes, x, e, &max) : ExpSum(classes, x, &max);
    const float log_sum = LogOrNan(sum);
    float loss = 0.0f;
    float total = 0.0f;
    for (int64_t j = 0; j < classes; ++j) {
      const float t = __builtin_fmaf(target[j], smoothing.keep, smoothing.add);
      loss = __builtin_fmaf(t, log_sum + (max - x[j]), loss);
      total += t;
    }
    losses[r] = loss;
    if (e == nullptr) continue;
    const Vec divisor = Set(sum);
    const Vec mass = Set(total);
    const Vec factor = Set(scale);
    ForVectors(classes, [&](int64_t j, int lanes) {
      const Vec t = Fma(LoadLanes(target + j, lanes), keep, add);
      const Vec p = Div(LoadLanes(e + j, lanes), divisor);
      StoreLanes(e + j, lanes, Mul(Sub(Mul(p, mass), t), factor));
    });
  }
}

static void BinaryCrossEntropy(int64_t rows, int64_t columns, const float* logits,
                               const float* targets, Smoothing smoothing, float scale,
                               float* losses, float* dlogits) {
  const Vec one = Set(1.0f);
  const Vec keep = Set(smoothing.keep);
  const Vec add = Set(smoothing.add);
  const float divisor = static_cast<float>(columns);
  const Vec slope = Set(scale / divisor);
  for (int64_t r = 0; r < rows; ++r) {
    float sum = 0.0f;
    ForVectors(columns, [&](int64_t j, int lanes) {
      const int64_t i = r * columns + j;
      const Vec x = LoadLanes(logits + i, lanes);
      const Vec t = Fma(LoadLanes(targets + i, lanes), keep, add);
      // log(1 + e) with what rounding 1 + e lost.
      const Vec e = Exp(Sub(Zero(), Abs(x)));
      const Vec u = Add(one, e);
      float u_of[kLanes], rest_of[kLanes], linear_of[kLanes];
      Store(u_of, u);
      Store(rest_of, Div(Sub(e, Sub(u, one)), u));
      Store(linear_of, Fma(Sub(Zero(), t), x, Relu(x)));
      for (int lane = 0; lane < lanes; ++lane) {
        sum += linear_of[lane] + (Log(u_of[lane]) + rest_of[lane]);
      }
      if (dlogits != nullptr) StoreLanes(dlogits + i, lanes, Mul(Sub(Sigmoid(x), t), slope));
    });
    losses[r] = sum / divisor;
  }
}
