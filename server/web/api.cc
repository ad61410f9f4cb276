#include "server/web/api.h"

#include <google/protobuf/struct.pb.h>
#include <google/protobuf/util/json_util.h>

#include <algorithm>
#include <chrono>
#include <limits>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "server/api/run_guarded.h"
#include "server/serving/infer_request.h"
#include "server/web/infer_json.h"
#include "server/web/series_json.h"

namespace lockstep {
namespace {

constexpr int64_t kMaxBodyBytes = 64 << 10;
constexpr int64_t kMaxInferBodyBytes = 4 << 20;
constexpr std::chrono::seconds kCallTime{60};
constexpr int kDefaultPoints = 2000;
constexpr int kMaxPoints = 100'000;

HttpAnswer JsonAnswer(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  HttpAnswer answer;
  const auto written = google::protobuf::util::MessageToJsonString(message, &answer.body, options);
  if (written.ok()) return answer;
  return ErrorAnswer(absl::InternalError(written.ToString()));
}

// The number in a query, or `other` where there is none. INVALID_ARGUMENT names the key.
absl::StatusOr<int64_t> Number(const HttpRequest& request, const std::string& key, int64_t least,
                               int64_t most, int64_t other) {
  const auto found = request.query.find(key);
  if (found == request.query.end()) return other;
  int64_t number;
  if (!absl::SimpleAtoi(found->second, &number) || number < least || number > most) {
    return absl::InvalidArgumentError(absl::StrCat(key, ": must be a whole number within [", least,
                                                   ", ", most, "], got \"", found->second, "\""));
  }
  return number;
}

}  // namespace

// The first whose method and path fit; "*" is any one part of a path.
struct Api::Route {
  absl::string_view method;
  absl::string_view path;
  void (Api::*handler)(const HttpRequest& request, Done done);
  int64_t max_body_bytes = kMaxBodyBytes;

