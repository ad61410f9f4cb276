#include "server/store/store.h"

#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "server/store/sqlite.h"

namespace lockstep {
namespace {

// Written to the file; a server refuses a file of a later version than its own.
constexpr int kSchemaVersion = 1;

// kMigrations[v] brings a file from version v to v + 1. Records are protobuf messages; columns
// beside them are what queries look for.
constexpr const char* kMigrations[kSchemaVersion] = {
    R"sql(
      CREATE TABLE jobs (
        sequence INTEGER PRIMARY KEY,   -- the order of submission
        id TEXT NOT NULL UNIQUE,
        record BLOB NOT NULL
      ) STRICT;
      CREATE TABLE models (
        name TEXT NOT NULL,
        version INTEGER NOT NULL,
        job_id TEXT NOT NULL REFERENCES jobs (id),
        record BLOB NOT NULL,
        PRIMARY KEY (name, version)
      ) STRICT, WITHOUT ROWID;
      CREATE TABLE datasets (
        name TEXT NOT NULL PRIMARY KEY,
        digest TEXT NOT NULL,
        record BLOB NOT NULL
      ) STRICT, WITHOUT ROWID;
    )sql",
};

absl::StatusOr<int64_t> ReadVersion(Database& database) {
  absl::StatusOr<Statement> query = database.Prepare("PRAGMA user_version");
  if (!query.ok()) return query.status();
  absl::StatusOr<bool> row = query->Step();
  if (!row.ok()) return row.status();
  return query->Int(0);
}

absl::Status Migrate(Database& database, const std::string& path) {
  absl::StatusOr<int64_t> version = ReadVersion(database);
  if (!version.ok()) return version.status();
  if (*version > kSchemaVersion) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, " was written by a newer lockstepd (schema ", *version,
                     ", this one knows ", kSchemaVersion, "); use that one"));
  }
  for (int64_t v = *version; v < kSchemaVersion; ++v) {
    Transaction transaction(database);
    if (absl::Status s = transaction.Begin(); !s.ok()) return s;
    if (absl::Status s = database.Execute(kMigrations[v]); !s.ok()) return s;
    if (absl::Status s = database.Execute(absl::StrCat("PRAGMA user_version = ", v + 1)); !s.ok()) {
      return s;
    }
    if (absl::Status s = transaction.Commit(); !s.ok()) return s;
  }
  return absl::OkStatus();
}

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

}  // namespace

struct Store::Impl {
  explicit Impl(Database opened) : database(std::move(opened)) {}

  absl::Status Prepare() ABSL_LOCKS_EXCLUDED(mutex);
  absl::Status UpdateJob(const v1::Job& job) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  absl::StatusOr<v1::Dataset> GetDataset(const std::string& name)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);

  absl::Mutex mutex;
  Database database ABSL_GUARDED_BY(mutex);  // before the statements, which must go first
  Statement insert_job ABSL_GUARDED_BY(mutex);
  Statement get_job ABSL_GUARDED_BY(mutex);
  Statement list_jobs ABSL_GUARDED_BY(mutex);
  Statement update_job ABSL_GUARDED_BY(mutex);
  Statement insert_model ABSL_GUARDED_BY(mutex);
  Statement get_model ABSL_GUARDED_BY(mutex);
  Statement newest_model ABSL_GUARDED_BY(mutex);
  Statement list_models ABSL_GUARDED_BY(mutex);
  Statement list_versions ABSL_GUARDED_BY(mutex);
  Statement insert_dataset ABSL_GUARDED_BY(mutex);
  Statement get_dataset ABSL_GUARDED_BY(mutex);
  Statement list_datasets ABSL_GUARDED_BY(mutex);
};

absl::Status Store::Impl::Prepare() {
  absl::MutexLock lock(&mutex);
  const std::pair<Statement*, const char*> statements[] = {
      {&insert_job, "INSERT INTO jobs (id, record) VALUES (?1, ?2)"},
      {&get_job, "SELECT record FROM jobs WHERE id = ?1"},
      {&list_jobs, "SELECT record FROM jobs ORDER BY sequence DESC"},
      {&update_job, "UPDATE jobs SET record = ?2 WHERE id = ?1 RETURNING sequence"},
      {&insert_model, "INSERT INTO models (name, version, job_id, record) VALUES (?1, ?2, ?3, ?4)"},
      {&get_model, "SELECT record FROM models WHERE name = ?1 AND version = ?2"},
      {&newest_model,
       "SELECT record, version FROM models WHERE name = ?1 ORDER BY version DESC LIMIT 1"},
      {&list_models,
       "SELECT record FROM models AS m WHERE version ="
       " (SELECT MAX(version) FROM models WHERE name = m.name) ORDER BY name"},
      {&list_versions, "SELECT version FROM models WHERE name = ?1 ORDER BY version"},
      {&insert_dataset, "INSERT INTO datasets (name, digest, record) VALUES (?1, ?2, ?3)"},
      {&get_dataset, "SELECT record FROM datasets WHERE name = ?1"},
      {&list_datasets, "SELECT record FROM datasets ORDER BY name"},
  };
  for (const auto& [statement, sql] : statements) {
    absl::StatusOr<Statement> prepared = database.Prepare(sql);
    if (!prepared.ok()) return prepared.status();
    *statement = *std::move(prepared);
  }
  return absl::OkStatus();
}

