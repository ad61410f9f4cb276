#include "server/tensorboard/data_provider.h"

#include <algorithm>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/telemetry/log.h"

namespace lockstep {
namespace {

namespace data = ::tensorboard::data;

using Names = Runs::Names;  // none: all

template <typename Filter>
Names NamesOf(bool given, const Filter& filter) {
  if (!given) return std::nullopt;
  return Names(std::in_place, filter.names().begin(), filter.names().end());
}
Names RunsOf(const data::RunTagFilter& filter) { return NamesOf(filter.has_runs(), filter.runs()); }
Names TagsOf(const data::RunTagFilter& filter) { return NamesOf(filter.has_tags(), filter.tags()); }

bool Has(const Names& names, const std::string& name) {
  return !names.has_value() || names->contains(name);
}

absl::Status CheckPlugin(const data::PluginFilter& filter) {
  if (!filter.plugin_name().empty()) return absl::OkStatus();
  return absl::InvalidArgumentError("plugin_filter.plugin_name: must not be empty");
}

template <typename Request>
absl::Status CheckRead(const Request& request) {
  if (absl::Status s = CheckPlugin(request.plugin_filter()); !s.ok()) return s;
  if (request.downsample().num_points() >= 0) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("downsample.num_points: must be >= 0, got ", request.downsample().num_points()));
}

// What an answer may still take.
class Room {
 public:
  explicit Room(int64_t bytes) : left_(bytes) {}
  absl::Status Take(int64_t bytes) {
    left_ -= bytes;
    if (left_ >= 0) return absl::OkStatus();
    return absl::ResourceExhaustedError(
        "the answer would be too large; ask for fewer points, tags or runs at a time");
  }

 private:
  int64_t left_;
};

template <typename Metadata>
void Describe(int64_t step, double wall_time, const tb::SummaryMetadata& summary, Metadata* out) {
  out->set_max_step(step);
  out->set_max_wall_time(wall_time);
  *out->mutable_summary_metadata() = summary;
}

tb::SummaryMetadata ScalarSummary() {
  tb::SummaryMetadata summary;
  summary.mutable_plugin_data()->set_plugin_name(std::string(kScalars));
  summary.set_data_class(tb::DATA_CLASS_SCALAR);
  return summary;
}

void ListTensorsOf(const Run& run, std::string_view plugin, const Names& tags,
                   data::ListTensorsResponse* response) {
  const auto tensors = run.tensors().find(plugin);
  if (tensors == run.tensors().end()) return;
  const Places::Place& newest = tensors->second.places.newest();
  data::ListTensorsResponse::RunEntry entry;
  for (const auto& [tag, summary] : tensors->second.tags) {
    if (!Has(tags, tag)) continue;
    data::ListTensorsResponse::TagEntry& out = *entry.add_tags();
    out.set_tag_name(tag);
    Describe(newest.step, newest.wall_time, summary, out.mutable_metadata());
  }
  if (entry.tags().empty()) return;
  entry.set_run_name(run.job().id());
  *response->add_runs() = std::move(entry);
}

absl::Status ReadTensorsOf(const Run& run, std::string_view plugin, const Names& tags,
                           int64_t num_points, Room* room, data::ReadTensorsResponse* response) {
  std::map<std::string, data::TensorData> by_tag;
  const auto take = [&](const Places::Place& place, const tb::Summary::Value& value) {
    if (!Has(tags, value.tag())) return absl::OkStatus();
    data::TensorData& out = by_tag[value.tag()];
    out.add_step(place.step);
    out.add_wall_time(place.wall_time);
    *out.add_value() = value.tensor();
    return room->Take(static_cast<int64_t>(value.ByteSizeLong()));
  };
  if (absl::Status s = run.ReadTensors(plugin, num_points, take); !s.ok()) return s;
  if (by_tag.empty()) return absl::OkStatus();
  data::ReadTensorsResponse::RunEntry& entry = *response->add_runs();
  entry.set_run_name(run.job().id());
  for (auto& [tag, tensors] : by_tag) {
    data::ReadTensorsResponse::TagEntry& out = *entry.add_tags();
    out.set_tag_name(tag);
    *out.mutable_data() = std::move(tensors);
  }
  return absl::OkStatus();
}

}  // namespace

