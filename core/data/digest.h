#ifndef LOCKSTEP_CORE_DATA_DIGEST_H_
#define LOCKSTEP_CORE_DATA_DIGEST_H_

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "lockstep/v1/dataset.pb.h"

namespace lockstep {

// A running digest (OpenSSL's). Not thread-safe.
class Hasher {
 public:
  enum class Algorithm {
    kSha256,      // names of blobs and data sets, fingerprints
    kBlake2s256,  // hash of a training state
  };

  explicit Hasher(Algorithm algorithm);
  ~Hasher();
  Hasher(Hasher&&) noexcept;
  Hasher& operator=(Hasher&&) noexcept;

  void Update(std::span<const std::byte> bytes);
  void Update(std::string_view text);
  // 64 lower-case hexadecimal digits. Call once.
  std::string Finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

std::string Sha256(std::span<const std::byte> bytes);
std::string Sha256(std::string_view text);

// The digest of a data set as dataset.proto defines it.
std::string DatasetDigest(const v1::Dataset& dataset);

}  // namespace lockstep

#endif  // LOCKSTEP_CORE_DATA_DIGEST_H_
