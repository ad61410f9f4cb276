// The rows of a contraction's left operand and result (RowMap), a tile at a time.

// Walks over the rows of a matrix, a tile at a time: with a division a row, short chains would cost
// more to find than to compute.
class RowCursor {
 public:
  RowCursor(const RowMap& map, int64_t row) : map_(map) {
    // Lines or images that follow each other as pixels do count as one.
    if (map_.height > 0 && map_.width == 1) map_ = {map_.base, map_.height, map_.image, map_.outer};
    if (map_.height > 0 && map_.height * map_.outer == map_.image) map_.height = 0;
    if (map_.height == 0 && map_.width == 1) {
      map_.inner = map_.outer;
      map_.width = INT64_MAX;
    } else if (map_.height == 0 && map_.width * map_.inner == map_.outer) {
      map_.width = INT64_MAX;
    }
    column_ = row % map_.width;
    line_ = row / map_.width;
    image_start_ = map_.base;
    if (map_.height > 0) {
      image_start_ += line_ / map_.height * map_.image;
      line_ %= map_.height;
    }
    line_start_ = image_start_ + line_ * map_.outer;
  }

  // Rows from the next one on that lie evenly apart, and how far.
  int64_t left_in_line() const { return map_.width - column_; }
  int64_t distance() const { return map_.inner; }
  int64_t width() const { return map_.width; }

  // The starts of the next kRows rows.
  template <int kRows>
  void Take(const float* (&rows)[kRows]) {
    const float* row = line_start_ + column_ * map_.inner;
    const int64_t left = map_.width - column_;  // in this line
    if (kRows < left) {
      UNROLL for (int i = 0; i < kRows; ++i) rows[i] = row + i * map_.inner;
      column_ += kRows;
      return;
    }
    if (kRows <= map_.width) {  // the line's end, and the beginning of the next one
      NextLine();
      const float* next = line_start_ - left * map_.inner;
      UNROLL for (int i = 0; i < kRows; ++i) rows[i] = (i < left ? row : next) + i * map_.inner;
      column_ = kRows - left;
      return;
    }
    for (int i = 0; i < kRows; ++i) {
      rows[i] = line_start_ + column_ * map_.inner;
      if (++column_ < map_.width) continue;
      column_ = 0;
      NextLine();
    }
  }

 private:
  void NextLine() {
    line_start_ += map_.outer;
    if (++line_ < map_.height || map_.height == 0) return;
    line_ = 0;
    image_start_ += map_.image;
    line_start_ = image_start_;
  }

  RowMap map_;
  int64_t column_, line_;
  const float *line_start_, *image_start_;
};

// The rows of a tile, a value of each at a time. Any rows take a register each; a tile of one or two
// vectors has more rows than there are registers, and would read a pointer for every other value.
template <int kRows>
class AnyRows {
 public:
  explicit AnyRows(RowCursor& cursor) { cursor.Take(rows_); }
  void Seek(int64_t offset) { at_ = offset; }
  void Advance(int64_t step) { at_ += step; }
  const float* operator[](int i) const { return rows_[i] + at_; }

 private:
  const float* rows_[kRows];
  int64_t at_ = 0;
};

// Rows evenly apart take two pointers and the odd multiples of their distance: the processor's
// addresses multiply by 2, 4 and 8.
template <int kRows>
class EvenRows {
 public:
  static_assert(kRows <= 16);
  explicit EvenRows(RowCursor& cursor) : distance_(cursor.distance()) {
    const float* rows[kRows];
    cursor.Take(rows);
    start_ = rows[0];
  }
  void Seek(int64_t offset) {
    low_ = start_ + offset;
    high_ = low_ + 8 * distance_;
  }
  void Advance(int64_t step) {
    low_ += step;
    high_ += step;
    // Or the compiler makes a pointer of every row again.
    asm("" : "+r"(low_), "+r"(high_));
  }
  const float* operator[](int i) const {
    const float* p = i < 8 ? low_ : high_;
    switch (i % 8) {
      case 3: return p + times_3_;
      case 5: return p + times_5_;
      case 6: return p + 2 * times_3_;
      case 7: return p + times_7_;
      default: return p + i % 8 * distance_;
    }
  }

 private:
  const float *start_, *low_, *high_;
  int64_t distance_;
  int64_t times_3_ = 3 * distance_, times_5_ = 5 * distance_, times_7_ = 7 * distance_;
};
