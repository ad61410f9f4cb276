#include "core/training/checkpoint.h"

#include <algorithm>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "core/data/digest.h"
#include "core/formats/safetensors.h"
#include "core/numerics/contract.h"
#include "core/training/state_hash.h"

namespace lockstep {
namespace {

using Metadata = std::map<std::string, std::string>;

constexpr char kFormat[] = "lockstep-checkpoint";
constexpr char kHeaderHash[] = "header_hash";

absl::Status Invalid(auto... parts) {
  return absl::InvalidArgumentError(absl::StrCat("checkpoint: ", parts...));
}

std::string Value(const Metadata& metadata, const std::string& key) {
  const auto found = metadata.find(key);
  return found == metadata.end() ? "" : found->second;
}

// SHA-256 of all that the header says but this, so that no byte of it changes unseen.
std::string HeaderHash(const Metadata& metadata, std::span<const FloatTensorView> tensors) {
  std::string text;
  for (const auto& [key, value] : metadata) {
    if (key != kHeaderHash) absl::StrAppend(&text, key, "=", value, "\n");
  }
  for (const FloatTensorView& tensor : tensors) {
    absl::StrAppend(&text, tensor.name, ":", tensor.values.size(), "\n");
  }
  return Sha256(text);
}

bool IsHex(std::string_view text) {
  return text.size() % 2 == 0 && std::ranges::all_of(text, [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

}  // namespace

std::string SlotName(size_t slot) { return absl::StrCat("slots.", slot); }

void RunSnapshot::Add(std::string name, std::span<const float> values) {
  vectors.insert_or_assign(std::move(name), std::vector<float>(values.begin(), values.end()));
}

absl::Status RunSnapshot::CopyTo(const std::string& name, std::span<float> values) const {
  const auto found = vectors.find(name);
  if (found == vectors.end()) return Invalid("does not fit the job: ", name, " is missing");
  if (found->second.size() != values.size()) {
    return Invalid("does not fit the job: ", name, " has ", found->second.size(), " values, not ",
                   values.size());
  }
  std::ranges::copy(found->second, values.begin());
  return absl::OkStatus();
}

std::string RunSnapshot::StateHash() const {
  std::vector<std::span<const float>> hashed;
  const auto add = [&](const std::string& name) {
    const auto found = vectors.find(name);
    if (found != vectors.end()) hashed.push_back(found->second);
    return found != vectors.end();
  };
  add("parameters");
  add("buffers");
  for (size_t slot = 0; add(SlotName(slot)); ++slot) {
  }
  add("average");
  return HashState(hashed, state.step());
}

std::string WriteCheckpoint(const JobPlan& plan, const RunSnapshot& snapshot,
                            const std::string& previous_sha256) {
  std::vector<FloatTensorView> tensors;
  for (const auto& [name, values] : snapshot.vectors) {
    tensors.push_back({name, {std::ssize(values)}, values});
  }
  Metadata metadata = {{"format", kFormat},
                       {"contract", kContract},
                       {"fingerprint", plan.fingerprint},
                       {"step", absl::StrCat(snapshot.state.step())},
                       {"state_hash", snapshot.StateHash()},
                       {"previous", previous_sha256},
                       {"state", absl::BytesToHexString(snapshot.state.SerializeAsString())}};
  metadata[kHeaderHash] = HeaderHash(metadata, tensors);
  return WriteSafetensors(metadata, tensors);
}

absl::StatusOr<RunSnapshot> ReadCheckpoint(const JobPlan& plan, std::string_view bytes) {
  absl::StatusOr<SafetensorsFile> file = ReadSafetensors(bytes);
  if (!file.ok()) return Invalid("not one, or a torn one: ", file.status().message());
  const Metadata& metadata = file->metadata;
  if (Value(metadata, "format") != kFormat) {
    return Invalid("not one: its format is \"", Value(metadata, "format"), "\", not \"", kFormat,
                   "\"");
  }
  // Before what it says is compared with the job: what is damaged may say anything.
  if (Value(metadata, kHeaderHash) != HeaderHash(metadata, file->tensors)) {
    return Invalid("torn or corrupt: its header is not what it was when it was written");
  }
  if (Value(metadata, "contract") != kContract) {
    return Invalid("of contract \"", Value(metadata, "contract"), "\", but here it is \"",
                   kContract, "\"");
  }
  if (Value(metadata, "fingerprint") != plan.fingerprint) {
    return Invalid("of another job: its fingerprint is ", Value(metadata, "fingerprint"),
                   ", this job's is ", plan.fingerprint);
  }
  RunSnapshot snapshot;
  const std::string state = Value(metadata, "state");
  if (!IsHex(state) || !snapshot.state.ParseFromString(absl::HexStringToBytes(state))) {
    return Invalid("torn or corrupt: its state cannot be read");
  }
  int64_t step;
  if (!absl::SimpleAtoi(Value(metadata, "step"), &step) || step != snapshot.state.step()) {
    return Invalid("torn or corrupt: its step is \"", Value(metadata, "step"), "\" and ",
                   snapshot.state.step());
  }
  if (!file->integers.empty()) {
    return Invalid("corrupt: \"", file->integers.front().name, "\" is not of float32");
  }
  for (const FloatTensorView& tensor : file->tensors) {
    if (tensor.shape.size() != 1) return Invalid("corrupt: ", tensor.name, " is not a flat vector");
    snapshot.Add(tensor.name, tensor.values);
  }
  if (const std::string hash = snapshot.StateHash(); hash != Value(metadata, "state_hash")) {
    return Invalid("torn or corrupt: its state hash is ", Value(metadata, "state_hash"),
                   ", but its vectors have ", hash);
  }
  return snapshot;
}

}  // namespace lockstep
