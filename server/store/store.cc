#include "server/store/store.h"

#include <algorithm>
#include <functional>
#include <limits>
#include <optional>
#include <set>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "server/store/queries.h"
#include "server/store/schema.h"
#include "server/store/sqlite.h"

namespace lockstep {
namespace {

template <typename Record>
absl::StatusOr<Record> Parse(const std::string& bytes) {
  Record record;
  if (!record.ParseFromString(bytes)) return absl::DataLossError("database: unreadable record");
  return record;
}

// The record in column 0 of the one row that `query` finds; `what` completes "no such ...".
template <typename Record>
absl::StatusOr<Record> ReadOne(Statement& query, const std::string& what) {
  absl::StatusOr<bool> row = query.Step();
  if (!row.ok()) return row.status();
  if (!*row) return absl::NotFoundError(absl::StrCat("no ", what));
  const std::string bytes = query.Bytes(0);
  query.Reset();
  return Parse<Record>(bytes);
}

template <typename Record>
absl::StatusOr<std::vector<Record>> ReadAll(Statement& query) {
  std::vector<Record> records;
  while (true) {
    absl::StatusOr<bool> row = query.Step();
    if (!row.ok()) return row.status();
    if (!*row) return records;
    absl::StatusOr<Record> record = Parse<Record>(query.Bytes(0));
    if (!record.ok()) {
      query.Reset();
      return record.status();
    }
    records.push_back(*std::move(record));
  }
}

absl::StatusOr<std::vector<std::string>> ReadStrings(Statement& query) {
  std::vector<std::string> strings;
  while (true) {
    absl::StatusOr<bool> row = query.Step();
    if (!row.ok()) return row.status();
    if (!*row) return strings;
    strings.push_back(query.Bytes(0));
  }
}

// Does all of `change` or nothing.
template <typename Change>
absl::Status InTransaction(Database& database, Change change) {
  Transaction transaction(database);
  if (absl::Status s = transaction.Begin(); !s.ok()) return s;
  if (absl::Status s = change(); !s.ok()) return s;
  return transaction.Commit();
}

}  // namespace

struct Store::Impl {
  Impl(Database opened, Queries prepared)
      : database(std::move(opened)), queries(std::move(prepared)) {}

  // These change several rows: within a transaction.
  absl::Status InsertJob(const v1::Job& job) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  absl::Status UpdateJob(const v1::Job& job) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  absl::Status InsertDataset(const v1::Dataset& dataset) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  // Whether the job has all of the labels.
  absl::StatusOr<bool> HasLabels(int64_t sequence, const std::map<std::string, std::string>& labels)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  // The first `limit` jobs' sequence numbers among the rows (sequence, state) of `candidates` that
  // pass the filter.
  absl::StatusOr<std::vector<int64_t>> Filter(const JobFilter& filter, size_t limit,
                                              Statement& candidates)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  absl::StatusOr<std::vector<int64_t>> FindJobs(const JobFilter& filter, int64_t below,
                                                size_t limit) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  absl::StatusOr<v1::Dataset> GetDataset(const std::string& name)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);

  absl::Mutex mutex;
  Database database ABSL_GUARDED_BY(mutex);  // before the queries, which must go first
  Queries queries ABSL_GUARDED_BY(mutex);
};

absl::Status Store::Impl::InsertJob(const v1::Job& job) {
  BindJob(job, queries.insert_job);
  absl::StatusOr<std::optional<int64_t>> sequence = queries.insert_job.RunReturning();
  if (!sequence.ok()) return sequence.status();
  for (const auto& [key, value] : job.spec().labels()) {
    queries.insert_label.Bind(1, **sequence).Bind(2, key).Bind(3, value);
    if (absl::Status s = queries.insert_label.Run(); !s.ok()) return s;
  }
  for (const std::string& sha256 : BlobsToStartFrom(job)) {
    queries.insert_job_blob.Bind(1, **sequence).Bind(2, sha256);
    if (absl::Status s = queries.insert_job_blob.Run(); !s.ok()) return s;
  }
  return absl::OkStatus();
}

absl::Status Store::Impl::UpdateJob(const v1::Job& job) {
  BindJob(job, queries.update_job);
  absl::StatusOr<std::optional<int64_t>> sequence = queries.update_job.RunReturning();
  if (!sequence.ok()) return sequence.status();
  if (!sequence->has_value()) return absl::NotFoundError(absl::StrCat("no job ", job.id()));
  if (!BlobsToStartFrom(job).empty()) return absl::OkStatus();
  return queries.delete_job_blobs.Bind(1, **sequence).Run();
}

