#include "core/training/batch_norm_report.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <map>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

namespace lockstep {
namespace {

template <typename Value>
bool AllFinite(std::span<const Value> values) {
  return std::ranges::all_of(values, [](Value v) { return std::isfinite(v); });
}

template <typename Value>
void DescribeSpread(std::span<const Value> values, v1::Spread* spread) {
  std::vector<double> sorted(values.begin(), values.end());
  std::ranges::sort(sorted);
  const size_t last = sorted.size() - 1;
  spread->set_min(sorted.front());
  spread->set_lower(sorted[last / 4]);
  spread->set_median(sorted[last / 2]);
  spread->set_upper(sorted[3 * last / 4]);
  spread->set_max(sorted.back());
}

v1::BatchNormLayer DescribeLayer(const std::string& name, const BatchStatistics& batch,
                                 std::span<const float> moving_mean,
                                 std::span<const float> moving_variance) {
  const size_t channels = batch.mean.size();
  v1::BatchNormLayer layer;
  layer.set_layer(name);
  layer.set_channels(static_cast<int64_t>(channels));
  layer.set_dead_channels(std::ranges::count(batch.variance, 0.0));
  double sum = 0;
  double most = -1;
  for (size_t c = 0; c < channels; ++c) {
    const double deviation = std::sqrt(moving_variance[c] + batch.epsilon);
    const double drift = std::abs(batch.mean[c] - moving_mean[c]) / deviation;
    sum += drift;
    if (drift > most) {
      most = drift;
      layer.set_max_drift_channel(static_cast<int64_t>(c));
    }
  }
  layer.set_mean_drift(sum / static_cast<double>(channels));
  layer.set_max_drift(most);
  DescribeSpread(batch.mean, layer.mutable_batch_mean());
  DescribeSpread(moving_mean, layer.mutable_moving_mean());
  DescribeSpread(batch.variance, layer.mutable_batch_variance());
  DescribeSpread(moving_variance, layer.mutable_moving_variance());
  return layer;
}

// Describes the layers as the pass comes to them, which need not be their order in the network.
class LayersWatcher final : public TrainingPass::Watcher {
 public:
  LayersWatcher(const Network& network, std::span<const float> buffers)
      : network_(network), buffers_(buffers) {}

  void SeeStatistics(int i, const BatchStatistics& batch) override {
    const Network::Node& node = network_.nodes()[i];
    const auto moving = [&](int k) {
      const NetworkTensor& tensor = network_.buffers()[node.first_buffer + k];
      return buffers_.subspan(tensor.offset, tensor.size);
    };
    finite_ = finite_ && AllFinite(batch.mean) && AllFinite(batch.variance);
    if (finite_) layers_[i] = DescribeLayer(node.name, batch, moving(0), moving(1));
  }

  bool finite() const { return finite_; }
  std::map<int, v1::BatchNormLayer>& layers() { return layers_; }  // by node

 private:
  const Network& network_;
  const std::span<const float> buffers_;
  bool finite_ = true;
  std::map<int, v1::BatchNormLayer> layers_;
};

}  // namespace

BatchNormSchedule::BatchNormSchedule(int64_t steps_per_epoch)
    : epochs_((kLeastSteps + steps_per_epoch - 1) / steps_per_epoch) {}

bool BatchNormSchedule::Reports(int64_t epoch, bool last) const {
  return last || epoch % epochs_ == 0;
}

bool BatchNormSchedule::Warns(int64_t epoch, bool last) const {
  const auto report = static_cast<uint64_t>(epoch / epochs_);
  return last || (report > 1 && std::has_single_bit(report));
}

std::optional<v1::BatchNormReport> MeasureBatchNorm(const Network& network, const StepContext& step,
                                                    const float* parameters,
                                                    std::span<const float> buffers,
                                                    TrainingPass& pass, TrainingPass::Loader load,
                                                    absl::FunctionRef<double()> loss) {
  const bool follows = std::ranges::any_of(network.nodes(), [](const Network::Node& node) {
    return node.layer->traits().follows_statistics;
  });
  if (!follows) return std::nullopt;
  v1::BatchNormReport report;
  LayersWatcher watcher(network, buffers);
  pass.ForwardAgain(step, parameters, buffers, load, &watcher);
  report.set_training_loss(loss());
  StepContext moving = step;
  moving.moving_statistics = true;
  pass.ForwardAgain(moving, parameters, buffers, load, nullptr);
  report.set_inference_loss(loss());
  if (!watcher.finite() || !std::isfinite(report.training_loss())) return std::nullopt;
  for (auto& [node, layer] : watcher.layers()) *report.add_layers() = std::move(layer);
  return report;
}

std::string DescribeDisagreement(const v1::BatchNormReport& report) {
  const double inference = report.inference_loss();
  const double training = report.training_loss();
  if (inference <= 2 * training + 0.1) return "";
  const v1::BatchNormLayer& worst = *std::ranges::max_element(
      report.layers(), {}, [](const v1::BatchNormLayer& layer) { return layer.mean_drift(); });
  return absl::StrCat(
      "inference would not agree with training: the loss of the last batch is ", training,
      " with its own statistics and ", inference, " with the moving ones; the moving means of \"",
      worst.layer(), "\" are ", worst.mean_drift(),
      " standard deviations away from the batch's on average, and its variance is ",
      worst.moving_variance().median(), " where the batch's is ", worst.batch_variance().median(),
      " (medians of the channels); a smaller momentum, more steps or population_statistics help");
}

}  // namespace lockstep
