#include "core/formats/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <optional>
#include <set>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/data/tensor.h"
#include "core/formats/json_scanner.h"

namespace lockstep {
namespace {

static_assert(std::endian::native == std::endian::little, "the format is little-endian");

constexpr size_t kLengthBytes = 8;
constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the reference reader's limit
constexpr std::string_view kMetadataKey = "__metadata__";

struct HeaderEntry {
  std::string name;
  bool integer = false;
  std::vector<int64_t> shape;
  int64_t begin = 0;  // in bytes from the end of the header
  int64_t end = 0;
};

struct Header {
  std::map<std::string, std::string> metadata;
  std::vector<HeaderEntry> entries;
};

absl::Status ReadIntegers(JsonScanner& json, std::vector<int64_t>& values) {
  return json.Array([&]() -> absl::Status {
    absl::StatusOr<int64_t> value = json.NonNegativeInteger();
    if (!value.ok()) return value.status();
    values.push_back(*value);
    return absl::OkStatus();
  });
}

absl::Status ReadMetadata(JsonScanner& json, std::map<std::string, std::string>& metadata) {
  return json.Object([&](const std::string& key) -> absl::Status {
    absl::StatusOr<std::string> value = json.String();
    if (!value.ok()) return value.status();
    if (!metadata.emplace(key, *std::move(value)).second) return json.Error("duplicate key");
    return absl::OkStatus();
  });
}

absl::StatusOr<HeaderEntry> ReadEntry(JsonScanner& json, const std::string& name) {
  std::optional<std::string> dtype;
  std::optional<std::vector<int64_t>> shape, offsets;
  absl::Status status = json.Object([&](const std::string& key) -> absl::Status {
    if (key == "dtype" && !dtype) {
      absl::StatusOr<std::string> value = json.String();
      if (!value.ok()) return value.status();
      dtype = *std::move(value);
      return absl::OkStatus();
    }
    if (key == "shape" && !shape) return ReadIntegers(json, shape.emplace());
    if (key == "data_offsets" && !offsets) return ReadIntegers(json, offsets.emplace());
    return json.Error("unknown or duplicate key");
  });
  if (!status.ok()) return status;
  if (!dtype || !shape || !offsets || offsets->size() != 2) {
    return json.Error("expected dtype, shape and two data_offsets");
  }
  if (*dtype != "F32" && *dtype != "I64") {
    return json.Error("tensor is neither F32 nor I64; others are not read");
  }
  return HeaderEntry{name, *dtype == "I64", *std::move(shape), (*offsets)[0], (*offsets)[1]};
}

absl::StatusOr<Header> ReadHeader(std::string_view text) {
  if (text.empty() || text[0] != '{') {
    return absl::InvalidArgumentError("the header does not start with {");
  }
  Header header;
  bool has_metadata = false;
  std::set<std::string> names;
  JsonScanner json(text);
  absl::Status status = json.Object([&](const std::string& key) -> absl::Status {
    if (key == kMetadataKey) {
      if (std::exchange(has_metadata, true)) return json.Error("duplicate key");
      return ReadMetadata(json, header.metadata);
    }
    if (!names.insert(key).second) return json.Error("duplicate key");
    absl::StatusOr<HeaderEntry> entry = ReadEntry(json, key);
    if (!entry.ok()) return entry.status();
    header.entries.push_back(*std::move(entry));
    return absl::OkStatus();
  });
  if (status.ok()) status = json.End();
  if (!status.ok()) return status;
  return header;
}

absl::Status Invalid(auto... parts) {
  return absl::InvalidArgumentError(absl::StrCat("safetensors: ", parts...));
}

}  // namespace

std::string WriteSafetensors(const std::map<std::string, std::string>& metadata,
                             std::span<const FloatTensorView> tensors) {
  std::vector<std::string> members;
  if (!metadata.empty()) {
    const std::string pairs = absl::StrJoin(metadata, ",", [](std::string* out, const auto& pair) {
      absl::StrAppend(out, JsonQuote(pair.first), ":", JsonQuote(pair.second));
    });
    members.push_back(absl::StrCat(JsonQuote(kMetadataKey), ":{", pairs, "}"));
  }
  size_t data_bytes = 0;
  for (const FloatTensorView& tensor : tensors) {
    const size_t begin = data_bytes;
    data_bytes += tensor.values.size_bytes();
    members.push_back(absl::StrCat(JsonQuote(tensor.name), ":{\"dtype\":\"F32\",\"shape\":[",
                                   absl::StrJoin(tensor.shape, ","), "],\"data_offsets\":[", begin,
                                   ",", data_bytes, "]}"));
  }
  std::string header = absl::StrCat("{", absl::StrJoin(members, ","), "}");
  header.resize((header.size() + 7) / 8 * 8, ' ');

  const uint64_t header_bytes = header.size();
  std::string file;
  file.reserve(kLengthBytes + header.size() + data_bytes);
  file.append(reinterpret_cast<const char*>(&header_bytes), kLengthBytes);
  file += header;
  for (const FloatTensorView& tensor : tensors) {
    if (tensor.values.empty()) continue;  // append() takes no null pointer
    file.append(reinterpret_cast<const char*>(tensor.values.data()), tensor.values.size_bytes());
  }
  return file;
}

absl::StatusOr<SafetensorsFile> ReadSafetensors(std::string_view bytes) {
  if (bytes.size() < kLengthBytes) {
    return Invalid("the file has ", bytes.size(), " bytes, too few for a header");
  }
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, bytes.data(), kLengthBytes);
  if (header_bytes > kMaxHeaderBytes || header_bytes > bytes.size() - kLengthBytes) {
    return Invalid("the header claims ", header_bytes, " bytes, the file has ",
                   bytes.size() - kLengthBytes, " more");
  }
  absl::StatusOr<Header> header = ReadHeader(bytes.substr(kLengthBytes, header_bytes));
  if (!header.ok()) return Invalid(header.status().message());

