#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <functional>

#include "client/cli/commands.h"
#include "client/cli/format.h"
#include "client/cli/json_object.h"
#include "client/cli/transfer_meter.h"

namespace lockstep {
namespace {

// A file that appears under its name only when it is whole: until then it is "<path>.part".
class NewFile {
 public:
  explicit NewFile(std::string path) : path_(std::move(path)) {}
  ~NewFile() {
    if (descriptor_ < 0) return;
    close(descriptor_);
    unlink(part().c_str());
  }
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;

  absl::Status Open() {
    // Renaming over a device or pipe would replace it.
    struct stat existing;
    if (stat(path_.c_str(), &existing) == 0 && !S_ISREG(existing.st_mode)) {
      return absl::FailedPreconditionError(
          fmt::format("cannot write {}: it is not a regular file", path_));
    }
    descriptor_ = open(part().c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    return descriptor_ < 0 ? Error() : absl::OkStatus();
  }

  absl::Status Append(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t written = write(descriptor_, bytes.data(), bytes.size());
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) return Error();
      bytes.remove_prefix(written);
    }
    return absl::OkStatus();
  }

  absl::Status Commit() {
    if (fsync(descriptor_) != 0 || rename(part().c_str(), path_.c_str()) != 0) return Error();
    close(descriptor_);
    descriptor_ = -1;
    return absl::OkStatus();
  }

 private:
  std::string part() const { return path_ + ".part"; }
  absl::Status Error() const {
    return absl::FailedPreconditionError(
        fmt::format("cannot write {}: {}", path_, std::strerror(errno)));
  }

  const std::string path_;
  int descriptor_ = -1;
};

// What a job or model has to give.
absl::StatusOr<v1::Weights> Find(Client& client, const std::string& source) {
  if (source.find(':') == std::string::npos) {
    absl::StatusOr<v1::Weights> weights = client.GetJobWeights(source);
    if (!absl::IsNotFound(weights.status())) return weights;
  }
  absl::StatusOr<ModelName> name = ParseModelName(source);
  if (!name.ok()) return name.status();
  absl::StatusOr<v1::ModelVersion> model = client.GetModel(name->name, name->version);
  if (absl::IsNotFound(model.status()) && name->version == 0) {
    return absl::NotFoundError(fmt::format("there is neither a job nor a model '{}'", source));
  }
  if (!model.ok()) return model.status();
  v1::Weights weights;
  *weights.mutable_blob() = model->weights();
  weights.set_step(model->receipt().steps());
  return weights;
}

}  // namespace

ExitCode Fetch(Session& session, const std::string& source, const std::string& output) {
  const std::string what = "fetch " + source;
  Client* client = session.Connect();
  if (client == nullptr) return session.exit_code();
  absl::StatusOr<v1::Weights> weights = Find(*client, source);
  if (!weights.ok()) {
    return session.Fail(what, weights.status(),
                        absl::IsNotFound(weights.status())
                            ? "`lockstep jobs` and `lockstep models` list what there is"
                        : absl::IsUnavailable(weights.status()) ? "try again in a moment"
                                                                : "");
  }
  NewFile file(output);
  if (absl::Status opened = file.Open(); !opened.ok()) return session.Misused(what, opened);
  TransferMeter meter("downloading");
  Client::TransferProgress progress;
  if (!session.json()) progress = std::ref(meter);
  absl::Status status = client->DownloadBlob(
      weights->blob(), [&](std::string_view bytes) { return file.Append(bytes); }, progress);
  if (status.ok()) status = file.Commit();
  if (!status.ok()) return session.Fail(what, status, "");

  if (session.json()) {
    JsonObject()
        .Text("file", output)
        .Integer("size_bytes", weights->blob().size_bytes())
        .Integer("step", weights->step())
        .Text("sha256", weights->blob().sha256())
        .Print();
  } else {
    std::printf("%s: %s, step %lld, SHA-256 %s\n", output.c_str(),
                FormatBytes(weights->blob().size_bytes()).c_str(),
                static_cast<long long>(weights->step()), weights->blob().sha256().c_str());
  }
  return kOk;
}

}  // namespace lockstep
