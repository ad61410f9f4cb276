#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <utility>

#include "absl/time/clock.h"
#include "client/cli/commands.h"
#include "client/cli/format.h"
#include "client/cli/tensor_file.h"
#include "client/cli/transfer_meter.h"
#include "core/formats/readers.h"

namespace lockstep {
namespace {

// Classes with names that are worth showing; more are only counted.
constexpr size_t kShownClasses = 12;

// What was found in the files: tensors by name, and what to say about the labels.
struct LocalDataset {
  std::map<std::string, Tensor> tensors;
  std::string labels;
};

absl::Status InFile(const std::string& path, const absl::Status& status) {
  return absl::Status(status.code(), fmt::format("{}: {}", path, std::string(status.message())));
}

absl::StatusOr<LocalDataset> ReadLocal(const AddDatasetArguments& arguments) {
  LocalDataset local;
  if (!arguments.x.empty()) {
    for (const auto& [name, path] : {std::pair("x", arguments.x), std::pair("y", arguments.y)}) {
      absl::StatusOr<Tensor> tensor = ReadTensorFile(path);
      if (!tensor.ok()) return tensor.status();
      local.tensors.emplace(name, *std::move(tensor));
    }
    return local;
  }
  const std::string& path = arguments.npz.empty() ? arguments.csv : arguments.npz;
  absl::StatusOr<std::string> file = ReadFile(path);
  if (!file.ok()) return file.status();
  if (!arguments.npz.empty()) {
    absl::StatusOr<std::map<std::string, Tensor>> tensors = ReadNpz(*file);
    if (!tensors.ok()) return InFile(path, tensors.status());
    local.tensors = *std::move(tensors);
    return local;
  }
  absl::StatusOr<CsvTable> table =
      ReadCsv(*file, {.label_column = arguments.label_column, .regression = arguments.regression});
  if (!table.ok()) return InFile(path, table.status());
  local.tensors.emplace("x", std::move(table->x));
  local.tensors.emplace("y", std::move(table->y));
  const std::vector<std::string>& classes = table->class_names;
  if (!classes.empty()) {
    local.labels = fmt::format("{} classes: ", classes.size());
    for (size_t i = 0; i < std::min(classes.size(), kShownClasses); ++i) {
      local.labels += fmt::format("{}{}={}", i == 0 ? "" : ", ", i, classes[i]);
    }
    if (classes.size() > kShownClasses) local.labels += ", ...";
  }
  return local;
}

// "10 classes (0 to 9)" for integer labels [N].
absl::StatusOr<std::string> DescribeLabels(const Tensor& labels) {
  SampleReader reader(labels);
  if (!reader.is_integer() || labels.shape.size() != 1) return std::string();
  absl::StatusOr<std::vector<double>> values = reader.Next(reader.samples());
  if (!values.ok()) return values.status();
  std::sort(values->begin(), values->end());
  const double least = values->front(), most = values->back();
  const auto distinct = std::unique(values->begin(), values->end()) - values->begin();
  return fmt::format("{} classes ({:.0f} to {:.0f})", distinct, least, most);
}

// The samples that all tensors have.
absl::StatusOr<int64_t> CommonSamples(const std::map<std::string, Tensor>& tensors) {
  if (tensors.empty()) return absl::InvalidArgumentError("there is no array in it");
  std::string found;
  int64_t samples = -1;
  bool same = true;
  for (const auto& [name, tensor] : tensors) {
    if (tensor.shape.empty()) {
      return absl::InvalidArgumentError(fmt::format("{} is a single number, not samples", name));
    }
    same = same && (samples < 0 || samples == tensor.shape[0]);
    samples = tensor.shape[0];
    found += fmt::format("{}{} has {}", found.empty() ? "" : ", ", name, samples);
  }
  if (!same) {
    return absl::InvalidArgumentError(
        "all tensors of a data set have as many samples as each other, but " + found);
  }
  if (samples == 0) return absl::InvalidArgumentError("there are no samples in it");
  return samples;
}

}  // namespace

ExitCode AddDataset(Session& session, const AddDatasetArguments& arguments) {
  const std::string what = "datasets add " + arguments.name;
  absl::StatusOr<LocalDataset> local = ReadLocal(arguments);
  if (!local.ok()) return session.Misused(what, local.status());
  absl::StatusOr<int64_t> samples = CommonSamples(local->tensors);
  if (!samples.ok()) return session.Misused(what, samples.status());
  if (auto y = local->tensors.find("y"); y != local->tensors.end() && local->labels.empty()) {
    absl::StatusOr<std::string> labels = DescribeLabels(y->second);
    if (!labels.ok()) return session.Misused(what, labels.status());
    local->labels = *std::move(labels);
  }
  if (!session.json()) {
    for (const auto& [name, tensor] : local->tensors) {
      std::printf("%s: %s %s, %s%s\n", name.c_str(), std::string(DTypeName(tensor.dtype)).c_str(),
                  ShapeString(tensor.shape).c_str(), FormatBytes(tensor.bytes.size()).c_str(),
                  name == "y" && !local->labels.empty() ? (", " + local->labels).c_str() : "");
    }
    std::fflush(stdout);
  }

  Client* client = session.Connect();
  if (client == nullptr) return session.exit_code();
  v1::Dataset dataset;
  dataset.set_name(arguments.name);
  for (const auto& [name, tensor] : local->tensors) {
    TransferMeter meter("uploading " + name);
    Client::TransferProgress progress;
    if (!session.json()) progress = std::ref(meter);
    absl::StatusOr<v1::Blob> blob = client->UploadBlob(tensor.bytes, progress);
    if (!blob.ok()) {
      return session.Fail(what, blob.status(),
                          "run the command again; it goes on where it stopped");
    }
    v1::Tensor* added = dataset.add_tensors();
    added->set_name(name);
    added->set_dtype(std::string(DTypeName(tensor.dtype)));
    added->mutable_shape()->Assign(tensor.shape.begin(), tensor.shape.end());
    *added->mutable_blob() = *blob;
  }
  absl::StatusOr<v1::Dataset> created = client->CreateDataset(dataset);
  if (!created.ok()) {
    return session.Fail(what, created.status(),
                        absl::IsAlreadyExists(created.status()) ? "choose another name" : "");
  }
  if (session.json()) {
    PrintJson(*created);
  } else {
    std::printf("data set %s: %lld samples, digest %s\n", created->name().c_str(),
                static_cast<long long>(*samples), created->digest().c_str());
  }
  return kOk;
}

ExitCode ListDatasets(Session& session) {
  Client* client = session.Connect();
  if (client == nullptr) return session.exit_code();
  absl::StatusOr<std::vector<v1::Dataset>> datasets = client->ListDatasets();
  if (!datasets.ok()) return session.Fail("datasets list", datasets.status(), "");
  if (session.json()) {
    for (const v1::Dataset& dataset : *datasets) PrintJson(dataset);
    return kOk;
  }
  if (datasets->empty()) {
    std::printf("no data sets yet; `lockstep datasets add --help` says how to register one\n");
    return kOk;
  }
  Table table({"NAME", "TENSORS", "SIZE", "DIGEST", "ADDED"});
  for (const v1::Dataset& dataset : *datasets) {
    std::string tensors;
    int64_t bytes = 0;
    for (const v1::Tensor& tensor : dataset.tensors()) {
      tensors += fmt::format(
          "{}{} {} {}", tensors.empty() ? "" : ", ", tensor.name(), tensor.dtype(),
          ShapeString(std::vector<int64_t>(tensor.shape().begin(), tensor.shape().end())));
      bytes += tensor.blob().size_bytes();
    }
    table.AddRow({dataset.name(), tensors, FormatBytes(bytes), dataset.digest().substr(0, 12),
                  FormatAge(dataset.create_time(), absl::Now())});
  }
  std::fputs(table.ToString().c_str(), stdout);
  return kOk;
}

}  // namespace lockstep
