#ifndef LOCKSTEP_TESTS_SERVER_WORKER_SCRIPTED_SERVER_H_
#define LOCKSTEP_TESTS_SERVER_WORKER_SCRIPTED_SERVER_H_

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "lockstep/v1/blob.grpc.pb.h"
#include "lockstep/v1/worker.grpc.pb.h"

namespace lockstep {

// A server that says what the test wants and keeps what its one worker says. Blobs are in memory.
class ScriptedServer final : public v1::WorkerService::Service, public v1::BlobService::Service {
 public:
  using Messages = std::vector<v1::WorkerMessage>;
  using Stream = grpc::ServerReaderWriter<v1::ServerMessage, v1::WorkerMessage>;
  static constexpr absl::Duration kPatience = absl::Seconds(30);

  explicit ScriptedServer(const std::string& address) {
    grpc::ServerBuilder builder;
    builder.AddListeningPort(address, grpc::InsecureServerCredentials());
    builder.RegisterService(static_cast<v1::WorkerService::Service*>(this));
    builder.RegisterService(static_cast<v1::BlobService::Service*>(this));
    server_ = builder.BuildAndStart();
  }
  ~ScriptedServer() override { server_->Shutdown(std::chrono::system_clock::now()); }

  // What the test may change at any time.
  void SetToken(const std::string& token) {
    absl::MutexLock lock(&mu_);
    token_ = token;
  }
  void SetAcknowledge(bool on) {
    absl::MutexLock lock(&mu_);
    acknowledge_ = on;
  }
  // Uploads never end until the worker breaks them off.
  void BlockUploads() {
    absl::MutexLock lock(&mu_);
    block_uploads_ = true;
  }
  // The next so many calls for blobs end like this.
  void FailUploads(int times, grpc::StatusCode code) {
    absl::MutexLock lock(&mu_);
    failing_uploads_ = times;
    failure_ = code;
  }
  void FailReadsOf(const std::string& sha256, grpc::StatusCode code) {
    absl::MutexLock lock(&mu_);
    failing_reads_[sha256] = code;
  }
  void SetBlob(const std::string& sha256, std::string bytes) {
    absl::MutexLock lock(&mu_);
    blobs_[sha256] = std::move(bytes);
  }
  void LoseBlob(const std::string& sha256) {
    absl::MutexLock lock(&mu_);
    blobs_.erase(sha256);
  }
  bool HasBlob(const std::string& sha256) const {
    absl::MutexLock lock(&mu_);
    return blobs_.contains(sha256);
  }

  void Say(v1::ServerMessage message) {
    absl::MutexLock lock(&mu_);
    const auto connected = [this]()
                               ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return stream_ != nullptr; };
    ASSERT_TRUE(mu_.AwaitWithTimeout(absl::Condition(&connected), kPatience));
    stream_->Write(message);
  }
  void BreakStream() {
    absl::MutexLock lock(&mu_);
    if (context_ != nullptr) context_->TryCancel();
  }
  // All that come after this are refused for good.
  void Dismiss() {
    absl::MutexLock lock(&mu_);
    dismissed_ = true;
    if (context_ != nullptr) context_->TryCancel();
  }

