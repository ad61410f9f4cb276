#ifndef LOCKSTEP_SERVER_WEB_HTTP_MESSAGE_H_
#define LOCKSTEP_SERVER_WEB_HTTP_MESSAGE_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/events/event_log.h"
#include "server/store/blob_store.h"

// Requests and answers as the handlers see them: nothing here knows sockets.
namespace lockstep {

struct HttpRequest {
  std::string method;
  // "/api/jobs/a%2Fb?page_size=5" is {"api", "jobs", "a/b"} and {"page_size": "5"}.
  std::vector<std::string> path;
  std::map<std::string, std::string> query;  // of a key that comes twice the last value
  std::string body;
  int64_t last_event_id = 0;  // of a watcher that was connected before; 0: none
};

// Takes path and query of a request's target into `request`. INVALID_ARGUMENT for what is not an
// absolute path, or not UTF-8 once decoded.
absl::Status ParseTarget(absl::string_view target, HttpRequest* request);

// A job's events, from a sequence number on, as Server-Sent Events.
struct EventStreamAnswer {
  std::shared_ptr<EventLog> log;
  int64_t first = 1;
  int64_t steps_after = 0;  // without step records up to this step
};

struct HttpAnswer {
  int status = 200;
  std::string content_type = "application/json";
  std::string body;
  std::vector<std::pair<std::string, std::string>> headers;
  // Instead of a body, if set.
  std::shared_ptr<const BlobStore::Reader> blob;
  std::optional<EventStreamAnswer> events;
};

// {"error": message, "code": "NOT_FOUND"} with the HTTP status that fits.
HttpAnswer ErrorAnswer(const absl::Status& status);
// The same, where the code alone does not say which HTTP status.
HttpAnswer ErrorAnswer(const absl::Status& status, int http_status);

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_WEB_HTTP_MESSAGE_H_
