#include "server/serving/model_repository.h"

#include <algorithm>
#include <iterator>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "server/serving/quoted.h"
#include "server/telemetry/log.h"

namespace lockstep {

absl::StatusOr<std::unique_ptr<ModelRepository>> ModelRepository::Start(ModelSource* source,
                                                                        const Options& options) {
  absl::StatusOr<ModelSource::VersionList> versions = source->ListVersions();
  if (!versions.ok()) return versions.status();
  return std::unique_ptr<ModelRepository>(new ModelRepository(source, *versions, options));
}

ModelRepository::ModelRepository(ModelSource* source, const ModelSource::VersionList& versions,
                                 const Options& options)
    : source_(source), options_(options) {
  {
    absl::MutexLock lock(&mutex_);
    for (const auto& [name, numbers] : versions) {
      for (int64_t number : numbers) models_[name][number];
      Enqueue(name, models_[name].rbegin()->first);
    }
  }
  thread_ = std::thread([this] { Run(); });
}

ModelRepository::~ModelRepository() {
  std::map<std::string, Versioned> models;
  {
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(this, &ModelRepository::NothingToLoad));
    models = std::move(models_);
    stopping_ = true;
  }
  // Queued requests hold their model: it is retired once the last of them has been answered.
  models.clear();
  thread_.join();
}

void ModelRepository::Published(const std::string& name, int64_t version) {
  absl::MutexLock lock(&mutex_);
  Enqueue(name, version);
}

void ModelRepository::Find(const std::string& name, int64_t version, Found found) {
  absl::StatusOr<Handle> result;
  {
    absl::MutexLock lock(&mutex_);
    const auto model = models_.find(name);
    if (model == models_.end()) {
      result = absl::NotFoundError(absl::StrCat("model ", Quoted(name), " is not found"));
    } else if (version != 0 && !model->second.contains(version)) {
      result = absl::NotFoundError(
          absl::StrCat("model ", Quoted(name), " version ", version, " is not found"));
    } else {
      if (version == 0) version = model->second.rbegin()->first;
      Entry& entry = model->second[version];
      entry.last_use = ++uses_;
      if (entry.model != nullptr) {
        result = entry.model;
      } else if (std::ssize(entry.waiting) >= options_.batcher.max_queued_requests) {
        result = absl::ResourceExhaustedError(
            absl::StrCat("model '", name, "' version ", version, " is being loaded and ",
                         entry.waiting.size(), " requests wait for it; try again later"));
      } else {
        Enqueue(name, version);
        entry.waiting.push_back(std::move(found));
        return;
      }
    }
  }
  std::move(found)(std::move(result));
}

std::vector<int64_t> ModelRepository::Versions(const std::string& name) const {
  absl::MutexLock lock(&mutex_);
  std::vector<int64_t> versions;
  if (const auto model = models_.find(name); model != models_.end()) {
    for (const auto& [version, entry] : model->second) versions.push_back(version);
  }
  return versions;
}

bool ModelRepository::Ready() const {
  absl::MutexLock lock(&mutex_);
  return std::all_of(models_.begin(), models_.end(), [](const auto& model) {
    return model.second.rbegin()->second.model != nullptr;
  });
}

void ModelRepository::Enqueue(const std::string& name, int64_t version) {
  Entry& entry = models_[name][version];
  if (entry.loading || entry.model != nullptr) return;
  entry.loading = true;
  to_load_.emplace_back(name, version);
}

void ModelRepository::Run() {
  while (true) {
    std::vector<std::unique_ptr<const ServedModel>> retired;
    std::optional<Key> key;
    {
      absl::MutexLock lock(&mutex_);
      mutex_.Await(absl::Condition(this, &ModelRepository::HasWork));
      live_models_ -= std::ssize(retired_);
      retired.swap(retired_);
      if (!to_load_.empty()) {
        key = to_load_.front();
      } else if (retired.empty()) {
        return;
      }
    }
    retired.clear();
    if (key.has_value()) Load(*key);
  }
}

void ModelRepository::Load(const Key& key) {
  const auto& [name, version] = key;
  absl::StatusOr<LoadedModel> loaded = source_->Load(name, version);
  absl::StatusOr<Handle> result;
  if (loaded.ok()) {
    result = MakeHandle(*std::move(loaded));
    LogLine(LogLevel::kInfo, "serving a model", {{"model", name}, {"version", version}});
  } else {
    result =
        absl::UnavailableError(absl::StrCat("model '", name, "' version ", version,
                                            " is not at ready state: ", loaded.status().message()));
    LogLine(LogLevel::kError, "cannot serve a model",
            {{"model", name}, {"version", version}, {"status", loaded.status()}});
  }

  std::vector<Found> waiting;
  std::vector<Handle> evicted;
  {
    absl::MutexLock lock(&mutex_);
    Entry& entry = models_[name][version];
    entry.loading = false;
    if (result.ok()) entry.model = *result;
    waiting.swap(entry.waiting);
    evicted = Evict();
    to_load_.pop_front();
  }
  for (Found& found : waiting) std::move(found)(result);
}

std::vector<ModelRepository::Handle> ModelRepository::Evict() {
  std::vector<Entry*> older;
  for (auto& [name, versions] : models_) {
    for (auto entry = versions.begin(); entry != std::prev(versions.end()); ++entry) {
      if (entry->second.model != nullptr) older.push_back(&entry->second);
    }
  }
  std::sort(older.begin(), older.end(),
            [](const Entry* a, const Entry* b) { return a->last_use > b->last_use; });
  std::vector<Handle> evicted;
  for (size_t i = options_.max_older_versions; i < older.size(); ++i) {
    evicted.push_back(std::move(older[i]->model));
  }
  return evicted;
}

ModelRepository::Handle ModelRepository::MakeHandle(LoadedModel loaded) {
  auto model = std::make_unique<ServedModel>();
  model->record = std::move(loaded.record);
  model->network = std::move(loaded.network);
  model->batcher = std::make_unique<Batcher>(model->network.get(), options_.batcher);
  {
    absl::MutexLock lock(&mutex_);
    ++live_models_;
  }
  return Handle(model.release(), [this](const ServedModel* last) {
    absl::MutexLock lock(&mutex_);
    retired_.emplace_back(last);
  });
}

}  // namespace lockstep
