#include <algorithm>
#include <charconv>
#include <optional>
#include <span>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "core/formats/readers.h"

namespace lockstep {
namespace {

constexpr std::string_view kMagic = "\x93NUMPY";
// Far above what any array of plain numbers needs.
constexpr size_t kMaxHeaderBytes = 64 << 10;
constexpr size_t kMaxRank = 32;  // NumPy's own limit

absl::Status Invalid(auto... parts) {
  return absl::InvalidArgumentError(absl::StrCat("npy: ", parts...));
}

struct Header {
  std::string descr;
  bool fortran_order = false;
  std::vector<int64_t> shape;
};

// Reads the one Python literal that a header is: a dict of a string, a bool and a tuple of ints.
class HeaderParser {
 public:
  explicit HeaderParser(std::string_view text) : text_(text) {}

  absl::StatusOr<Header> Parse() {
    Header header;
    bool has_descr = false, has_order = false, has_shape = false;
    if (!Take("{")) return Unexpected("{");
    while (!Take("}")) {
      std::optional<std::string> key = String();
      if (!key) return Unexpected("a quoted key");
      if (!Take(":")) return Unexpected(":");
      bool* seen = *key == "descr"           ? &has_descr
                   : *key == "fortran_order" ? &has_order
                   : *key == "shape"         ? &has_shape
                                             : nullptr;
      if (seen == nullptr || *seen) {
        return Invalid("header key '", absl::CHexEscape(*key), "' is unknown or given twice");
      }
      *seen = true;
      if (seen == &has_descr) {
        std::optional<std::string> descr = String();
        if (!descr) return Invalid("structured element types are not supported");
        header.descr = *descr;
      } else if (seen == &has_order) {
        header.fortran_order = Take("True");
        if (!header.fortran_order && !Take("False")) return Unexpected("True or False");
      } else if (!Shape(header.shape)) {
        return Unexpected("a tuple of dimensions");
      }
      if (!Take(",") && Peek() != '}') return Unexpected(", or }");
    }
    if (Peek() != '\0') return Unexpected("the end");
    if (!has_descr || !has_order || !has_shape) {
      return Invalid("the header lacks one of descr, fortran_order and shape");
    }
    return header;
  }

 private:
  // The next character that is not white space; 0 at the end.
  char Peek() {
    position_ = std::min(text_.find_first_not_of(" \t\n", position_), text_.size());
    return position_ < text_.size() ? text_[position_] : '\0';
  }

  bool Take(std::string_view token) {
    Peek();
    if (!text_.substr(position_).starts_with(token)) return false;
    position_ += token.size();
    return true;
  }

  std::optional<std::string> String() {
    const char quote = Peek();
    if (quote != '\'' && quote != '"') return std::nullopt;
    const size_t end = text_.find(quote, position_ + 1);
    if (end == std::string_view::npos) return std::nullopt;
    std::string value(text_.substr(position_ + 1, end - position_ - 1));
    position_ = end + 1;
    return value;
  }

  bool Shape(std::vector<int64_t>& shape) {
    if (!Take("(")) return false;
    while (!Take(")")) {
      Peek();
      const std::string_view rest = text_.substr(position_);
      int64_t dimension = 0;
      const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), dimension);
      if (error != std::errc() || dimension < 0 || shape.size() == kMaxRank) return false;
      position_ += end - rest.data();
      shape.push_back(dimension);
      if (!Take(",") && Peek() != ')') return false;
    }
    return true;
  }

  absl::Status Unexpected(const char* wanted) {
    return Invalid("header: expected ", wanted, " at byte ", position_);
  }

  std::string_view text_;
  size_t position_ = 0;
};

absl::StatusOr<DType> ParseDescr(const std::string& descr) {
  const std::string shown = absl::CHexEscape(descr);
  if (descr.find('O') != descr.npos) {
    return Invalid("'", shown, "' arrays hold Python objects, which are not read");
  }
  if (descr.starts_with('>')) {
    return Invalid("'", shown, "' is big-endian; save a.astype(a.dtype.newbyteorder('<'))");
  }
  struct Name {
    std::string_view descr;
    DType dtype;
  };
  constexpr Name kNames[] = {
      {"|u1", DType::kUint8},   {"|i1", DType::kInt8},    {"<u2", DType::kUint16},
      {"<i2", DType::kInt16},   {"<i4", DType::kInt32},   {"<i8", DType::kInt64},
      {"<f4", DType::kFloat32}, {"<f8", DType::kFloat64},
  };
  for (const Name& name : kNames) {
    if (name.descr == descr) return name.dtype;
  }
  return Invalid("element type '", shown,
                 "' is not supported; convert to uint8, int8, uint16, int16, int32, int64, float32 "
                 "or float64");
}

}  // namespace

absl::StatusOr<Tensor> ReadNpy(std::string_view file) {
  if (!file.starts_with(kMagic) || file.size() < kMagic.size() + 2) {
    return Invalid("the file does not start with the NumPy signature");
  }
  const int major = static_cast<unsigned char>(file[kMagic.size()]);
  if (major < 1 || major > 3) return Invalid("format version ", major, " is not known");
  const size_t length_bytes = major == 1 ? 2 : 4;
  const size_t header_start = kMagic.size() + 2 + length_bytes;
  if (file.size() < header_start) return Invalid("truncated after ", file.size(), " bytes");
  size_t header_bytes = 0;
  for (size_t i = 0; i < length_bytes; ++i) {
    header_bytes |= size_t{static_cast<unsigned char>(file[header_start - length_bytes + i])}
                    << (8 * i);
  }
  if (header_bytes > kMaxHeaderBytes || header_bytes > file.size() - header_start) {
    return Invalid("the header claims ", header_bytes, " bytes, the file has ",
                   file.size() - header_start, " more");
  }
  absl::StatusOr<Header> header = HeaderParser(file.substr(header_start, header_bytes)).Parse();
  if (!header.ok()) return header.status();
  absl::StatusOr<DType> dtype = ParseDescr(header->descr);
  if (!dtype.ok()) return dtype.status();
  if (header->fortran_order && header->shape.size() > 1) {
    return Invalid("the array is in Fortran order; save numpy.ascontiguousarray(a)");
  }
  const std::string_view data = file.substr(header_start + header_bytes);
  const int64_t count = ElementCount(header->shape);
  const auto size = static_cast<size_t>(DTypeSize(*dtype));
  if (count < 0 || data.size() % size != 0 || static_cast<size_t>(count) != data.size() / size) {
    return Invalid("the header claims ", std::string(DTypeName(*dtype)), " ",
                   ShapeString(header->shape), ", but ", data.size(), " bytes follow it");
  }
  const std::span<const std::byte> bytes = std::as_bytes(std::span(data));
  return Tensor{*dtype, std::move(header->shape), {bytes.begin(), bytes.end()}};
}

}  // namespace lockstep