grpc::ServerUnaryReactor* DataProvider::Read(grpc::CallbackServerContext* context,
                                             std::string_view method, Gate::Messages messages,
                                             absl::AnyInvocable<absl::Status()> work) {
  return gate_->Unary(context, method, messages, std::move(work), &reader_);
}

grpc::ServerUnaryReactor* DataProvider::GetExperiment(grpc::CallbackServerContext* context,
                                                      const data::GetExperimentRequest* request,
                                                      data::GetExperimentResponse* response) {
  return Read(context, "TensorBoardDataProvider.GetExperiment", {request, response}, [response] {
    response->set_name("Lockstep");
    response->set_data_location("the jobs of a Lockstep server");
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* DataProvider::ListPlugins(grpc::CallbackServerContext* context,
                                                    const data::ListPluginsRequest* request,
                                                    data::ListPluginsResponse* response) {
  return Read(context, "TensorBoardDataProvider.ListPlugins", {request, response}, [=, this] {
    absl::StatusOr<std::vector<const Run*>> runs = runs_.Find(std::nullopt);
    if (!runs.ok()) return runs.status();
    absl::StatusOr<std::vector<Curves>> curves = ReadCurves({}, 1);
    if (!curves.ok()) return curves.status();
    std::set<std::string_view> plugins;
    if (!curves->empty()) plugins.insert(kScalars);
    for (const Run* run : *runs) {
      for (const auto& [plugin, tensors] : run->tensors()) plugins.insert(plugin);
    }
    for (const std::string_view plugin : plugins) {
      response->add_plugins()->set_name(std::string(plugin));
    }
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* DataProvider::ListRuns(grpc::CallbackServerContext* context,
                                                 const data::ListRunsRequest* request,
                                                 data::ListRunsResponse* response) {
  return Read(context, "TensorBoardDataProvider.ListRuns", {request, response}, [=, this] {
    absl::StatusOr<std::vector<v1::Job>> jobs = runs_.Jobs(std::nullopt);
    if (!jobs.ok()) return jobs.status();
    for (const v1::Job& job : *jobs) {
      data::Run& run = *response->add_runs();
      run.set_name(job.id());
      run.set_start_time(ProjectJob(job).front().wall_time());
    }
    return absl::OkStatus();
  });
}

absl::StatusOr<std::vector<DataProvider::Curves>> DataProvider::ReadCurves(
    const data::RunTagFilter& filter, int64_t num_points) {
  absl::StatusOr<std::vector<v1::Job>> jobs = runs_.Jobs(RunsOf(filter));
  if (!jobs.ok()) return jobs.status();
  const Names tags = TagsOf(filter);
  JobCurves::Selection selection;
  selection.points =
      static_cast<int>(std::min<int64_t>(num_points, std::numeric_limits<int>::max()));
  if (tags.has_value()) {
    for (const std::string& tag : *tags) selection.names.insert(CurveOf(tag));
  }
  Room room(max_response_bytes_);
  std::vector<Curves> all;
  for (const v1::Job& job : *jobs) {
    absl::StatusOr<JobCurves::Answer> answer = curves_->Read(job.id(), selection);
    if (!answer.ok()) {
      LogLine(LogLevel::kWarning, "cannot show a run",
              {{"job", job.id()}, {"status", answer.status()}});
      continue;
    }
    for (JobCurves::Series& series : answer->series) series.name = TagOf(series.name);
    std::erase_if(answer->series, [&](const auto& series) { return !Has(tags, series.name); });
    for (const JobCurves::Series& series : answer->series) {
      const size_t bytes = series.name.size() + series.points.size() * sizeof(ShownPoint);
      if (absl::Status s = room.Take(static_cast<int64_t>(bytes)); !s.ok()) return s;
    }
    if (!answer->series.empty()) all.push_back({job.id(), std::move(answer->series)});
  }
  return all;
}

grpc::ServerUnaryReactor* DataProvider::ListScalars(grpc::CallbackServerContext* context,
                                                    const data::ListScalarsRequest* request,
                                                    data::ListScalarsResponse* response) {
  return Read(context, "TensorBoardDataProvider.ListScalars", {request, response}, [=, this] {
    if (absl::Status s = CheckPlugin(request->plugin_filter()); !s.ok()) return s;
    if (request->plugin_filter().plugin_name() != kScalars) return absl::OkStatus();
    absl::StatusOr<std::vector<Curves>> newest = ReadCurves(request->run_tag_filter(), 1);
    if (!newest.ok()) return newest.status();
    for (const Curves& curves : *newest) {
      data::ListScalarsResponse::RunEntry& run = *response->add_runs();
      run.set_run_name(curves.job_id);
      for (const JobCurves::Series& series : curves.series) {
        data::ListScalarsResponse::TagEntry& tag = *run.add_tags();
        tag.set_tag_name(series.name);
        const CurvePoint& point = series.points.at(0);
        Describe(point.step, point.time_s, ScalarSummary(), tag.mutable_metadata());
      }
    }
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* DataProvider::ReadScalars(grpc::CallbackServerContext* context,
                                                    const data::ReadScalarsRequest* request,
                                                    data::ReadScalarsResponse* response) {
  return Read(context, "TensorBoardDataProvider.ReadScalars", {request, response}, [=, this] {
    if (absl::Status s = CheckRead(*request); !s.ok()) return s;
    if (request->plugin_filter().plugin_name() != kScalars) return absl::OkStatus();
    absl::StatusOr<std::vector<Curves>> all =
        ReadCurves(request->run_tag_filter(), request->downsample().num_points());
    if (!all.ok()) return all.status();
    for (const Curves& curves : *all) {
      data::ReadScalarsResponse::RunEntry& run = *response->add_runs();
      run.set_run_name(curves.job_id);
      for (const JobCurves::Series& series : curves.series) {
        data::ReadScalarsResponse::TagEntry& tag = *run.add_tags();
        tag.set_tag_name(series.name);
        for (const CurvePoint& point : series.points) {
          tag.mutable_data()->add_step(point.step);
          tag.mutable_data()->add_wall_time(point.time_s);
          tag.mutable_data()->add_value(static_cast<float>(point.value));
        }
      }
    }
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* DataProvider::ListTensors(grpc::CallbackServerContext* context,
                                                    const data::ListTensorsRequest* request,
                                                    data::ListTensorsResponse* response) {
  return Read(context, "TensorBoardDataProvider.ListTensors", {request, response}, [=, this] {
    if (absl::Status s = CheckPlugin(request->plugin_filter()); !s.ok()) return s;
    absl::StatusOr<std::vector<const Run*>> runs = runs_.Find(RunsOf(request->run_tag_filter()));
    if (!runs.ok()) return runs.status();
    const Names tags = TagsOf(request->run_tag_filter());
    for (const Run* run : *runs) {
      ListTensorsOf(*run, request->plugin_filter().plugin_name(), tags, response);
    }
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* DataProvider::ReadTensors(grpc::CallbackServerContext* context,
                                                    const data::ReadTensorsRequest* request,
                                                    data::ReadTensorsResponse* response) {
  return Read(context, "TensorBoardDataProvider.ReadTensors", {request, response}, [=, this] {
    if (absl::Status s = CheckRead(*request); !s.ok()) return s;
    absl::StatusOr<std::vector<const Run*>> runs = runs_.Find(RunsOf(request->run_tag_filter()));
    if (!runs.ok()) return runs.status();
    const Names tags = TagsOf(request->run_tag_filter());
    Room room(max_response_bytes_);
    for (const Run* run : *runs) {
      absl::Status status = ReadTensorsOf(*run, request->plugin_filter().plugin_name(), tags,
                                          request->downsample().num_points(), &room, response);
      if (!status.ok()) return status;
    }
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* DataProvider::ListBlobSequences(
    grpc::CallbackServerContext* context, const data::ListBlobSequencesRequest* request,
    data::ListBlobSequencesResponse* response) {
  return Read(context, "TensorBoardDataProvider.ListBlobSequences", {request, response},
              [request] { return CheckPlugin(request->plugin_filter()); });
}

}  // namespace lockstep
