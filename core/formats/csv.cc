#include <algorithm>
#include <cmath>
#include <optional>
#include <set>
#include <span>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "core/formats/inflate.h"
#include "core/formats/readers.h"

namespace lockstep {
namespace {

// A column with more different words than this is an identifier or free text: one-hot encoding it
// would take memory without bound and teach a network nothing.
constexpr size_t kMaxCategories = 1000;

absl::Status Invalid(auto... parts) {
  return absl::InvalidArgumentError(absl::StrCat("csv: ", parts...));
}

std::string Quoted(std::string_view text) {
  constexpr size_t kShown = 40;
  return absl::StrCat("\"", absl::Utf8SafeCHexEscape(std::string(text.substr(0, kShown))),
                      text.size() > kShown ? "..." : "", "\"");
}

struct Table {
  size_t columns = 0;
  std::vector<std::string> names;  // empty without a header
  std::vector<std::string> cells;  // row by row
  std::vector<size_t> lines;       // where in the file each row starts, from 1

  size_t rows() const { return lines.size(); }
  const std::string& cell(size_t row, size_t column) const { return cells[row * columns + column]; }

  // "row 3, column 2 (age)", both counted from 1. A row is named by the line it starts at, as an
  // editor counts them, header and blank lines included.
  std::string Place(size_t row, size_t column) const {
    return absl::StrCat("row ", lines[row], ", column ", column + 1,
                        names.empty() ? "" : absl::StrCat(" (", Quoted(names[column]), ")"));
  }
};

// Any number as a float32 would print it, "inf" included.
std::optional<float> ParseNumber(const std::string& cell) {
  float value;
  if (!absl::SimpleAtof(cell, &value)) return std::nullopt;
  return value;
}

bool IsMissing(const std::string& cell) {
  return cell.empty() || cell == "?" || absl::EqualsIgnoreCase(cell, "na") ||
         absl::EqualsIgnoreCase(cell, "nan");
}

// Splits a file into rows of cells (RFC 4180: quotes protect commas, line ends and doubled quotes).
// Blank lines are skipped; white space around an unquoted cell is not part of it.
class Splitter {
 public:
  explicit Splitter(std::string_view file) : file_(file) {
    if (file_.starts_with(kByteOrderMark)) file_.remove_prefix(kByteOrderMark.size());
  }

  absl::StatusOr<Table> Split() {
    Table table;
    while (position_ < file_.size()) {
      if (TakeLineEnd()) continue;
      const size_t line = line_;
      const size_t cells_before = table.cells.size();
      do {
        absl::StatusOr<std::string> cell = Cell(line, table.cells.size() - cells_before + 1);
        if (!cell.ok()) return cell.status();
        table.cells.push_back(*std::move(cell));
      } while (TakeComma());
      const size_t columns = table.cells.size() - cells_before;
      if (table.lines.empty()) table.columns = columns;
      if (columns != table.columns) {
        return Invalid("row ", line, " has ", columns, " columns, the rows before it have ",
                       table.columns);
      }
      table.lines.push_back(line);
    }
    if (table.lines.empty()) return Invalid("the file holds no rows");
    return table;
  }

 private:
  static constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";

  bool TakeComma() {
    if (position_ == file_.size() || file_[position_] != ',') {
      TakeLineEnd();
      return false;
    }
    ++position_;
    return true;
  }

  bool TakeLineEnd() {
    const std::string_view rest = file_.substr(position_);
    const size_t bytes =
        rest.starts_with("\r\n") ? 2 : rest.starts_with('\n') || rest.starts_with('\r');
    position_ += bytes;
    line_ += bytes > 0;
    return bytes > 0;
  }

  // Up to the next comma or line end. `row` and `column` are for messages.
  absl::StatusOr<std::string> Cell(size_t row, size_t column) {
    const size_t start = position_;
    if (!file_.substr(start).starts_with('"')) {
      position_ = std::min(file_.find_first_of(",\r\n", start), file_.size());
      std::string text(file_.substr(start, position_ - start));
      if (text.find_first_of(std::string_view("\"\0", 2)) != text.npos) {
        return Invalid("row ", row, ", column ", column, ": a quote or a zero byte inside a cell, ",
                       Quoted(text));
      }
      absl::StripAsciiWhitespace(&text);
      return text;
    }
    std::string value;
    for (++position_; position_ < file_.size(); ++position_) {
      if (file_[position_] == '"') {
        if (position_ + 1 < file_.size() && file_[position_ + 1] == '"') {
          ++position_;  // "" stands for a quote
        } else {
          ++position_;
          if (position_ < file_.size() && !absl::StrContains(",\r\n", file_[position_])) {
            return Invalid("row ", row, ", column ", column, ": text after a closing quote");
          }
          return value;
        }
      }
      line_ += file_[position_] == '\n';
      value += file_[position_];
    }
    return Invalid("row ", row, ", column ", column, ": a quote is never closed");
  }

