#include "server/store/schema.h"

#include <iterator>
#include <optional>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "lockstep/v1/dataset.pb.h"
#include "lockstep/v1/registry.pb.h"

namespace lockstep {
namespace {

// Brings a file from one version to the next: `sql`, then `fill`, which computes columns from the
// records, then `end`. Steps are history: they say what a version was, and do not change with it.
struct Step {
  const char* sql;
  absl::Status (*fill)(Database& database);
  const char* end;
};

absl::Status FillVersion2(Database& database);

constexpr Step kSteps[] = {
    {R"sql(
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
     nullptr, nullptr},
    {R"sql(
      ALTER TABLE models RENAME TO models_1;
      ALTER TABLE jobs RENAME TO jobs_1;
      CREATE TABLE jobs (
        sequence INTEGER PRIMARY KEY,   -- the order of submission
        id TEXT NOT NULL UNIQUE,
        record BLOB NOT NULL,
        state INTEGER NOT NULL,         -- a JobState
        fingerprint TEXT,               -- NULL in a job that verifies: its result is not to be found
        publish_as TEXT NOT NULL,
        end_time INTEGER                -- microseconds since 1970; NULL until then
      ) STRICT;
      CREATE INDEX jobs_by_state ON jobs (state);
      CREATE INDEX jobs_by_end ON jobs (end_time);
      CREATE INDEX results ON jobs (fingerprint) WHERE state = 3;
      CREATE INDEX results_by_name ON jobs (fingerprint, publish_as) WHERE state = 3;
      CREATE TABLE job_labels (
        job INTEGER NOT NULL REFERENCES jobs (sequence) ON DELETE CASCADE,
        key TEXT NOT NULL,
        value TEXT NOT NULL,
        PRIMARY KEY (job, key)
      ) STRICT, WITHOUT ROWID;
      CREATE UNIQUE INDEX jobs_by_label ON job_labels (key, value, job);
      -- What jobs that have not ended start from.
      CREATE TABLE job_blobs (
        job INTEGER NOT NULL REFERENCES jobs (sequence) ON DELETE CASCADE,
        sha256 TEXT NOT NULL,
        PRIMARY KEY (job, sha256)
      ) STRICT, WITHOUT ROWID;
      CREATE INDEX jobs_by_blob ON job_blobs (sha256);
      CREATE TABLE checkpoints (
        job_id TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
        step INTEGER NOT NULL,
        sha256 TEXT NOT NULL,
        record BLOB NOT NULL,
        PRIMARY KEY (job_id, step)
      ) STRICT, WITHOUT ROWID;
      CREATE INDEX checkpoints_by_blob ON checkpoints (sha256);
      -- A model outlives the job that made it, so nothing here refers to that.
      CREATE TABLE models (
        name TEXT NOT NULL,
        version INTEGER NOT NULL,
        weights_sha256 TEXT NOT NULL,
        record BLOB NOT NULL,
        PRIMARY KEY (name, version)
      ) STRICT, WITHOUT ROWID;
      CREATE INDEX models_by_blob ON models (weights_sha256);
      CREATE TABLE dataset_tensors (
        sha256 TEXT NOT NULL,
        dataset TEXT NOT NULL REFERENCES datasets (name),
        PRIMARY KEY (sha256, dataset)
      ) STRICT, WITHOUT ROWID;
    )sql",
     &FillVersion2, "DROP TABLE models_1; DROP TABLE jobs_1;"},
};

// Written to the file.
constexpr int64_t kSchemaVersion = std::size(kSteps);

// Calls `use` with every row of `select`.
template <typename Use>
absl::Status ForEachRow(Database& database, const char* select, Use use) {
  absl::StatusOr<Statement> query = database.Prepare(select);
  if (!query.ok()) return query.status();
  while (true) {
    absl::StatusOr<bool> row = query->Step();
    if (!row.ok() || !*row) return row.status();
    if (absl::Status used = use(*query); !used.ok()) return used;
  }
}

absl::Status Unreadable(const std::string& what) {
  return absl::DataLossError(absl::StrCat("database: unreadable record of ", what));
}

absl::Status FillJobs(Database& database) {
  absl::StatusOr<Statement> insert = database.Prepare(
      "INSERT INTO jobs (sequence, id, record, state, fingerprint, publish_as, end_time)"
      " VALUES (?7, ?1, ?2, ?3, ?4, ?5, ?6)");
  if (!insert.ok()) return insert.status();
  absl::StatusOr<Statement> blob =
      database.Prepare("INSERT INTO job_blobs (job, sha256) VALUES (?1, ?2)");
  if (!blob.ok()) return blob.status();
  return ForEachRow(
      database, "SELECT sequence, id, record FROM jobs_1", [&](Statement& row) -> absl::Status {
        v1::Job job;
        if (!job.ParseFromString(row.Bytes(2))) return Unreadable("job " + row.Bytes(1));
        BindJob(job, *insert);
        if (absl::Status s = insert->Bind(7, row.Int(0)).Run(); !s.ok()) return s;
        for (const std::string& sha256 : BlobsToStartFrom(job)) {
          if (absl::Status s = blob->Bind(1, row.Int(0)).Bind(2, sha256).Run(); !s.ok()) return s;
        }
        return absl::OkStatus();
      });
}

absl::Status FillModels(Database& database) {
  absl::StatusOr<Statement> insert = database.Prepare(
      "INSERT INTO models (name, version, weights_sha256, record) VALUES (?1, ?2, ?3, ?4)");
  if (!insert.ok()) return insert.status();
  return ForEachRow(database, "SELECT name, version, record FROM models_1",
                    [&](Statement& row) -> absl::Status {
                      v1::ModelVersion version;
                      if (!version.ParseFromString(row.Bytes(2)))
                        return Unreadable("model " + row.Bytes(0));
                      return insert->Bind(1, row.Bytes(0))
                          .Bind(2, row.Int(1))
                          .Bind(3, version.weights().sha256())
                          .BindBlob(4, row.Bytes(2))
                          .Run();
                    });
}

absl::Status FillDatasetTensors(Database& database) {
  absl::StatusOr<Statement> insert =
      database.Prepare("INSERT OR IGNORE INTO dataset_tensors (sha256, dataset) VALUES (?1, ?2)");
  if (!insert.ok()) return insert.status();
  return ForEachRow(database, "SELECT name, record FROM datasets",
                    [&](Statement& row) -> absl::Status {
                      v1::Dataset dataset;
                      if (!dataset.ParseFromString(row.Bytes(1)))
                        return Unreadable("data set " + row.Bytes(0));
                      for (const v1::Tensor& tensor : dataset.tensors()) {
                        insert->Bind(1, tensor.blob().sha256()).Bind(2, row.Bytes(0));
                        if (absl::Status s = insert->Run(); !s.ok()) return s;
                      }
                      return absl::OkStatus();
                    });
}

absl::Status FillVersion2(Database& database) {
  if (absl::Status s = FillJobs(database); !s.ok()) return s;
  if (absl::Status s = FillModels(database); !s.ok()) return s;
  return FillDatasetTensors(database);
}

absl::StatusOr<int64_t> ReadVersion(Database& database) {
  absl::StatusOr<Statement> query = database.Prepare("PRAGMA user_version");
  if (!query.ok()) return query.status();
  absl::StatusOr<bool> row = query->Step();
  if (!row.ok()) return row.status();
  return query->Int(0);
}

absl::Status MigrateFrom(int64_t version, Database& database) {
  const Step& step = kSteps[version];
  Transaction transaction(database);
  if (absl::Status s = transaction.Begin(); !s.ok()) return s;
  if (absl::Status s = database.Execute(step.sql); !s.ok()) return s;
  if (step.fill != nullptr) {
    if (absl::Status s = step.fill(database); !s.ok()) return s;
  }
  if (step.end != nullptr) {
    if (absl::Status s = database.Execute(step.end); !s.ok()) return s;
  }
  if (absl::Status s = database.Execute(absl::StrCat("PRAGMA user_version = ", version + 1));
      !s.ok()) {
    return s;
  }
  return transaction.Commit();
}

bool HasEnded(const v1::Job& job) {
  return job.state() == v1::SUCCEEDED || job.state() == v1::FAILED || job.state() == v1::CANCELLED;
}

}  // namespace