  bool FitsPath(const HttpRequest& request) const {
    size_t part = 0;
    for (absl::string_view wanted : absl::StrSplit(path, '/')) {
      if (part == request.path.size()) return false;
      if (wanted != "*" && wanted != request.path[part]) return false;
      ++part;
    }
    return part == request.path.size();
  }
};

const Api::Route Api::kRoutes[] = {
    {"GET", "api/jobs", &Api::ListJobs},
    {"GET", "api/jobs/*", &Api::GetJob},
    {"GET", "api/jobs/*/events", &Api::Events},
    {"GET", "api/jobs/*/series", &Api::Series},
    {"POST", "api/jobs/*/pause", &Api::Pause},
    {"POST", "api/jobs/*/resume", &Api::Resume},
    {"POST", "api/jobs/*/cancel", &Api::Cancel},
    {"POST", "api/jobs/*/delete", &Api::Delete},
    {"POST", "api/jobs/*/priority", &Api::SetPriority},
    {"GET", "api/models", &Api::ListModels},
    {"GET", "api/models/*", &Api::ListVersions},
    {"GET", "api/models/*/metadata", &Api::ModelMetadata},
    {"POST", "api/models/*/infer", &Api::Infer, kMaxInferBodyBytes},
    {"GET", "api/models/*/*", &Api::GetModel},
    {"GET", "api/models/*/*/weights", &Api::ModelWeights},
    {"GET", "api/workers", &Api::ListWorkers},
};

Api::Api(Parts parts)
    : parts_(std::move(parts)),
      jobs_(v1::JobService::NewStub(parts_.channel)),
      models_(v1::ModelService::NewStub(parts_.channel)),
      inference_(inference::GRPCInferenceService::NewStub(parts_.channel)) {}

int64_t Api::MaxBodyBytes(const HttpRequest& request) {
  for (const Route& route : kRoutes) {
    if (route.FitsPath(request) && route.method == request.method) return route.max_body_bytes;
  }
  return kMaxBodyBytes;
}

Api::~Api() {
  absl::MutexLock lock(&mu_);
  mu_.Await(absl::Condition(
      +[](int* calls) { return *calls == 0; }, &calls_));
}

void Api::EndCall() {
  absl::MutexLock lock(&mu_);
  --calls_;
}

void Api::Handle(const HttpRequest& request, Done done) {
  std::string allowed;
  for (const Route& route : kRoutes) {
    if (!route.FitsPath(request)) continue;
    if (route.method == request.method) return (this->*route.handler)(request, std::move(done));
    absl::StrAppend(&allowed, allowed.empty() ? "" : ", ", route.method);
  }
  if (allowed.empty()) return done(ErrorAnswer(absl::NotFoundError("there is nothing here")));
  HttpAnswer answer = ErrorAnswer(
      absl::UnimplementedError(absl::StrCat("only ", allowed, " is possible here")), 405);
  answer.headers.emplace_back("Allow", allowed);
  done(std::move(answer));
}

template <typename Stub, typename Request, typename Response>
void Api::Call(Stub& stub,
               void (Stub::async_interface::*method)(grpc::ClientContext*, const Request*,
                                                     Response*, std::function<void(grpc::Status)>),
               Request request, Done done, absl::AnyInvocable<HttpAnswer(const Response&)> answer) {
  struct State {
    grpc::ClientContext context;
    Request request;
    Response response;
    Done done;
    absl::AnyInvocable<HttpAnswer(const Response&)> answer;
  };
  auto state = std::make_shared<State>();
  state->request = std::move(request);
  state->done = std::move(done);
  state->answer = std::move(answer);
  if (!parts_.token.empty()) {
    state->context.AddMetadata("authorization", absl::StrCat("Bearer ", parts_.token));
  }
  state->context.set_deadline(std::chrono::system_clock::now() + kCallTime);
  {
    absl::MutexLock lock(&mu_);
    ++calls_;
  }
  (stub.async()->*method)(
      &state->context, &state->request, &state->response, [this, state](grpc::Status status) {
        if (!status.ok()) {
          state->done(ErrorAnswer(absl::Status(static_cast<absl::StatusCode>(status.error_code()),
                                               status.error_message())));
        } else if (state->answer) {
          state->done(state->answer(state->response));
        } else {
          state->done(JsonAnswer(state->response));
        }
        state->done = nullptr;
        EndCall();
      });
}

void Api::Post(Done done, absl::AnyInvocable<void(Done&)> work) {
  auto shared = std::make_shared<Done>(std::move(done));
  const bool posted = parts_.executor->Post([shared, work = std::move(work)]() mutable {
    const absl::Status status = RunGuarded([&] {
      work(*shared);
      return absl::OkStatus();
    });
    if (!status.ok() && *shared) (*shared)(ErrorAnswer(status));
  });
  if (!posted) {
    (*shared)(ErrorAnswer(absl::ResourceExhaustedError("the server is busy; try again")));
  }
}

void Api::ListJobs(const HttpRequest& request, Done done) {
  v1::ListJobsRequest wanted;
  const absl::StatusOr<int64_t> size =
      Number(request, "page_size", 0, std::numeric_limits<int32_t>::max(), 0);
  if (!size.ok()) return done(ErrorAnswer(size.status()));
  wanted.set_page_size(static_cast<int32_t>(*size));
  for (const auto& [key, value] : request.query) {
    v1::JobState state;
    if (key == "page_token") {
      wanted.set_page_token(value);
    } else if (key == "state") {
      if (!v1::JobState_Parse(value, &state)) {
        return done(ErrorAnswer(
            absl::InvalidArgumentError(absl::StrCat("state: there is no state \"", value, "\""))));
      }
      wanted.add_states(state);
    } else if (key == "label") {
      const std::pair<std::string, std::string> label =
          absl::StrSplit(value, absl::MaxSplits('=', 1));
      wanted.mutable_labels()->insert({label.first, label.second});
    }
  }
  Call(*jobs_, &v1::JobService::Stub::async_interface::ListJobs, std::move(wanted),
       std::move(done));
}

void Api::GetJob(const HttpRequest& request, Done done) {
  v1::GetJobRequest wanted;
  wanted.set_id(request.path[2]);
  Call(*jobs_, &v1::JobService::Stub::async_interface::GetJob, std::move(wanted), std::move(done));
}

void Api::Pause(const HttpRequest& request, Done done) {
  v1::PauseJobRequest wanted;
  wanted.set_id(request.path[2]);
  Call(*jobs_, &v1::JobService::Stub::async_interface::PauseJob, std::move(wanted),
       std::move(done));
}

void Api::Resume(const HttpRequest& request, Done done) {
  v1::ResumeJobRequest wanted;
  wanted.set_id(request.path[2]);
  Call(*jobs_, &v1::JobService::Stub::async_interface::ResumeJob, std::move(wanted),
       std::move(done));
}

void Api::Cancel(const HttpRequest& request, Done done) {
  v1::CancelJobRequest wanted;
  wanted.set_id(request.path[2]);
  Call(*jobs_, &v1::JobService::Stub::async_interface::CancelJob, std::move(wanted),
       std::move(done));
}

void Api::Delete(const HttpRequest& request, Done done) {
  v1::DeleteJobRequest wanted;
  wanted.set_id(request.path[2]);
  Call(*jobs_, &v1::JobService::Stub::async_interface::DeleteJob, std::move(wanted),
       std::move(done));
}

void Api::SetPriority(const HttpRequest& request, Done done) {
  v1::SetJobPriorityRequest wanted;
  google::protobuf::Struct fields;  // a message's number that is not there is 0
  const auto read = google::protobuf::util::JsonStringToMessage(request.body, &wanted);
  const bool is_object = google::protobuf::util::JsonStringToMessage(request.body, &fields).ok();
  if (!read.ok() || !is_object || !fields.fields().contains("priority")) {
    return done(ErrorAnswer(absl::InvalidArgumentError(
        absl::StrCat("the body must be {\"priority\": NUMBER}", read.ok() ? "" : ": ",
                     read.message().as_string()))));
  }
  wanted.set_id(request.path[2]);
  Call(*jobs_, &v1::JobService::Stub::async_interface::SetJobPriority, std::move(wanted),
       std::move(done));
}

void Api::Events(const HttpRequest& request, Done done) {
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max() - 1;
  const absl::StatusOr<int64_t> from = Number(request, "from", 0, kMost, 1);
  if (!from.ok()) return done(ErrorAnswer(from.status()));
  const absl::StatusOr<int64_t> steps_after = Number(request, "steps_after", 0, kMost, 0);
  if (!steps_after.ok()) return done(ErrorAnswer(steps_after.status()));
  EventStreamAnswer stream;
  const int64_t seen = std::min(request.last_event_id, kMost);
  stream.first = std::max(std::max<int64_t>(*from, 1), seen + 1);
  stream.steps_after = *steps_after;
  Post(std::move(done), [this, id = request.path[2], stream, seen](Done& done) mutable {
    absl::StatusOr<std::shared_ptr<EventLog>> log = parts_.jobs->Log(id);
    if (!log.ok()) return done(ErrorAnswer(log.status()));
    stream.log = *std::move(log);
    // Who has seen more than there is has seen another job's, which had the same name.
    const int64_t next = stream.log->last_sequence() + 1;
    if (stream.first > next) stream.first = seen >= next ? 1 : next;
    HttpAnswer answer;
    answer.content_type = "text/event-stream";
    answer.events = std::move(stream);
    done(std::move(answer));
  });
}

void Api::Series(const HttpRequest& request, Done done) {
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max() - 1;
  const absl::StatusOr<int64_t> points = Number(request, "points", 1, kMaxPoints, kDefaultPoints);
  const absl::StatusOr<int64_t> first = Number(request, "from_step", 0, kMost, 0);
  const absl::StatusOr<int64_t> last = Number(request, "to_step", 0, kMost, kMost);
  for (const absl::StatusOr<int64_t>& number : {points, first, last}) {
    if (!number.ok()) return done(ErrorAnswer(number.status()));
  }
  JobCurves::Selection selection;
  selection.points = static_cast<int>(*points);
  if (*first > 0) selection.first_step = *first;
  if (*last < kMost) selection.last_step = *last;
  if (const auto names = request.query.find("names"); names != request.query.end()) {
    for (absl::string_view name : absl::StrSplit(names->second, ',', absl::SkipEmpty())) {
      selection.names.emplace(name);
    }
  }
  Post(std::move(done), [this, id = request.path[2], selection](Done& done) {
    absl::StatusOr<JobCurves::Answer> curves = parts_.curves->Read(id, selection);
    if (!curves.ok()) return done(ErrorAnswer(curves.status()));
    HttpAnswer answer;
    answer.body = SeriesJson(*curves);
    done(std::move(answer));
  });
}

void Api::ListModels(const HttpRequest&, Done done) {
  Call(*models_, &v1::ModelService::Stub::async_interface::ListModels, v1::ListModelsRequest(),
       std::move(done));
}

void Api::ListVersions(const HttpRequest& request, Done done) {
  v1::ListModelsRequest wanted;
  wanted.set_name(request.path[2]);
  if (wanted.name().empty()) return done(ErrorAnswer(absl::NotFoundError("no model has no name")));
  Call(*models_, &v1::ModelService::Stub::async_interface::ListModels, std::move(wanted),
       std::move(done));
}

void Api::GetModel(const HttpRequest& request, Done done) {
  v1::GetModelRequest wanted;
  wanted.set_name(request.path[2]);
  const absl::StatusOr<int64_t> version = ParseModelVersion(request.path[3]);
  if (!version.ok()) return done(ErrorAnswer(version.status()));
  wanted.set_version(*version);
  Call(*models_, &v1::ModelService::Stub::async_interface::GetModel, std::move(wanted),
       std::move(done));
}

void Api::ModelWeights(const HttpRequest& request, Done done) {
  v1::GetModelRequest wanted;
  wanted.set_name(request.path[2]);
  const absl::StatusOr<int64_t> version = ParseModelVersion(request.path[3]);
  if (!version.ok()) return done(ErrorAnswer(version.status()));
  wanted.set_version(*version);
  Call(*models_, &v1::ModelService::Stub::async_interface::GetModel, std::move(wanted),
       std::move(done),
       absl::AnyInvocable<HttpAnswer(const v1::ModelVersion&)>(
           [this](const v1::ModelVersion& model) {
             absl::StatusOr<std::unique_ptr<BlobStore::Reader>> reader =
                 parts_.blobs->Read(model.weights().sha256());
             if (!reader.ok()) return ErrorAnswer(reader.status());
             HttpAnswer answer;
             answer.content_type = "application/octet-stream";
             answer.headers.emplace_back("Content-Disposition",
                                         absl::StrCat("attachment; filename=\"", model.name(), "-",
                                                      model.version(), ".safetensors\""));
             answer.blob = *std::move(reader);
             return answer;
           }));
}

void Api::ModelMetadata(const HttpRequest& request, Done done) {
  inference::ModelMetadataRequest wanted;
  wanted.set_name(request.path[2]);
  if (const auto version = request.query.find("version"); version != request.query.end()) {
    wanted.set_version(version->second);
  }
  Call(*inference_, &inference::GRPCInferenceService::Stub::async_interface::ModelMetadata,
       std::move(wanted), std::move(done));
}

void Api::Infer(const HttpRequest& request, Done done) {
  // The text becomes a hundred times as much on the way: not in the thread that serves all.
  Post(std::move(done), [this, name = request.path[2], body = request.body](Done& done) {
    absl::StatusOr<inference::ModelInferRequest> wanted = ReadInferJson(body);
    if (!wanted.ok()) return done(ErrorAnswer(wanted.status()));
    wanted->set_model_name(name);
    Call(*inference_, &inference::GRPCInferenceService::Stub::async_interface::ModelInfer,
         *std::move(wanted), std::move(done),
         absl::AnyInvocable<HttpAnswer(const inference::ModelInferResponse&)>(
             [](const inference::ModelInferResponse& response) {
               HttpAnswer answer;
               answer.body = WriteInferJson(response);
               return answer;
             }));
  });
}

void Api::ListWorkers(const HttpRequest&, Done done) {
  Call(*jobs_, &v1::JobService::Stub::async_interface::ListWorkers, v1::ListWorkersRequest(),
       std::move(done));
}

}  // namespace lockstep
