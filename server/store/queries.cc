#include "server/store/queries.h"

#include <utility>

#include "lockstep/v1/event.pb.h"

namespace lockstep {
namespace {

static_assert(v1::SUCCEEDED == 3, "as the queries for results have it");

struct Query {
  Statement Queries::*statement;
  const char* sql;
};

constexpr Query kQueries[] = {
    {&Queries::insert_job,
     "INSERT INTO jobs (id, record, state, fingerprint, publish_as, end_time)"
     " VALUES (?1, ?2, ?3, ?4, ?5, ?6) RETURNING sequence"},
    {&Queries::insert_label, "INSERT INTO job_labels (job, key, value) VALUES (?1, ?2, ?3)"},
    {&Queries::insert_job_blob, "INSERT INTO job_blobs (job, sha256) VALUES (?1, ?2)"},
    {&Queries::delete_job_blobs, "DELETE FROM job_blobs WHERE job = ?1"},
    {&Queries::get_job, "SELECT record FROM jobs WHERE id = ?1"},
    {&Queries::get_job_at, "SELECT record FROM jobs WHERE sequence = ?1"},
    {&Queries::list_all,
     "SELECT sequence, state FROM jobs WHERE sequence < ?1 ORDER BY sequence DESC"},
    {&Queries::list_in_state,
     "SELECT sequence, state FROM jobs WHERE sequence < ?1 AND state = ?2 ORDER BY sequence DESC"},
    {&Queries::list_labelled,
     "SELECT sequence, state FROM job_labels CROSS JOIN jobs ON sequence = job"
     " WHERE job < ?1 AND key = ?2 AND value = ?3 ORDER BY job DESC"},
    {&Queries::count_in_state, "SELECT COUNT(*) FROM jobs WHERE state = ?1"},
    {&Queries::has_label, "SELECT 1 FROM job_labels WHERE job = ?1 AND key = ?2 AND value = ?3"},
    {&Queries::list_unfinished, "SELECT record FROM jobs WHERE end_time IS NULL ORDER BY sequence"},
    {&Queries::list_ended_before,
     "SELECT id FROM jobs WHERE end_time < ?1 ORDER BY end_time, sequence"},
    {&Queries::list_ended_but_newest,
     "SELECT id FROM jobs WHERE end_time IS NOT NULL ORDER BY end_time DESC, sequence DESC"
     " LIMIT -1 OFFSET ?1"},
    {&Queries::find_result,
     "SELECT record FROM jobs WHERE state = 3 AND fingerprint = ?1 ORDER BY sequence DESC LIMIT 1"},
    {&Queries::find_result_by_name,
     "SELECT record FROM jobs WHERE state = 3 AND fingerprint = ?1 AND publish_as = ?2"
     " ORDER BY sequence DESC LIMIT 1"},
    {&Queries::update_job,
     "UPDATE jobs SET record = ?2, state = ?3, fingerprint = ?4, publish_as = ?5, end_time = ?6"
     " WHERE id = ?1 RETURNING sequence"},
    {&Queries::delete_job, "DELETE FROM jobs WHERE id = ?1 RETURNING sequence"},
    {&Queries::insert_checkpoint,
     "INSERT INTO checkpoints (job_id, step, sha256, record) VALUES (?1, ?2, ?3, ?4)"
     " ON CONFLICT (job_id, step) DO UPDATE SET sha256 = ?3, record = ?4"},
    {&Queries::list_checkpoints,
     "SELECT record FROM checkpoints WHERE job_id = ?1 ORDER BY step DESC"},
    {&Queries::delete_checkpoint, "DELETE FROM checkpoints WHERE job_id = ?1 AND step = ?2"},
    {&Queries::is_blob_used,
     "SELECT 1 FROM models WHERE weights_sha256 = ?1"
     " UNION ALL SELECT 1 FROM checkpoints WHERE sha256 = ?1"
     " UNION ALL SELECT 1 FROM job_blobs WHERE sha256 = ?1"
     " UNION ALL SELECT 1 FROM dataset_tensors WHERE sha256 = ?1 LIMIT 1"},
    {&Queries::insert_model,
     "INSERT INTO models (name, version, weights_sha256, record) VALUES (?1, ?2, ?3, ?4)"},
    {&Queries::get_model, "SELECT record FROM models WHERE name = ?1 AND version = ?2"},
    {&Queries::newest_model,
     "SELECT record, version FROM models WHERE name = ?1 ORDER BY version DESC LIMIT 1"},
    {&Queries::list_models,
     "SELECT record FROM models AS m WHERE version ="
     " (SELECT MAX(version) FROM models WHERE name = m.name) ORDER BY name"},
    {&Queries::list_versions, "SELECT version FROM models WHERE name = ?1 ORDER BY version"},
    {&Queries::insert_dataset, "INSERT INTO datasets (name, digest, record) VALUES (?1, ?2, ?3)"},
    {&Queries::insert_tensor,
     "INSERT OR IGNORE INTO dataset_tensors (sha256, dataset) VALUES (?1, ?2)"},
    {&Queries::get_dataset, "SELECT record FROM datasets WHERE name = ?1"},
    {&Queries::list_datasets, "SELECT record FROM datasets ORDER BY name"},
};

}  // namespace

absl::StatusOr<Queries> Queries::Prepare(Database& database) {
  Queries queries;
  for (const Query& query : kQueries) {
    absl::StatusOr<Statement> prepared = database.Prepare(query.sql);
    if (!prepared.ok()) return prepared.status();
    queries.*query.statement = *std::move(prepared);
  }
  return queries;
}

std::vector<const char*> Queries::Sql() {
  std::vector<const char*> sql;
  for (const Query& query : kQueries) sql.push_back(query.sql);
  return sql;
}

}  // namespace lockstep
