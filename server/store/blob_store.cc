#include "server/store/blob_store.h"

#include <fcntl.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"

namespace lockstep {
namespace {

namespace fs = std::filesystem;

constexpr std::chrono::hours kKeepUploads{1};
constexpr int64_t kHashChunkBytes = 1 << 20;

// Digests become file names: nothing but a digest may pass.
absl::Status CheckDigest(const std::string& sha256) {
  const bool hex = std::all_of(sha256.begin(), sha256.end(), [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
  });
  if (hex && sha256.size() == 64) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("blob.sha256: must be 64 lower-case hexadecimal digits, got \"",
                   absl::CHexEscape(sha256.substr(0, 80)), "\""));
}

absl::Status CheckBlob(const v1::Blob& blob) {
  if (absl::Status s = CheckDigest(blob.sha256()); !s.ok()) return s;
  if (blob.size_bytes() < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("blob.size_bytes: must be >= 0, got ", blob.size_bytes()));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<BlobStore>> BlobStore::Open(const std::string& directory) {
  auto store = std::unique_ptr<BlobStore>(new BlobStore(directory));
  if (absl::Status s = CreateDirectory(store->PartialDirectory()); !s.ok()) return s;
  store->DropExpiredUploads();
  return store;
}

absl::StatusOr<v1::StatBlobResponse> BlobStore::Stat(const v1::Blob& blob) const {
  if (absl::Status s = CheckBlob(blob); !s.ok()) return s;
  v1::StatBlobResponse response;
  std::error_code error;
  uintmax_t size = fs::file_size(CompletePath(blob.sha256()), error);
  if (!error) {
    response.set_received_bytes(static_cast<int64_t>(size));
    response.set_complete(true);
    return response;
  }
  size = fs::file_size(PartialPath(blob.sha256()), error);
  // Longer than announced: Write will start again.
  if (!error && static_cast<int64_t>(size) <= blob.size_bytes()) {
    response.set_received_bytes(static_cast<int64_t>(size));
  }
  return response;
}

absl::StatusOr<std::unique_ptr<BlobStore::Writer>> BlobStore::Write(const v1::Blob& blob) {
  if (absl::Status s = CheckBlob(blob); !s.ok()) return s;
  DropExpiredUploads();
  if (!Claim(blob.sha256())) {
    return absl::AbortedError(
        absl::StrCat("blob ", blob.sha256(), " is being uploaded by someone else; try again"));
  }
  // From here on its destructor gives the claim back.
  std::unique_ptr<Writer> writer(new Writer(this, blob));
  std::error_code error;
  if (fs::exists(CompletePath(blob.sha256()), error)) {
    return absl::AlreadyExistsError(absl::StrCat("blob ", blob.sha256(), " is complete"));
  }
  if (absl::Status s = writer->Resume(); !s.ok()) return s;
  return writer;
}

absl::StatusOr<std::unique_ptr<BlobStore::Reader>> BlobStore::Read(
    const std::string& sha256) const {
  if (absl::Status s = CheckDigest(sha256); !s.ok()) return s;
  absl::StatusOr<File> file = File::Open(CompletePath(sha256), O_RDONLY);
  if (absl::IsNotFound(file.status())) {
    return absl::NotFoundError(absl::StrCat("no blob ", sha256));
  }
  if (!file.ok()) return file.status();
  absl::StatusOr<int64_t> size = file->Size();
  if (!size.ok()) return size.status();
  return std::unique_ptr<Reader>(new Reader(*std::move(file), *size));
}

absl::StatusOr<std::string> BlobStore::ReadAll(const std::string& sha256) const {
  absl::StatusOr<std::unique_ptr<Reader>> reader = Read(sha256);
  if (!reader.ok()) return reader.status();
  return (*reader)->Read(0, (*reader)->size_bytes());
}

absl::Status BlobStore::Delete(const std::string& sha256) {
  if (absl::Status s = CheckDigest(sha256); !s.ok()) return s;
  return RemoveFile(CompletePath(sha256));
}

std::vector<std::string> BlobStore::ListOlderThan(std::chrono::seconds age) const {
  const auto newest = fs::file_time_type::clock::now() - age;
  std::vector<std::string> digests;
  std::error_code error;
  fs::directory_iterator entry(directory_, error);
  for (; !error && entry != fs::directory_iterator(); entry.increment(error)) {
    std::error_code gone;
    if (entry->is_regular_file(gone) && entry->last_write_time(gone) < newest && !gone) {
      digests.push_back(entry->path().filename());
    }
  }
  return digests;
}

// There is no timer: what is left over costs disk only, and goes when the next upload needs some.
void BlobStore::DropExpiredUploads() {
  const auto oldest = fs::file_time_type::clock::now() - kKeepUploads;
  std::error_code error;
  fs::directory_iterator entry(PartialDirectory(), error);
  for (; !error && entry != fs::directory_iterator(); entry.increment(error)) {
    std::error_code gone;  // another thread may be dropping the same file
    const auto written = entry->last_write_time(gone);
    const std::string sha256 = entry->path().filename();
    if (gone || written >= oldest || !Claim(sha256)) continue;
    fs::remove(entry->path(), gone);
    Release(sha256);
  }
}

bool BlobStore::Claim(const std::string& sha256) {
  absl::MutexLock lock(&mutex_);
  return writing_.insert(sha256).second;
}

void BlobStore::Release(const std::string& sha256) {
  absl::MutexLock lock(&mutex_);
  writing_.erase(sha256);
}

BlobStore::Writer::~Writer() { store_->Release(blob_.sha256()); }

// The digest runs over the whole blob, so what is there already is read again; that also finds what
// a crash left half written, at the latest in Commit.
absl::Status BlobStore::Writer::Resume() {
  absl::StatusOr<File> file = File::Open(store_->PartialPath(blob_.sha256()), O_RDWR | O_CREAT);
  if (!file.ok()) return file.status();
  file_ = *std::move(file);
  absl::StatusOr<int64_t> size = file_.Size();
  if (!size.ok()) return size.status();
  if (*size > blob_.size_bytes()) return file_.Truncate(0);
  while (offset_ < *size) {
    absl::StatusOr<std::string> chunk = file_.ReadAt(offset_, kHashChunkBytes);
    if (!chunk.ok()) return chunk.status();
    hasher_.Update(*chunk);
    offset_ += static_cast<int64_t>(chunk->size());
  }
  return absl::OkStatus();
}

absl::Status BlobStore::Writer::Append(std::string_view data) {
  if (static_cast<int64_t>(data.size()) > blob_.size_bytes() - offset_) {
    return absl::InvalidArgumentError(
        absl::StrCat("data: ", offset_ + static_cast<int64_t>(data.size()),
                     " bytes are more than blob.size_bytes announced, ", blob_.size_bytes()));
  }
  if (absl::Status s = file_.WriteAt(offset_, data); !s.ok()) {
    // Part of it may be there; what was hashed and what is on disk stay the same.
    file_.Truncate(offset_).IgnoreError();
    return s;
  }
  hasher_.Update(data);
  offset_ += static_cast<int64_t>(data.size());
  return absl::OkStatus();
}

absl::Status BlobStore::Writer::Commit() {
  if (offset_ != blob_.size_bytes()) {
    return absl::InvalidArgumentError(absl::StrCat("upload ended after ", offset_, " of ",
                                                   blob_.size_bytes(), " bytes; resume it there"));
  }
  const std::string partial = store_->PartialPath(blob_.sha256());
  if (const std::string digest = hasher_.Finish(); digest != blob_.sha256()) {
    if (absl::Status s = RemoveFile(partial); !s.ok()) return s;
    return absl::DataLossError(absl::StrCat("what arrived has SHA-256 ", digest, ", announced was ",
                                            blob_.sha256(), "; upload it again"));
  }
  if (absl::Status s = file_.Sync(); !s.ok()) return s;
  return RenameDurably(partial, store_->CompletePath(blob_.sha256()));
}

}  // namespace lockstep