  std::string_view file_;
  size_t position_ = 0;
  size_t line_ = 1;
};

// A first row without any number names the columns.
absl::Status TakeHeader(Table& table) {
  const auto end = table.cells.begin() + static_cast<ptrdiff_t>(table.columns);
  if (std::any_of(table.cells.begin(), end,
                  [](const std::string& cell) { return ParseNumber(cell).has_value(); })) {
    return absl::OkStatus();
  }
  table.names.assign(table.cells.begin(), end);
  table.cells.erase(table.cells.begin(), end);
  table.lines.erase(table.lines.begin());
  return table.lines.empty() ? Invalid("the file holds a header but no rows") : absl::OkStatus();
}

absl::Status CheckNothingMissing(const Table& table) {
  for (size_t row = 0; row < table.rows(); ++row) {
    for (size_t column = 0; column < table.columns; ++column) {
      const std::string& cell = table.cell(row, column);
      if (IsMissing(cell)) {
        return Invalid(table.Place(row, column), ": missing value ", Quoted(cell),
                       "; fill it in or drop the row");
      }
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<size_t> FindLabel(const Table& table, const std::string& wanted) {
  if (wanted.empty()) return table.columns - 1;
  if (table.names.empty()) {
    size_t column;
    if (absl::SimpleAtoi(wanted, &column) && column < table.columns) return column;
    return Invalid("label column ", Quoted(wanted),
                   ": the file has no header, so a number from 0 to ", table.columns - 1,
                   " is needed");
  }
  const auto first = std::find(table.names.begin(), table.names.end(), wanted);
  if (first == table.names.end()) {
    return Invalid("label column ", Quoted(wanted), " is not in the header");
  }
  if (std::find(first + 1, table.names.end(), wanted) != table.names.end()) {
    return Invalid("label column ", Quoted(wanted), " is in the header twice");
  }
  return first - table.names.begin();
}

// What a column's cells become.
struct Column {
  size_t index = 0;
  std::vector<float> numbers;           // a value a row, if all cells are numbers
  std::vector<std::string> categories;  // otherwise: the different cells, sorted

  bool numeric() const { return categories.empty(); }
  size_t width() const { return numeric() ? 1 : categories.size(); }
};

size_t CategoryOf(const std::vector<std::string>& categories, const std::string& cell) {
  return std::lower_bound(categories.begin(), categories.end(), cell) - categories.begin();
}

// Sorted and without repetitions.
std::vector<std::string> DifferentCells(const Table& table, size_t column) {
  std::set<std::string> cells;
  for (size_t row = 0; row < table.rows(); ++row) cells.insert(table.cell(row, column));
  return {cells.begin(), cells.end()};
}

// `numbers` stays empty when some cell is not a number. A number beyond float32 is an error: what
// looks like a number is not meant as a word.
absl::StatusOr<Column> ReadColumn(const Table& table, size_t index) {
  Column column;
  column.index = index;
  for (size_t row = 0; row < table.rows(); ++row) {
    const std::optional<float> number = ParseNumber(table.cell(row, index));
    if (!number) {
      column.numbers.clear();
      column.categories = DifferentCells(table, index);
      return column;
    }
    if (!std::isfinite(*number)) {
      return Invalid(table.Place(row, index), ": ", Quoted(table.cell(row, index)),
                     " is not a finite float32");
    }
    column.numbers.push_back(*number);
  }
  return column;
}

template <typename T>
Tensor MakeTensor(DType dtype, std::vector<int64_t> shape, const std::vector<T>& values) {
  const std::span<const std::byte> bytes = std::as_bytes(std::span(values));
  return {dtype, std::move(shape), {bytes.begin(), bytes.end()}};
}

absl::Status ReadFeatures(const Table& table, size_t label, CsvTable& result) {
  std::vector<Column> columns;
  size_t width = 0;
  for (size_t index = 0; index < table.columns; ++index) {
    if (index == label) continue;
    absl::StatusOr<Column> column = ReadColumn(table, index);
    if (!column.ok()) return column.status();
    const std::string name =
        table.names.empty() ? absl::StrCat("column ", index) : table.names[index];
    if (column->categories.size() > kMaxCategories) {
      return Invalid("column ", index + 1, " (", Quoted(name), ") holds ",
                     column->categories.size(), " different words, at most ", kMaxCategories,
                     " are one-hot encoded; drop it or make it numeric");
    }
    if (column->numeric()) {
      result.feature_names.push_back(name);
    } else {
      for (const std::string& category : column->categories) {
        result.feature_names.push_back(absl::StrCat(name, "=", category));
      }
    }
    width += column->width();
    columns.push_back(*std::move(column));
  }
  if (columns.empty()) return Invalid("the only column is the label: there are no features");
  if (width > static_cast<size_t>(kMaxDecodedBytes) / sizeof(float) / table.rows()) {
    return Invalid(table.rows(), " rows of ", width, " features need more than the ",
                   kMaxDecodedBytes, " bytes allowed");
  }
  std::vector<float> values(table.rows() * width);
  for (size_t row = 0; row < table.rows(); ++row) {
    float* feature = &values[row * width];
    for (const Column& column : columns) {
      if (column.numeric()) {
        *feature = column.numbers[row];
      } else {
        feature[CategoryOf(column.categories, table.cell(row, column.index))] = 1;
      }
      feature += column.width();
    }
  }
  result.x = MakeTensor(DType::kFloat32,
                        {static_cast<int64_t>(table.rows()), static_cast<int64_t>(width)}, values);
  return absl::OkStatus();
}

absl::Status ReadTargets(const Table& table, const Column& label, CsvTable& result) {
  if (!label.numeric()) {
    for (size_t row = 0; row < table.rows(); ++row) {
      if (!ParseNumber(table.cell(row, label.index))) {
        return Invalid(table.Place(row, label.index), ": ", Quoted(table.cell(row, label.index)),
                       " is not a number, as regression needs");
      }
    }
  }
  result.y = MakeTensor(DType::kFloat32, {static_cast<int64_t>(table.rows()), 1}, label.numbers);
  return absl::OkStatus();
}

// Whole numbers in ascending order, words in the order of their bytes.
absl::Status ReadClasses(const Table& table, const Column& label, CsvTable& result) {
  std::vector<int64_t> classes(table.rows());
  if (label.numeric()) {
    std::vector<float> values = label.numbers;
    std::sort(values.begin(), values.end());
    values.erase(std::unique(values.begin(), values.end()), values.end());
    for (size_t row = 0; row < table.rows(); ++row) {
      const float value = label.numbers[row];
      if (value != std::trunc(value)) {
        return Invalid(table.Place(row, label.index), ": ", Quoted(table.cell(row, label.index)),
                       " is not a class; ask for regression to predict numbers");
      }
      classes[row] = std::lower_bound(values.begin(), values.end(), value) - values.begin();
    }
    for (float value : values) result.class_names.push_back(absl::StrCat(value));
  } else {
    for (size_t row = 0; row < table.rows(); ++row) {
      classes[row] = CategoryOf(label.categories, table.cell(row, label.index));
    }
    result.class_names = label.categories;
  }
  result.y = MakeTensor(DType::kInt64, {static_cast<int64_t>(table.rows())}, classes);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<CsvTable> ReadCsv(std::string_view file, const CsvOptions& options) {
  absl::StatusOr<Table> table = Splitter(file).Split();
  if (!table.ok()) return table.status();
  if (absl::Status status = TakeHeader(*table); !status.ok()) return status;
  if (absl::Status status = CheckNothingMissing(*table); !status.ok()) return status;
  absl::StatusOr<size_t> label_index = FindLabel(*table, options.label_column);
  if (!label_index.ok()) return label_index.status();

  CsvTable result;
  if (absl::Status status = ReadFeatures(*table, *label_index, result); !status.ok()) return status;
  absl::StatusOr<Column> label = ReadColumn(*table, *label_index);
  if (!label.ok()) return label.status();
  absl::Status status = options.regression ? ReadTargets(*table, *label, result)
                                           : ReadClasses(*table, *label, result);
  if (!status.ok()) return status;
  return result;
}

}  // namespace lockstep
