#ifndef LOCKSTEP_TESTS_SERVER_SERVING_PUPPETS_H_
#define LOCKSTEP_TESTS_SERVER_SERVING_PUPPETS_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "core/inference/inference_model.h"
#include "server/serving/model_source.h"

namespace lockstep {

// A gate on another thread's way: while it is closed, whoever passes waits, and the test can wait
// for that. Nothing here depends on time.
class Turnstile {
 public:
  void Close() {
    absl::MutexLock lock(&mutex_);
    closed_ = true;
  }
  void Open() {
    absl::MutexLock lock(&mutex_);
    closed_ = false;
  }
  void Pass() {
    absl::MutexLock lock(&mutex_);
    ++waiting_;
    mutex_.Await(absl::Condition(
        +[](bool* closed) { return !*closed; }, &closed_));
    --waiting_;
  }
  // Somebody stands before the closed gate.
  void AwaitArrival() {
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(
        +[](int* waiting) { return *waiting > 0; }, &waiting_));
  }

 private:
  absl::Mutex mutex_;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  int waiting_ ABSL_GUARDED_BY(mutex_) = 0;
};

// What the test and the networks it made have in common; outlives them.
struct Strings {
  Turnstile turnstile;  // before every pass

  absl::Mutex mutex;
  std::vector<int64_t> passes ABSL_GUARDED_BY(mutex);  // samples of each
  int networks ABSL_GUARDED_BY(mutex) = 0;             // that exist

  std::vector<int64_t> Passes() {
    absl::MutexLock lock(&mutex);
    return passes;
  }
  int Networks() {
    absl::MutexLock lock(&mutex);
    return networks;
  }
};

// [2] -> [3]: (a, b) becomes (a + b, a - b, version).
class PuppetNetwork : public InferenceModel {
 public:
  PuppetNetwork(Strings* strings, float version) : strings_(strings), version_(version) {
    absl::MutexLock lock(&strings_->mutex);
    ++strings_->networks;
  }
  ~PuppetNetwork() override {
    absl::MutexLock lock(&strings_->mutex);
    --strings_->networks;
  }

  std::span<const ModelTensor> inputs() const override { return inputs_; }
  std::span<const ModelTensor> outputs() const override { return outputs_; }
  int64_t size_bytes() const override { return 0; }

  void Predict(int64_t samples, std::span<const float> x, std::span<float> y,
               Arena&) const override {
    {
      absl::MutexLock lock(&strings_->mutex);
      strings_->passes.push_back(samples);
    }
    strings_->turnstile.Pass();
    for (int64_t i = 0; i < samples; ++i) {
      y[3 * i] = x[2 * i] + x[2 * i + 1];
      y[3 * i + 1] = x[2 * i] - x[2 * i + 1];
      y[3 * i + 2] = version_;
    }
  }

 private:
  Strings* const strings_;
  const float version_;
  const std::vector<ModelTensor> inputs_ = {{"input", {2}, 2}};
  const std::vector<ModelTensor> outputs_ = {{"output", {3}, 3}};
};

// Models out of thin air.
class PuppetSource : public ModelSource {
 public:
  explicit PuppetSource(VersionList versions) : versions_(std::move(versions)) {}

  absl::StatusOr<VersionList> ListVersions() override { return versions_; }

  absl::StatusOr<LoadedModel> Load(const std::string& name, int64_t version) override {
    turnstile.Pass();
    absl::MutexLock lock(&mutex_);
    loads_.push_back(absl::StrCat(name, ":", version));
    if (auto broken = broken_.find(loads_.back()); broken != broken_.end()) return broken->second;
    LoadedModel model;
    model.record.set_name(name);
    model.record.set_version(version);
    model.network = std::make_unique<PuppetNetwork>(&strings, static_cast<float>(version));
    return model;
  }

  // Loads of "name:version" fail until they are mended with OK.
  void Break(const std::string& model, absl::Status status) {
    absl::MutexLock lock(&mutex_);
    broken_.erase(model);
    if (!status.ok()) broken_[model] = std::move(status);
  }
  // "name:version" of each load so far.
  std::vector<std::string> Loads() {
    absl::MutexLock lock(&mutex_);
    return loads_;
  }

  Turnstile turnstile;  // before every load
  Strings strings;      // of all networks

 private:
  const VersionList versions_;
  absl::Mutex mutex_;
  std::vector<std::string> loads_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, absl::Status> broken_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace lockstep

#endif  // LOCKSTEP_TESTS_SERVER_SERVING_PUPPETS_H_