absl::StatusOr<bool> Store::Impl::HasLabels(int64_t sequence,
                                            const std::map<std::string, std::string>& labels) {
  for (const auto& [key, value] : labels) {
    absl::StatusOr<bool> has =
        queries.has_label.Bind(1, sequence).Bind(2, key).Bind(3, value).Step();
    queries.has_label.Reset();
    if (!has.ok() || !*has) return has;
  }
  return true;
}

absl::StatusOr<std::vector<int64_t>> Store::Impl::Filter(const JobFilter& filter, size_t limit,
                                                         Statement& candidates) {
  std::vector<int64_t> found;
  while (found.size() < limit) {
    absl::StatusOr<bool> row = candidates.Step();
    if (!row.ok()) return row.status();
    if (!*row) return found;
    const int64_t sequence = candidates.Int(0);
    const auto state = static_cast<v1::JobState>(candidates.Int(1));
    if (!filter.states.empty() &&
        std::find(filter.states.begin(), filter.states.end(), state) == filter.states.end()) {
      continue;
    }
    absl::StatusOr<bool> labelled = HasLabels(sequence, filter.labels);
    if (!labelled.ok()) {
      candidates.Reset();
      return labelled.status();
    }
    if (*labelled) found.push_back(sequence);
  }
  candidates.Reset();
  return found;
}

absl::StatusOr<std::vector<int64_t>> Store::Impl::FindJobs(const JobFilter& filter, int64_t below,
                                                           size_t limit) {
  if (!filter.labels.empty()) {
    const auto& [key, value] = *filter.labels.begin();
    return Filter(filter, limit, queries.list_labelled.Bind(1, below).Bind(2, key).Bind(3, value));
  }
  if (filter.states.empty()) return Filter(filter, limit, queries.list_all.Bind(1, below));
  // The newest of all are among the newest of each state.
  std::vector<int64_t> found;
  for (const v1::JobState state : std::set(filter.states.begin(), filter.states.end())) {
    queries.list_in_state.Bind(1, below).Bind(2, static_cast<int64_t>(state));
    absl::StatusOr<std::vector<int64_t>> some = Filter(filter, limit, queries.list_in_state);
    if (!some.ok()) return some;
    found.insert(found.end(), some->begin(), some->end());
  }
  std::sort(found.begin(), found.end(), std::greater<>());
  found.resize(std::min(found.size(), limit));
  return found;
}

absl::Status Store::Impl::InsertDataset(const v1::Dataset& dataset) {
  queries.insert_dataset.Bind(1, dataset.name())
      .Bind(2, dataset.digest())
      .BindBlob(3, dataset.SerializeAsString());
  if (absl::Status s = queries.insert_dataset.Run(); !s.ok()) return s;
  for (const v1::Tensor& tensor : dataset.tensors()) {
    queries.insert_tensor.Bind(1, tensor.blob().sha256()).Bind(2, dataset.name());
    if (absl::Status s = queries.insert_tensor.Run(); !s.ok()) return s;
  }
  return absl::OkStatus();
}

absl::StatusOr<v1::Dataset> Store::Impl::GetDataset(const std::string& name) {
  queries.get_dataset.Bind(1, name);
  return ReadOne<v1::Dataset>(queries.get_dataset, absl::StrCat("data set ", name));
}

