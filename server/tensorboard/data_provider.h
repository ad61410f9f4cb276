#ifndef LOCKSTEP_SERVER_TENSORBOARD_DATA_PROVIDER_H_
#define LOCKSTEP_SERVER_TENSORBOARD_DATA_PROVIDER_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "server/api/executor.h"
#include "server/api/handler.h"
#include "server/jobs/job_curves.h"
#include "server/jobs/job_manager.h"
#include "server/tensorboard/runs.h"
#include "tensorboard/data_provider.grpc.pb.h"

namespace lockstep {

// What `tensorboard --grpc_data_provider=HOST:PORT` asks: all jobs live, without files. TensorBoard
// brings no token, so a server that wants one tells it UNAUTHENTICATED.
class DataProvider final : public tensorboard::data::TensorBoardDataProvider::CallbackService {
 public:
  // Gate, jobs and curves must outlive it.
  DataProvider(Gate* gate, JobManager* jobs, JobCurves* curves, int64_t max_response_bytes)
      : gate_(gate), curves_(curves), max_response_bytes_(max_response_bytes), runs_(jobs) {}

  grpc::ServerUnaryReactor* GetExperiment(
      grpc::CallbackServerContext* context, const tensorboard::data::GetExperimentRequest* request,
      tensorboard::data::GetExperimentResponse* response) override;
  grpc::ServerUnaryReactor* ListPlugins(grpc::CallbackServerContext* context,
                                        const tensorboard::data::ListPluginsRequest* request,
                                        tensorboard::data::ListPluginsResponse* response) override;
  grpc::ServerUnaryReactor* ListRuns(grpc::CallbackServerContext* context,
                                     const tensorboard::data::ListRunsRequest* request,
                                     tensorboard::data::ListRunsResponse* response) override;
  grpc::ServerUnaryReactor* ListScalars(grpc::CallbackServerContext* context,
                                        const tensorboard::data::ListScalarsRequest* request,
                                        tensorboard::data::ListScalarsResponse* response) override;
  grpc::ServerUnaryReactor* ReadScalars(grpc::CallbackServerContext* context,
                                        const tensorboard::data::ReadScalarsRequest* request,
                                        tensorboard::data::ReadScalarsResponse* response) override;
  grpc::ServerUnaryReactor* ListTensors(grpc::CallbackServerContext* context,
                                        const tensorboard::data::ListTensorsRequest* request,
                                        tensorboard::data::ListTensorsResponse* response) override;
  grpc::ServerUnaryReactor* ReadTensors(grpc::CallbackServerContext* context,
                                        const tensorboard::data::ReadTensorsRequest* request,
                                        tensorboard::data::ReadTensorsResponse* response) override;
  grpc::ServerUnaryReactor* ListBlobSequences(
      grpc::CallbackServerContext* context,
      const tensorboard::data::ListBlobSequencesRequest* request,
      tensorboard::data::ListBlobSequencesResponse* response) override;

 private:
  // Runs `work` on reader_.
  grpc::ServerUnaryReactor* Read(grpc::CallbackServerContext* context, std::string_view method,
                                 Gate::Messages messages, absl::AnyInvocable<absl::Status()> work);

  // Of each job that has any of those a filter lets through. RESOURCE_EXHAUSTED when it is too much
  // for an answer.
  struct Curves {
    std::string job_id;
    std::vector<JobCurves::Series> series;
  };
  absl::StatusOr<std::vector<Curves>> ReadCurves(const tensorboard::data::RunTagFilter& filter,
                                                 int64_t num_points);

  Gate* const gate_;
  JobCurves* const curves_;
  const int64_t max_response_bytes_;
  Runs runs_;  // of reader_'s thread
  // One thread: the first look at many long logs takes its time, which must not be that of those
  // who train.
  Executor reader_{1};
};

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_TENSORBOARD_DATA_PROVIDER_H_