absl::Status Migrate(Database& database, const std::string& path) {
  absl::StatusOr<int64_t> version = ReadVersion(database);
  if (!version.ok()) return version.status();
  if (*version > kSchemaVersion) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, " was written by a newer lockstepd (schema ", *version,
                     ", this one knows ", kSchemaVersion, "); use that one"));
  }
  for (int64_t v = *version; v < kSchemaVersion; ++v) {
    if (absl::Status s = MigrateFrom(v, database); !s.ok()) return s;
  }
  return absl::OkStatus();
}

int64_t ToColumn(absl::Time time) { return absl::ToUnixMicros(time); }

void BindJob(const v1::Job& job, Statement& statement) {
  statement.Bind(1, job.id())
      .BindBlob(2, job.SerializeAsString())
      .Bind(3, static_cast<int64_t>(job.state()));
  if (!job.spec().has_verification()) statement.Bind(4, job.fingerprint());
  statement.Bind(5, job.spec().publish_as());
  if (HasEnded(job)) {
    statement.Bind(6, ToColumn(absl::FromUnixSeconds(job.end_time().seconds()) +
                               absl::Nanoseconds(job.end_time().nanos())));
  }
}

std::vector<std::string> BlobsToStartFrom(const v1::Job& job) {
  std::vector<std::string> blobs;
  if (HasEnded(job)) return blobs;
  const std::string& weights = job.spec().initial_weights().safetensors().sha256();
  const std::string& checkpoint = job.spec().verification().checkpoint().blob().sha256();
  if (!weights.empty()) blobs.push_back(weights);
  if (!checkpoint.empty() && checkpoint != weights) blobs.push_back(checkpoint);
  return blobs;
}

}  // namespace lockstep