  const std::string_view data = bytes.substr(kLengthBytes + header_bytes);
  if (reinterpret_cast<uintptr_t>(data.data()) % alignof(float) != 0 && !data.empty()) {
    return Invalid("the data does not start at a multiple of ", alignof(float), " bytes");
  }
  std::stable_sort(header->entries.begin(), header->entries.end(),
                   [](const HeaderEntry& a, const HeaderEntry& b) {
                     return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
                   });
  SafetensorsFile file;
  file.metadata = std::move(header->metadata);
  int64_t position = 0;
  for (HeaderEntry& entry : header->entries) {
    const int64_t count = ElementCount(entry.shape);
    const int64_t width = entry.integer ? sizeof(int64_t) : sizeof(float);
    const int64_t room = static_cast<int64_t>(data.size()) - position;
    if (entry.begin != position || count < 0 || count > room / width ||
        entry.end != position + count * width) {
      return Invalid("tensor '", entry.name, "' of shape ", ShapeString(entry.shape),
                     " cannot lie at bytes ", entry.begin, " to ", entry.end, " of ", data.size(),
                     ", where the tensors before it end at ", position);
    }
    if (entry.integer) {
      std::vector<int64_t> values(count);
      if (count > 0) std::memcpy(values.data(), data.data() + position, count * sizeof(int64_t));
      file.integers.push_back({std::move(entry.name), std::move(entry.shape), std::move(values)});
      position = entry.end;
      continue;
    }
    file.tensors.push_back(
        {std::move(entry.name),
         std::move(entry.shape),
         {reinterpret_cast<const float*>(data.data() + position), static_cast<size_t>(count)}});
    position = entry.end;
  }
  if (position != static_cast<int64_t>(data.size())) {
    return Invalid(static_cast<int64_t>(data.size()) - position, " bytes follow the last tensor");
  }
  return file;
}

}  // namespace lockstep
