#include "server/tensorboard/projection.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <google/protobuf/timestamp.pb.h>

#include <algorithm>
#include <iterator>

#include "absl/strings/str_cat.h"
#include "server/events/curves.h"
#include "server/jobs/job_state.h"
#include "server/tensorboard/hyperparameters.h"
#include "tensorboard/hparams.pb.h"

namespace lockstep {
namespace {

using ::tensorboard::hparams::HParamsPluginData;

double Seconds(const google::protobuf::Timestamp& time) {
  return static_cast<double>(time.seconds()) + 1e-9 * time.nanos();
}

tb::Event NewEvent(double wall_time, int64_t step) {
  tb::Event event;
  event.set_wall_time(wall_time);
  event.set_step(step);
  return event;
}

tb::TensorProto& AddTensor(const std::string& tag, std::string_view plugin, tb::DataType type,
                           tb::Event* event) {
  tb::Summary::Value& value = *event->mutable_summary()->add_value();
  value.set_tag(tag);
  value.mutable_metadata()->mutable_plugin_data()->set_plugin_name(std::string(plugin));
  value.mutable_metadata()->set_data_class(tb::DATA_CLASS_TENSOR);
  value.mutable_tensor()->set_dtype(type);
  value.mutable_tensor()->mutable_tensor_shape();
  return *value.mutable_tensor();
}

// The same bytes whenever it is done: those of a map come in the order of its keys.
std::string SerializeInOrder(const google::protobuf::Message& message) {
  std::string bytes;
  google::protobuf::io::StringOutputStream stream(&bytes);
  google::protobuf::io::CodedOutputStream coded(&stream);
  coded.SetSerializationDeterministic(true);
  message.SerializeToCodedStream(&coded);
  coded.Trim();
  return bytes;
}

// All of it is in the metadata; a value there has to be, though it be an empty one.
tb::Event HparamsEvent(double wall_time, const std::string& tag, const HParamsPluginData& data) {
  tb::Event event = NewEvent(wall_time, 0);
  tb::TensorProto& empty = AddTensor(tag, kHparams, tb::DT_FLOAT, &event);
  empty.mutable_tensor_shape()->add_dim()->set_size(0);
  event.mutable_summary()->mutable_value(0)->mutable_metadata()->mutable_plugin_data()->set_content(
      SerializeInOrder(data));
  return event;
}

tb::Event TextEvent(const v1::Event& event, const std::string& text) {
  tb::Event out = NewEvent(Seconds(event.time()), event.sequence());
  AddTensor("log", kText, tb::DT_STRING, &out).add_string_val(text);
  return out;
}

std::vector<tb::Event> ProjectText(const v1::Event& event) {
  const v1::Text& text = event.text();
  const std::string step = text.step() == 0 ? "" : absl::StrCat("Step ", text.step(), ": ");
  const std::string severity = text.severity() == v1::Text::INFO
                                   ? ""
                                   : absl::StrCat(v1::Text::Severity_Name(text.severity()), ": ");
  return {TextEvent(event, absl::StrCat(step, severity, text.text()))};
}

std::vector<tb::Event> ProjectState(const v1::Event& event) {
  const v1::StateChange& change = event.state();
  std::string text = v1::JobState_Name(change.state());
  if (event.attempt() > 0) absl::StrAppend(&text, ", attempt ", event.attempt());
  if (!change.reason().empty()) absl::StrAppend(&text, ": ", change.reason());
  std::vector<tb::Event> events = {TextEvent(event, text)};
  if (HasEnded(change.state())) {
    const double time = Seconds(event.time());
    HParamsPluginData data;
    data.mutable_session_end_info()->set_end_time_secs(time);
    data.mutable_session_end_info()->set_status(change.state() == v1::SUCCEEDED
                                                    ? ::tensorboard::hparams::STATUS_SUCCESS
                                                    : ::tensorboard::hparams::STATUS_FAILURE);
    events.push_back(HparamsEvent(time, "_hparams_/session_end_info", data));
  }
  return events;
}

std::vector<tb::Event> ProjectWeights(const v1::Event& event) {
  tb::Event out = NewEvent(Seconds(event.time()), event.weights().step());
  for (const v1::TensorHistogram& histogram : event.weights().tensors()) {
    tb::TensorProto& tensor =
        AddTensor("weights/" + histogram.name(), kHistograms, tb::DT_DOUBLE, &out);
    const int count = histogram.buckets_size();
    tensor.mutable_tensor_shape()->add_dim()->set_size(count);
    tensor.mutable_tensor_shape()->add_dim()->set_size(3);
    const auto edge = [&](int i) {
      if (i == count) return histogram.max();
      return histogram.min() + (histogram.max() - histogram.min()) / count * i;
    };
    for (int i = 0; i < count; ++i) {
      tensor.add_double_val(edge(i));
      tensor.add_double_val(edge(i + 1));
      tensor.add_double_val(static_cast<double>(histogram.buckets(i)));
    }
  }
  return {out};
}

std::vector<tb::Event> ProjectCurves(const v1::Event& event) {
  Curves points;
  points.Add(event);
  if (points.all().empty()) return {};
  const CurvePoint& any = points.all().begin()->second.newest();
  tb::Event out = NewEvent(any.time_s, any.step);
  for (const auto& [name, curve] : points.all()) {
    tb::Summary::Value& value = *out.mutable_summary()->add_value();
    value.set_tag(TagOf(name));
    value.set_simple_value(static_cast<float>(curve.newest().value));
  }
  return {out};
}

}  // namespace

std::string TagOf(std::string_view curve) {
  static constexpr std::string_view kTiming[] = {"samples_per_second", "step_ms", "compute_ms",
                                                 "wait_ms", "reduce_ms"};
  const std::string name(curve);
  if (std::find(std::begin(kTiming), std::end(kTiming), name) != std::end(kTiming)) {
    return "timing/" + name;
  }
  if (name.starts_with("epoch_")) return "epoch/" + name.substr(6);
  return name;
}

std::string CurveOf(std::string_view tag) {
  const std::string name(tag);
  if (name.starts_with("timing/")) return name.substr(7);
  if (name.starts_with("epoch/")) return "epoch_" + name.substr(6);
  return name;
}

std::vector<tb::Event> ProjectJob(const v1::Job& job) {
  const double time = Seconds(job.create_time());
  tb::Event version;
  version.set_wall_time(time);
  version.set_file_version("brain.Event:2");
  version.mutable_source_metadata()->set_writer("lockstep");
  HParamsPluginData data;
  *data.mutable_session_start_info() = Hyperparameters(job.spec());
  data.mutable_session_start_info()->set_start_time_secs(time);
  return {version, HparamsEvent(time, "_hparams_/session_start_info", data)};
}

std::vector<tb::Event> ProjectTensors(const v1::Event& event) {
  if (event.has_text()) return ProjectText(event);
  if (event.has_state()) return ProjectState(event);
  if (event.has_weights()) return ProjectWeights(event);
  return {};
}

std::vector<tb::Event> ProjectEvent(const v1::Event& event) {
  std::vector<tb::Event> events = ProjectTensors(event);
  return events.empty() ? ProjectCurves(event) : events;
}

}  // namespace lockstep
