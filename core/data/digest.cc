#include "core/data/digest.h"

#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace lockstep {
namespace {

// OpenSSL refuses only when memory is out or the build lacks the algorithm. A missing digest must
// never pass for one, so the process ends.
void CheckOpenSsl(int result) {
  if (result == 1) return;
  std::fputs("lockstep: OpenSSL cannot compute a digest\n", stderr);
  std::abort();
}

}  // namespace

struct Hasher::State {
  State() : context(EVP_MD_CTX_new()) {}
  ~State() { EVP_MD_CTX_free(context); }
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  EVP_MD_CTX* context;
};

Hasher::Hasher(Algorithm algorithm) : state_(std::make_unique<State>()) {
  const EVP_MD* digest = algorithm == Algorithm::kSha256 ? EVP_sha256() : EVP_blake2s256();
  CheckOpenSsl(EVP_DigestInit_ex(state_->context, digest, nullptr));
}

Hasher::~Hasher() = default;
Hasher::Hasher(Hasher&&) noexcept = default;
Hasher& Hasher::operator=(Hasher&&) noexcept = default;

void Hasher::Update(std::span<const std::byte> bytes) {
  CheckOpenSsl(EVP_DigestUpdate(state_->context, bytes.data(), bytes.size()));
}

void Hasher::Update(std::string_view text) { Update(std::as_bytes(std::span(text))); }

std::string Hasher::Finish() {
  std::array<unsigned char, 32> digest;
  CheckOpenSsl(EVP_DigestFinal_ex(state_->context, digest.data(), nullptr));
  return absl::BytesToHexString(std::string(digest.begin(), digest.end()));
}

std::string Sha256(std::span<const std::byte> bytes) {
  Hasher hasher(Hasher::Algorithm::kSha256);
  hasher.Update(bytes);
  return hasher.Finish();
}

std::string Sha256(std::string_view text) { return Sha256(std::as_bytes(std::span(text))); }

std::string DatasetDigest(const v1::Dataset& dataset) {
  std::vector<const v1::Tensor*> tensors;
  for (const v1::Tensor& tensor : dataset.tensors()) tensors.push_back(&tensor);
  std::sort(tensors.begin(), tensors.end(),
            [](const v1::Tensor* a, const v1::Tensor* b) { return a->name() < b->name(); });
  Hasher hasher(Hasher::Algorithm::kSha256);
  for (const v1::Tensor* tensor : tensors) {
    hasher.Update(absl::StrCat(tensor->name(), " ", tensor->dtype(), " ",
                               absl::StrJoin(tensor->shape(), ","), " ", tensor->blob().sha256(),
                               "\n"));
  }
  return hasher.Finish();
}

}  // namespace lockstep