Store::Store(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Store::~Store() = default;

absl::StatusOr<std::unique_ptr<Store>> Store::Open(const std::string& path) {
  absl::StatusOr<Database> database = Database::Open(path);
  if (!database.ok()) return database.status();
  // Checked before anything is changed in a file that may be a newer server's.
  for (const char* pragma : {"PRAGMA foreign_keys = ON", "PRAGMA synchronous = FULL"}) {
    if (absl::Status s = database->Execute(pragma); !s.ok()) return s;
  }
  if (absl::Status s = Migrate(*database, path); !s.ok()) return s;
  if (absl::Status s = database->Execute("PRAGMA journal_mode = WAL"); !s.ok()) return s;
  // A WAL that could only be opened for reading would have every change refused for ever.
  if (absl::Status s = Transaction(*database).Begin(); !s.ok()) return s;
  absl::StatusOr<Queries> queries = Queries::Prepare(*database);
  if (!queries.ok()) return queries.status();
  return std::unique_ptr<Store>(
      new Store(std::make_unique<Impl>(*std::move(database), *std::move(queries))));
}

std::vector<const char*> Store::Statements() { return Queries::Sql(); }

absl::Status Store::InsertJob(const v1::Job& job) {
  absl::MutexLock lock(&impl_->mutex);
  absl::Status inserted = InTransaction(impl_->database, [&] {
    impl_->mutex.AssertHeld();
    return impl_->InsertJob(job);
  });
  if (absl::IsAlreadyExists(inserted)) {
    return absl::AlreadyExistsError(absl::StrCat("there is already a job ", job.id()));
  }
  return inserted;
}

absl::StatusOr<v1::Job> Store::GetJob(const std::string& id) {
  absl::MutexLock lock(&impl_->mutex);
  impl_->queries.get_job.Bind(1, id);
  return ReadOne<v1::Job>(impl_->queries.get_job, absl::StrCat("job ", id));
}

absl::StatusOr<JobPage> Store::ListJobs(const JobFilter& filter, int64_t below, int limit) {
  absl::MutexLock lock(&impl_->mutex);
  const size_t size = std::max(limit, 1);
  // One more, to know whether there is a next page.
  absl::StatusOr<std::vector<int64_t>> found =
      impl_->FindJobs(filter, below == 0 ? std::numeric_limits<int64_t>::max() : below, size + 1);
  if (!found.ok()) return found.status();
  JobPage page;
  if (found->size() > size) {
    found->resize(size);
    page.next = found->back();
  }
  for (const int64_t sequence : *found) {
    impl_->queries.get_job_at.Bind(1, sequence);
    absl::StatusOr<v1::Job> job = ReadOne<v1::Job>(impl_->queries.get_job_at, "job");
    if (!job.ok()) return job.status();
    page.jobs.push_back(*std::move(job));
  }
  return page;
}

absl::StatusOr<int64_t> Store::CountJobs(v1::JobState state) {
  absl::MutexLock lock(&impl_->mutex);
  Statement& query = impl_->queries.count_in_state.Bind(1, static_cast<int64_t>(state));
  absl::StatusOr<bool> row = query.Step();
  if (!row.ok()) return row.status();
  const int64_t jobs = query.Int(0);
  query.Reset();
  return jobs;
}

absl::StatusOr<std::vector<v1::Job>> Store::ListUnfinishedJobs() {
  absl::MutexLock lock(&impl_->mutex);
  return ReadAll<v1::Job>(impl_->queries.list_unfinished);
}

absl::StatusOr<v1::Job> Store::FindSucceeded(const std::string& fingerprint,
                                             const std::string& publish_as) {
  absl::MutexLock lock(&impl_->mutex);
  Statement& query =
      publish_as.empty()
          ? impl_->queries.find_result.Bind(1, fingerprint)
          : impl_->queries.find_result_by_name.Bind(1, fingerprint).Bind(2, publish_as);
  return ReadOne<v1::Job>(query, absl::StrCat("succeeded job with fingerprint ", fingerprint));
}

absl::Status Store::UpdateJob(const v1::Job& job) {
  absl::MutexLock lock(&impl_->mutex);
  return InTransaction(impl_->database, [&] {
    impl_->mutex.AssertHeld();
    return impl_->UpdateJob(job);
  });
}

absl::Status Store::DeleteJob(const std::string& id) {
  absl::MutexLock lock(&impl_->mutex);
  absl::StatusOr<std::optional<int64_t>> deleted =
      impl_->queries.delete_job.Bind(1, id).RunReturning();
  if (!deleted.ok()) return deleted.status();
  if (!deleted->has_value()) return absl::NotFoundError(absl::StrCat("no job ", id));
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> Store::ListExpiredJobs(absl::Time before, int64_t keep) {
  absl::MutexLock lock(&impl_->mutex);
  absl::StatusOr<std::vector<std::string>> old =
      ReadStrings(impl_->queries.list_ended_before.Bind(1, ToColumn(before)));
  if (!old.ok() || keep == 0) return old;
  absl::StatusOr<std::vector<std::string>> surplus =
      ReadStrings(impl_->queries.list_ended_but_newest.Bind(1, keep));
  if (!surplus.ok()) return surplus;
  std::reverse(surplus->begin(), surplus->end());
  // Both are the first jobs of the same order, so one of them holds the other.
  return old->size() > surplus->size() ? old : surplus;
}

absl::Status Store::InsertCheckpoint(const std::string& job_id, const v1::Checkpoint& checkpoint) {
  absl::MutexLock lock(&impl_->mutex);
  absl::Status inserted = impl_->queries.insert_checkpoint.Bind(1, job_id)
                              .Bind(2, checkpoint.step())
                              .Bind(3, checkpoint.blob().sha256())
                              .BindBlob(4, checkpoint.SerializeAsString())
                              .Run();
  if (absl::IsNotFound(inserted)) return absl::NotFoundError(absl::StrCat("no job ", job_id));
  return inserted;
}

absl::StatusOr<std::vector<v1::Checkpoint>> Store::ListCheckpoints(const std::string& job_id) {
  absl::MutexLock lock(&impl_->mutex);
  return ReadAll<v1::Checkpoint>(impl_->queries.list_checkpoints.Bind(1, job_id));
}

absl::Status Store::DeleteCheckpoint(const std::string& job_id, int64_t step) {
  absl::MutexLock lock(&impl_->mutex);
  return impl_->queries.delete_checkpoint.Bind(1, job_id).Bind(2, step).Run();
}

absl::StatusOr<bool> Store::IsBlobUsed(const std::string& sha256) {
  absl::MutexLock lock(&impl_->mutex);
  absl::StatusOr<bool> used = impl_->queries.is_blob_used.Bind(1, sha256).Step();
  impl_->queries.is_blob_used.Reset();
  return used;
}

absl::Status Store::PublishModel(v1::ModelVersion& version, v1::Job& job) {
  absl::MutexLock lock(&impl_->mutex);
  Transaction transaction(impl_->database);
  if (absl::Status s = transaction.Begin(); !s.ok()) return s;
  impl_->queries.newest_model.Bind(1, version.name());
  absl::StatusOr<bool> any = impl_->queries.newest_model.Step();
  if (!any.ok()) return any.status();
  v1::ModelVersion published = version;
  published.set_version(*any ? impl_->queries.newest_model.Int(1) + 1 : 1);
  impl_->queries.newest_model.Reset();
  v1::Job publisher = job;
  publisher.mutable_published()->set_name(published.name());
  publisher.mutable_published()->set_version(published.version());

  if (absl::Status s = impl_->UpdateJob(publisher); !s.ok()) return s;
  impl_->queries.insert_model.Bind(1, published.name())
      .Bind(2, published.version())
      .Bind(3, published.weights().sha256())
      .BindBlob(4, published.SerializeAsString());
  if (absl::Status s = impl_->queries.insert_model.Run(); !s.ok()) return s;
  if (absl::Status s = transaction.Commit(); !s.ok()) return s;
  version = std::move(published);
  job = std::move(publisher);
  return absl::OkStatus();
}

absl::StatusOr<v1::ModelVersion> Store::GetModel(const std::string& name, int64_t version) {
  absl::MutexLock lock(&impl_->mutex);
  if (version == 0) {
    impl_->queries.newest_model.Bind(1, name);
    return ReadOne<v1::ModelVersion>(impl_->queries.newest_model, absl::StrCat("model ", name));
  }
  impl_->queries.get_model.Bind(1, name).Bind(2, version);
  return ReadOne<v1::ModelVersion>(impl_->queries.get_model,
                                   absl::StrCat("version ", version, " of model ", name));
}

absl::StatusOr<std::vector<v1::ModelVersion>> Store::ListModels() {
  absl::MutexLock lock(&impl_->mutex);
  return ReadAll<v1::ModelVersion>(impl_->queries.list_models);
}

absl::StatusOr<std::vector<int64_t>> Store::ListModelVersions(const std::string& name) {
  absl::MutexLock lock(&impl_->mutex);
  Statement& query = impl_->queries.list_versions.Bind(1, name);
  std::vector<int64_t> versions;
  while (true) {
    absl::StatusOr<bool> row = query.Step();
    if (!row.ok()) return row.status();
    if (!*row) return versions;
    versions.push_back(query.Int(0));
  }
}

absl::StatusOr<v1::Dataset> Store::InsertDataset(const v1::Dataset& dataset) {
  absl::MutexLock lock(&impl_->mutex);
  const absl::Status inserted = InTransaction(impl_->database, [&] {
    impl_->mutex.AssertHeld();
    return impl_->InsertDataset(dataset);
  });
  if (inserted.ok()) return dataset;
  if (!absl::IsAlreadyExists(inserted)) return inserted;
  absl::StatusOr<v1::Dataset> there = impl_->GetDataset(dataset.name());
  if (!there.ok() || there->digest() == dataset.digest()) return there;
  return absl::AlreadyExistsError(absl::StrCat(
      "dataset.name: ", dataset.name(), " is taken by other data (digest ", there->digest(), ")"));
}

absl::StatusOr<v1::Dataset> Store::GetDataset(const std::string& name) {
  absl::MutexLock lock(&impl_->mutex);
  return impl_->GetDataset(name);
}

absl::StatusOr<std::vector<v1::Dataset>> Store::ListDatasets() {
  absl::MutexLock lock(&impl_->mutex);
  return ReadAll<v1::Dataset>(impl_->queries.list_datasets);
}

}  // namespace lockstep
