// Pooling of one image. Vectors run across channels.

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

// Calls body with winners as what they are; its argument only tells the type.
template <typename Body>
static inline void WithWinners(const PoolGeometry& g, Body body) {
  if (g.winner_bytes() == sizeof(uint8_t)) {
    body(uint8_t{});
  } else {
    body(int32_t{});
  }
}

static inline Vec LoadWinners(const uint8_t* p, int lanes) { return LoadBytes(p, lanes); }
static inline Vec LoadWinners(const int32_t* p, int lanes) {
  return LoadLanes(reinterpret_cast<const float*>(p), lanes);
}
static inline void StoreWinners(uint8_t* p, int lanes, Vec x) { StoreBytes(p, lanes, x); }
static inline void StoreWinners(int32_t* p, int lanes, Vec x) {
  StoreLanes(reinterpret_cast<float*>(p), lanes, x);
}

// A later tap wins only if it is greater, or NaN (rule 7).
static void MaxPool(const PoolGeometry& g, const float* x, float* y, std::byte* winners) {
  WithWinners(g, [&](auto type) {
    auto* w = reinterpret_cast<decltype(type)*>(winners);
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
      if (w != nullptr) StoreWinners(w + out, lanes, winner);
    });
  });
}

static void MaxPoolBackward(const PoolGeometry& g, const std::byte* winners, const float* dy,
                            float* dx) {
  const bool overlap = g.stride_height < g.pool_height || g.stride_width < g.pool_width;
  const bool cover = g.stride_height == g.pool_height && g.stride_width == g.pool_width &&
                     g.out_height * g.pool_height == g.height &&
                     g.out_width * g.pool_width == g.width;
  if (!cover) {
    ForVectors(g.height * g.width * g.channels,
               [&](int64_t i, int lanes) { StoreLanes(dx + i, lanes, Zero()); });
  }
  WithWinners(g, [&](auto type) {
    const auto* w = reinterpret_cast<const decltype(type)*>(winners);
    ForWindows(g, [&](auto side, const Taps& taps, int64_t in, int64_t out, int lanes) {
      const Vec winner = LoadWinners(w + out, lanes);
      const Vec gradient = LoadLanes(dy + out, lanes);
      ForTaps<side.value>(g, taps, [&](int32_t tap, int64_t offset) {
        float* p = dx + (in + offset);
        const Vec part = Select(EqualBits(winner, SetBits(tap)), gradient, Zero());
        StoreLanes(p, lanes, Add(overlap ? LoadLanes(p, lanes) : Zero(), part));
      });
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