  // What came on a stream, from 0 on, once `enough` of it has; bounded.
  Messages WaitFor(size_t stream, const std::function<bool(const Messages&)>& enough,
                   absl::Duration patience = kPatience) {
    absl::MutexLock lock(&mu_);
    const auto come = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
      return streams_.size() > stream && enough(streams_[stream]);
    };
    complete_ = mu_.AwaitWithTimeout(absl::Condition(&come), patience);
    return streams_.size() > stream ? streams_[stream] : Messages();
  }
  bool complete() const {  // whether the last WaitFor got what it wanted
    absl::MutexLock lock(&mu_);
    return complete_;
  }
  bool WaitForUpload() {
    absl::MutexLock lock(&mu_);
    const auto come = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return uploads_ > 0; };
    return mu_.AwaitWithTimeout(absl::Condition(&come), kPatience);
  }
  bool WaitForRefusal() {  // of a token
    absl::MutexLock lock(&mu_);
    const auto come = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return refused_ > 0; };
    return mu_.AwaitWithTimeout(absl::Condition(&come), kPatience);
  }

  grpc::Status Connect(grpc::ServerContext* context, Stream* stream) override {
    v1::WorkerMessage message;
    if (!stream->Read(&message)) return grpc::Status::OK;
    size_t index;
    {
      absl::MutexLock lock(&mu_);
      if (dismissed_) return grpc::Status(grpc::StatusCode::FAILED_PRECONDITION, "enough");
      if (message.hello().token() != token_) {
        ++refused_;
        return grpc::Status(grpc::StatusCode::PERMISSION_DENIED, "token");
      }
      stream_ = stream;
      context_ = context;
      index = streams_.size();
      streams_.push_back({message});
    }
    while (stream->Read(&message)) {
      absl::MutexLock lock(&mu_);
      streams_[index].push_back(message);
      if (!acknowledge_) continue;
      v1::ServerMessage answer;
      answer.set_job_id(message.job_id());
      answer.set_attempt(message.attempt());
      answer.mutable_acknowledgement()->set_number(message.number());
      stream->Write(answer);
    }
    absl::MutexLock lock(&mu_);
    if (stream_ == stream) {
      stream_ = nullptr;
      context_ = nullptr;
    }
    return grpc::Status::OK;
  }

  grpc::Status StatBlob(grpc::ServerContext*, const v1::StatBlobRequest* request,
                        v1::StatBlobResponse* response) override {
    absl::MutexLock lock(&mu_);
    response->set_complete(blobs_.contains(request->blob().sha256()));
    return grpc::Status::OK;
  }
  grpc::Status WriteBlob(grpc::ServerContext* context,
                         grpc::ServerReader<v1::WriteBlobRequest>* reader,
                         v1::WriteBlobResponse*) override {
    std::string sha256, bytes;
    v1::WriteBlobRequest request;
    while (reader->Read(&request)) {
      if (request.has_blob()) sha256 = request.blob().sha256();
      bytes += request.data();
    }
    absl::MutexLock lock(&mu_);
    ++uploads_;
    if (failing_uploads_ > 0) {
      --failing_uploads_;
      return grpc::Status(failure_, "as the test wants it");
    }
    const auto broken_off = [&] { return context->IsCancelled(); };
    for (int i = 0; i < 1000 && block_uploads_ && !broken_off(); ++i) {
      mu_.AwaitWithTimeout(absl::Condition(
                               +[](bool* never) { return *never; }, &never_),
                           absl::Milliseconds(10));
    }
    if (!broken_off()) blobs_[sha256] = std::move(bytes);
    return grpc::Status::OK;
  }
  grpc::Status ReadBlob(grpc::ServerContext*, const v1::ReadBlobRequest* request,
                        grpc::ServerWriter<v1::ReadBlobResponse>* writer) override {
    absl::MutexLock lock(&mu_);
    if (const auto failing = failing_reads_.find(request->sha256());
        failing != failing_reads_.end()) {
      return grpc::Status(failing->second, "as the test wants it");
    }
    const auto found = blobs_.find(request->sha256());
    if (found == blobs_.end()) return grpc::Status(grpc::StatusCode::NOT_FOUND, "no such blob");
    v1::ReadBlobResponse response;
    response.set_data(found->second.substr(request->offset()));
    writer->Write(response);
    return grpc::Status::OK;
  }

 private:
  mutable absl::Mutex mu_;
  std::string token_ ABSL_GUARDED_BY(mu_) = "secret";
  bool acknowledge_ ABSL_GUARDED_BY(mu_) = true;
  bool dismissed_ ABSL_GUARDED_BY(mu_) = false;
  bool block_uploads_ ABSL_GUARDED_BY(mu_) = false;
  bool never_ ABSL_GUARDED_BY(mu_) = false;
  bool complete_ ABSL_GUARDED_BY(mu_) = false;
  int failing_uploads_ ABSL_GUARDED_BY(mu_) = 0;
  int refused_ ABSL_GUARDED_BY(mu_) = 0;
  int uploads_ ABSL_GUARDED_BY(mu_) = 0;
  grpc::StatusCode failure_ ABSL_GUARDED_BY(mu_) = grpc::StatusCode::OK;
  std::map<std::string, grpc::StatusCode> failing_reads_ ABSL_GUARDED_BY(mu_);
  std::map<std::string, std::string> blobs_ ABSL_GUARDED_BY(mu_);
  std::vector<Messages> streams_ ABSL_GUARDED_BY(mu_);  // the first of each is Hello
  Stream* stream_ ABSL_GUARDED_BY(mu_) = nullptr;
  grpc::ServerContext* context_ ABSL_GUARDED_BY(mu_) = nullptr;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace lockstep

#endif  // LOCKSTEP_TESTS_SERVER_WORKER_SCRIPTED_SERVER_H_
