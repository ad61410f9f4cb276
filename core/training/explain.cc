#include "core/training/explain.h"

#include <numeric>
#include <span>

#include "core/layers/layer_table.h"
#include "core/network/network.h"
#include "core/network/step_cost.h"
#include "core/training/parameter_update.h"

namespace lockstep {
namespace {

int64_t Values(std::span<const NetworkTensor> tensors, int first, int count) {
  int64_t values = 0;
  for (const NetworkTensor& tensor : tensors.subspan(first, count)) values += tensor.size;
  return values;
}

v1::LayerSummary Summarize(const Network& network, const Network::Node& node,
                           const v1::Layer& layer) {
  v1::LayerSummary summary;
  summary.set_name(node.name);
  for (const LayerKind& kind : LayerKinds()) {
    if (kind.kind == layer.kind_case()) summary.set_kind(std::string(kind.name));
  }
  for (int value : node.inputs) {
    *summary.add_inputs() = value == 0 ? network.inputs()[0].name : network.nodes()[value - 1].name;
  }
  for (int64_t dim : node.output.dims()) summary.add_output_shape(dim);
  summary.set_parameters(Values(network.parameters(), node.first_parameter, node.parameter_count));
  summary.set_buffers(Values(network.buffers(), node.first_buffer, node.buffer_count));
  summary.set_flops_per_sample(static_cast<int64_t>(FlopsPerSample(node)));
  summary.set_trainable(node.trainable && node.parameter_count > 0);
  return summary;
}

}  // namespace

v1::ValidateJobResponse Explain(const JobPlan& plan, int threads,
                                const std::optional<Peaks>& peaks) {
  v1::ValidateJobResponse response;
  *response.mutable_spec() = plan.spec;
  response.set_fingerprint(plan.fingerprint);
  response.set_memory_bytes(plan.memory_bytes);
  response.set_steps_per_epoch(plan.steps_per_epoch);
  response.set_total_steps(plan.total_steps);

  v1::ModelSpec spec = plan.spec.model();
  const Network network = *Network::Build(&spec);  // which has been planned before
  int layer = 0;
  for (const Network::Node& node : network.nodes()) {
    if (node.path.empty()) continue;
    const v1::LayerSummary& summary = *response.add_layers() =
        Summarize(network, node, spec.layers(layer++));
    response.set_parameters(response.parameters() + summary.parameters());
    if (summary.trainable()) {
      response.set_trainable_parameters(response.trainable_parameters() + summary.parameters());
    }
    response.set_buffers(response.buffers() + summary.buffers());
    response.set_flops_per_sample(response.flops_per_sample() + summary.flops_per_sample());
  }
  if (!peaks.has_value() || !plan.spec.has_training()) return response;

  const v1::TrainingSpec& training = plan.spec.training();
  const StepPlan steps(network, {training.batch_size(), training.shards(), threads});
  const int64_t slots = ParameterUpdate::SlotCount(training);
  const double seconds =
      PredictStep(network, steps, training.batch_size(), threads, 1 + 2 * (1 + slots), *peaks);
  response.set_threads(threads);
  response.set_step_ms(1e3 * seconds);
  response.set_total_seconds(seconds * static_cast<double>(plan.total_steps));
  return response;
}

}  // namespace lockstep
