#include "server/app/token_file.h"

#include <fcntl.h>
#include <openssl/rand.h>

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "server/store/files.h"

namespace lockstep {
namespace {

constexpr int64_t kMaxTokenBytes = 4096;
constexpr int kTokenBytes = 32;

}  // namespace

absl::StatusOr<std::string> ReadTokenFile(const std::string& path) {
  absl::StatusOr<File> file = File::Open(path, O_RDONLY);
  if (!file.ok()) return file.status();
  absl::StatusOr<std::string> text = file->ReadAt(0, kMaxTokenBytes + 1);
  if (!text.ok()) return text.status();
  const std::string token(absl::StripAsciiWhitespace(*text));
  if (token.empty() || text->size() > kMaxTokenBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": must hold a token of at most ", kMaxTokenBytes, " bytes"));
  }
  // What gRPC's metadata and HTTP's headers may hold.
  if (!std::all_of(token.begin(), token.end(), absl::ascii_isprint)) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": a token is one line of printable ASCII"));
  }
  return token;
}

absl::StatusOr<std::string> WriteNewToken(const std::string& path) {
  std::string random(kTokenBytes, '\0');
  if (RAND_bytes(reinterpret_cast<unsigned char*>(random.data()), kTokenBytes) != 1) {
    return absl::InternalError("no random numbers to be had");
  }
  const std::string token = absl::BytesToHexString(random);
  if (absl::Status s = WriteFileAtomically(path, token + "\n", 0600); !s.ok()) return s;
  return token;
}

}  // namespace lockstep
