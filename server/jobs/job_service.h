#ifndef LOCKSTEP_SERVER_JOBS_JOB_SERVICE_H_
#define LOCKSTEP_SERVER_JOBS_JOB_SERVICE_H_

#include "lockstep/v1/job.grpc.pb.h"
#include "server/api/handler.h"
#include "server/jobs/job_manager.h"

namespace lockstep {

// job.proto's service. Stateless; gate and manager must outlive it.
class JobService final : public v1::JobService::CallbackService {
 public:
  JobService(Gate* gate, JobManager* manager) : gate_(*gate), manager_(*manager) {}

  grpc::ServerUnaryReactor* SubmitJob(grpc::CallbackServerContext* context,
                                      const v1::SubmitJobRequest* request,
                                      v1::Job* response) override;
  grpc::ServerUnaryReactor* ValidateJob(grpc::CallbackServerContext* context,
                                        const v1::ValidateJobRequest* request,
                                        v1::ValidateJobResponse* response) override;
  grpc::ServerUnaryReactor* GetJob(grpc::CallbackServerContext* context,
                                   const v1::GetJobRequest* request, v1::Job* response) override;
  grpc::ServerUnaryReactor* ListJobs(grpc::CallbackServerContext* context,
                                     const v1::ListJobsRequest* request,
                                     v1::ListJobsResponse* response) override;
  grpc::ServerUnaryReactor* CancelJob(grpc::CallbackServerContext* context,
                                      const v1::CancelJobRequest* request,
                                      v1::Job* response) override;
  grpc::ServerUnaryReactor* PauseJob(grpc::CallbackServerContext* context,
                                     const v1::PauseJobRequest* request,
                                     v1::Job* response) override;
  grpc::ServerUnaryReactor* ResumeJob(grpc::CallbackServerContext* context,
                                      const v1::ResumeJobRequest* request,
                                      v1::Job* response) override;
  grpc::ServerUnaryReactor* DeleteJob(grpc::CallbackServerContext* context,
                                      const v1::DeleteJobRequest* request,
                                      v1::DeleteJobResponse* response) override;
  grpc::ServerUnaryReactor* SetJobPriority(grpc::CallbackServerContext* context,
                                           const v1::SetJobPriorityRequest* request,
                                           v1::Job* response) override;
  grpc::ServerWriteReactor<v1::Event>* WatchJob(grpc::CallbackServerContext* context,
                                                const v1::WatchJobRequest* request) override;
  grpc::ServerUnaryReactor* GetJobWeights(grpc::CallbackServerContext* context,
                                          const v1::GetJobWeightsRequest* request,
                                          v1::Weights* response) override;
  grpc::ServerUnaryReactor* ListWorkers(grpc::CallbackServerContext* context,
                                        const v1::ListWorkersRequest* request,
                                        v1::ListWorkersResponse* response) override;

 private:
  Gate& gate_;
  JobManager& manager_;
};

}  // namespace lockstep

#endif  // LOCKSTEP_SERVER_JOBS_JOB_SERVICE_H_
