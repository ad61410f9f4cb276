#ifndef LOCKSTEP_SERVER_STORE_SCHEMA_H_
#define LOCKSTEP_SERVER_STORE_SCHEMA_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "lockstep/v1/job.pb.h"
#include "server/store/sqlite.h"

// The tables of the store's file. Records are protobuf messages; columns beside them are what
// queries look for.
namespace lockstep {

// Brings a file of any earlier version, or an empty one, to the version of this server, each step
// in one transaction. FAILED_PRECONDITION when the file is of a later version; it is not touched
// then.
absl::Status Migrate(Database& database, const std::string& path);

// As the column jobs.end_time has it.
int64_t ToColumn(absl::Time time);
// Binds the columns of a job's row: ?1 id, ?2 record, ?3 state, ?4 fingerprint, ?5 publish_as, ?6
// end_time.
void BindJob(const v1::Job& job, Statement& statement);
// SHA-256 of the blobs that a job needs until its end; none once it has ended.
std::vector<std::string> BlobsToStartFrom(const v1::Job& job);

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_STORE_SCHEMA_H_
