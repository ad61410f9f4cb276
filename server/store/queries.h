#ifndef LOCKSTEP_SERVER_STORE_QUERIES_H_
#define LOCKSTEP_SERVER_STORE_QUERIES_H_

#include <vector>

#include "absl/status/statusor.h"
#include "server/store/sqlite.h"

namespace lockstep {

// All that the store asks of its tables (schema.h), prepared. What a parameter is stands where the
// query is made.
struct Queries {
  static absl::StatusOr<Queries> Prepare(Database& database);
  static std::vector<const char*> Sql();

  Statement insert_job;
  Statement insert_label;
  Statement insert_job_blob;
  Statement delete_job_blobs;
  Statement get_job;
  Statement get_job_at;
  Statement list_all;
  Statement list_in_state;
  Statement list_labelled;
  Statement count_in_state;
  Statement has_label;
  Statement list_unfinished;
  Statement list_ended_before;
  Statement list_ended_but_newest;
  Statement find_result;
  Statement find_result_by_name;
  Statement update_job;
  Statement delete_job;
  Statement insert_checkpoint;
  Statement list_checkpoints;
  Statement delete_checkpoint;
  Statement is_blob_used;
  Statement insert_model;
  Statement get_model;
  Statement newest_model;
  Statement list_models;
  Statement list_versions;
  Statement insert_dataset;
  Statement insert_tensor;
  Statement get_dataset;
  Statement list_datasets;
};

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_STORE_QUERIES_H_
