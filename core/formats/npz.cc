#include <utility>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "core/formats/inflate.h"
#include "core/formats/readers.h"

// Reads zip files (PKWARE's APPNOTE.TXT 6.3.10) as far as npz needs them: one disk, stored or
// deflated, not encrypted, zip64. Sizes are the central directory's.
namespace lockstep {
namespace {

constexpr std::string_view kSuffix = ".npy";
constexpr uint32_t kLocalHeader = 0x04034b50;
constexpr uint32_t kCentralHeader = 0x02014b50;
constexpr uint32_t kEndRecord = 0x06054b50;
constexpr uint32_t kEndRecord64 = 0x06064b50;
constexpr uint32_t kEndLocator64 = 0x07064b50;
constexpr size_t kLocalBytes = 30;
constexpr size_t kCentralBytes = 46;
constexpr size_t kEndBytes = 22;
constexpr size_t kEnd64Bytes = 56;
constexpr size_t kLocator64Bytes = 20;
constexpr size_t kMaxCommentBytes = 0xffff;
constexpr uint16_t kZip64Extra = 0x0001;
constexpr uint16_t kEncrypted = 1 << 0;
constexpr uint32_t kSee64 = 0xffffffff;   // the true value is in a zip64 field
constexpr uint64_t kDeflateRatio = 1032;  // deflate's best

absl::Status Invalid(auto... parts) {
  return absl::InvalidArgumentError(absl::StrCat("npz: ", parts...));
}

// REQUIRES: the bytes are there.
uint64_t Little(std::string_view bytes, size_t offset, size_t count) {
  uint64_t value = 0;
  for (size_t i = 0; i < count; ++i) {
    value |= uint64_t{static_cast<unsigned char>(bytes[offset + i])} << (8 * i);
  }
  return value;
}

bool HasSignature(std::string_view file, uint64_t offset, size_t record_bytes, uint32_t signature) {
  return offset <= file.size() && file.size() - offset >= record_bytes &&
         Little(file, offset, 4) == signature;
}

struct Directory {
  uint64_t offset = 0;
  uint64_t bytes = 0;
  uint64_t entries = 0;
};

struct Entry {
  std::string name;
  uint16_t flags = 0;
  uint16_t method = 0;
  uint32_t crc = 0;
  uint64_t stored_bytes = 0;
  uint64_t plain_bytes = 0;
  uint64_t offset = 0;
};

absl::StatusOr<Directory> FindDirectory(std::string_view file) {
  if (file.size() < kEndBytes) return Invalid("not a zip file: it has ", file.size(), " bytes");
  // The end record is last, followed only by a comment whose length it states.
  size_t end = file.size() - kEndBytes;
  const size_t first = end > kMaxCommentBytes ? end - kMaxCommentBytes : 0;
  while (!(HasSignature(file, end, kEndBytes, kEndRecord) &&
           end + kEndBytes + Little(file, end + 20, 2) == file.size())) {
    if (end == first) return Invalid("no zip directory: not a zip file, or truncated");
    --end;
  }
  Directory directory{Little(file, end + 16, 4), Little(file, end + 12, 4),
                      Little(file, end + 10, 2)};
  if (end >= kLocator64Bytes &&
      HasSignature(file, end - kLocator64Bytes, kLocator64Bytes, kEndLocator64)) {
    const uint64_t end64 = Little(file, end - kLocator64Bytes + 8, 8);
    if (!HasSignature(file, end64, kEnd64Bytes, kEndRecord64)) {
      return Invalid("no zip64 end record at byte ", end64);
    }
    directory = {Little(file, end64 + 48, 8), Little(file, end64 + 40, 8),
                 Little(file, end64 + 32, 8)};
  }
  if (directory.offset > file.size() || directory.bytes > file.size() - directory.offset ||
      directory.entries > directory.bytes / kCentralBytes) {
    return Invalid("the zip directory (", directory.entries, " entries, ", directory.bytes,
                   " bytes at byte ", directory.offset, ") does not fit the file of ", file.size(),
                   " bytes");
  }
  return directory;
}

// The zip64 field holds, in this order, the true values of those that the record could not.
bool ReadZip64(std::string_view extra, Entry& entry) {
  while (extra.size() >= 4) {
    const uint64_t id = Little(extra, 0, 2);
    const uint64_t bytes = Little(extra, 2, 2);
    extra.remove_prefix(4);
    if (bytes > extra.size()) return false;
    if (id == kZip64Extra) {
      std::string_view field = extra.substr(0, bytes);
      for (uint64_t* value : {&entry.plain_bytes, &entry.stored_bytes, &entry.offset}) {
        if (*value != kSee64) continue;
        if (field.size() < 8) return false;
        *value = Little(field, 0, 8);
        field.remove_prefix(8);
      }
      return true;
    }
    extra.remove_prefix(bytes);
  }
  return true;
}

absl::StatusOr<std::vector<Entry>> ReadDirectory(std::string_view file) {
  absl::StatusOr<Directory> directory = FindDirectory(file);
  if (!directory.ok()) return directory.status();
  std::vector<Entry> entries;
  std::string_view rest = file.substr(directory->offset, directory->bytes);
  for (uint64_t i = 0; i < directory->entries; ++i) {
    if (!HasSignature(rest, 0, kCentralBytes, kCentralHeader)) {
      return Invalid("zip directory entry ", i, " is corrupt");
    }
    Entry entry;
    entry.flags = Little(rest, 8, 2);
    entry.method = Little(rest, 10, 2);
    entry.crc = Little(rest, 16, 4);
    entry.stored_bytes = Little(rest, 20, 4);
    entry.plain_bytes = Little(rest, 24, 4);
    const uint64_t name_bytes = Little(rest, 28, 2);
    const uint64_t extra_bytes = Little(rest, 30, 2);
    const uint64_t comment_bytes = Little(rest, 32, 2);
    entry.offset = Little(rest, 42, 4);
    rest.remove_prefix(kCentralBytes);
    if (name_bytes + extra_bytes + comment_bytes > rest.size() ||
        !ReadZip64(rest.substr(name_bytes, extra_bytes), entry)) {
      return Invalid("zip directory entry ", i, " is corrupt");
    }
    entry.name = rest.substr(0, name_bytes);
    rest.remove_prefix(name_bytes + extra_bytes + comment_bytes);
    entries.push_back(std::move(entry));
  }
  return entries;
}

// To be completed with the entry's name.
absl::Status EntryError(auto... parts) {
  return absl::InvalidArgumentError(absl::StrCat(parts...));
}

// The entry's bytes, decompressed and checked.
absl::StatusOr<std::string> Extract(std::string_view file, const Entry& entry) {
  if (entry.flags & kEncrypted) return EntryError("it is encrypted");
  if (entry.method != 0 && entry.method != 8) {
    return EntryError("compression method ", entry.method, " is not supported, only 0 and 8");
  }
  if (!HasSignature(file, entry.offset, kLocalBytes, kLocalHeader)) {
    return EntryError("no zip entry at byte ", entry.offset);
  }
  const uint64_t header_bytes =
      kLocalBytes + Little(file, entry.offset + 26, 2) + Little(file, entry.offset + 28, 2);
  std::string_view data = file.substr(entry.offset);
  if (header_bytes > data.size() || entry.stored_bytes > data.size() - header_bytes) {
    return EntryError("its ", entry.stored_bytes, " bytes at byte ", entry.offset,
                      " pass the end of the file");
  }
  data = data.substr(header_bytes, entry.stored_bytes);
  std::string plain;
  if (entry.method == 0) {
    plain = data;
  } else {
    if (entry.plain_bytes / kDeflateRatio > entry.stored_bytes) {
      return EntryError("its size (", entry.plain_bytes, ") cannot come from ", entry.stored_bytes,
                        " compressed bytes");
    }
    absl::StatusOr<Inflated> inflated =
        Inflate(data, DeflateWrapper::kNone, static_cast<int64_t>(entry.plain_bytes));
    if (!inflated.ok()) return EntryError(inflated.status().message());
    plain = std::move(inflated->bytes);
  }
  if (plain.size() != entry.plain_bytes || Crc32(plain) != entry.crc) {
    return EntryError("its size or checksum is not what the zip directory says");
  }
  return plain;
}

// Entries that share bytes could make a small file as large as one likes: together they may not
// claim more bytes than there are.
absl::Status CheckTotals(std::string_view file, const std::vector<Entry>& entries) {
  uint64_t stored_left = file.size();
  uint64_t plain_left = kMaxDecodedBytes;
  for (const Entry& entry : entries) {
    if (entry.stored_bytes > stored_left) {
      return Invalid("its entries claim more bytes than the file has");
    }
    if (entry.plain_bytes > plain_left) {
      return Invalid("it holds more than the ", kMaxDecodedBytes, " bytes allowed");
    }
    stored_left -= entry.stored_bytes;
    plain_left -= entry.plain_bytes;
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::map<std::string, Tensor>> ReadNpz(std::string_view file) {
  absl::StatusOr<std::vector<Entry>> entries = ReadDirectory(file);
  if (!entries.ok()) return entries.status();
  if (absl::Status status = CheckTotals(file, *entries); !status.ok()) return status;

  std::map<std::string, Tensor> tensors;
  for (const Entry& entry : *entries) {
    const std::string shown = absl::CHexEscape(entry.name);
    std::string_view key = entry.name;
    if (!key.ends_with(kSuffix)) return Invalid("entry '", shown, "' is not an .npy file");
    key.remove_suffix(kSuffix.size());
    absl::StatusOr<std::string> npy = Extract(file, entry);
    absl::StatusOr<Tensor> tensor = npy.ok() ? ReadNpy(*npy) : npy.status();
    if (!tensor.ok())
      return Invalid("entry '", shown, "': ", std::string(tensor.status().message()));
    if (!tensors.emplace(key, *std::move(tensor)).second) {
      return Invalid("two entries are called '", shown, "'");
    }
  }
  return tensors;
}

}  // namespace lockstep