absl::Status Store::Impl::UpdateJob(const v1::Job& job) {
  update_job.Bind(1, job.id()).BindBlob(2, job.SerializeAsString());
  absl::StatusOr<bool> found = update_job.Step();
  if (!found.ok()) return found.status();
  if (!*found) return absl::NotFoundError(absl::StrCat("no job ", job.id()));
  return update_job.Run();
}

absl::StatusOr<v1::Dataset> Store::Impl::GetDataset(const std::string& name) {
  get_dataset.Bind(1, name);
  return ReadOne<v1::Dataset>(get_dataset, absl::StrCat("data set ", name));
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
  auto impl = std::make_unique<Impl>(*std::move(database));
  if (absl::Status s = impl->Prepare(); !s.ok()) return s;
  return std::unique_ptr<Store>(new Store(std::move(impl)));
}

absl::Status Store::InsertJob(const v1::Job& job) {
  absl::MutexLock lock(&impl_->mutex);
  absl::Status inserted =
      impl_->insert_job.Bind(1, job.id()).BindBlob(2, job.SerializeAsString()).Run();
  if (absl::IsAlreadyExists(inserted)) {
    return absl::AlreadyExistsError(absl::StrCat("there is already a job ", job.id()));
  }
  return inserted;
}

absl::StatusOr<v1::Job> Store::GetJob(const std::string& id) {
  absl::MutexLock lock(&impl_->mutex);
  impl_->get_job.Bind(1, id);
  return ReadOne<v1::Job>(impl_->get_job, absl::StrCat("job ", id));
}

absl::StatusOr<std::vector<v1::Job>> Store::ListJobs() {
  absl::MutexLock lock(&impl_->mutex);
  return ReadAll<v1::Job>(impl_->list_jobs);
}

absl::Status Store::UpdateJob(const v1::Job& job) {
  absl::MutexLock lock(&impl_->mutex);
  return impl_->UpdateJob(job);
}

absl::Status Store::PublishModel(v1::ModelVersion& version, v1::Job& job) {
  absl::MutexLock lock(&impl_->mutex);
  Transaction transaction(impl_->database);
  if (absl::Status s = transaction.Begin(); !s.ok()) return s;
  impl_->newest_model.Bind(1, version.name());
  absl::StatusOr<bool> any = impl_->newest_model.Step();
  if (!any.ok()) return any.status();
  version.set_version(*any ? impl_->newest_model.Int(1) + 1 : 1);
  impl_->newest_model.Reset();
  job.mutable_published()->set_name(version.name());
  job.mutable_published()->set_version(version.version());

  if (absl::Status s = impl_->UpdateJob(job); !s.ok()) return s;
  impl_->insert_model.Bind(1, version.name())
      .Bind(2, version.version())
      .Bind(3, job.id())
      .BindBlob(4, version.SerializeAsString());
  if (absl::Status s = impl_->insert_model.Run(); !s.ok()) return s;
  return transaction.Commit();
}

absl::StatusOr<v1::ModelVersion> Store::GetModel(const std::string& name, int64_t version) {
  absl::MutexLock lock(&impl_->mutex);
  if (version == 0) {
    impl_->newest_model.Bind(1, name);
    return ReadOne<v1::ModelVersion>(impl_->newest_model, absl::StrCat("model ", name));
  }
  impl_->get_model.Bind(1, name).Bind(2, version);
  return ReadOne<v1::ModelVersion>(impl_->get_model,
                                   absl::StrCat("version ", version, " of model ", name));
}

absl::StatusOr<std::vector<v1::ModelVersion>> Store::ListModels() {
  absl::MutexLock lock(&impl_->mutex);
  return ReadAll<v1::ModelVersion>(impl_->list_models);
}

absl::StatusOr<std::vector<int64_t>> Store::ListModelVersions(const std::string& name) {
  absl::MutexLock lock(&impl_->mutex);
  Statement& query = impl_->list_versions.Bind(1, name);
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
  absl::Status inserted = impl_->insert_dataset.Bind(1, dataset.name())
                              .Bind(2, dataset.digest())
                              .BindBlob(3, dataset.SerializeAsString())
                              .Run();
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
  return ReadAll<v1::Dataset>(impl_->list_datasets);
}

}  // namespace lockstep
