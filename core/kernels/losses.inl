// Losses on logits (rule 8): they take a network's last softmax or sigmoid over, so that no
// probability is rounded to 0 or 1 before its logarithm is taken.

static inline float LogOrNan(float x) { return x != x ? x : Log(x); }

static void CrossEntropy(int64_t rows, int64_t classes, const float* logits, const int32_t* labels,
                         float scale, float* losses, float* dlogits) {
  const Vec factor = Set(scale);
  ForExpSums(rows, classes, logits, [&](int64_t begin, int count, const float* max,
                                        const float* sum) {
    float at_label[kLanes] = {};
    for (int i = 0; i < count; ++i) {
      const int64_t r = begin + i;
      const float x = logits[r * classes + labels[r]];
      losses[r] = LogOrNan(sum[i]) + (max[i] - x);
      at_label[i] = x - max[i];
    }
    if (dlogits == nullptr) return;
    const Vec p = Div(Exp(Load(at_label)), Load(sum));
    Store(at_label, Mul(Sub(p, Set(1.0f)), factor));
    for (int i = 0; i < count; ++i) {
      const int64_t r = begin + i;
      const Vec shift = Set(max[i]);
      const Vec divisor = Set(sum[i]);
      ForVectors(classes, [&](int64_t j, int lanes) {
        const Vec e = Exp(Sub(LoadLanes(logits + r * classes + j, lanes), shift));
        StoreLanes(dlogits + r * classes + j, lanes, Mul(Div(e, divisor), factor));
      });
      dlogits[r * classes + labels[r]] = at_label[i];
    }
  });
}

static void SoftCrossEntropy(int64_t rows, int64_t classes, const float* logits,
                             const float* targets, Smoothing smoothing, float scale, float* losses,
                             float* dlogits) {
  const Vec keep = Set(smoothing.keep);
  const Vec add = Set(smoothing.add);
  const Vec factor = Set(scale);
  ForExpSums(rows, classes, logits, [&](int64_t begin, int count, const float* max,
                                        const float* sum) {
    for (int i = 0; i < count; ++i) {
      const int64_t r = begin + i;
      const float* x = logits + r * classes;
      const float* target = targets + r * classes;
      const float log_sum = LogOrNan(sum[i]);
      float loss = 0.0f;
      float total = 0.0f;
      for (int64_t j = 0; j < classes; ++j) {
        const float t = __builtin_fmaf(target[j], smoothing.keep, smoothing.add);
        loss = __builtin_fmaf(t, log_sum + (max[i] - x[j]), loss);
        total += t;
      }
      losses[r] = loss;
      if (dlogits == nullptr) continue;
      const Vec shift = Set(max[i]);
      const Vec divisor = Set(sum[i]);
      const Vec mass = Set(total);
      ForVectors(classes, [&](int64_t j, int lanes) {
        const Vec t = Fma(LoadLanes(target + j, lanes), keep, add);
        const Vec p = Div(Exp(Sub(LoadLanes(x + j, lanes), shift)), divisor);
        StoreLanes(dlogits + r * classes + j, lanes, Mul(Sub(Mul(p, mass), t), factor));
      });
    }
  });
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
